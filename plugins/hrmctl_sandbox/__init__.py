"""Runs untrusted generated programs against tests, so that no program can forge its verdict.

The tests run in a trusted judge process; the program runs in a sandboxed process that only answers calls.
See docs/sandbox.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .model import ErrorClass, Isolation, Limits, Outcome, Problem, Sample, SandboxUnavailable

__all__ = [
    "ErrorClass",
    "Isolation",
    "Limits",
    "Outcome",
    "Problem",
    "Sample",
    "SandboxUnavailable",
    "judge",
    "probe",
]

_DEFAULT_LIMITS = Limits()


def judge(
    problems: Iterable[Problem],
    samples: Iterable[Sample],
    *,
    limits: Limits = _DEFAULT_LIMITS,
    workers: int | None = None,
    allow_unsafe: bool = False,
    allow_forgeable: bool = False,
) -> Iterator[Outcome]:
    """Grade each sample against its problem's tests and yield the outcomes as they finish, in no fixed order.

    `samples` may be a lazy iterator: it is pulled only as workers come free. `workers` defaults to the usable cores.
    `allow_unsafe` runs programs although the isolation is less than `confined`; `allow_forgeable` lets a program's own
    operators take part in its verdict where a test needs them, and marks those outcomes `forgeable`.
    Raises SandboxUnavailable where isolation is too weak and not waived, and ValueError for duplicate problem ids or a
    sample of an unknown problem.
    """
    # The sandboxed process imports this package too and must stay small.
    from .pool import Options, run

    options = Options(limits, workers, allow_unsafe, allow_forgeable)
    return run(problems, samples, options)


def probe() -> Isolation:
    """Start one real sandbox, send the canaries through it and say which isolation it enforces; never raises."""
    from .pool import isolation

    return isolation()
