"""`hrmctl runs` and `hrmctl report`: what was run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hrmctl.cli.common import (
    DEFAULT_STORE,
    JsonOption,
    RunArgument,
    StoreOption,
    measured,
    pick_run,
    print_json,
    print_table,
    whose,
)

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="runs", help="Show runs.")
    parent.command()(report)


@app.command("list")
def list_(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> int:
    """All runs in the store, oldest first."""
    from hrmctl.run.record import read_lock
    from hrmctl.store import Store

    opened = Store(store)
    locks = [read_lock(p.parent) for p in sorted(opened.runs.glob("*/recipe.lock.yaml"))]
    if as_json:
        print_json([{k: lock[k] for k in ("run", "name", "recipe", "status", "started")} for lock in locks])
        return 0
    rows = [(lock["run"], lock["name"], lock["status"], str(len(lock["stages"])), lock["started"]) for lock in locks]
    print_table(rows, ("run", "recipe", "status", "stages", "started"))
    return 0


@app.command()
def show(run: RunArgument = None, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> int:
    """One run: its stages, their outputs and where they came from."""
    from hrmctl.run.record import read_lock
    from hrmctl.store import Store

    opened = Store(store)
    lock = read_lock(opened.run_folder(pick_run(opened, run)))
    if as_json:
        print_json(lock)
        return 0
    print(f"run {lock['run']}  {lock['status']}  hrmctl {' '.join(lock['argv'])}")
    rows = []
    for name, stage in lock["stages"].items():
        outputs = ", ".join(f"{k} {o['digest'][:12]}" for k, o in stage["outputs"].items())
        rows.append((name, stage["uses"], stage["status"], str(stage["seed"]), outputs or stage["error"]))
    print_table(rows, ("stage", "uses", "status", "seed", "outputs"))
    print()
    evidence = [(name, opened.get_evidence(d)) for name, stage in lock["stages"].items() for d in stage["evidence"]]
    shown = [(name, e.name, measured(e), whose(e)) for name, e in evidence if measured(e)]
    print_table(shown, ("stage", "measurement", "value", "of"))
    return 0


def report(
    run: RunArgument = None,
    html: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write Markdown here.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write the evaluation report and its evidence here.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> int:
    """The report of a run from what the ledger says; Markdown on standard output unless a file is named."""
    from hrmctl.cli.show import export as write_bundle
    from hrmctl.cli.show import require_reporter
    from hrmctl.jsonio import write_atomic
    from hrmctl.plugins import catalog
    from hrmctl.registry import resolve
    from hrmctl.run.replay import report_from_ledger
    from hrmctl.run.report import run_report
    from hrmctl.store import Store

    opened = Store(store)
    chosen = pick_run(opened, run)
    check = report_from_ledger(opened, chosen)
    if export is not None:
        write_bundle(catalog(Path.cwd()), opened, check, export)
        print(export)
        return check.exit_code
    if html is not None:
        page = resolve(require_reporter(catalog(Path.cwd()), "html").target)
        write_atomic(html, page(run_report(opened, chosen, check)))
        print(html)
        if markdown is None:
            return check.exit_code
    text = resolve(require_reporter(catalog(Path.cwd()), "markdown").target)(check)
    if markdown is not None:
        write_atomic(markdown, text)
        print(markdown)
    else:
        print(text)
    return check.exit_code
