"""A seccomp-BPF allowlist: what a single-threaded interpreter needs, and nothing that reaches another process."""

from __future__ import annotations

import ctypes
import errno
import struct
from itertools import accumulate

from . import kernel

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _JUMP_EQ, _JUMP_GE, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_DENY = _ERRNO | errno.EPERM
_X32_BIT = 0x40000000
# First number of the upper half, and where both halves go on: another node's index, or the complement of an action.
_Node = tuple[int, int, int]
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARG0, _OFFSET_ARG1 = 0, 4, 16, 24

# name: (x86-64, arm64); -1 where the architecture has no such call
_ALLOWED: dict[str, tuple[int, int]] = {
    "read": (0, 63), "write": (1, 64), "open": (2, -1), "close": (3, 57), "stat": (4, -1), "fstat": (5, 80),
    "lstat": (6, -1), "poll": (7, -1), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
    "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66), "access": (21, -1),
    "pipe": (22, -1), "select": (23, -1), "sched_yield": (24, 124), "mremap": (25, 216), "madvise": (28, 233),
    "dup": (32, 23), "dup2": (33, -1), "pause": (34, -1), "nanosleep": (35, 101), "getitimer": (36, 102),
    "alarm": (37, -1), "setitimer": (38, 103), "getpid": (39, 172), "exit": (60, 93), "uname": (63, 160),
    "getcwd": (79, 17), "umask": (95, 166), "gettimeofday": (96, 169), "getrlimit": (97, 163),
    "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176),
    "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173), "getpgrp": (111, -1), "getgroups": (115, 158),
    "getresuid": (118, 148), "getresgid": (120, 150), "getpgid": (121, 155), "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "setrlimit": (160, 164),
    "gettid": (186, 178), "time": (201, -1), "futex": (202, 98), "sched_getaffinity": (204, 123),
    "getdents64": (217, 61), "set_tid_address": (218, 96), "restart_syscall": (219, 128), "fadvise64": (221, 223),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94),
    "epoll_wait": (232, -1), "epoll_ctl": (233, 21), "openat": (257, 56), "newfstatat": (262, 79),
 "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73),
    "set_robust_list": (273, 99), "epoll_pwait": (281, 22), "epoll_create1": (291, 20), "dup3": (292, 24),
    "pipe2": (293, 59), "getcpu": (309, 168), "getrandom": (318, 278), "statx": (332, 291), "rseq": (334, 293),
    "close_range": (436, 436), "faccessat2": (439, 439),
}  # fmt: skip
_IOCTL, _FCNTL, _CLONE3, _PRLIMIT = (16, 29), (72, 25), (435, 435), (302, 261)
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC: the others can aim signals at processes
_FCNTL_COMMANDS = (0, 1, 2, 3, 1030)
# Calls allowed for some values of one argument: a process may limit only itself, and not aim signals.
_BY_ARGUMENT = ((_PRLIMIT, _OFFSET_ARG0, (0,)), (_FCNTL, _OFFSET_ARG1, _FCNTL_COMMANDS))


def supported() -> bool:
    """Whether a filter for this machine's architecture is known."""
    return kernel.architecture() in _AUDIT_ARCH


def build_filter(machine: str) -> bytes:
    """The filter as BPF instructions for `machine`: foreign calls kill, unlisted calls fail with EPERM.

    A search tree over ranges of numbers: the kernel compiles it and tries it on every number for each program.
    """
    column = 0 if machine == "x86_64" else 1
    code = [_op(_LOAD, _OFFSET_ARCH), _op(_JUMP_EQ, _AUDIT_ARCH[machine], 1, 0), _op(_RETURN, _KILL)]
    code += [_op(_LOAD, _OFFSET_NUMBER), _op(_JUMP_GE, _X32_BIT, 0, 1), _op(_RETURN, _KILL)]
    nodes: list[_Node] = []
    _place(nodes, _ranges(column))
    actions = sorted({target for _, *targets in nodes for target in targets if target < 0})
    bodies = {~numbers[column]: _one_of(offset, values) for numbers, offset, values in _BY_ARGUMENT}
    ends = [bodies.get(action) or [_op(_RETURN, ~action)] for action in actions]
    starts = accumulate(map(len, ends), initial=len(nodes))
    place = dict(zip(actions, starts, strict=False)) | {index: index for index in range(len(nodes))}
    for index, (first, above, below) in enumerate(nodes, 1):
        code.append(_op(_JUMP_GE, first, place[above] - index, place[below] - index))
    return b"".join([*code, *(instruction for end in ends for instruction in end)])


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _one_of(offset: int, values: tuple[int, ...]) -> list[bytes]:
    """Allow where the argument at `offset` is one of `values`."""
    tests = [part for value in values for part in (_op(_JUMP_EQ, value, 0, 1), _op(_RETURN, _ALLOW))]
    return [_op(_LOAD, offset), *tests, _op(_RETURN, _DENY)]


def _ranges(column: int) -> list[tuple[int, int]]:
    """(first number, action) of each run of numbers with the same action; a call by argument has its number for one."""
    actions = {numbers[column]: _ALLOW for numbers in _ALLOWED.values()}
    actions |= {_IOCTL[column]: _ERRNO | errno.ENOTTY, _CLONE3[column]: _ERRNO | errno.ENOSYS}
    actions |= {numbers[column]: numbers[column] for numbers, _, _ in _BY_ARGUMENT}
    every = [actions.get(number, _DENY) for number in range(max(actions) + 2)]
    return [(number, action) for number, action in enumerate(every) if number == 0 or action != every[number - 1]]


def _place(nodes: list[_Node], ranges: list[tuple[int, int]]) -> int:
    """Append the search for the range of a number. Returns the index of its node, or the complement of the action."""
    if len(ranges) == 1:
        return ~ranges[0][1]
    index, middle = len(nodes), len(ranges) // 2
    nodes.append((0, 0, 0))
    below = _place(nodes, ranges[:middle])
    above = _place(nodes, ranges[middle:])
    nodes[index] = (ranges[middle][0], above, below)
    return index


class Filter:
    """A filter made once and installed in each program's process."""

    def __init__(self) -> None:
        code = build_filter(kernel.architecture())
        self._code = ctypes.create_string_buffer(code, len(code))
        self._program = struct.pack("@HP", len(code) // 8, ctypes.addressof(self._code))
        self._pointer = ctypes.create_string_buffer(self._program, len(self._program))

        address = ctypes.addressof(self._pointer)
        self._install = kernel.prepared_prctl(kernel.PR_SET_SECCOMP, kernel.SECCOMP_MODE_FILTER, address)

    def install(self) -> None:
        """Put the filter on this process for good; no_new_privs must be set. Raises OSError."""
        if self._install() != 0:
            raise OSError("the kernel refused the filter")
