"""Discovery of plugins. Built-ins, installed distributions and `hrmctl_plugins.py` files use one door.

A plugin that cannot be imported is kept as broken, shown with its traceback by `hrmctl plugins
list`, and fatal only when something that it would have provided is asked for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pluggy

from hrmctl import hookspecs
from hrmctl.errors import InputError, Problem
from hrmctl.model import (
    ArchitectureSpec,
    CommandSpec,
    DatasetSpec,
    DiagnosticSpec,
    ExecutorSpec,
    MeasureSpec,
    ReporterSpec,
    StageSpec,
    TrackerSpec,
)
from hrmctl.schema import fields_of
from hrmctl.yamlio import suggest

GROUP = "hrmctl"
LOCAL_FILE = "hrmctl_plugins.py"
FOLDER = "HRMCTL_PLUGINS"
COMMANDS = frozenset({"check", "contracts", "doctor", "ledger", "pipeline", "plugins", "report", "runs", "verify"})


@dataclass(frozen=True, slots=True)
class Plugin:
    """One discovered plugin; `error` holds the traceback of a broken one."""

    name: str
    distribution: str
    version: str
    module: ModuleType | None = None
    error: str = ""

    @property
    def last_line(self) -> str:
        """The last line of the traceback."""
        return self.error.strip().splitlines()[-1] if self.error else ""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that plugins provide, by name; `owner` says which plugin a stage comes from."""

    plugins: tuple[Plugin, ...]
    manager: pluggy.PluginManager
    stages: Mapping[str, StageSpec] = field(default_factory=dict)
    measures: Mapping[str, MeasureSpec] = field(default_factory=dict)
    architectures: Mapping[str, ArchitectureSpec] = field(default_factory=dict)
    datasets: Mapping[str, DatasetSpec] = field(default_factory=dict)
    executors: Mapping[str, ExecutorSpec] = field(default_factory=dict)
    reporters: Mapping[str, ReporterSpec] = field(default_factory=dict)
    trackers: Mapping[str, TrackerSpec] = field(default_factory=dict)
    diagnostics: Mapping[str, DiagnosticSpec] = field(default_factory=dict)
    commands: Mapping[str, CommandSpec] = field(default_factory=dict)
    owner: Mapping[str, Plugin] = field(default_factory=dict)

    def stage(self, name: str) -> StageSpec:
        """The stage called `name`. Raises InputError with a suggestion, naming broken plugins."""
        found = self.stages.get(name)
        if found is None:
            raise InputError(Problem(f"unknown stage '{name}'", remedy=self.unknown(name, self.stages)))
        return found

    def unknown(self, name: str, known: Iterable[str]) -> str:
        """A suggestion for an unknown name, which also tells which plugins could not be imported."""
        broken = [f"plugin {p.name} is broken ({p.last_line})" for p in self.plugins if p.error]
        return "; ".join(filter(None, [suggest(name, known), *broken]))


@cache
def catalog(folder: Path | None = None) -> Catalog:
    """The catalogue of all plugins, with those of `folder/hrmctl_plugins.py`.

    Without a folder it is that of the recipe whose stage this process runs, so that a stage sees the plugins of its
    recipe; anywhere else, that of the installed plugins.
    """
    folder = folder or (Path(os.environ[FOLDER]) if os.environ.get(FOLDER) else None)
    plugins = [*_installed(), *_local(folder)]
    _refuse_same_names(plugins)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    checked = [_register(manager, plugin) for plugin in plugins]
    return _collect(manager, tuple(checked))


def _installed() -> list[Plugin]:
    entries = sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.name)
    return [_load(entry) for entry in entries]


def _load(entry: metadata.EntryPoint) -> Plugin:
    distribution = entry.dist.name if entry.dist else "?"
    version = entry.dist.version if entry.dist else "?"
    try:
        return Plugin(entry.name, distribution, version, entry.load())
    except (Exception, SystemExit):
        return Plugin(entry.name, distribution, version, error=traceback.format_exc())


def _local(folder: Path | None) -> list[Plugin]:
    if folder is None or not (folder / LOCAL_FILE).is_file():
        return []
    path = folder / LOCAL_FILE
    name = f"hrmctl_plugins_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(Problem("cannot be imported", str(path)))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit):
        return [Plugin(LOCAL_FILE, str(path), "local", error=traceback.format_exc())]
    return [Plugin(LOCAL_FILE, str(path), "local", module)]


def _refuse_same_names(plugins: list[Plugin]) -> None:
    seen: dict[str, Plugin] = {}
    for plugin in plugins:
        other = seen.setdefault(plugin.name, plugin)
        if other is not plugin:
            both = f"{other.distribution} {other.version} and {plugin.distribution} {plugin.version}"
            raise InputError(f"two plugins are called '{plugin.name}': from {both}; uninstall one")


