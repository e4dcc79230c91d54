"""Points of cancellation: with a row of metrics and without one."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest

from hrmctl import Cancelled
from hrmctl.run.worker import WorkerContext


def test_check_stops_a_cancelled_stage_and_reports_nothing(tmp_path: Path) -> None:
    context = WorkerContext(tmp_path, 0, "cpu", 1, logging.getLogger("a"), io.StringIO())
    context.check()
    context.cancelled = True
    with pytest.raises(Cancelled):
        context.check()
    assert context.channel.getvalue() == ""  # type: ignore[attr-defined]
    with pytest.raises(Cancelled):
        context.progress(1, 2)
    assert '"done": 1' in context.channel.getvalue()  # type: ignore[attr-defined]
