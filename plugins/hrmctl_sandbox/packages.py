"""Third-party packages that programs may import: where they lie, and what of them must be readable."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec

# A sandboxed process has one thread.
_LIBRARIES = ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "BLIS_NUM", "NUMEXPR_NUM", "VECLIB_MAXIMUM")
ENVIRONMENT = {f"{library}_THREADS": "1" for library in _LIBRARIES}


@dataclass(frozen=True)
class Packages:
    """Import `names`, the folders `roots` that hold them, and the readable `paths`: theirs and their distributions'."""

    names: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


NONE = Packages()


def locate(names: Sequence[str]) -> Packages:
    """Find packages by import name; a standard module has no paths. Raises ValueError for what is not installed."""
    if not names:
        return NONE
    # Every judge process imports this module, and reading metadata takes longer to import than the rest of it.
    from importlib.metadata import packages_distributions

    owners = packages_distributions()
    paths: set[str] = set()
    for name in names:
        spec, top = _top_spec(name), name.partition(".")[0]
        if top not in sys.stdlib_module_names:
            own = _own_paths(name, spec)
            folders = {os.path.dirname(path) for path in own}
            paths |= own.union(*(_distributed(owner, folders) for owner in owners.get(top, ())))
    roots = {os.path.dirname(path) for path in paths}
    return Packages(tuple(dict.fromkeys(names)), tuple(sorted(roots)), tuple(sorted(paths)))


def _top_spec(name: str) -> ModuleSpec:
    """Where the first part of a dotted name lies. Nothing is imported, for that may take seconds."""
    parts = name.split(".")
    top = found = find_spec(parts[0]) if all(part.isidentifier() for part in parts) else None
    for number in range(2, len(parts) + 1):
        inside = found.submodule_search_locations if found is not None else None
        found = PathFinder.find_spec(".".join(parts[:number]), inside) if inside else None
    if top is None or found is None:
        raise _missing(name)
    return top


def _missing(name: str) -> ValueError:
    return ValueError(f"packages: {name!r} is not installed for {sys.executable}")


def _own_paths(name: str, spec: ModuleSpec) -> set[str]:
    found = list(spec.submodule_search_locations or [spec.origin or ""])
    if not all(os.path.exists(path) for path in found):
        raise _missing(name)
    return {os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) for path in found}


def _distributed(name: str, roots: set[str]) -> set[str]:
    """What lies beside a package in its distribution: its `.libs`, its metadata, its other packages."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution(name)
    except PackageNotFoundError:
        return set()
    entries = {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}
    paths = {os.path.join(root, entry) for root in roots for entry in entries if not entry.endswith(".pth")}
    return {path for path in paths if os.path.exists(path)}
