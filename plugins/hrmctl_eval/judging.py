"""Judging in a thread of its own, so that programs run while the next completions are generated."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hrmctl_sandbox import Limits, Outcome, Problem, Sample, SandboxUnavailable, judge

from hrmctl import InputError, StageError

_END = object()


@dataclass(frozen=True, slots=True)
class Judged:
    """An outcome, and the seconds since the one before in which the judge was not waiting for programs to judge."""

    outcome: Outcome
    seconds: float


class Bench:
    """A judge at work: `submit` programs, take outcomes as they come with `ready`, or the rest with `finish`.

    Use as a context manager: leaving it stops the judge. Raises StageError where programs cannot be
    contained on this machine, and InputError where a package is not installed.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        *,
        limits: Limits,
        workers: int,
        allow_unsafe: bool,
        allow_forgeable: bool,
        packages: Sequence[str] = (),
    ):
        self._samples: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._cancelled = False
        self._ended = False
        self._idle = 0.0
        try:
            self._outcomes_of = judge(
                problems,
                self._feed(),
                limits=limits,
                workers=workers,
                allow_unsafe=allow_unsafe,
                allow_forgeable=allow_forgeable,
                packages=packages,
            )
        except ValueError as error:
            raise InputError(str(error)) from error
        self._thread = threading.Thread(target=self._work, name="hrmctl-eval-judge", daemon=True)

    def __enter__(self) -> Bench:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._cancelled = True
        self._samples.put(_END)
        # A program that is running ends by its own limits; whoever cancelled need not wait for that.
        self._thread.join(timeout=5)

    def submit(self, sample: Sample) -> None:
        """Hand over one program."""
        self._samples.put(sample)

    def ready(self) -> Iterator[Judged]:
        """The outcomes that have arrived, without waiting."""
        while not self._outcomes.empty():
            judged = self._take()
            if judged is not None:
                yield judged

    def finish(self) -> Iterator[Judged]:
        """Say that no further program comes, and wait for the remaining outcomes."""
        self._samples.put(_END)
        while not self._ended:
            judged = self._take()
            if judged is not None:
                yield judged

    def _take(self) -> Judged | None:
        item = self._outcomes.get()
        if isinstance(item, Judged):
            return item
        self._ended = True
        if isinstance(item, SandboxUnavailable):
            raise StageError(f"{item}; or set allow_unsafe, which is recorded") from item
        if isinstance(item, BaseException):
            raise item
        return None

    # The rest runs in the thread.

    def _feed(self) -> Iterator[Sample]:
        while True:
            before = time.monotonic()
            sample = self._samples.get()
            self._idle += time.monotonic() - before
            if not isinstance(sample, Sample) or self._cancelled:
                return
            yield sample

    def _work(self) -> None:
        since = time.monotonic()
        try:
            for outcome in self._outcomes_of:
                now = time.monotonic()
                self._outcomes.put(Judged(outcome, max(0.0, now - since - self._idle)))
                since, self._idle = now, 0.0
                if self._cancelled:
                    break
            self._outcomes.put(_END)
        except BaseException as error:
            self._outcomes.put(error)
