"""hrmctl: a model-lifecycle harness in which no claim is recorded as true unless it was measured.

The names below are the public interface for plugins. They import neither torch, transformers nor scipy; each is
imported when it is first used, so that `hrmctl --version` costs no more than Python itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hrmctl.errors import Fault, HrmctlError, InputError, MeasureError, Problem, StageError, Undecidable
    from hrmctl.events import (
        EvidenceReport,
        RunFinished,
        RunReport,
        RunStarted,
        StageFinished,
        StageProgress,
        StageStarted,
        StageWarned,
        VerdictReached,
    )
    from hrmctl.hookspecs import hookimpl
    from hrmctl.model import (
        ArchitectureSpec,
        Artifact,
        Cancelled,
        CheckReport,
        CommandSpec,
        Context,
        DatasetSpec,
        DiagnosticSpec,
        Evidence,
        ExecutorSpec,
        Finding,
        InputSpec,
        Judgement,
        MeasureSpec,
        Observation,
        Output,
        OutputSpec,
        Provenance,
        ReporterSpec,
        StageInputs,
        StageResult,
        StageSpec,
        Tracker,
        TrackerSpec,
        Verdict,
    )

__version__ = "0.1.0"

__all__ = [
    "ArchitectureSpec",
    "Artifact",
    "Cancelled",
    "CheckReport",
    "CommandSpec",
    "Context",
    "DatasetSpec",
    "DiagnosticSpec",
    "Evidence",
    "EvidenceReport",
    "ExecutorSpec",
    "Fault",
    "Finding",
    "HrmctlError",
    "InputError",
    "InputSpec",
    "Judgement",
    "MeasureError",
    "MeasureSpec",
    "Observation",
    "Output",
    "OutputSpec",
    "Problem",
    "Provenance",
    "ReporterSpec",
    "RunFinished",
    "RunReport",
    "RunStarted",
    "StageError",
    "StageFinished",
    "StageInputs",
    "StageProgress",
    "StageResult",
    "StageSpec",
    "StageStarted",
    "StageWarned",
    "Tracker",
    "TrackerSpec",
    "Undecidable",
    "Verdict",
    "VerdictReached",
    "__version__",
    "hookimpl",
]

_HOME = {
    "errors": ("Fault", "HrmctlError", "InputError", "MeasureError", "Problem", "StageError", "Undecidable"),
    "events": (
        "EvidenceReport",
        "RunFinished",
        "RunReport",
        "RunStarted",
        "StageFinished",
        "StageProgress",
        "StageStarted",
        "StageWarned",
        "VerdictReached",
    ),
    "hookspecs": ("hookimpl",),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'hrmctl' has no attribute '{name}'")
    module = next((home for home, names in _HOME.items() if name in names), "model")
    return getattr(import_module(f"hrmctl.{module}"), name)
