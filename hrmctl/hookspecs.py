"""The hooks that a plugin may implement. Each is documented here and nowhere else.

A plugin module defines functions of these names decorated with `hrmctl.hookimpl`. A function
whose name begins with `hrmctl_` and is none of these is an error. Nothing a hook returns can
alter a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from hrmctl.events import (
    RunFinished,
    RunStarted,
    StageFinished,
    StageProgress,
    StageStarted,
    StageWarned,
    VerdictReached,
)
from hrmctl.model import (
    ArchitectureSpec,
    CommandSpec,
    DatasetSpec,
    DiagnosticSpec,
    ExecutorSpec,
    MeasureSpec,
    ReporterSpec,
    StageSpec,
    TrackerSpec,
)

PROJECT = "hrmctl"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def hrmctl_stages() -> Iterable[StageSpec]:  # type: ignore[empty-body]
    """Stages that recipes can `use` and that get a command of their own."""


@hookspec
def hrmctl_measures() -> Iterable[MeasureSpec]:  # type: ignore[empty-body]
    """Functions of evidence that contracts can name under `measure`."""


@hookspec
def hrmctl_architectures() -> Iterable[ArchitectureSpec]:  # type: ignore[empty-body]
    """Named model sizes that `finetune` can start from."""


@hookspec
def hrmctl_datasets() -> Iterable[DatasetSpec]:  # type: ignore[empty-body]
    """Data sets that can be had by name, with licence and checksum."""


@hookspec
def hrmctl_commands() -> Iterable[CommandSpec]:  # type: ignore[empty-body]
    """Commands of their own, beside those of the stages."""


@hookspec
def hrmctl_executors() -> Iterable[ExecutorSpec]:  # type: ignore[empty-body]
    """Places where stages can run."""


@hookspec
def hrmctl_reporters() -> Iterable[ReporterSpec]:  # type: ignore[empty-body]
    """Forms in which a check can be shown."""


@hookspec
def hrmctl_trackers() -> Iterable[TrackerSpec]:  # type: ignore[empty-body]
    """Mirrors of a run's metrics."""


@hookspec
def hrmctl_diagnostics() -> Iterable[DiagnosticSpec]:  # type: ignore[empty-body]
    """Questions that `hrmctl doctor` asks of this machine."""


@hookspec
def hrmctl_run_started(event: RunStarted) -> None:
    """A run is about to execute its first stage."""


@hookspec
def hrmctl_stage_started(event: StageStarted) -> None:
    """A stage begins, or is taken from the cache."""


@hookspec
def hrmctl_stage_progress(event: StageProgress) -> None:
    """A stage reported a step."""


@hookspec
def hrmctl_stage_warned(event: StageWarned) -> None:
    """A stage logged a warning."""


@hookspec
def hrmctl_stage_finished(event: StageFinished) -> None:
    """A stage ended, however it ended."""


@hookspec
def hrmctl_verdict_reached(event: VerdictReached) -> None:
    """An obligation got its verdict."""


@hookspec
def hrmctl_run_finished(event: RunFinished) -> None:
    """A run is over."""
