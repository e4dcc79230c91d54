"""The outer container for hostile programs: `python container.py FOLDER COMMAND…`.

The harnesses it is for are no sandboxes, so what they run sees a read-only machine without a network, an empty /tmp and
home, FOLDER as the only place to write, its own processes, and limits. Ends with 77 where there are no namespaces.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import sys
from pathlib import Path

from hrmctl_sandbox import kernel

_AT_FDCWD, _AT_RECURSIVE, _READ_ONLY = -100, 0x8000, 1
_MOUNT_SETATTR = 442
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_LIMITS = {
    resource.RLIMIT_AS: 8 << 30,
    resource.RLIMIT_FSIZE: 64 << 20,
    resource.RLIMIT_CPU: 300,
    resource.RLIMIT_NOFILE: 1024,
    resource.RLIMIT_CORE: 0,
}
NO_NAMESPACES = 77


def _attributes(path: str, set_: int, clear: int, flags: int) -> None:
    wanted = struct.pack("QQQQ", set_, clear, 0, 0)
    kernel.syscall(_MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, ctypes.c_char_p(wanted), len(wanted))


def _enter_namespaces() -> None:
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(sum(kernel.NAMESPACES.values()))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _hide_the_machine(folder: str, needed: list[str]) -> None:
    """Make every mount read-only but `folder`, and cover the places where others keep things."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount(folder, folder, None, kernel.MS_BIND)
    _attributes("/", _READ_ONLY, 0, _AT_RECURSIVE)
    _attributes(folder, 0, _READ_ONLY, 0)
    for place in ("/tmp", "/var/tmp", "/dev/shm", "/run", str(Path.home())):
        if os.path.isdir(place) and not any(item.startswith(place + "/") for item in needed):
            kernel.mount("tmpfs", place, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=64m")


def _loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        fcntl.ioctl(device, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _as_init(command: list[str]) -> int:
    """Be the first process of the new namespace: a signal from inside cannot end it, and with it all end."""
    kernel.die_with_parent()
    kernel.mount("proc", "/proc", "proc", 0)
    _loopback()
    child = os.fork()
    if child == 0:
        for kind, most in _LIMITS.items():
            resource.setrlimit(kind, (most, most))
        os.setsid()
        os.execv(command[0], command)
    while True:
        found, status = os.wait()
        if found == child:
            return os.waitstatus_to_exitcode(status) & 0xFF


def main() -> None:
    """Run a command inside."""
    folder, *command = sys.argv[1:]
    kernel.die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    needed = [folder, os.path.realpath(__file__), sys.base_prefix + "/", os.getcwd() + "/"]
    try:
        _enter_namespaces()
        _hide_the_machine(folder, needed)
    except OSError as error:
        sys.stderr.write(f"no outer container on this machine: {error}\n")
        raise SystemExit(NO_NAMESPACES) from None
    init = os.fork()
    if init == 0:
        try:
            os._exit(_as_init(command))
        except OSError as error:
            sys.stderr.write(f"no outer container on this machine: {error}\n")
            os._exit(NO_NAMESPACES)
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]) & 0xFF)


if __name__ == "__main__":
    main()
