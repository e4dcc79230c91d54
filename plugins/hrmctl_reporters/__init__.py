"""Forms in which a check can be shown: for people, for CI and for badges.

Each form shows every judgement and derives every total from them; `docs/reports.md` describes them.
"""

from __future__ import annotations

from hrmctl import ReporterSpec, hookimpl


@hookimpl
def hrmctl_reporters() -> tuple[ReporterSpec, ...]:
    """Every reporter of this package."""
    return (
        ReporterSpec("table", "aligned plain text for a terminal", "hrmctl_reporters.table:report", width=True),
        ReporterSpec("json", "canonical JSON with a documented schema", "hrmctl_reporters.machine:json_report"),
        ReporterSpec("tap", "TAP version 14; what is not proven is not ok", "hrmctl_reporters.tap:report"),
        ReporterSpec("junit", "JUnit XML for CI; what is not proven is skipped", "hrmctl_reporters.junit:report"),
        ReporterSpec(
            "in-toto", "in-toto Statement of a test result, to be signed", "hrmctl_reporters.attestation:report"
        ),
        ReporterSpec("badge", "endpoint document of a shields.io badge", "hrmctl_reporters.badge:endpoint"),
        ReporterSpec("badge-svg", "a badge as a picture that needs no service", "hrmctl_reporters.badge:svg"),
        ReporterSpec("markdown", "tables for a pull request or a job summary", "hrmctl_reporters.markdown:report"),
        ReporterSpec("github", "workflow commands that annotate a GitHub run", "hrmctl_reporters.github:report"),
        ReporterSpec(
            "evaluation-report", "every figure with its evidence", "hrmctl_reporters.evaluation:report", evidence=True
        ),
        ReporterSpec("html", "one self-contained page of a run", "hrmctl_reporters.page:run_page"),
    )
