"""Measures for contracts: pass@k, paired comparison, ratios, curves, file sizes.

Formulas and sources are in `docs/statistics.md`. Nothing here imports numpy or scipy until a
measure needs them.
"""

from __future__ import annotations

from hrmctl import MeasureSpec, hookimpl
from hrmctl_statistics.specs import MEASURES


@hookimpl
def hrmctl_measures() -> tuple[MeasureSpec, ...]:
    """Every measure of this package."""
    return MEASURES
