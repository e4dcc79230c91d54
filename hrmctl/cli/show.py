"""Show a check in the form that was asked for."""

from __future__ import annotations

from typing import Any

from hrmctl.errors import InputError
from hrmctl.model import CheckReport, ReporterSpec
from hrmctl.registry import resolve


def require_reporter(catalog: Any, form: str) -> ReporterSpec:
    """The reporter called `form`. Raises InputError when there is none."""
    spec: ReporterSpec | None = catalog.reporters.get(form)
    if spec is None:
        raise InputError(f"unknown format '{form}'; {catalog.unknown(form, catalog.reporters)}")
    return spec


def show_check(catalog: Any, report: CheckReport, form: str) -> None:
    """Print `report` through the reporter called `form`."""
    print(resolve(require_reporter(catalog, form).target)(report))
