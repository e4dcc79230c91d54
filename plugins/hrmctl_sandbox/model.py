"""The nouns of the public API: problems, samples, limits, outcomes and the isolation in force."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class SandboxUnavailable(RuntimeError):
    """The machine cannot isolate untrusted programs well enough; the message names what is missing and the remedy."""


class ErrorClass(StrEnum):
    """Why a sample did not pass, or `passed`."""

    PASSED = "passed"
    SYNTAX = "syntax"
    COMPILE = "compile"
    RUNTIME = "runtime"
    WRONG_ANSWER = "wrong_answer"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    REFUSED = "refused"
    KILLED = "killed"


@dataclass(frozen=True)
class Case:
    """One run of a program that reads `stdin` and must write `stdout`, as stdio.difference compares it."""

    stdin: str
    stdout: str


@dataclass(frozen=True)
class Problem:
    """One task: its tests, run by the trusted judge, or its cases.

    `tests` are pieces of Python source run in order. A piece that defines `check` and never calls it is called with
    `entry_point`. `setup` is run before them in the judge: what it defines or imports is trusted, and wins over
    definitions of the same name in the program (except `entry_point`). Names that neither defines are the program's.

    `cases` take the place of tests: the program is a script, run once for each case. `shared` tests run in the
    program's own process, which could forge its verdict: only with `allow_forgeable`.
    """

    id: str
    tests: tuple[str, ...] = ()
    entry_point: str | None = None
    setup: str = ""
    cases: tuple[Case, ...] = ()
    shared: bool = False


@dataclass(frozen=True)
class Sample:
    """One program, as full source, to be graded against the problem `problem_id`."""

    problem_id: str
    index: int
    program: str


@dataclass(frozen=True)
class Limits:
    """Bounds on one program, or on each case of one. Seconds and bytes.

    Raises ValueError for values that are not positive and finite.

    CPU time decides; `wall_seconds` is looser, so that a loaded machine does not fail a correct program.
    `memory_bytes` bounds the address space of the program's process, interpreter included. `output_bytes` bounds each
    answer that it gives, and four times that all of them together.
    """

    cpu_seconds: float = 10.0
    wall_seconds: float = 40.0
    memory_bytes: int = 1 << 30
    output_bytes: int = 8 << 20

    def __post_init__(self) -> None:
        for name in ("cpu_seconds", "wall_seconds", "memory_bytes", "output_bytes"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, not {value!r}")


@dataclass(frozen=True)
class Outcome:
    """The verdict on one sample. `detail` is one line of at most 200 characters; times are of the program's process.

    `mode` is the isolation that was enforced. `forgeable` says that the program's own code took part in the verdict.
    """

    problem_id: str
    index: int
    passed: bool
    error: ErrorClass
    detail: str
    cpu_seconds: float
    wall_seconds: float
    mode: str
    forgeable: bool = False


@dataclass(frozen=True)
class Isolation:
    """What the sandbox enforces on this machine: `sealed`, `confined`, `confined-macos`, `unsafe` or `unavailable`.

    `absent` are the layers that the machine does not offer and that do not count for the mode.
    """

    mode: str
    layers: tuple[str, ...]
    missing: tuple[str, ...]
    remedy: str
    absent: tuple[str, ...] = ()

    @property
    def acceptable(self) -> bool:
        """Whether untrusted programs may run without an explicit waiver."""
        return self.mode in ("sealed", "confined", "confined-macos")
