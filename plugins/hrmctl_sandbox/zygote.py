"""The contained process that forks one child for each program. It never sees a program, a test or a verdict."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import random
import resource
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from . import candidate, cgroup, containment, kernel, landlock, seccomp, whole, wire

REPORT = struct.Struct("<idq")
CLOCK = struct.Struct("<d")
# KILL makes the next program's process too where it comes with a channel, as RUN does.
RUN, CPU, KILL = b"R", b"C", b"K"
_CHANNEL, _CONTROL = 3, 63
_ANCILLARY = socket.CMSG_SPACE(struct.calcsize("i"))
# CPython's obmalloc: sizes are multiples of the grain; a fresh pool's first object follows its header.
_GRAIN, _LARGEST_POOLED, _POOL_BYTES, _POOL_HEADER, _MOST_HOLES = 16, 512, 1 << 14, 48, 2000
# What most programs import. More would make each fork dearer than the rare import that it saves.
_PRELOADED = (
    "abc", "bisect", "collections", "collections.abc", "contextlib", "copy", "datetime", "decimal", "enum", "fractions",
    "functools", "heapq", "itertools", "json", "math", "operator", "random", "re", "string", "struct", "time", "types",
    "typing",
)  # fmt: skip


def main() -> NoReturn:
    """Entry point of the zygote process: argv holds the package's folder, the control socket and the configuration."""
    control = socket.socket(fileno=int(sys.argv[2]))
    config = json.loads(sys.argv[3])
    try:
        config["memory_bytes"] += _preload(config["packages"])
        walls = _contain(config, control)
        wire.write(control.fileno(), wire.pack({"layers": walls.layers, "missing": walls.missing}))
    except BaseException as error:
        wire.write(control.fileno(), wire.pack({"failed": f"{type(error).__name__}: {error}"}))
        os._exit(1)
    Zygote(control, config).loop()


def _preload(packages: dict[str, Any]) -> int:
    """Load what most programs import, and let go of every path but the standard library's and the packages'.

    Returns the bytes of address space that the packages take: those are not the programs'.
    """
    for name in _PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    time.tzset()
    before = containment.address_space()
    sys.path.extend(packages["roots"])
    for name in packages["names"]:
        importlib.import_module(name)
    folders = [*containment.library_folders(), *packages["roots"]]
    sys.path[:] = [path for path in sys.path if os.path.realpath(path).startswith(tuple(folders))]
    sys.path_importer_cache.clear()
    # The threads of the packages' libraries stay limited.
    for name in [name for name in os.environ if not name.endswith("_THREADS")]:
        del os.environ[name]
    sys.argv[:] = [""]
    sys.orig_argv[:] = []
    return containment.address_space() - before


def _contain(config: dict[str, Any], control: socket.socket) -> containment.Walls:
    walls = containment.Walls()
    if sys.platform != "linux":
        walls.note("sandbox-exec", bool(config["wrapped"]))
        return walls
    off = config["without"]
    kernel.die_with_parent()
    if config["cgroup"] is not None and cgroup.enter(config["cgroup"], config["memory_bytes"]):
        walls.note("cgroup", True)
    view = containment.View.of_interpreter(config["packages"]["paths"], config["packages"]["roots"])
    if "namespaces" in off:
        walls.note("namespaces", False)
    else:
        containment.enter_namespaces(walls, view)
    _become_init(control)
    if "namespaces" in walls.missing:
        containment.drop_user(walls, view)
    kernel.die_with_parent()
    containment.lock_down(walls, view, "landlock" not in off and landlock.abi() > 0)
    walls.note("seccomp", "seccomp" not in off and seccomp.supported() and _can_filter())
    walls.note("resource-limits", True)
    return walls


def _become_init(control: socket.socket) -> None:
    """Go on as the first process of the new pid namespace; the process left behind only waits for it."""
    child = os.fork()
    if child == 0:
        return
    control.close()
    os.waitpid(child, 0)
    os._exit(0)


def _can_filter() -> bool:
    child = os.fork()
    if child == 0:
        try:
            seccomp.Filter().install()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _fill_pools() -> Iterator[object]:
    """Objects that fill the holes in the memory of objects, to be kept.

    What a program allocates then lies together, and fewer pages are copied. Each size up to 512 bytes has its own.
    """
    empty = sys.getsizeof(b"")
    for size in range(_GRAIN, _LARGEST_POOLED + 1, _GRAIN):
        for _ in range(_MOST_HOLES):
            filler = bytes(size - empty) if size > empty else float(size) if size > _GRAIN else object()
            if id(filler) % _POOL_BYTES == _POOL_HEADER:
                break
            yield filler


class Zygote:
    """Obeys the judge: fork a program's process, tell the oldest one's CPU time, kill the oldest one.

    After a fork each page that either side writes is copied, so what follows runs little code, all of it rehearsed.
    """

    def __init__(self, control: socket.socket, config: dict[str, Any]) -> None:
        # Out of the way, so that each program's channel arrives where it belongs.
        os.dup2(control.fileno(), _CONTROL, inheritable=False)
        control.close()
        self._control = socket.socket(fileno=_CONTROL)
        self._config = config
        self._children: deque[int] = deque()
        # os.fork would run every after-fork hook; this process has one thread and needs only a fresh seed.
        self._fork: Callable[[], int] = ctypes.PyDLL(None).fork if sys.platform == "linux" else os.fork
        self._seed = super(random.Random, random._inst).seed
        filtered = sys.platform == "linux" and "seccomp" not in config["without"] and seccomp.supported()
        self._filter = seccomp.Filter() if filtered else None
        self._server = whole.Server(_CHANNEL, config["output_bytes"])

    def loop(self) -> NoReturn:
        """Serve until the judge hangs up."""
        containment.limit_resources(self._config["memory_bytes"])
        self._limits = containment.program_limits(self._config["cpu_seconds"])
        candidate.rehearse(whole.Server)
        gc.collect()
        self._filler = list(_fill_pools())
        gc.freeze()
        receive = self._control.recvmsg
        while True:
            command, ancillary, _, _ = receive(1, _ANCILLARY)
            if command == KILL:
                self._control.sendall(REPORT.pack(*self._kill()))
            elif command == CPU:
                self._control.sendall(CLOCK.pack(self._cpu_seconds()))
            elif command != RUN:
                os._exit(0)
            for _, _, descriptor in ancillary:
                self._run(int.from_bytes(descriptor, sys.byteorder))

    def _run(self, channel: int) -> None:
        child = self._fork()
        if child == 0:
            self._become_program(channel)
        if child < 0:
            # As a number to kill it would mean every process. The judge starts another zygote.
            os._exit(1)
        self._children.append(child)
        os.close(channel)

    def _become_program(self, channel: int) -> NoReturn:
        try:
            if channel != _CHANNEL:
                os.dup2(channel, _CHANNEL)
            os.closerange(_CHANNEL + 1, 1 << 16)
            # Where the zygote is the first process of a pid namespace, the kernel ends this one with it.
            if sys.platform == "linux" and os.getppid() != 1:
                kernel.die_with_parent()
            for kind, pair in self._limits:
                resource.setrlimit(kind, pair)
            if self._filter is not None:
                self._filter.install()
            self._seed()
            self._server.serve()
        finally:
            os._exit(1)

    def _cpu_seconds(self) -> float:
        try:
            return time.clock_gettime((~self._children[0] << 3) | 2)
        except (OSError, IndexError):
            return 0.0

    def _kill(self) -> tuple[int, float, int]:
        if not self._children:
            return -1, 0.0, 0
        child = self._children.popleft()
        os.kill(child, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
        return status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss
