"""Telling listeners and plugins what happens in a run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from hrmctl.plugins import Catalog

Listener = Callable[[Any], None]
_HOOKS = {
    "RunStarted": "hrmctl_run_started",
    "StageStarted": "hrmctl_stage_started",
    "StageProgress": "hrmctl_stage_progress",
    "StageWarned": "hrmctl_stage_warned",
    "StageFinished": "hrmctl_stage_finished",
    "VerdictReached": "hrmctl_verdict_reached",
    "RunFinished": "hrmctl_run_finished",
}


def announce(catalog: Catalog, listeners: Sequence[Listener], event: Any) -> None:
    """Tell listeners and plugins of an event; a plugin that raises is warned about and changes nothing."""
    for listener in listeners:
        listener(event)
    hook = getattr(catalog.manager.hook, _HOOKS[type(event).__name__])
    for implementation in hook.get_hookimpls():
        try:
            implementation.function(*([event] if implementation.argnames else []))
        except (Exception, SystemExit) as error:
            name = implementation.plugin_name
            fault = f"{type(error).__name__}: {error}"
            warnings.warn(f"plugin {name} failed on {type(event).__name__}: {fault}", stacklevel=1)
