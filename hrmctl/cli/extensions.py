"""The commands that plugins bring, such as `hrmctl score`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer


def register(app: typer.Typer, argv: Sequence[str], everything: bool = False) -> None:
    """Add every command of the plugins; only the one that `argv` names is imported, or `everything`."""
    from hrmctl.plugins import catalog
    from hrmctl.registry import resolve

    for name, spec in catalog(Path.cwd()).commands.items():
        wanted = everything or argv[0] == name
        app.command(name, help=spec.summary)(resolve(spec.target) if wanted else _closed)


def _closed() -> None:
    """Never called: the command that is called is imported."""
