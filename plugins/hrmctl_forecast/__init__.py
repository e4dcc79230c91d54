"""`hrmctl forecast`: where a training curve will be, fitted to what the run has measured so far."""

from __future__ import annotations

from collections.abc import Iterable

from hrmctl import CommandSpec, hookimpl


@hookimpl
def hrmctl_commands() -> Iterable[CommandSpec]:
    """The command `forecast`."""
    summary = "Fit a run's training curves and say where they will be, with intervals."
    return [CommandSpec("forecast", summary, "hrmctl_forecast.command:forecast")]
