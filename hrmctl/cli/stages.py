"""`hrmctl finetune`, `hrmctl data generate`, …: one stage alone, its options made from its parameters."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import tempfile
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperCommand

from hrmctl.cli.common import DEFAULT_STORE, JsonOption, StoreOption, measured, print_json, say, whose
from hrmctl.errors import InputError, StoreError
from hrmctl.jsonio import to_json
from hrmctl.schema import fields_of

if TYPE_CHECKING:
    from hrmctl.model import StageSpec
    from hrmctl.schema import Field

_WIDEST = 50
RESERVED = ("seed", "device", "out", "store", "json")


def register(app: typer.Typer, argv: Sequence[str], everything: bool = False) -> None:
    """Add a command for every stage; only the one named in `argv` gets its options, or `everything`."""
    from hrmctl.plugins import catalog

    groups: dict[str, typer.Typer] = {}
    for name, spec in catalog(Path.cwd()).stages.items():
        group, _, member = name.partition(".")
        wanted = everything or list(argv[: 2 if member else 1]) == ([group, member] if member else [group])
        command = _command(spec) if wanted else _closed(spec)
        if not member:
            app.command(name, help=spec.summary, cls=StageCommand)(command)
            continue
        if group not in groups:
            groups[group] = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
            app.add_typer(groups[group], name=group, help=f"Stages whose name begins with {group}.")
        groups[group].command(member, help=spec.summary, cls=StageCommand)(command)


class StageCommand(TyperCommand):
    """A command whose help has its options under headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(option, "rich_help_panel", None) or "Options", []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _closed(spec: StageSpec) -> Callable[[], None]:
    def command() -> None:
        """Never called: a stage that is called has its options."""

    command.__doc__ = spec.summary
    return command


def _command(spec: StageSpec) -> Callable[..., int]:
    fields = [f for f in fields_of(spec.params) if _option_type(f.type) is not None]
    topic_of = {name: topic for topic, names in spec.topics.items() for name in names}
    order = [*topic_of, *(f.name for f in fields if f.name not in topic_of)]
    fields.sort(key=lambda f: order.index(f.name))
    options = {f"input_{name}": _input(name, i.summary, i.required, i.many) for name, i in spec.inputs.items()}
    options |= {f"param_{f.attribute}": _parameter(f, topic_of.get(f.name, "Parameters")) for f in fields}
    options |= {
        "run_seed": Annotated[int, typer.Option("--seed", help="Seed of the stage.")],
        "device": Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")],
        "out": Annotated[Path | None, typer.Option(help="Copy the outputs into this folder.")],
        "store": StoreOption,
        "as_json": JsonOption,
    }
    defaults = {"run_seed": 0, "device": "auto", "store": DEFAULT_STORE, "as_json": False}

    def command(**values: Any) -> int:
        return _run(spec, fields, values)

    parameters = [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(n), annotation=a)
        for n, a in options.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = dict(options)
    command.__doc__ = spec.summary
    return command


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _parameter(field: Field, topic: str) -> Any:
    flag = _flag(field.name) if field.name not in RESERVED else _flag(f"param-{field.name}")
    declaration = f"{flag}/--no-{flag[2:]}" if field.type is bool else flag
    default: Any = "required" if field.required else _shown(field.default)
    keys = _keys(field.type)
    choices = " | ".join(map(str, get_args(field.type))) if get_origin(field.type) is Literal else ""
    metavar, text = None, field.doc
    if keys:
        metavar, text = "YAML", f"{text} (YAML, JSON or @FILE: {keys})"
    elif len(choices) > _WIDEST:
        # What stands before the help is never wrapped.
        metavar, text = "CHOICE", f"{text} ({choices})"
    option = typer.Option(declaration, help=text, show_default=default, metavar=metavar, rich_help_panel=topic)
    return Annotated[_option_type(field.type), option]


def _shown(default: Any) -> Any:
    if is_dataclass(default):
        return ", ".join(f"{name}: {value}" for name, value in to_json(default).items())
    return str(default) if default not in (None, "", ()) else False


def _keys(kind: Any) -> str:
    """The keys of a structured parameter, as its YAML is written; empty for any other."""
    if isinstance(kind, type) and is_dataclass(kind):
        inner = ((f.name, _keys(f.type)) for f in fields_of(kind))
        return "{" + ", ".join(f"{name}: {keys}" if keys else name for name, keys in inner) + "}"
    found = next((keys for option in get_args(kind) if (keys := _keys(option))), "")
    return f"[{found}, …]" if found and get_origin(kind) is tuple else found


def _input(name: str, summary: str, required: bool, many: bool) -> Any:
    kind: Any = list[Path] | None if many else Path | None
    text = f"{summary} (a path{'; repeatable' if many else ''})"
    shown: Any = "required" if required else False
    return Annotated[kind, typer.Option(_flag(name), help=text, show_default=shown, rich_help_panel="Inputs")]


