"""Evaluation: `eval` (coding problems, judged by running the completions), `eval-transformers` (the same with another
engine, to compare with), `eval-puzzles` (judged by their rules), `eval-perplexity` (how well a model predicts text)."""

from __future__ import annotations

from collections.abc import Sequence

from hrmctl import DiagnosticSpec, StageSpec, hookimpl
from hrmctl_eval.stages import STAGES


@hookimpl
def hrmctl_stages() -> Sequence[StageSpec]:
    """The stages whose names begin with `eval`."""
    return STAGES


@hookimpl
def hrmctl_diagnostics() -> list[DiagnosticSpec]:
    return [DiagnosticSpec("sandbox", "what contains generated programs on this machine", "hrmctl_eval.doctor:sandbox")]
