"""Stages that audit what others say: a report against the evidence that it cites.

An audit trusts no program that wrote what it reads: it recomputes, and it reports what it found as measurements that
contracts judge.
"""

from __future__ import annotations

from hrmctl import InputSpec, OutputSpec, StageSpec, hookimpl
from hrmctl_audit.params import ReportParams


@hookimpl
def hrmctl_stages() -> tuple[StageSpec, ...]:
    """Every stage of this package; their names begin with `audit.`."""
    return (
        StageSpec(
            "audit.report",
            "recompute every figure of an evaluation report from the evidence that it cites",
            ReportParams,
            "hrmctl_audit.report:run",
            inputs={
                "report": InputSpec("report", "the report: Markdown, as `hrmctl report --export` writes it"),
                "bundle": InputSpec("report", "the folder beside it: evidence by digest, the check, quoted figures"),
            },
            outputs={"findings": OutputSpec("report", "JSONL: each fault with its line, what it says and why")},
        ),
    )