def _option_type(kind: Any) -> Any:
    """The type of the command-line option for a field's type: text for what has keys, None for what it cannot say."""
    if _keys(kind):
        return str | None
    origin, args = get_origin(kind), get_args(kind)
    if kind in (bool, int, float, str):
        return kind | None
    if origin is Literal:
        return typing.Optional[kind] if _takes_text(kind) else str | None  # noqa: UP045
    if origin in (typing.Union, types.UnionType):
        real = [a for a in args if a is not type(None)]
        return _option_type(real[0]) if len(real) == 1 else str | None
    if origin is tuple and args[0] in (int, float, str):
        return list[args[0]] | None  # type: ignore[valid-type]
    if origin in (dict, Mapping):
        return list[str] | None
    return None


def _run(spec: StageSpec, fields: Sequence[Field], values: Mapping[str, Any]) -> int:
    from hrmctl.cli.progress import make_progress
    from hrmctl.plugins import catalog
    from hrmctl.recipe.plan import make_plan
    from hrmctl.recipe.single import single_stage
    from hrmctl.run.pipeline import PipelineOptions, run_pipeline
    from hrmctl.store import Store

    given = {
        f.name: _value(f, values[f"param_{f.attribute}"])
        for f in fields
        if values[f"param_{f.attribute}"] not in (None, [])
    }
    inputs = {n: _paths(values[f"input_{n}"]) for n in spec.inputs if values[f"input_{n}"]}
    recipe = single_stage(spec.name, {**given, **inputs}, values["run_seed"])
    store = Store(values["store"])
    if values["out"] is not None:
        _require_free(spec, values["out"])
    progress = make_progress(quiet=values["as_json"])
    try:
        options = PipelineOptions(kind="stage", device=values["device"], argv=sys.argv[1:])
        result = run_pipeline(make_plan(recipe, catalog(Path.cwd())), catalog(Path.cwd()), store, options, progress)
    finally:
        progress.close()
    return _show(store, result.run, result.exit_code, values)


def _value(field: Field, value: Any) -> Any:
    """The value of a field whose option is text because the command line has no type for it."""
    from hrmctl.yamlio import load, parse

    flag = _flag(field.name)
    if _keys(field.type):
        return load(Path(value[1:])) if value.startswith("@") else parse(value, flag)
    if get_origin(field.type) in (dict, Mapping):
        return {key: parse(text, f"{flag} {key}").plain() for key, text in (_pair(flag, item) for item in value)}
    if isinstance(value, str) and not _takes_text(field.type):
        return parse(value, flag).plain()
    return value


def _takes_text(kind: Any) -> bool:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return all(isinstance(a, str) for a in args)
    return any(_takes_text(a) for a in args) if origin in (typing.Union, types.UnionType) else kind is str


def _pair(flag: str, item: str) -> tuple[str, str]:
    key, equals, text = item.partition("=")
    if not equals:
        raise InputError(f"{flag} {item}: no '='; write {flag} key=value")
    return key, text


def _paths(value: Any) -> Any:
    return [str(v) for v in value] if isinstance(value, list) else str(value)


def _show(store: Any, run: str, code: int, values: Mapping[str, Any]) -> int:
    from hrmctl.run.record import read_lock

    stage = next(iter(read_lock(store.run_folder(run))["stages"].values()))
    outputs = {name: str(store.object_path(o["digest"])) for name, o in stage["outputs"].items()}
    if values["out"] is not None and code == 0:
        places = {name: values["out"] / _file(name, o["type"]) for name, o in stage["outputs"].items()}
        outputs = {name: str(_copy(Path(path), places[name])) for name, path in outputs.items()}
    evidence = [store.get_evidence(d) for d in stage["evidence"]]
    if values["as_json"]:
        print_json(
            {
                "run": run,
                "exit_code": code,
                "error": stage["error"],
                "outputs": outputs,
                "evidence": [
                    {"name": e.name, "type": e.type, "digest": e.digest, "payload": e.payload} for e in evidence
                ],
            }
        )
        return code
    names = Counter(item.name for item in evidence)
    for item in (item for item in evidence if measured(item)):
        of = f" ({whose(item)})" if names[item.name] > 1 else ""
        say(f"{item.name}: {measured(item)}{of}")
    for name, path in outputs.items():
        print(f"{name}: {path}")
    return code


def _file(name: str, kind: str) -> str:
    return f"{name}.jsonl" if kind in ("dataset", "samples") else name


def _require_free(spec: StageSpec, folder: Path) -> None:
    taken = [folder / _file(n, o.type) for n, o in spec.outputs.items() if (folder / _file(n, o.type)).exists()]
    if taken:
        raise InputError(f"{taken[0]} exists; remove it or choose another --out")


def _copy(source: Path, target: Path) -> Path:
    """Copy an object out of the store, whole or not at all, and let its copy be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as staging:
            copy = Path(staging) / target.name
            if source.is_dir():
                shutil.copytree(source, copy, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(source, copy)
            os.replace(copy, target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}; choose another --out") from error
    return target
