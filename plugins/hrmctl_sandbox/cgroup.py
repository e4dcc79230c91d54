"""A control group (version 2) for each zygote: it bounds the memory and the processes of all its programs together."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import suppress

_PREFIX = "hrmctl-sandbox"
_CONTROLLERS = ("memory", "pids")
# Beyond what one program may use: the zygote, and the processes that wait for their programs.
_BASE_BYTES = 256 << 20
_MOST_PROCESSES = 16
_REMOVAL_SECONDS = 1.0
_numbers = itertools.count()


def make() -> str | None:
    """Make a group for one zygote of this process and return its folder; None where that is not possible.

    Removes the groups of processes that have died.
    """
    parent = _parent()
    if parent is None:
        return None
    remove_stale(parent)
    folder = os.path.join(parent, f"{_PREFIX}.{_owner(os.getpid())}.{next(_numbers)}")
    try:
        os.mkdir(folder)
    except OSError:
        return None
    return folder


def enter(folder: str, memory_bytes: int) -> bool:
    """Set the group's limits and move this process into it. Returns whether both are in force."""
    # No swap limit where the kernel does not account for swap.
    with suppress(OSError):
        _write(folder, "memory.swap.max", "0")
    try:
        _write(folder, "memory.max", str(memory_bytes + memory_bytes // 4 + _BASE_BYTES))
        _write(folder, "pids.max", str(_MOST_PROCESSES))
        _write(folder, "cgroup.procs", "0")
    except OSError:
        return False
    return True


def remove(folder: str) -> None:
    """Kill what is in the group and remove it. What still does not end is left to remove_stale."""
    with suppress(OSError):
        _write(folder, "cgroup.kill", "1")
    until = time.monotonic() + _REMOVAL_SECONDS
    while os.path.isdir(folder) and time.monotonic() < until:
        try:
            os.rmdir(folder)
        except OSError:
            time.sleep(0.002)


def remove_stale(parent: str | None = None) -> None:
    """Remove the groups of processes that have died."""
    parent = parent or _parent()
    for name in os.listdir(parent) if parent else ():
        if _is_stale(name):
            remove(os.path.join(parent or "", name))


def _is_stale(name: str) -> bool:
    """Whether a folder's name is that of a group whose owner, in this pid namespace, has died."""
    prefix, *owner, _ = [*name.split("."), ""][:5]
    if prefix != _PREFIX or len(owner) != 3 or owner[0] != _namespace() or not owner[1].isdecimal():
        return False
    return _owner(int(owner[1])) != ".".join(owner)


def _owner(process: int) -> str:
    """A process as text that no later process has: pid namespace, number and start time."""
    try:
        with open(f"/proc/{process}/stat") as stream:
            started = stream.read().rpartition(")")[2].split()[19]
    except OSError:
        started = "dead"
    return f"{_namespace()}.{process}.{started}"


def _namespace() -> str:
    return str(os.stat("/proc/self/ns/pid").st_ino)


def _parent() -> str | None:
    """The nearest group, from this process's own upwards, that can limit the groups that we make in it."""
    for number, folder in enumerate(_own_and_above()):
        if number == 0 and not _enabled(folder).issuperset(_CONTROLLERS):
            with suppress(OSError):
                _write(folder, "cgroup.subtree_control", " ".join(f"+{name}" for name in _CONTROLLERS))
        if _enabled(folder).issuperset(_CONTROLLERS) and os.access(folder, os.W_OK):
            return folder
    return None


def _enabled(folder: str) -> set[str]:
    try:
        with open(os.path.join(folder, "cgroup.subtree_control")) as stream:
            return set(stream.read().split())
    except OSError:
        return set()


def _own_and_above() -> Iterator[str]:
    try:
        with open("/proc/self/cgroup") as groups, open("/proc/self/mountinfo") as mounts:
            own = next(line[3:].rstrip("\n") for line in groups if line.startswith("0::"))
            fields = next(line.split() for line in mounts if line.partition(" - ")[2].startswith("cgroup2 "))
    except (OSError, StopIteration):
        return
    root, point = fields[3:5]
    relative = own.removeprefix(root.rstrip("/")).strip("/")
    if own.startswith(root):
        parts = relative.split("/") if relative else []
        yield from (os.path.join(point, *parts[:count]) for count in range(len(parts), -1, -1))


def _write(folder: str, name: str, text: str) -> None:
    descriptor = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
