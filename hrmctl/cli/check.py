"""`hrmctl check` and `hrmctl verify`: evaluate obligations, and recompute what is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hrmctl.cli.common import DEFAULT_STORE, JsonOption, StoreOption, print_json, print_table, say

if TYPE_CHECKING:
    from hrmctl.model import CheckReport
    from hrmctl.store import Store


def register(app: typer.Typer) -> None:
    app.command("check")(check)
    app.command("verify")(verify)


def check(
    contracts: Annotated[list[Path] | None, typer.Argument(help="Contract files or folders.")] = None,
    run: Annotated[list[str] | None, typer.Option(help="Judge on this run only. Repeatable.")] = None,
    profile: Annotated[str, typer.Option(help="Thresholds to use, e.g. kpi.")] = "",
    form: Annotated[str, typer.Option("--format", help="table, json, junit, tap, markdown, github, …")] = "table",
    out: Annotated[list[str] | None, typer.Option(help="FORM=FILE: write this form there too. Repeatable.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write the evaluation report and its evidence here.")] = None,
    ratchet: Annotated[Path | None, typer.Option(help="Compare with these accepted verdicts.")] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Rewrite the file of --ratchet.")] = False,
    store: StoreOption = DEFAULT_STORE,
) -> int:
    """Evaluate contracts on what was measured and append the verdicts to the ledger.

    Each obligation is judged on the newest run that says something of it, whatever its recipe; --run restricts the
    runs. Single stages and runs with --only count where they are named, or where the store has no other run.

    Exit code: 0 all hold, 1 a FAIL, 2 bad input, 3 something is not proven or nothing was checked. With --ratchet:
    0 nothing is worse than accepted, 1 something is, 3 something is INVALID.
    """
    from dataclasses import replace
    from functools import partial

    from hrmctl.cli import show
    from hrmctl.cli.progress import PROVING, tracked
    from hrmctl.contract import load_contracts
    from hrmctl.errors import InputError
    from hrmctl.plugins import catalog as load_catalog
    from hrmctl.ratchet import compare
    from hrmctl.run.judge import Claims, judge_runs
    from hrmctl.store import Store

    if accept and ratchet is None:
        raise InputError("--accept needs --ratchet FILE")
    opened = Store(store)
    catalog = load_catalog(Path.cwd())
    show.require_reporter(catalog, form)
    outs = show.parse_outs(catalog, out or ())
    if export is not None:
        show.require_room(catalog, export)
    for name in run or ():
        opened.run_folder(name)
    claims = Claims(load_contracts(contracts or [Path("contracts")], catalog.measures))
    accepted = _accepted(ratchet, accept)
    report = judge_runs(opened, catalog, run or None, claims, profile, track=partial(tracked, what=PROVING))
    if ratchet is not None and accept:
        _accept(ratchet, report)
    faults = compare(accepted, report.judgements) if accepted is not None else []
    code = report.exit_code if ratchet is None else _ratchet_code(report, faults)
    shown = replace(report, exit_code=code)
    show.write_outs(catalog, opened, shown, outs)
    if export is not None:
        show.export(catalog, opened, shown, export)
    show.show_check(catalog, opened, shown, form)
    if form == "table":
        _show_counts(opened, report.check)
    for fault in faults:
        say(f"ratchet: {fault}")
    if accepted is not None and not faults:
        say(f"ratchet: nothing is worse than accepted in {ratchet}")
    return code


def _show_counts(store: Store, check: str) -> None:
    """What the ledger has for this check: one line a kind of subject, one column a verdict."""
    from hrmctl.model import Verdict
    from hrmctl.run.replay import counts

    found = counts(store, check)
    rows = [(kind, [by[verdict.value] for verdict in Verdict]) for kind, by in found.items()]
    rows.append(("all", [sum(column) for column in zip(*(numbers for _, numbers in rows), strict=True)]))
    lines = [(kind, *map(str, numbers), str(sum(numbers))) for kind, numbers in rows]
    print()
    print_table(lines, ("subjects of this check", *(verdict.value for verdict in Verdict), "all"))


def _accepted(path: Path | None, accept: bool) -> Any:
    from hrmctl.errors import InputError, Problem
    from hrmctl.ratchet import load_accepted

    if path is None or accept:
        return None
    if not path.exists():
        remedy = "review the verdicts of this check without --ratchet, then add --accept to write them down"
        raise InputError(Problem("nothing has been accepted yet", str(path), remedy=remedy))
    return load_accepted(path)


def _accept(path: Path, report: CheckReport) -> None:
    from hrmctl.ratchet import accept

    accept(path, report.judgements)
    say(f"accepted {len(report.judgements)} verdicts in {path}; commit the diff after review")


def _ratchet_code(report: CheckReport, faults: list[str]) -> int:
    """0 nothing is worse than accepted, 1 something is, 3 something is INVALID."""
    from hrmctl.model import Verdict

    if not faults:
        return 0
    return 3 if any(j.verdict == Verdict.INVALID for j in report.judgements) else 1


def verify(
    replay: Annotated[bool, typer.Option("--replay", help="Recompute every verdict from the evidence.")] = False,
    signers: Annotated[Path | None, typer.Option(help="Allowed-signers file; checks the signature too.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Check that the ledger is whole, and with --replay that every verdict follows from the evidence in the store."""
    from hrmctl import ledger
    from hrmctl.plugins import catalog
    from hrmctl.run.replay import replay as recompute
    from hrmctl.store import Store

    opened = Store(store)
    problems = list(ledger.verify(opened.ledger))
    if signers is not None:
        problems += ledger.verify_signature(opened.ledger, signers)
    count = len(ledger.rows(opened.ledger)) if not problems else 0
    if replay and not problems:
        count, found = recompute(opened, catalog(Path.cwd()))
        problems += found
    if as_json:
        print_json({"rows": count, "replayed": replay, "problems": [str(p) for p in problems]})
    for problem in problems:
        say(f"hrmctl: {problem}")
    if not problems and not as_json:
        print(f"{count} rows {'replayed, every verdict the same' if replay else 'in an unbroken chain'}")
    if problems:
        return 1
    return 0 if count else 3
