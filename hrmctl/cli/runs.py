"""`hrmctl runs` and `hrmctl report`: what was run, what it measured, and what of it can go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hrmctl.cli.common import (
    DEFAULT_STORE,
    JsonOption,
    RunArgument,
    StoreOption,
    human,
    measured,
    pick_run,
    print_differences,
    print_json,
    print_table,
    say,
    whose,
)

if TYPE_CHECKING:
    from hrmctl.model import Evidence
    from hrmctl.run.collect import Garbage
    from hrmctl.store import Store

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="runs", help="Show runs.")
    parent.command()(report)


@app.command("list")
def list_(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> int:
    """All runs in the store, oldest first; one that was killed is interrupted."""
    from hrmctl.run.record import every_run, run_lock
    from hrmctl.store import Store

    opened = Store(store)
    locks = [run_lock(opened, run) for run in every_run(opened)]
    if as_json:
        print_json([{k: lock[k] for k in ("run", "name", "recipe", "status", "started")} for lock in locks])
        return 0
    rows = [(lock["run"], lock["name"], lock["status"], str(len(lock["stages"])), lock["started"]) for lock in locks]
    print_table(rows, ("run", "recipe", "status", "stages", "started"))
    return 0


@app.command()
def show(run: RunArgument = None, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> int:
    """One run: its stages, their outputs, losses and measurements, and where they came from."""
    from hrmctl.run.record import run_lock
    from hrmctl.run.summary import evidence_of, losses, measurements
    from hrmctl.store import Store

    opened = Store(store)
    lock = run_lock(opened, pick_run(opened, run))
    if as_json:
        print_json(lock | {"losses": losses(opened, lock), "measurements": measurements(opened, lock)})
        return 0
    print(f"run {lock['run']}  {lock['status']}  hrmctl {' '.join(lock['argv'])}")
    rows = []
    for name, stage in lock["stages"].items():
        outputs = ", ".join(f"{k} {o['digest'][:12]}" for k, o in stage["outputs"].items())
        fault = stage["error"].partition("\n")[0]
        rows.append((name, stage["uses"], stage["status"], str(stage["seed"]), outputs or fault))
    print_table(rows, ("stage", "uses", "status", "seed", "outputs"))
    for name, stage in lock["stages"].items():
        for fault in stage["error"].splitlines()[1:]:
            print(f"{name}: {fault}")
    curves = [
        (c.stage, c.curve, f"{_loss(c.first)} → {_loss(c.last)}", f"{c.steps[0]:,} → {c.steps[1]:,}")
        for c in losses(opened, lock)
    ]
    if curves:
        print()
        print_table(curves, ("stage", "loss", "first → last", "step"))
    print()
    shown = [(name, e.name, measured(e), whose(e)) for name, e in evidence_of(opened, lock) if measured(e)]
    print_table(shown, ("stage", "measurement", "value", "of"))
    return 0


def _loss(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


@app.command()
def evidence(
    run: Annotated[str | None, typer.Argument(help="A run's id; the latest when it is left out.")] = None,
    which: Annotated[str | None, typer.Argument(help="A name, STAGE.NAME or the beginning of a digest.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """List the evidence of a run, or print one piece of it as JSON: its payload and where it comes from."""
    from hrmctl.run.record import run_lock
    from hrmctl.run.summary import evidence_of
    from hrmctl.store import Store

    opened = Store(store)
    if run is not None and which is None and not (opened.runs / run / "recipe.lock.yaml").is_file():
        run, which = None, run
    chosen = pick_run(opened, run)
    pieces = list(evidence_of(opened, run_lock(opened, chosen)))
    if which is not None:
        stage, found = _one(pieces, which, chosen)
        body = {name: getattr(found, name) for name in ("name", "type", "digest", "payload", "provenance")}
        print_json({"stage": stage, **body})
    elif as_json:
        print_json([{"stage": s, "name": e.name, "type": e.type, "digest": e.digest} for s, e in pieces])
    else:
        rows = [(s, e.name, e.type, e.digest[:12], whose(e)) for s, e in pieces]
        print_table(rows, ("stage", "name", "type", "digest", "of"))
    return 0


def _one(pieces: Sequence[tuple[str, Evidence]], which: str, run: str) -> tuple[str, Evidence]:
    """The one piece that is meant. Raises InputError where there is none, or several."""
    from hrmctl.errors import InputError
    from hrmctl.yamlio import suggest

    found = [(s, e) for s, e in pieces if which in (e.name, f"{s}.{e.name}")]
    found = found or [(s, e) for s, e in pieces if len(which) >= 4 and e.digest.startswith(which)]
    if not found:
        hint = suggest(which, {e.name for _, e in pieces}) or f"hrmctl runs evidence {run} lists what there is"
        raise InputError(f"run {run} has no evidence '{which}'; {hint}")
    if len({e.digest for _, e in found}) > 1:
        names = ", ".join(f"{s}.{e.name} {e.digest[:12]}" for s, e in found[:8])
        raise InputError(f"{len(found)} pieces are called '{which}'; say which: {names}")
    return found[0]


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="RUN_A", help="A run's id.")],
    b: Annotated[str, typer.Argument(metavar="RUN_B", help="Another's.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """What two runs were made of where it differs, and all they measured and their verdicts side by side.

    Which of the two is better, with intervals and tests: hrmctl compare.
    """
    from hrmctl.run.summary import compare
    from hrmctl.store import Store

    found = compare(Store(store), a, b)
    if as_json:
        print_json(found)
        return 0
    print(f"A  {a}\nB  {b}\n")
    if found.differences:
        print_differences(found.differences)
    else:
        print("made of the same recipe, parameters and inputs")
    if found.measurements:
        print()
        rows = [_measured_row(row) for row in found.measurements]
        print_table(rows, ("stage", "measurement", "A", "B", "B - A", "of"))
    if found.verdicts:
        print()
        judged = [(row["obligation"], row["a"] or "-", row["b"] or "-") for row in found.verdicts]
        print_table(judged, ("obligation", "A", "B"))
    return 0


def _measured_row(row: Mapping[str, Any]) -> Sequence[str]:
    sides = [human(row[side], row["unit"]) if row[side] is not None else "-" for side in "ab"]
    change = "-" if "-" in sides else "=" if row["a"] == row["b"] else _change(row["a"], row["b"], row["unit"])
    return (row["stage"], row["name"], *sides, change, " ".join(row["of"]))


def _change(a: float, b: float, unit: str) -> str:
    share = f" ({100 * (b - a) / abs(a):+.3g} %)" if a else ""
    return f"{'+' if b > a else '-'}{human(abs(b - a), unit)}{share}"


@app.command()
def gc(
    keep: Annotated[int, typer.Option(min=1, help="Newest runs of each recipe that are kept.")] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without this it is only shown.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Remove old runs and what only they need; without --yes, show what would go.

    Kept are the newest runs of each recipe, its newest that is done, and of every run that the ledger names the
    evidence, so that its verdicts can be replayed. Models and data of such runs go with the others.
    """
    from contextlib import nullcontext

    from hrmctl.run.collect import collect, collecting, find_garbage
    from hrmctl.store import Store

    opened = Store(store)
    with collecting(opened) if yes and opened.root.exists() else nullcontext():
        garbage = find_garbage(opened, keep)
        size = _size(garbage.paths)
        if yes:
            collect(opened, garbage)
    if as_json:
        print_json({"removed": yes, "bytes": size, **{k: _names(opened, v) for k, v in vars(garbage).items()}})
        return 0
    _show_garbage(opened, garbage, size, yes)
    return 0


def _show_garbage(store: Store, garbage: Garbage, size: int, gone: bool) -> None:
    for path in garbage.runs:
        print(f"run {path.name}")
    counts = [(len(garbage.runs), "runs"), (len(garbage.objects), "objects"), (len(garbage.scratch), "scratch folders")]
    what = ", ".join(f"{count} {name}" for count, name in counts)
    print(f"{what}: {human(size, 'bytes')} {'removed' if gone else 'would go'}")
    say(f"kept: {len(garbage.kept)} runs whole, and the evidence of {len(garbage.for_ledger)} more for the ledger")
    if garbage.paths and not gone:
        say("nothing was removed; --yes removes it")


def _names(store: Store, items: Iterable[Path | str]) -> list[str]:
    return [str(item.relative_to(store.root)) if isinstance(item, Path) else item for item in items]


def _size(paths: Iterable[Path]) -> int:
    files = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file())


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
    from hrmctl.run.report import require_as_judged, run_report
    from hrmctl.store import Store

    opened = Store(store)
    chosen = pick_run(opened, run)
    check = report_from_ledger(opened, chosen)
    if export is not None:
        require_as_judged(opened, check)
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
