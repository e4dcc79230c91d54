"""Parameters of the audits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReportParams:
    """`audit.report` takes no parameters: what it looks for is fixed, so that no recipe can look away."""
