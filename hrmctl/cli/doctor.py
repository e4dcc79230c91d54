"""`hrmctl doctor`: what this machine offers, and what is missing."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from hrmctl.cli.common import DEFAULT_STORE, JsonOption, StoreOption, print_json

if TYPE_CHECKING:
    from hrmctl.model import Finding


def register(parent: typer.Typer) -> None:
    parent.command()(doctor)


def doctor(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> int:
    """Show versions, hardware, the state of the plugins, the sandbox and the store."""
    from hrmctl.doctor import examine

    findings = examine(store)
    if as_json:
        print_json(findings)
    else:
        _show(findings)
    return 3 if any(f.state == "broken" for f in findings) else 0


def _show(findings: Sequence[Finding]) -> None:
    """Two columns and the detail beside them, wrapped to the terminal; a remedy has lines of its own."""
    subject = max(len(f.subject) for f in findings)
    indent = " " * (subject + 11)
    width = max(shutil.get_terminal_size().columns, len(indent) + 20)
    for finding in findings:
        start = f"{finding.subject:<{subject}}  {finding.state:<7}  "
        for text in (finding.detail, finding.remedy and f"→ {finding.remedy}"):
            for line in textwrap.wrap(text, width - len(indent)) or ([""] if start.strip() else []):
                print(f"{start}{line}".rstrip())
                start = indent
