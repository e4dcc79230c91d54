"""Forms in which a check can be shown: for people, for CI and for badges.

Each form shows every judgement and derives every total from them; `docs/reports.md` describes them.
"""

from __future__ import annotations

from hrmctl import ReporterSpec, hookimpl


@hookimpl
def hrmctl_reporters() -> tuple[ReporterSpec, ...]:
    """Every reporter of this package."""
    return (
        ReporterSpec("table", "aligned plain text for a terminal", "hrmctl_reporters.table:report"),
        ReporterSpec("json", "canonical JSON with a documented schema", "hrmctl_reporters.machine:json_report"),
        ReporterSpec("badge", "endpoint document of a shields.io badge", "hrmctl_reporters.machine:badge"),
        ReporterSpec("junit", "JUnit XML for CI; what is not proven is not passed", "hrmctl_reporters.junit:report"),
        ReporterSpec("markdown", "tables for a pull request or a job summary", "hrmctl_reporters.markdown:report"),
        ReporterSpec("github", "workflow commands that annotate a GitHub run", "hrmctl_reporters.github:report"),
        ReporterSpec("html", "one self-contained page of a run", "hrmctl_reporters.page:run_page"),
    )
