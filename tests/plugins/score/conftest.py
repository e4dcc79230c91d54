"""The desk at which samples are scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from .helpers import Desk


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """In an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, capsys)
