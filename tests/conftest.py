"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# OpenMP reads it once, when torch is imported, which collecting the tests does: two workers of two threads on two
# cores would wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
# How fast a machine is decides no test.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: a worker that came to one at the end would leave the other idle."""
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with MBPP, HumanEval and WikiText-2; skips with the reason when it is not there."""
    folder = Path(os.environ.get("HRMCTL_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "mbpp.jsonl").is_file():
        pytest.skip(f"no real data in {folder}; set HRMCTL_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(autouse=True)
def _own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread in child processes too, no network look-ups, no colour: the same on every machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
