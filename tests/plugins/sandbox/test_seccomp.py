"""The seccomp filter, run by an interpreter of its instructions for both architectures."""

from __future__ import annotations

import struct

import pytest
from hrmctl_sandbox import seccomp

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
EPERM, ENOTTY, ENOSYS = 1, 25, 38
DENIED = {
    "x86_64": {
        "socket": 41, "connect": 42, "socketpair": 53, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62,
        "rename": 82, "mkdir": 83, "unlink": 87, "symlink": 88, "chmod": 90, "ptrace": 101, "setuid": 105, "prctl": 157,
        "mount": 165, "tkill": 200, "shmget": 29, "tgkill": 234, "keyctl": 250, "unshare": 272, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "seccomp": 317, "memfd_create": 319, "bpf": 321,
        "execveat": 322, "userfaultfd": 323, "pidfd_send_signal": 424, "io_uring_setup": 425, "pidfd_open": 434,
        "landlock_create_ruleset": 444, "rt_sigqueueinfo": 129, "perf_event_open": 298, "sendto": 44, "sendmsg": 46,
    },
    "aarch64": {
        "socket": 198, "connect": 203, "socketpair": 199, "clone": 220, "execve": 221, "kill": 129, "unlinkat": 35,
        "ptrace": 117, "setuid": 146, "prctl": 167, "mount": 40, "tkill": 130, "tgkill": 131, "shmget": 194,
        "keyctl": 219, "unshare": 97, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "seccomp": 277,
        "memfd_create": 279, "bpf": 280, "execveat": 281, "userfaultfd": 282, "pidfd_send_signal": 424,
        "io_uring_setup": 425, "pidfd_open": 434, "rt_sigqueueinfo": 138, "perf_event_open": 241, "sendto": 206,
    },
}  # fmt: skip
NEEDED = {"x86_64": {"read": 0, "write": 1, "mmap": 9, "openat": 257, "exit_group": 231, "futex": 202},
          "aarch64": {"read": 63, "write": 64, "mmap": 222, "openat": 56, "exit_group": 94, "futex": 98}}  # fmt: skip


def run(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter for `machine` answers to a system call."""
    audit = ARCHITECTURES[machine] if architecture is None else architecture
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number, audit, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", seccomp.build_filter(machine)))
    place = accumulator = 0
    while True:
        operation, if_true, if_false, value = code[place]
        place += 1
        if operation == 0x06:
            return int(value)
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
            continue
        met = accumulator == value if operation == 0x15 else accumulator >= value
        place += if_true if met else if_false


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_dangerous_calls_are_denied_and_needed_ones_allowed(machine: str) -> None:
    assert {
        name: run(machine, number) for name, number in DENIED[machine].items() if run(machine, number) != ERRNO | EPERM
    } == {}
    assert {name for name, number in NEEDED[machine].items() if run(machine, number) != ALLOW} == set()


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_foreign_calls_kill(machine: str) -> None:
    assert run(machine, 0, architecture=0x40000003) == KILL
    assert run(machine, 0x40000000 | 41) == KILL


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_calls_that_depend_on_their_arguments(machine: str) -> None:
    column = list(ARCHITECTURES).index(machine)
    prlimit, fcntl, ioctl, clone3 = ((302, 261)[column], (72, 25)[column], (16, 29)[column], 435)
    assert run(machine, prlimit, 0) == ALLOW
    assert run(machine, prlimit, 1) == ERRNO | EPERM
    assert run(machine, fcntl, 3, 1) == ALLOW
    assert [run(machine, fcntl, 3, command) for command in (4, 8, 10, 15)] == [ERRNO | EPERM] * 4
    assert run(machine, ioctl, 0, 0x5412) == ERRNO | ENOTTY
    assert run(machine, clone3) == ERRNO | ENOSYS


# What was allowed when each call was looked at, one by one: a change of the table must be made here as well.
ALLOWED = {
    "x86_64": (
        *range(0, 16), *range(17, 26), 28, *range(32, 40), 60, 63, 72, 79, *range(95, 101), 102, 104, 107, 108, 110,
        111, 115, 118, 120, 121, 127, 128, 130, 131, 160, 186, 201, 202, 204, *range(217, 220), 221, *range(228, 234),
        257, 262, *range(269, 272), 273, 281, 291, 292, 293, 302, 309, 318, 332, 334, 436, 439,
    ),
    "aarch64": (
        17, *range(20, 26), 48, 56, 57, 59, *range(61, 69), 72, 73, 79, 80, 93, 94, 96, 98, 99, *range(101, 104),
        *range(113, 116), 123, 124, 128, *range(132, 138), 139, 148, 150, 153, 155, 158, 160, *range(163, 167), 168,
        169, *range(172, 180), *range(214, 217), 222, 223, 226, 233, 261, 278, 291, 293, 436, 439,
    ),
}  # fmt: skip


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_no_other_number_is_allowed(machine: str) -> None:
    answers = {number: run(machine, number) for number in range(0, 2000)}
    assert {number for number, answer in answers.items() if answer == ALLOW} == set(ALLOWED[machine])
    others = {16 if machine == "x86_64" else 29: ERRNO | ENOTTY, 435: ERRNO | ENOSYS}
    denied = {number: answer for number, answer in answers.items() if answer not in (ALLOW, ERRNO | EPERM)}
    assert denied == others
