"""Landlock: from here on this process and its children may read the named paths, and nothing else."""

from __future__ import annotations

import ctypes
import os
import struct

from . import kernel

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR, _WRITE_FILE = 1 << 2, 1 << 3, 1 << 1
# Rights by the ABI version that introduced them; a right that the kernel does not know must not be named.
_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}
_RIGHTS_LATEST = 0xFFFF
_NET_TCP, _SCOPES = 3, 3


def abi() -> int:
    """The kernel's Landlock version, 0 where there is none."""
    try:
        return kernel.syscall(_CREATE, None, 0, 1)
    except OSError:
        return 0


def restrict(readable: list[str], listable: list[str], writable: list[str]) -> None:
    """Deny all but reading `readable` (with all below), listing `listable`, and reading or writing `writable`.

    Denies TCP, abstract sockets and signals to the outside too, where the kernel can. Raises OSError without Landlock.
    """
    version = abi()
    if version < 1:
        raise OSError("Landlock is not available")
    fields = [_RIGHTS.get(version, _RIGHTS_LATEST)]
    fields += [_NET_TCP] if version >= 4 else []
    fields += [_SCOPES] if version >= 6 else []
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = kernel.syscall(_CREATE, ctypes.create_string_buffer(attributes, len(attributes)), len(attributes), 0)
    for path in readable:
        _allow(ruleset, path, _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0))
    for path in listable:
        _allow(ruleset, path, _READ_DIR)
    for path in writable:
        _allow(ruleset, path, _READ_FILE | _WRITE_FILE)
    kernel.syscall(_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    rule = struct.pack("=Qi", rights, descriptor)
    kernel.syscall(_ADD_RULE, ruleset, 1, ctypes.create_string_buffer(rule, len(rule)), 0)
    os.close(descriptor)
