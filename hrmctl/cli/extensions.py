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
        called = resolve(spec.target) if everything or argv[0] == name else _closed
        # Its own words say more, such as its exit codes; a function without any has the line of the list.
        own = called is not _closed and called.__doc__
        app.command(name, help=None if own else spec.summary, short_help=spec.summary)(called)


def _closed() -> None:
    """Never called: the command that is called is imported."""
