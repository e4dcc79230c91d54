"""Show a check in the forms that were asked for."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hrmctl.errors import InputError
from hrmctl.jsonio import write_atomic
from hrmctl.model import CheckReport, ReporterSpec
from hrmctl.registry import resolve
from hrmctl.store import Store

EXPORTED = "PHASE_3_EVALUATION_REPORT.md"
_PAGE = "evaluation-report"


def require_reporter(catalog: Any, form: str) -> ReporterSpec:
    """The reporter called `form`. Raises InputError when there is none."""
    spec: ReporterSpec | None = catalog.reporters.get(form)
    if spec is None:
        raise InputError(f"unknown format '{form}'; {catalog.unknown(form, catalog.reporters)}")
    return spec


def render(catalog: Any, store: Store, report: CheckReport, form: str, width: int = 0) -> str:
    """`report` in the form called `form`, for a terminal of `width` columns. Raises InputError when there is none."""
    from hrmctl.run.report import evidence_report

    spec = require_reporter(catalog, form)
    options = {"width": width} if spec.width else {}
    text: str = resolve(spec.target)(evidence_report(store, report) if spec.evidence else report, **options)
    return text


def show_check(catalog: Any, store: Store, report: CheckReport, form: str) -> None:
    """Print `report` in the form called `form`; `github` also appends the job's summary where GitHub says so."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    print(render(catalog, store, report, form, width))
    summary = os.environ.get("GITHUB_STEP_SUMMARY", "")
    if form == "github" and summary:
        text = render(catalog, store, report, "markdown")
        # The file is the runner's: other programs of the job append to it too.
        with open(summary, "a", encoding="utf-8") as stream:
            stream.write(f"{text}\n")


def parse_outs(catalog: Any, outs: Sequence[str]) -> dict[Path, str]:
    """The forms to write by file, from `FORM=FILE`. Raises InputError on an unknown form or a file named twice."""
    found: dict[Path, str] = {}
    for given in outs:
        form, _, name = given.partition("=")
        if not form or not name or name == "-":
            raise InputError(f"--out {given}: write --out FORM=FILE, e.g. --out junit=reports/check.xml")
        require_reporter(catalog, form)
        path = Path(name)
        if path in found:
            raise InputError(f"--out {given}: {name} is already the file of {found[path]}; give each form its own")
        if path.is_dir():
            raise InputError(f"--out {given}: {name} is a folder; name a file in it")
        found[path] = form
    return found


def write_outs(catalog: Any, store: Store, report: CheckReport, outs: dict[Path, str]) -> None:
    """Write every form: nothing before all are made, each file whole or not at all."""
    texts = {path: render(catalog, store, report, form) for path, form in outs.items()}
    for path, text in texts.items():
        write_atomic(path, f"{text}\n")


def export(catalog: Any, store: Store, report: CheckReport, folder: Path) -> None:
    """What an auditor needs: the report in `folder`, beside it `bundle/` with the check, its rows and its evidence.

    Each file of `bundle/evidence` is named by the sha256 of its bytes; the bundle is there whole or not at all.
    Raises InputError where one is already.
    """
    from hrmctl.run.report import evidence_report, ledger_texts

    require_room(catalog, folder)
    page = render(catalog, store, report, _PAGE)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=folder, ignore_cleanup_errors=True) as made:
        bundle = Path(made) / "bundle"
        write_outs(catalog, store, report, {bundle / "check.json": "json"})
        for name, text in ledger_texts(store, report.check).items():
            write_atomic(bundle / name, text)
        for evidence in evidence_report(store, report).evidence:
            path = bundle / "evidence" / f"{evidence.digest}.json"
            write_atomic(path, store.object_path(evidence.digest).read_bytes())
        write_atomic(folder / EXPORTED, f"{page}\n")
        os.rename(bundle, folder / "bundle")


def require_room(catalog: Any, folder: Path) -> None:
    """Raises InputError where nothing can be exported to `folder`."""
    bundle = folder / "bundle"
    if bundle.exists():
        raise InputError(f"{bundle} exists; remove it or export to another folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder")
    for form in ("json", _PAGE):
        require_reporter(catalog, form)
