"""The walls around the zygote, put up once and inherited by every program that it forks."""

from __future__ import annotations

import glob
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from . import kernel, landlock

NOBODY = 65534
_HIDDEN = ("site-packages", "dist-packages", "test", "idlelib", "ensurepip", "lib2to3")
_ROOTS = ("/mnt", "/srv", "/opt", "/tmp", "/var", "/home")
_NULL = "/dev/null"
Limit = tuple[int, tuple[int, int]]
_ON_DEMAND = (
    "libssl", "libcrypto", "libsqlite3", "liblzma", "libbz2", "libz", "libexpat", "libmpdec", "libffi", "libuuid",
)  # fmt: skip


class Walls:
    """What is enforced and what is not, in the order in which it was put up."""

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.missing: list[str] = []

    def note(self, name: str, enforced: bool) -> bool:
        """Record one layer and say whether it stands."""
        (self.layers if enforced else self.missing).append(name)
        return enforced


def library_folders() -> list[str]:
    """The folders of the standard library: all that a program may read."""
    compiled = [os.path.dirname(path) for path in sys.path if os.path.basename(path) == "lib-dynload"]
    return sorted({os.path.realpath(folder) for folder in [os.path.dirname(os.__file__), *compiled]})


class View(NamedTuple):
    """The files that a program may read: folders of the standard library, and shared libraries its modules load.

    `packages` are further files and folders, in the folders `roots`.
    """

    folders: tuple[str, ...]
    libraries: tuple[str, ...]
    packages: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()

    @classmethod
    def of_interpreter(cls, packages: Sequence[str] = (), roots: Sequence[str] = ()) -> View:
        """The view for the running interpreter and packages; to be taken while the host's files are still there."""
        folders = library_folders()
        with open("/proc/self/maps") as maps:
            mapped = {os.path.dirname(line.split(maxsplit=5)[-1].strip()) for line in maps if ".so" in line}
        beside = [folder for folder in mapped if not folder.startswith((*folders, *packages))]
        found = [path for folder in beside for name in _ON_DEMAND for path in _versions(folder, name)]
        return cls(tuple(folders), tuple(sorted(found)), tuple(packages), tuple(roots))


def _versions(folder: str, name: str) -> list[str]:
    return [path for path in glob.glob(f"{glob.escape(folder)}/{name}.so*") if os.path.isfile(path)]


def enter_namespaces(walls: Walls, view: View) -> None:
    """Leave the host's processes, network, IPC and files; the caller must fork for the new pid namespace to count."""
    process = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _enter(walls, view, process)
    finally:
        os.close(process)


def _enter(walls: Walls, view: View, process: int) -> None:
    others = [flag for name, flag in kernel.NAMESPACES.items() if name != "user"]
    as_root = os.geteuid() == 0 and _succeeds(kernel.unshare, sum(others))
    if not as_root:
        user, group = os.geteuid(), os.getegid()
        entered = _succeeds(kernel.unshare, sum(kernel.NAMESPACES.values())) and _map_ids(process, user, group)
        if walls.note("namespaces", entered and _succeeds(_build, view)):
            walls.note("user-namespace", True)
        return
    walls.note("namespaces", _succeeds(_build, view))
    walls.note("unprivileged-user", _succeeds(os.setgroups, []) and _succeeds(_become_nobody))
    user, group = os.geteuid(), os.getegid()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    inside = _succeeds(kernel.unshare, kernel.NAMESPACES["user"]) and _map_ids(process, user, group)
    walls.note("user-namespace", inside)


def _succeeds(action: object, *arguments: object) -> bool:
    try:
        action(*arguments)  # type: ignore[operator]
    except OSError:
        return False
    return True


def _map_ids(process: int, user: int, group: int) -> bool:
    def write(name: str, text: str) -> None:
        descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=process)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    _succeeds(write, "setgroups", "deny")
    return _succeeds(write, "uid_map", f"{NOBODY} {user} 1") and _succeeds(write, "gid_map", f"{NOBODY} {group} 1")


def drop_user(walls: Walls, view: View) -> None:
    """Become nobody where this process is root and nobody can still read the standard library."""
    if os.geteuid() != 0:
        return
    if not _nobody_can_read([os.path.join(folder, "os.py") for folder in view.folders] + list(view.packages)):
        walls.note("unprivileged-user", False)
        return
    walls.note("unprivileged-user", _succeeds(os.setgroups, []) and _succeeds(_become_nobody))


