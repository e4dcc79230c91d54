"""What `hrmctl doctor` says of the sandbox."""

from __future__ import annotations

from typing import Literal

from hrmctl import Finding


def sandbox() -> Finding:
    """The mode that the sandbox really enforces here, and what is missing for a stricter one."""
    from hrmctl_sandbox import probe

    found = probe()
    state: Literal["ok", "missing", "broken"] = "ok" if found.mode == "sealed" else "missing"
    if not found.acceptable:
        state = "broken"
    lacking = f"; missing: {', '.join(found.missing)}" if found.missing else ""
    absent = f"; not offered here: {', '.join(found.absent)}" if found.absent else ""
    return Finding("sandbox", state, f"{found.mode} ({', '.join(found.layers)}){lacking}{absent}", found.remedy)
