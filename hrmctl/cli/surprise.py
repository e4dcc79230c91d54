"""What happens on an error nobody expected: a log with versions, and one line that says where it is."""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path

from hrmctl.machine import hardware, tools


def report_surprise(error: Exception) -> int:
    """Write the traceback with versions to a log file and name it on standard error."""
    with tempfile.NamedTemporaryFile("w", prefix="hrmctl-", suffix=".log", delete=False) as stream:
        print("argv:", sys.argv, file=stream)
        print("tools:", tools(), "hardware:", hardware(), file=stream)
        traceback.print_exception(error, file=stream)
    text = f"hrmctl: this should not have happened: {type(error).__name__}: {error}"
    print(f"{text}\nhrmctl: details, for a bug report: {Path(stream.name)}", file=sys.stderr)
    return 4
