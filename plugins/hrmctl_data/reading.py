"""Reading benchmark files, with every fault told as the stage tells it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hrmctl_sandbox import SandboxUnavailable
from hrmctl_sandbox.formats import BadFile

from hrmctl import Artifact, Problem, StageError


@contextmanager
def read_faults() -> Iterator[None]:
    """Within the block, what is wrong with a file is a StageError.

    It names every bad row (the first twenty, and how many more) with its line, says where there is no row at all, and
    where the references of a benchmark cannot be run.
    """
    try:
        yield
    except BadFile as error:
        faults = [Problem(f.message, error.name, f.line, 1 if f.line else 0, f.remedy) for f in error.faults]
        raise StageError(*faults) from error
    except SandboxUnavailable as error:
        raise StageError(str(error)) from error


@contextmanager
def faults_of(artifact: Artifact) -> Iterator[None]:
    """Within the block, faults of the artifact's file name it as the user does, not as the store does."""
    try:
        yield
    except StageError as error:
        problems = [replace(p, file=artifact.label) if p.file == artifact.path.name else p for p in error.problems]
        raise StageError(*problems) from error
