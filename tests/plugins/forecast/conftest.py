"""The desk at which runs are forecast."""

from __future__ import annotations

from pathlib import Path

import pytest

from .helpers import Desk


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """With an empty store."""
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, capsys)
