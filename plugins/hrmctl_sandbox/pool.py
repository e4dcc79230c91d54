"""The user's process: starts judge processes, hands out samples, collects grades, replaces what dies."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .grading import Grade
from .isolation import unavailable
from .model import ErrorClass, Isolation, Limits, Outcome, Problem, Sample, SandboxUnavailable
from .packages import NONE, Packages
from .remote import Remote, RemoteDied, Task

Key = tuple[str, bytes]
_WINDOWS = "generated programs cannot be contained on Windows: run inside WSL2"


@dataclass(frozen=True)
class Options:
    """How to judge. `without` names layers to leave out, for testing weaker machines."""

    limits: Limits
    workers: int | None = None
    allow_unsafe: bool = False
    allow_forgeable: bool = False
    without: frozenset[str] = frozenset()
    packages: Packages = NONE


def run(problems: Iterable[Problem], samples: Iterable[Sample], options: Options) -> Iterator[Outcome]:
    """See judge."""
    table: dict[str, Problem] = {}
    for problem in problems:
        if problem.id in table:
            raise ValueError(f"two problems have the id {problem.id!r}")
        table[problem.id] = problem
    if options.workers is not None and options.workers < 1:
        raise ValueError("workers must be at least 1")
    return _run(table, iter(samples), options)


def isolation(without: frozenset[str] = frozenset(), packages: Packages = NONE) -> Isolation:
    """See probe."""
    if sys.platform == "win32":
        return unavailable(_WINDOWS)
    remote = Remote(Options(Limits(), without=without, packages=packages))
    try:
        return remote.isolation()
    except SandboxUnavailable as error:
        return unavailable(str(error))
    finally:
        remote.close()


def _run(table: dict[str, Problem], samples: Iterator[Sample], options: Options) -> Iterator[Outcome]:
    if sys.platform == "win32":
        raise SandboxUnavailable(_WINDOWS)
    desk = _Desk(table, options)
    try:
        exhausted = False
        while not exhausted or desk.busy:
            while not exhausted and desk.has_room:
                sample = next(samples, None)
                exhausted = sample is None
                if sample is not None:
                    yield from desk.accept(sample)
                yield from desk.collect(0)
            if desk.busy:
                yield from desk.collect(None)
    finally:
        desk.close()


@dataclass
class _Desk:
    """Hands out tasks and keeps the grades of the programs seen, so that identical ones run once."""

    table: dict[str, Problem]
    options: Options
    _remotes: list[Remote] = field(default_factory=list)
    _waiting: dict[Key, list[Sample]] = field(default_factory=dict)
    _graded: dict[Key, tuple[Grade, str]] = field(default_factory=dict)
    _warned: bool = False
    _false_starts: int = 0

    @property
    def busy(self) -> bool:
        """Whether any program is being graded."""
        return bool(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether another program can be handed out without queueing long."""
        return len(self._remotes) < self._most() or any(remote.has_room for remote in self._remotes)

    def _most(self) -> int:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return self.options.workers or usable or 1

    def accept(self, sample: Sample) -> Iterator[Outcome]:
        """Take one sample; yields its outcome at once where an identical program has been graded."""
        if sample.problem_id not in self.table:
            raise ValueError(f"sample {sample.index} is of an unknown problem: {sample.problem_id!r}")
        try:
            key = (sample.problem_id, hashlib.sha256(sample.program.encode()).digest())
        except UnicodeEncodeError as error:
            yield _outcome(sample, Grade(ErrorClass.SYNTAX, f"not text: {error.reason}", 0.0, 0.0), self._mode())
            return
        if key in self._graded:
            yield _outcome(sample, *self._graded[key])
        elif key in self._waiting:
            self._waiting[key].append(sample)
        else:
            self._waiting[key] = [sample]
            self._free_remote().submit(Task(key, self.table[sample.problem_id], sample.program))

    def _free_remote(self) -> Remote:
        idle = [remote for remote in self._remotes if not remote.tasks]
        if not idle and len(self._remotes) < self._most():
            self._remotes.append(Remote(self.options))
            return self._remotes[-1]
        return min(self._remotes, key=lambda remote: len(remote.tasks))

    def collect(self, timeout: float | None) -> Iterator[Outcome]:
        """Yield the outcomes of the programs that have been graded, waiting up to `timeout` seconds for the first."""
        for remote in Remote.ready(self._remotes, timeout):
            try:
                finished = remote.receive()
            except RemoteDied as death:
                finished = self._bury(remote, death)
            self._check(remote)
            if finished is not None:
                yield from self._finish(*finished, remote.mode)

    def _bury(self, remote: Remote, death: RemoteDied) -> tuple[Key, Grade] | None:
        """Replace a judge process; its current program is graded if it is to blame, else tried once more.

        Raises SandboxUnavailable where two processes in a row ended while they were starting.
        """
        remote.close()
        self._false_starts = self._false_starts + 1 if death.starting else 0
        if self._false_starts > 1:
            raise SandboxUnavailable(str(death))
        tasks = list(remote.tasks)
        fresh = Remote(self.options)
        self._remotes[self._remotes.index(remote)] = fresh
        fresh.mode = remote.mode
        blamed = tasks[0] if tasks and (death.grade is not None or tasks[0].retried) else None
        for task in tasks:
            if task is not blamed:
                task.retried = task.retried or (task is tasks[0] and not death.starting)
                fresh.submit(task)
        if blamed is None:
            return None
        return blamed.key, death.grade or Grade(ErrorClass.KILLED, "the judge died twice under this program", 0.0, 0.0)

    def _check(self, remote: Remote) -> None:
        found = remote.known_isolation
        if found is None or self._warned:
            return
        if not found.acceptable and not self.options.allow_unsafe:
            lacking = ", ".join(found.missing)
            raise SandboxUnavailable(f"programs cannot be contained here (missing: {lacking}). {found.remedy}")
        self._warned = True
        if found.mode == "confined" or not found.acceptable:
            lacking = ", ".join(found.missing)
            warnings.warn(f"sandbox mode {found.mode}: missing {lacking}. {found.remedy}", RuntimeWarning, stacklevel=2)

    def _finish(self, key: Key, grade: Grade, mode: str) -> Iterator[Outcome]:
        self._graded[key] = (grade, mode)
        for sample in self._waiting.pop(key):
            yield _outcome(sample, grade, mode)

    def _mode(self) -> str:
        return self._remotes[0].mode if self._remotes else ""

    def close(self) -> None:
        """Kill every judge process."""
        for remote in self._remotes:
            remote.close()


def _outcome(sample: Sample, grade: Grade, mode: str) -> Outcome:
    return Outcome(
        sample.problem_id,
        sample.index,
        grade.error is ErrorClass.PASSED,
        grade.error,
        grade.detail,
        grade.cpu_seconds,
        grade.wall_seconds,
        mode,
        grade.forgeable,
    )