def _become_nobody() -> None:
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _nobody_can_read(paths: list[str]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            _become_nobody()
            os._exit(0 if all(os.access(path, os.R_OK) for path in paths) else 1)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _build(view: View) -> None:
    """A root of its own that holds the standard library, read-only, and /dev/null. Raises OSError."""
    base = next(root for root in _ROOTS if os.path.isdir(root) and not _holds(root, view))
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("tmpfs", base, "tmpfs", quiet, "size=64k,nr_inodes=4096,mode=755")
    for folder in view.folders:
        os.makedirs(base + folder, mode=0o755)
        _bind_read_only(folder, base + folder)
        _mask(base + folder)
    for path in [*view.packages, *view.libraries, _NULL]:
        _make_mount_point(base + path, os.path.isdir(path))
        if path == _NULL:
            kernel.mount(path, base + path, None, kernel.MS_BIND)
        else:
            _bind_read_only(path, base + path)
    for path in [base, *(mask for folder in view.folders for mask in _masks(base + folder))]:
        kernel.mount(None, path, None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | quiet)
    kernel.pivot_into(base)


def _make_mount_point(path: str, is_folder: bool) -> None:
    os.makedirs(path if is_folder else os.path.dirname(path), mode=0o755, exist_ok=True)
    if not is_folder:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o444))


def _holds(root: str, view: View) -> bool:
    return any(path.startswith(root + "/") for path in view.folders + view.libraries + view.packages)


def _bind_read_only(source: str, target: str) -> None:
    # An unprivileged remount must keep the flags that the host has locked; statvfs and mount number them alike.
    kept = os.statvfs(source).f_flag & (
        kernel.MS_NOEXEC | kernel.MS_NOATIME | kernel.MS_NODIRATIME | kernel.MS_RELATIME
    )
    kernel.mount(source, target, None, kernel.MS_BIND)
    fixed = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount(None, target, None, fixed | kept)


def _mask(folder: str) -> None:
    for path in _masks(folder):
        kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=4k,mode=755")


def _masks(folder: str) -> list[str]:
    return [path for name in _HIDDEN[:2] if os.path.isdir(path := os.path.join(folder, name))]


def lock_down(walls: Walls, view: View, with_landlock: bool) -> None:
    """Give up capabilities and the way back to them, and close the file tree."""
    walls.note("no-capabilities", _succeeds(kernel.drop_capabilities))
    walls.note("no-new-privileges", _succeeds(kernel.prctl, kernel.PR_SET_NO_NEW_PRIVS, 1))
    # Only a file tree of our own may be listed where it holds packages: the host's holds others.
    roots = view.roots if "namespaces" in walls.layers else ()
    walls.note("landlock", with_landlock and _succeeds(_restrict_files, view, roots))


def _restrict_files(view: View, roots: tuple[str, ...]) -> None:
    names = [(folder, name) for folder in view.folders for name in os.listdir(folder) if name not in _HIDDEN]
    entries = [os.path.join(folder, name) for folder, name in names]
    landlock.restrict([*entries, *view.libraries, *view.packages], [*view.folders, *roots], [_NULL])


def address_space() -> int:
    """The bytes of this process's address space, 0 where the kernel does not tell."""
    try:
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def limit_resources(memory_bytes: int) -> None:
    """The limits that the zygote sets on itself and its programs inherit."""
    wanted = [(resource.RLIMIT_AS, memory_bytes, memory_bytes), (resource.RLIMIT_NOFILE, 64, 64)]
    wanted += [(kind, 0, 0) for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK)]
    for kind, pair in _reachable(wanted):
        with suppress(ValueError):
            resource.setrlimit(kind, pair)


def program_limits(cpu_seconds: float) -> list[Limit]:
    """The limits that only a program's process has; the CPU limit only backs up the judge's finer one."""
    seconds = int(cpu_seconds) + 2
    return _reachable([(resource.RLIMIT_CPU, seconds, seconds + 1), (resource.RLIMIT_NPROC, 0, 0)])


def _reachable(limits: list[tuple[int, int, int]]) -> list[Limit]:
    """Arguments of setrlimit: the wanted kinds with their soft and hard limits, none beyond the present hard limit."""
    present = [resource.getrlimit(kind)[1] for kind, _, _ in limits]
    tops = [sys.maxsize if hard == resource.RLIM_INFINITY else hard for hard in present]
    return [(kind, (min(soft, top), min(hard, top))) for (kind, soft, hard), top in zip(limits, tops, strict=True)]
