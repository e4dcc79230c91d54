"""The macOS wall: a sandbox-exec profile around the zygote."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .containment import library_folders

_TOOL = "/usr/bin/sandbox-exec"
_PROFILE = """(version 1)
(deny default)
(allow process-fork)
(allow process-exec (literal {executable}) (subpath {prefix}))
(allow signal (target self) (target children))
(allow sysctl-read)
(allow file-read-metadata)
(allow file-read* (literal "/") (literal "/dev/null") (literal "/dev/urandom") (subpath "/usr/lib")
  (subpath "/System/Library") (literal {executable}) (subpath {prefix}) (subpath {package}){folders})
(deny file-read* (regex #"/(site|dist)-packages/") (with no-log))
(allow file-read* (subpath {package}){packages})
(allow file-write-data (literal "/dev/null"))
"""


def available() -> bool:
    """Whether this is macOS with sandbox-exec."""
    return sys.platform == "darwin" and os.access(_TOOL, os.X_OK)


def wrap(command: list[str], packages: Sequence[str] = ()) -> list[str]:
    """`command`, which starts an interpreter, inside the profile, which lets it read `packages` too."""
    return [_TOOL, "-p", profile(os.path.realpath(command[0]), packages), *command]


def profile(executable: str, packages: Sequence[str] = ()) -> str:
    """The profile: read the interpreter, its libraries and packages; write, connect and signal nothing outside."""
    quoted = {
        "executable": _quote(executable),
        "prefix": _quote(os.path.realpath(sys.base_prefix)),
        "package": _quote(os.path.dirname(os.path.realpath(__file__))),
        "folders": "".join(f" (subpath {_quote(folder)})" for folder in library_folders()),
        "packages": "".join(f" (subpath {_quote(path)})" for path in packages),
    }
    return _PROFILE.format(**quoted)


def _quote(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
