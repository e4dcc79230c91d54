"""`hrmctl plugins new`: a plugin distribution that installs and passes its own tests as written."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from hrmctl import __version__
from hrmctl.errors import InputError
from hrmctl.plugins import COMMANDS, catalog

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_LONGEST = 40


def write_plugin(name: str, folder: Path) -> Path:
    """Write the distribution `hrmctl-<name>` into `folder`, whole or not at all, and return its path.

    Raises InputError on a name that is none or is taken, and where `folder` cannot be written.
    """
    _check_name(name)
    target = folder / f"hrmctl-{name}"
    if target.exists() or target.is_symlink():
        raise InputError(f"{target} exists; remove it or choose another name")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; make it first")
    try:
        with tempfile.TemporaryDirectory(prefix=f".hrmctl-{name}.", dir=folder, ignore_cleanup_errors=True) as staging:
            made = Path(staging) / target.name
            _write(resources.files("hrmctl") / "templates" / "plugin", made, _words(name))
            os.rename(made, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}; choose another --folder") from error
    return target


def _check_name(name: str) -> None:
    if not _NAME.match(name) or len(name) > _LONGEST:
        remedy = f"lower-case letters and digits in words joined by -, at most {_LONGEST} characters"
        raise InputError(f"'{name}' cannot be the name of a plugin; {remedy}")
    if name in COMMANDS:
        raise InputError(f"'{name}' is a command of hrmctl; choose another name")
    found = catalog()
    taken = {plugin.name for plugin in found.plugins} | set(found.stages)
    if name in taken:
        raise InputError(f"there is a plugin or a stage called '{name}' already; choose another name")


def _words(name: str) -> Mapping[str, str]:
    snake = name.replace("-", "_")
    return {
        "name": name,
        "package": f"hrmctl_{snake}",
        "measure": f"{snake}_share",
        "contract": name.upper(),
        "version": __version__,
    }


def _write(source: Traversable, target: Path, words: Mapping[str, str]) -> None:
    """Fill in the templates of a folder; the folder `package` gets the package's name."""
    target.mkdir()
    for item in source.iterdir():
        if item.is_dir():
            _write(item, target / (words["package"] if item.name == "package" else item.name), words)
        elif item.name.endswith(".template"):
            text = Template(item.read_text(encoding="utf-8")).substitute(words)
            (target / item.name.removesuffix(".template")).write_text(text, encoding="utf-8")
