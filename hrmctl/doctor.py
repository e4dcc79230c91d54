"""What `hrmctl doctor` looks at: versions, hardware, plugins, the store, and whatever plugins diagnose."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from hrmctl.errors import HrmctlError
from hrmctl.machine import hardware, has, tools
from hrmctl.model import Finding
from hrmctl.plugins import catalog
from hrmctl.registry import resolve
from hrmctl.store import Store


def examine(store: Path) -> Sequence[Finding]:
    """All findings, each `ok`, `missing` or `broken`."""
    findings = [Finding(name, "ok", version) for name, version in tools().items()]
    findings += [Finding(name, "ok", value) for name, value in hardware().items()]
    findings += [
        Finding(
            "accelerator",
            "ok" if has("cuda") or has("mps") else "missing",
            "cuda" if has("cuda") else "mps" if has("mps") else "none: the processor is used",
        ),
        _store(store),
    ]
    found = catalog(Path.cwd())
    findings += [
        Finding(f"plugin {p.name}", "broken", p.last_line, f"fix or uninstall {p.distribution}")
        for p in found.plugins
        if p.error
    ]
    for diagnostic in found.diagnostics.values():
        findings.append(_ask(diagnostic.name, diagnostic.target))
    return findings


def _ask(name: str, target: str) -> Finding:
    try:
        result = resolve(target)()
    except Exception as error:
        return Finding(name, "broken", f"{type(error).__name__}: {error}")
    if not isinstance(result, Finding):
        return Finding(name, "broken", f"{target} returned no Finding")
    return result


def _store(path: Path) -> Finding:
    try:
        store = Store(path)
    except HrmctlError as error:
        return Finding("store", "broken", str(error))
    if not store.root.exists():
        return Finding("store", "ok", f"{path}: none yet")
    free = shutil.disk_usage(store.root).free
    return Finding("store", "ok", f"{path}: {len(list(store.runs.glob('*')))} runs, {free / 2**30:.0f} GiB free")
