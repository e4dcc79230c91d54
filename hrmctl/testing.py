"""Helpers for the tests of stage plugins: a context and artifacts without a run."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field
from pathlib import Path

from hrmctl.model import Artifact, ArtifactType


@dataclass
class RecordingContext:
    """A `Context` whose `rows` keep every progress report as `(done, total, metrics)`."""

    scratch: Path
    seed: int = 7
    threads: int = 1
    device: str = "cpu"
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("hrmctl.testing"))
    rows: list[tuple[int, int, dict[str, float]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def progress(self, done: int, total: int, **metrics: float) -> None:
        self.rows.append((done, total, metrics))

    def check(self) -> None:
        """Nobody cancels a test; override it, and `progress`, to raise Cancelled."""


def make_context(folder: Path, seed: int = 7, threads: int = 1, device: str = "cpu") -> RecordingContext:
    """A context whose scratch folder is `folder/scratch`; call it again to resume there."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    return RecordingContext(scratch=scratch, seed=seed, threads=threads, device=device)


def make_artifact(path: Path, type: ArtifactType, label: str) -> Artifact:
    """An artifact over a file or folder where it lies, with its real digest."""
    from hrmctl.store import content_digest, content_size

    return Artifact(digest=content_digest(path), type=type, label=label, path=path, size=content_size(path))
