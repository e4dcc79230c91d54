"""Data sets: generated problem sets, published benchmarks by name, and local files of problems."""

from __future__ import annotations

from collections.abc import Iterable

from hrmctl import DatasetSpec, InputSpec, OutputSpec, StageSpec, hookimpl
from hrmctl_data.datasets import DATASETS
from hrmctl_data.params import GenerateParams, GetParams, HumanEvalParams, JsonlParams, MbppParams

_FILE = {"file": InputSpec("dataset", "the published file, where it is not to be downloaded", required=False)}
_SPLITS = {
    split: OutputSpec("dataset", f"the {split} split, where the set has one", optional=True)
    for split in ("train", "test", "validation", "prompt")
}


def _fetch(name: str, summary: str, params: type) -> StageSpec:
    return StageSpec(f"data.{name}", summary, params, f"hrmctl_data.fetch:run_{name}", _FILE, _SPLITS)


@hookimpl
def hrmctl_datasets() -> Iterable[DatasetSpec]:
    """MBPP, its sanitized subset, and HumanEval."""
    return DATASETS


@hookimpl
def hrmctl_stages() -> Iterable[StageSpec]:
    """The stages whose names begin with `data.`."""
    generated = {
        "train": OutputSpec("dataset", "training problems"),
        "test": OutputSpec("dataset", "test problems, of compositions that training never shows"),
        "validation": OutputSpec("dataset", "validation problems, of other such compositions", optional=True),
    }
    return [
        StageSpec(
            "data.generate",
            "generate code problems, split by composition",
            GenerateParams,
            "hrmctl_data.generate:run",
            outputs=generated,
        ),
        _fetch("get", "fetch any data set that a plugin declares", GetParams),
        _fetch("mbpp", "fetch MBPP, or read it from a file", MbppParams),
        _fetch("humaneval", "fetch HumanEval, or read it from a file", HumanEvalParams),
        StageSpec(
            "data.jsonl",
            "read a local file of problems (hrmctl, MBPP or HumanEval shape)",
            JsonlParams,
            "hrmctl_data.local:run",
            {"file": InputSpec("dataset", "JSONL, or one JSON array; may be gzipped")},
            {"data": OutputSpec("dataset", "the problems")},
        ),
    ]
