"""Runs made here: curves of a known truth, written as a run writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrmctl.cli import run
from hrmctl.run.record import Record

RUN = "20260101T000000-tiny-abcd"


def noisy(truth: np.ndarray, noise: float, seed: int, correlation: float = 0.0) -> np.ndarray:
    """The truth with normal noise of that standard deviation, of which neighbours share `correlation`."""
    fresh = np.random.default_rng(seed).standard_normal(len(truth))
    found = [fresh[0]]
    for value in fresh[1:]:
        found.append(correlation * found[-1] + (1 - correlation**2) ** 0.5 * value)
    return truth + noise * np.array(found)


def falling(steps: int, seed: int = 0, noise: float = 0.02, floor: float = 0.5) -> np.ndarray:
    """An exponential from 2.5 above its floor, at steps from 1 on; 5 e-foldings at the last one."""
    return noisy(floor + 2.5 * np.exp(-5 * np.arange(1, steps + 1) / steps), noise, seed)


@dataclass
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """What it printed as JSON."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass
class Desk:
    """A store with one run, on which `hrmctl forecast` is called."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def write(self, curves: Mapping[str, Sequence[float]], total: int = 0, stage: str = "hrm", epoch: int = 0) -> None:
        """A stage's rows: one a value; None where a metric has none. `epoch` is its number of steps."""
        record = Record(self.folder / "runs" / RUN)
        record.lock({"run": RUN, "name": "tiny"})
        length = max(map(len, curves.values()))
        for i in range(length):
            row = {name: values[i] for name, values in curves.items() if i < len(values) and values[i] is not None}
            seen = {"epoch": (i + 1) / epoch} if epoch else {}
            record.metrics(stage, i + 1, total or length, {**row, **seen}, "2026-01-01T00:00:00")

    def forecast(self, *options: str | float) -> Ran:
        """Call the command."""
        code = run(["forecast", "--store", str(self.folder), *map(str, options)])
        return Ran(code, *self.capture.readouterr())
