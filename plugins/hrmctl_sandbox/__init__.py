"""Runs untrusted generated programs against tests, so that no program can forge its verdict.

The tests run in a trusted judge process; the program runs in a sandboxed process that only answers calls.
See docs/sandbox.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .model import Case, ErrorClass, Isolation, Limits, Outcome, Problem, Sample, SandboxUnavailable

__all__ = [
    "Case",
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
    packages: Sequence[str] = (),
) -> Iterator[Outcome]:
    """Grade each sample against its problem's tests and yield the outcomes as they finish, in no fixed order.

    `samples` may be a lazy iterator: it is pulled only as workers come free. `workers` defaults to the usable cores.
    `allow_unsafe` runs programs although the isolation is less than `confined`; `allow_forgeable` lets a program's own
    operators take part in its verdict where a test needs them, runs shared tests, and marks those outcomes `forgeable`.
    `packages` are import names of installed packages that programs may import, loaded once for each worker.
    Raises SandboxUnavailable where isolation is too weak and not waived, and ValueError for duplicate problem ids, a
    sample of an unknown problem or a package that is not installed.
    """
    # The sandboxed process imports this package too and must stay small.
    from .packages import locate
    from .pool import Options, run

    options = Options(limits, workers, allow_unsafe, allow_forgeable, packages=locate(packages))
    return run(problems, samples, options)


def probe(packages: Sequence[str] = ()) -> Isolation:
    """Start one real sandbox, send the canaries through it and say which isolation it enforces.

    Raises ValueError for a package that is not installed, and nothing else.
    """
    from .packages import locate
    from .pool import isolation

    return isolation(packages=locate(packages))
