"""Linux system calls that the standard library does not wrap, through ctypes."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable

NAMESPACES = {
    "user": 0x10000000,
    "mount": 0x00020000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
}

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MS_NOATIME, MS_NODIRATIME, MS_RELATIME = 1024, 2048, 1 << 21
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_LIBC: ctypes.CDLL | None = None


def architecture() -> str:
    """The machine's name in the kernel's spelling: x86_64 or aarch64 where seccomp filters are known."""
    machine = os.uname().machine.lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def _libc() -> ctypes.CDLL:
    global _LIBC
    if _LIBC is None:
        _LIBC = ctypes.CDLL(None, use_errno=True)
        _LIBC.syscall.restype = ctypes.c_long
    return _LIBC


def _checked(result: int, what: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: object) -> int:
    """Call the kernel by number. Integers travel as longs. Raises OSError."""
    longs = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return _checked(_libc().syscall(ctypes.c_long(number), *longs), f"syscall {number}")


def prctl(option: int, *arguments: object) -> int:
    """prctl(2). Raises OSError."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    longs = [ctypes.c_ulong(item) if isinstance(item, int) else item for item in padded]
    return _checked(_libc().prctl(ctypes.c_int(option), *longs), f"prctl {option}")


def prepared_prctl(option: int, *arguments: int) -> Callable[[], int]:
    """A call of prctl(2) made ready, so that the call itself touches little memory. It gives -1 where it fails."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return functools.partial(ctypes.PyDLL(None).prctl, ctypes.c_int(option), *map(ctypes.c_ulong, padded))


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _checked(_libc().unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2). Raises OSError."""
    texts = [item if item is None else item.encode() for item in (source, target, kind, data)]
    result = _libc().mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    _checked(result, f"mount {target}")


def pivot_into(root: str) -> None:
    """Make `root` the root of this mount namespace and let go of the old one. Raises OSError."""
    os.chdir(root)
    syscall(_PIVOT_ROOT[architecture()], b".", b".")
    _checked(_libc().umount2(b".", ctypes.c_int(MNT_DETACH)), "umount2")
    os.chdir("/")


def drop_capabilities() -> None:
    """Give up every capability for good, bounding set included where that is allowed. Raises OSError."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    syscall(_CAPSET[architecture()], header, (ctypes.c_uint32 * 6)())


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies. Raises OSError."""
    prctl(PR_SET_PDEATHSIG, 9)