def _register(manager: pluggy.PluginManager, plugin: Plugin) -> Plugin:
    if plugin.module is None:
        return plugin
    fault = _misspelt(plugin.module)
    if fault:
        return _broken(plugin, fault)
    try:
        manager.register(plugin.module, plugin.name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        if manager.get_plugin(plugin.name) is plugin.module:
            manager.unregister(plugin.module)
        return _broken(plugin, str(error))
    return plugin


def _broken(plugin: Plugin, error: str) -> Plugin:
    return Plugin(plugin.name, plugin.distribution, plugin.version, error=error)


def _misspelt(module: ModuleType) -> str:
    """What is wrong with the names of the plugin's hooks, if anything."""
    known = {name for name in dir(hookspecs) if name.startswith("hrmctl_")}
    for name, value in vars(module).items():
        marked = getattr(value, "hrmctl_impl", None) is not None
        own = isinstance(value, FunctionType) and value.__module__ == module.__name__ and name.startswith("hrmctl_")
        if (marked or own) and name not in known:
            return f"'{name}' is not a hook; {suggest(name, known)}"
        if own and not marked:
            return f"'{name}' is not marked as a hook; decorate it with @hookimpl"
    return ""


_KINDS: Mapping[str, type] = {
    "stages": StageSpec,
    "measures": MeasureSpec,
    "architectures": ArchitectureSpec,
    "datasets": DatasetSpec,
    "executors": ExecutorSpec,
    "reporters": ReporterSpec,
    "trackers": TrackerSpec,
    "diagnostics": DiagnosticSpec,
    "commands": CommandSpec,
}
_COMMAND_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)?\Z")


def _collect(manager: pluggy.PluginManager, plugins: tuple[Plugin, ...]) -> Catalog:
    tables: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
    owners: dict[tuple[str, str], Plugin] = {}
    checked = []
    for plugin in plugins:
        try:
            provided = _provided(plugin)
        except (Exception, SystemExit):
            checked.append(_broken(plugin, traceback.format_exc()))
            manager.unregister(plugin.module)
            continue
        checked.append(plugin)
        for kind, spec in provided:
            other = owners.setdefault((kind, spec.name), plugin)
            if other is not plugin:
                both = f"{other.name} ({other.distribution}) and {plugin.name} ({plugin.distribution})"
                raise InputError(f"two plugins provide {kind} '{spec.name}': {both}; uninstall one")
            tables[kind][spec.name] = spec
    owner = {name: plugin for (kind, name), plugin in owners.items() if kind == "stages"}
    _refuse_covered(tables, owners)
    ordered = {kind: dict(sorted(table.items())) for kind, table in tables.items()}
    return Catalog(tuple(checked), manager, **ordered, owner=owner)


def _refuse_covered(tables: Mapping[str, Mapping[str, Any]], owners: Mapping[tuple[str, str], Plugin]) -> None:
    """Commands of plugins and the commands that stages get share one line of names."""
    groups = {name.partition(".")[0]: name for name in tables["stages"]}
    for name in sorted(groups.keys() & tables["commands"].keys()):
        both = f"{owners['stages', groups[name]].name} and {owners['commands', name].name}"
        raise InputError(f"'{name}' is both a stage and a command of plugins: {both}; uninstall one")


def built_in(found: Catalog) -> Catalog:
    """The catalogue of hrmctl's own plugins alone, which is the same whatever else is installed."""
    own = tuple(plugin for plugin in found.plugins if plugin.distribution == "hrmctl" and not plugin.error)
    return _collect(found.manager, own)


def _provided(plugin: Plugin) -> list[tuple[str, Any]]:
    result = []
    seen: set[tuple[str, str]] = set()
    for kind, expected in _KINDS.items():
        function = getattr(plugin.module, f"hrmctl_{kind}", None)
        for spec in function() if function else ():
            _check_spec(kind, spec, expected)
            if (kind, spec.name) in seen:
                raise ValueError(f"hrmctl_{kind} gives '{spec.name}' twice")
            seen.add((kind, spec.name))
            result.append((kind, spec))
    return result


def _check_spec(kind: str, spec: Any, expected: type) -> None:
    if not isinstance(spec, expected):
        raise TypeError(f"hrmctl_{kind} gives a {type(spec).__name__}, not a {expected.__name__}")
    if isinstance(spec, (StageSpec, MeasureSpec)) and not is_dataclass(spec.params):
        raise TypeError(f"the params of '{spec.name}' are not a dataclass")
    if isinstance(spec, CommandSpec) and (not _COMMAND_NAME.match(spec.name) or spec.name in COMMANDS):
        raise ValueError(f"'{spec.name}' cannot be the name of a command: hrmctl has it, or it is no word like score")
    if not isinstance(spec, StageSpec):
        return
    if not _STAGE_NAME.match(spec.name):
        raise ValueError(f"'{spec.name}' cannot be the name of a stage; write it like finetune or data.generate")
    if spec.name.partition(".")[0] in COMMANDS:
        raise ValueError(f"'{spec.name}' cannot be the name of a stage: hrmctl has a command of that name")
    both = {field.name for field in fields_of(spec.params)} & spec.inputs.keys()
    if both:
        raise ValueError(f"'{min(both)}' is both a parameter and an input of '{spec.name}'")


# --- versions -----------------------------------------------------------------------------------


def stage_version(plugin: Plugin, spec: StageSpec) -> str:
    """The version of a stage: its distribution's, and the digest of the source that it runs.

    The source counts so that an edited plugin never answers with results of its former self.
    """
    package = spec.target.partition(":")[0].partition(".")[0]
    own = [plugin.module.__name__.partition(".")[0]] if plugin.module else []
    names = dict.fromkeys([*own, package, *spec.code])
    digest = hashlib.sha256("".join(_source_digest(name) for name in names).encode()).hexdigest()
    return f"{plugin.version}+{digest[:12]}"


@cache
def _source_digest(package: str) -> str:
    spec = sys.modules[package].__spec__ if package in sys.modules else importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return ""
    origin = Path(spec.origin)
    files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    digest = hashlib.sha256()
    for path in files:
        relative = path.relative_to(origin.parent).as_posix()
        digest.update(relative.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
