"""Data sets: generated problem sets, published benchmarks by name, and local files of problems."""

from __future__ import annotations

from collections.abc import Iterable

from hrmctl import DatasetSpec, StageSpec, hookimpl
from hrmctl_data.datasets import DATASETS
from hrmctl_data.stages import STAGES


@hookimpl
def hrmctl_datasets() -> Iterable[DatasetSpec]:
    """MBPP, its sanitized subset, HumanEval, both as evalplus extends them, and WikiText-2."""
    return DATASETS


@hookimpl
def hrmctl_stages() -> Iterable[StageSpec]:
    """The stages whose names begin with `data.`."""
    return STAGES
