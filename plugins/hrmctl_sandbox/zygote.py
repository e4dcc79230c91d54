"""The contained process that forks one child for each program. It never sees a program, a test or a verdict."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import random
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from . import candidate, containment, kernel, landlock, seccomp, wire

REPORT = struct.Struct("<idq")
CLOCK = struct.Struct("<d")
RUN, CPU, KILL = b"R", b"C", b"K"
_CHANNEL = 3
# What most programs import. More would make each fork dearer than the rare import that it saves.
_PRELOADED = (
    "abc", "array", "bisect", "cmath", "collections", "collections.abc", "contextlib", "copy", "dataclasses",
    "datetime", "decimal", "enum", "fractions", "functools", "heapq", "itertools", "json", "math", "operator", "random",
    "re", "string", "struct", "time", "types", "typing",
)  # fmt: skip


def main() -> NoReturn:
    """Entry point of the zygote process: argv holds the package's folder, the control socket and the configuration."""
    control = socket.socket(fileno=int(sys.argv[2]))
    config = json.loads(sys.argv[3])
    try:
        _preload()
        walls = _contain(config, control)
        wire.write(control.fileno(), wire.pack({"layers": walls.layers, "missing": walls.missing}))
    except BaseException as error:
        wire.write(control.fileno(), wire.pack({"failed": f"{type(error).__name__}: {error}"}))
        os._exit(1)
    Zygote(control, config).loop()


def _preload() -> None:
    """Load what most programs import, and let go of every path but the standard library's."""
    for name in _PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    time.tzset()
    folders = containment.library_folders()
    sys.path[:] = [path for path in sys.path if os.path.realpath(path).startswith(tuple(folders))]
    sys.path_importer_cache.clear()
    sys.argv[:] = [""]
    sys.orig_argv[:] = []


def _contain(config: dict[str, Any], control: socket.socket) -> containment.Walls:
    walls = containment.Walls()
    if sys.platform != "linux":
        walls.note("sandbox-exec", bool(config["wrapped"]))
        return walls
    off = config["without"]
    kernel.die_with_parent()
    view = containment.View.of_interpreter()
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


class Zygote:
    """Obeys the judge: fork a program's process, tell the oldest one's CPU time, kill the oldest one."""

    def __init__(self, control: socket.socket, config: dict[str, Any]) -> None:
        self._control = control
        self._config = config
        self._children: deque[int] = deque()
        # os.fork would run every after-fork hook; this process has one thread and needs only a fresh seed.
        self._fork: Callable[[], int] = ctypes.PyDLL(None).fork if sys.platform == "linux" else os.fork
        filtered = sys.platform == "linux" and "seccomp" not in config["without"] and seccomp.supported()
        self._filter = seccomp.Filter() if filtered else None

    def loop(self) -> NoReturn:
        """Serve until the judge hangs up."""
        containment.limit_resources(self._config["memory_bytes"])
        candidate.rehearse()
        gc.collect()
        gc.freeze()
        while True:
            command, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
            if command == RUN:
                self._run(descriptors[0])
            elif command == CPU:
                self._control.sendall(CLOCK.pack(self._cpu_seconds()))
            elif command == KILL:
                self._control.sendall(REPORT.pack(*self._kill()))
            else:
                os._exit(0)

    def _run(self, channel: int) -> None:
        child = self._fork()
        if child == 0:
            self._become_program(channel)
        self._children.append(child)
        os.close(channel)

    def _become_program(self, channel: int) -> NoReturn:
        try:
            self._control.close()
            os.dup2(channel, _CHANNEL)
            os.closerange(_CHANNEL + 1, 1 << 16)
            # Where the zygote is the first process of a pid namespace, the kernel ends this one with it.
            if sys.platform == "linux" and os.getppid() != 1:
                kernel.die_with_parent()
            containment.limit_program(self._config["cpu_seconds"])
            if self._filter is not None:
                self._filter.install()
            random.seed()
            candidate.Server(_CHANNEL, self._config["output_bytes"]).serve()
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
