"""The walls around the zygote, put up once and inherited by every program that it forks."""

from __future__ import annotations

import glob
import os
import resource
import sysconfig
from contextlib import suppress
from dataclasses import dataclass, field

from . import kernel, landlock

NOBODY = 65534
_HIDDEN = ("site-packages", "dist-packages", "test", "idlelib", "ensurepip", "lib2to3")
_ROOTS = ("/mnt", "/srv", "/opt", "/tmp", "/var", "/home")
_NULL = "/dev/null"
_ON_DEMAND = (
    "libssl", "libcrypto", "libsqlite3", "liblzma", "libbz2", "libz", "libexpat", "libmpdec", "libffi", "libuuid",
)  # fmt: skip


@dataclass
class Walls:
    """What is enforced and what is not, in the order in which it was put up."""

    layers: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def note(self, name: str, enforced: bool) -> bool:
        """Record one layer and say whether it stands."""
        (self.layers if enforced else self.missing).append(name)
        return enforced


def library_folders() -> list[str]:
    """The folders of the standard library: all that a program may read."""
    folders = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    return sorted(folder for folder in folders if os.path.isdir(folder))


@dataclass(frozen=True)
class View:
    """The files that a program may read: folders of the standard library, and shared libraries its modules load."""

    folders: tuple[str, ...]
    libraries: tuple[str, ...]

    @classmethod
    def of_interpreter(cls) -> View:
        """The view for the running interpreter; to be taken while the host's files are still there."""
        folders = library_folders()
        with open("/proc/self/maps") as maps:
            mapped = {os.path.dirname(line.split(maxsplit=5)[-1].strip()) for line in maps if ".so" in line}
        beside = [folder for folder in mapped if not folder.startswith(tuple(folders))]
        found = [path for folder in beside for name in _ON_DEMAND for path in _versions(folder, name)]
        return cls(tuple(folders), tuple(sorted(found)))


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
    if not _nobody_can_read(view.folders):
        walls.note("unprivileged-user", False)
        return
    walls.note("unprivileged-user", _succeeds(os.setgroups, []) and _succeeds(_become_nobody))


def _become_nobody() -> None:
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _nobody_can_read(folders: tuple[str, ...]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            _become_nobody()
            readable = all(os.access(os.path.join(folder, "os.py"), os.R_OK) for folder in folders)
            os._exit(0 if readable else 1)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _build(view: View) -> None:
    """A root of its own that holds the standard library, read-only, and /dev/null. Raises OSError."""
    base = next(root for root in _ROOTS if os.path.isdir(root) and not _holds(root, view))
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("tmpfs", base, "tmpfs", quiet, "size=64k,nr_inodes=256,mode=755")
    for folder in view.folders:
        os.makedirs(base + folder, mode=0o755)
        _bind_read_only(folder, base + folder)
        _mask(base + folder)
    for path in [*view.libraries, _NULL]:
        os.makedirs(os.path.dirname(base + path), mode=0o755, exist_ok=True)
        os.close(os.open(base + path, os.O_CREAT | os.O_WRONLY, 0o444))
        if path == _NULL:
            kernel.mount(path, base + path, None, kernel.MS_BIND)
        else:
            _bind_read_only(path, base + path)
    kernel.mount(None, base, None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | quiet)
    kernel.pivot_into(base)


def _holds(root: str, view: View) -> bool:
    return any(path.startswith(root + "/") for path in view.folders + view.libraries)


def _bind_read_only(source: str, target: str) -> None:
    # An unprivileged remount must keep the flags that the host has locked; statvfs and mount number them alike.
    kept = os.statvfs(source).f_flag & (
        kernel.MS_NOEXEC | kernel.MS_NOATIME | kernel.MS_NODIRATIME | kernel.MS_RELATIME
    )
    kernel.mount(source, target, None, kernel.MS_BIND)
    fixed = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount(None, target, None, fixed | kept)


def _mask(folder: str) -> None:
    for name in _HIDDEN[:2]:
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV, "size=4k")


def lock_down(walls: Walls, view: View, with_landlock: bool) -> None:
    """Give up capabilities and the way back to them, and close the file tree."""
    walls.note("no-capabilities", _succeeds(kernel.drop_capabilities))
    walls.note("no-new-privileges", _succeeds(kernel.prctl, kernel.PR_SET_NO_NEW_PRIVS, 1))
    walls.note("landlock", with_landlock and _succeeds(_restrict_files, view))


def _restrict_files(view: View) -> None:
    names = [(folder, name) for folder in view.folders for name in os.listdir(folder) if name not in _HIDDEN]
    entries = [os.path.join(folder, name) for folder, name in names]
    landlock.restrict([*entries, *view.libraries], list(view.folders), [_NULL])


def limit_resources(memory_bytes: int) -> None:
    """The limits that the zygote sets on itself and its programs inherit."""
    _limit(resource.RLIMIT_AS, memory_bytes, memory_bytes)
    _limit(resource.RLIMIT_NOFILE, 64, 64)
    for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK):
        _limit(kind, 0, 0)


def limit_program(cpu_seconds: float) -> None:
    """The limits that only a program's process has; the CPU limit only backs up the judge's finer one."""
    seconds = int(cpu_seconds) + 2
    _limit(resource.RLIMIT_CPU, seconds, seconds + 1)
    _limit(resource.RLIMIT_NPROC, 0, 0)


def _limit(kind: int, soft: int, hard: int) -> None:
    present = resource.getrlimit(kind)[1]
    if present != resource.RLIM_INFINITY:
        soft, hard = min(soft, present), min(hard, present)
    with suppress(ValueError):
        resource.setrlimit(kind, (soft, hard))
