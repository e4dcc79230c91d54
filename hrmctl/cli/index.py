"""The names of all commands of plugins without importing a plugin, so that `--help` starts as fast as Typer does.

The index is kept in the user's cache folder with the time of every folder and file that it was made from; when one
of them changed, it is made anew from the plugins.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def plugin_commands() -> dict[str, str]:
    """Summary by command: commands of their own, stages by name, one entry for a group of stages (`data`)."""
    if os.path.exists("hrmctl_plugins.py"):
        return _from_plugins()
    path = _path()
    known = _read(path)
    if known is not None and known["stamps"] == _stamps(list(known["stamps"])) and known["path"] == sys.path:
        return dict(known["commands"])
    commands = _from_plugins()
    _write(path, {"path": sys.path, "stamps": _stamps(_sources()), "commands": commands})
    return commands


def _from_plugins() -> dict[str, str]:
    from pathlib import Path

    from hrmctl.plugins import catalog

    found = catalog(Path.cwd())
    commands = {name: spec.summary for name, spec in found.commands.items()}
    for name, spec in found.stages.items():
        group, _, member = name.partition(".")
        commands[group] = f"Stages whose name begins with {group}." if member else spec.summary
    return commands


def _sources() -> list[str]:
    folders = [p for p in sys.path if os.path.isdir(p)]
    files = [getattr(m, "__file__", None) for n, m in sys.modules.items() if n.partition(".")[0].startswith("hrmctl")]
    return [*folders, *(f for f in files if f)]


def _stamps(paths: list[str]) -> dict[str, int]:
    return {path: os.stat(path).st_mtime_ns if os.path.exists(path) else 0 for path in paths}


def _path() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "hrmctl", "commands.json")


def _read(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
        stamps, commands = dict(found["stamps"]), dict(found["commands"])
        return {"path": found["path"], "stamps": stamps, "commands": commands}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: str, index: dict[str, Any]) -> None:
    from contextlib import suppress
    from pathlib import Path

    from hrmctl.errors import StoreError
    from hrmctl.jsonio import canonical, write_atomic

    with suppress(StoreError):
        write_atomic(Path(path), canonical(index))
