"""`hrmctl contracts`: list, show, lint, prove, new, schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hrmctl.cli.common import JsonOption, print_json, print_table, say

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
Paths = Annotated[list[Path] | None, typer.Argument(help="Contract files or folders.")]
FOLDER = Path("contracts")


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="contracts", help="Show, check and prove contracts.")


def _load(paths: list[Path] | None) -> tuple[Any, Any]:
    from hrmctl.contract import load_contracts
    from hrmctl.plugins import catalog

    found = catalog(Path.cwd())
    return load_contracts(paths or [FOLDER], found.measures), found


@app.command("list")
def list_(paths: Paths = None, as_json: JsonOption = False) -> int:
    """All contracts and gates with their subjects."""
    items, _ = _load(paths)
    rows = [{"id": i.id, "title": i.title, "subjects": list(getattr(i, "subjects", {})), "file": i.file} for i in items]
    if as_json:
        print_json(rows)
    else:
        print_table(
            [(r["id"], ", ".join(r["subjects"]) or "gate", r["title"]) for r in rows], ("id", "subjects", "claim")
        )
    return 0


@app.command()
def show(id: Annotated[str, typer.Argument(help="A contract's id.")], paths: Paths = None) -> int:
    """One contract as it is written."""
    from hrmctl.errors import InputError
    from hrmctl.yamlio import suggest

    items, _ = _load(paths)
    found = {item.id: item for item in items}
    if id not in found:
        raise InputError(f"no contract '{id}'; {suggest(id, found)}")
    print(found[id].text.rstrip())
    return 0


@app.command()
def lint(
    paths: Paths = None,
    strict: Annotated[bool, typer.Option("--strict", help="End with 2 where there is a warning.")] = False,
) -> int:
    """Parse contracts and report every fault with file, line and column; what is not proven is a fault too.

    Warns of what a sound contract may still overlook, such as asking for more than its n can show.
    """
    from hrmctl.cli.progress import PROVING, tracked
    from hrmctl.contract import Contract, proofs
    from hrmctl.contract.advice import advice
    from hrmctl.errors import InputError

    items, found = _load(paths)
    problems = [problem for proof in proofs(tracked(items, PROVING), found.measures) for problem in proof.problems]
    if problems:
        raise InputError(*problems)
    warnings = [w for item in items if isinstance(item, Contract) for w in advice(item, found.measures, found.stages)]
    for warning in warnings:
        say(f"warning: {warning}")
    print(f"{len(items)} contracts are well formed and proven")
    return 2 if strict and warnings else 0


@app.command()
def prove(paths: Paths = None, as_json: JsonOption = False) -> int:
    """Run every control and every mutant; print killed/total of each contract."""
    from hrmctl.cli.progress import PROVING, tracked
    from hrmctl.contract import proofs

    items, known = _load(paths)
    found = proofs(tracked(items, PROVING, quiet=as_json), known.measures)
    if as_json:
        print_json(
            [
                {
                    "contract": p.contract,
                    "controls": len(p.controls),
                    "killed": p.killed,
                    "total": p.total,
                    "ok": p.ok,
                    "problems": [str(q) for q in p.problems],
                }
                for p in found
            ]
        )
    else:
        rows = [
            (p.contract, str(len(p.controls)), f"{p.killed}/{p.total}", "proven" if p.ok else "NOT PROVEN")
            for p in found
        ]
        print_table(rows, ("contract", "controls", "mutants killed", ""))
        print(f"{sum(p.killed for p in found)}/{sum(p.total for p in found)} mutants killed in {len(found)} contracts")
    for problem in (problem for proof in found for problem in proof.problems):
        say(f"hrmctl: {problem}")
    return 0 if all(p.ok for p in found) else 2


@app.command()
def new(
    id: Annotated[str, typer.Argument(help="The new contract's id, e.g. HRM-P9.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Where the file goes; the current folder if that is called contracts.", show_default="contracts"
        ),
    ] = None,
) -> int:
    """Write a contract that loads and is proven as written, to be changed into yours."""
    from hrmctl.contract.load import require_free
    from hrmctl.contract.template import template
    from hrmctl.errors import InputError, Problem
    from hrmctl.jsonio import write_atomic

    own = Path() if Path.cwd().name == FOLDER.name else FOLDER
    chosen = own if folder is None else folder
    path = chosen / f"{id.lower()}.yaml"
    if path.exists():
        raise InputError(Problem("already there", str(path), remedy="choose another id"))
    text = template(id)
    # `check` and `lint` read a folder with all that is below it.
    require_free(id, own if chosen.resolve().is_relative_to(own.resolve()) else chosen)
    write_atomic(path, text)
    print(path)
    return 0


@app.command()
def schema(kind: Annotated[str, typer.Argument(help="contract, gate or recipe.")] = "contract") -> int:
    """The JSON Schema of a file, for editors."""
    from hrmctl.errors import InputError
    from hrmctl.plugins import catalog
    from hrmctl.reference import schemas
    from hrmctl.yamlio import suggest

    found = schemas(catalog(Path.cwd()))
    if kind not in found:
        raise InputError(f"no schema '{kind}'; {suggest(kind, found)}")
    print(json.dumps(found[kind], indent=2, ensure_ascii=False))
    return 0
