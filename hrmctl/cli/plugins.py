"""`hrmctl plugins`: what is installed, what is broken, and a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hrmctl.cli.common import JsonOption, print_json, print_table, say

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="plugins", help="Show installed plugins and make new ones.")


@app.command("list")
def list_(as_json: JsonOption = False) -> int:
    """All plugins with what they provide; broken ones with their traceback."""
    from hrmctl.plugins import catalog
    from hrmctl.reference import tables

    found = catalog(Path.cwd())
    if as_json:
        print_json(
            [
                {"name": p.name, "distribution": p.distribution, "version": p.version, "error": p.error}
                for p in found.plugins
            ]
        )
        return 0
    rows = []
    for plugin in found.plugins:
        stages = [name for name, owner in found.owner.items() if owner.name == plugin.name]
        rows.append(
            (
                plugin.name,
                f"{plugin.distribution} {plugin.version}",
                "BROKEN" if plugin.error else "ok",
                ", ".join(stages),
            )
        )
    print_table(rows, ("plugin", "from", "state", "stages"))
    for kind, table in tables(found).items():
        if table:
            print(f"\n{kind}: {', '.join(table)}")
    for plugin in found.plugins:
        if plugin.error:
            say(f"\n{plugin.name} is broken:\n{plugin.error.rstrip()}")
    return 0


@app.command()
def show(name: Annotated[str, typer.Argument(help="A stage, measure, data set, architecture, … by name.")]) -> int:
    """One stage or other thing that a plugin provides, with its parameters."""
    from hrmctl.errors import InputError
    from hrmctl.plugins import catalog
    from hrmctl.reference import describe, tables

    found = catalog(Path.cwd())
    for kind, table in tables(found).items():
        if name in table:
            print(describe(kind, table[name]))
            return 0
    every = [n for table in tables(found).values() for n in table]
    raise InputError(f"no plugin provides '{name}'; {found.unknown(name, every)}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The plugin's name, e.g. sparsify.")],
    folder: Annotated[Path, typer.Option(help="Where the new folder goes.")] = Path(),
) -> int:
    """Write a plugin distribution that installs and passes its own tests as written."""
    from hrmctl.scaffold import write_plugin

    print(write_plugin(name, folder))
    return 0
