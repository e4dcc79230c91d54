"""`hrmctl doctor`: what this machine offers, and what is missing."""

from __future__ import annotations

import typer

from hrmctl.cli.common import DEFAULT_STORE, JsonOption, StoreOption, print_json, print_table


def register(parent: typer.Typer) -> None:
    parent.command()(doctor)


def doctor(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> int:
    """Show versions, hardware, the state of the plugins, the sandbox and the store."""
    from hrmctl.doctor import examine

    findings = examine(store)
    if as_json:
        print_json(findings)
    else:
        print_table([(f.subject, f.state, f.detail, f.remedy) for f in findings], ("", "state", "", "remedy"))
    return 3 if any(f.state == "broken" for f in findings) else 0
