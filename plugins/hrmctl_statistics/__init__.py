"""Measures for contracts (pass@k, paired comparison, ratios, curves, file sizes), and what they can show.

Formulas and sources are in `docs/statistics.md`. Nothing here imports numpy or scipy until a
measure needs them.
"""

from __future__ import annotations

from collections.abc import Iterable

from hrmctl import CommandSpec, MeasureSpec, hookimpl
from hrmctl_statistics.specs import MEASURES


@hookimpl
def hrmctl_measures() -> tuple[MeasureSpec, ...]:
    """Every measure of this package."""
    return MEASURES


@hookimpl
def hrmctl_commands() -> Iterable[CommandSpec]:
    """The commands `compare` and `power`."""
    return [
        CommandSpec(
            "compare",
            "Which of two runs, or stages, is better, problem by problem, with verdicts in words.",
            "hrmctl_statistics.compare_command:compare",
        ),
        CommandSpec(
            "power",
            "What a number of problems can show, and how many are needed.",
            "hrmctl_statistics.power_command:power",
        ),
    ]
