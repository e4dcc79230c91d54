"""`hrmctl ledger`: show, verify, sign and export the record of verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hrmctl.cli.common import DEFAULT_STORE, JsonOption, StoreOption, print_json, print_table, say

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="ledger", help="Show and verify the record of verdicts.")


@app.command()
def show(
    check: Annotated[str | None, typer.Option(help="One check only.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """All rows, oldest first."""
    from hrmctl import ledger
    from hrmctl.store import Store

    rows = [r for r in ledger.rows(Store(store).ledger) if check is None or r["check"] == check]
    if as_json:
        print_json(rows)
        return 0
    shown = [
        (str(r["seq"]), r["time"], r["check"], f"{r['contract']}/{r['subject']}", r["verdict"], r["because"])
        for r in rows
    ]
    print_table(shown, ("row", "time", "check", "obligation", "verdict", "because"))
    return 0


@app.command()
def verify(
    store: StoreOption = DEFAULT_STORE,
    signers: Annotated[Path | None, typer.Option(help="Allowed-signers file; checks the signature too.")] = None,
) -> int:
    """Find any changed, missing, reordered or truncated row."""
    from hrmctl import ledger
    from hrmctl.store import Store

    path = Store(store).ledger
    problems = list(ledger.verify(path))
    if signers is not None:
        problems += ledger.verify_signature(path, signers)
    for problem in problems:
        say(f"hrmctl: {problem}")
    if problems:
        return 1
    count = len(ledger.rows(path))
    print(f"{count} rows in an unbroken chain")
    return 0 if count else 3


@app.command()
def sign(
    key: Annotated[Path, typer.Option(help="An SSH private key.")],
    store: StoreOption = DEFAULT_STORE,
) -> int:
    """Sign the head of the ledger with `ssh-keygen -Y sign`."""
    from hrmctl import ledger
    from hrmctl.store import Store

    print(ledger.sign(Store(store).ledger, key))
    return 0


@app.command()
def export(out: Annotated[Path, typer.Argument(help="The file to write.")], store: StoreOption = DEFAULT_STORE) -> int:
    """Write all rows as one JSON document."""
    from hrmctl import ledger
    from hrmctl.jsonio import canonical, write_atomic
    from hrmctl.store import Store

    rows = ledger.rows(Store(store).ledger)
    write_atomic(out, canonical({"version": 1, "rows": rows}) + "\n")
    print(f"{len(rows)} rows: {out}")
    return 0
