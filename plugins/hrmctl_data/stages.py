"""The stages whose names begin with `data.`, as the plugin declares them."""

from __future__ import annotations

from hrmctl import InputSpec, OutputSpec, StageSpec
from hrmctl_data.decontaminate_params import DecontaminateParams
from hrmctl_data.params import (
    GenerateParams,
    GetParams,
    HumanEvalParams,
    JsonlParams,
    MbppParams,
    PlusParams,
    ToolUseParams,
)
from hrmctl_data.puzzle_params import MazeParams, SudokuParams
from hrmctl_data.quality_params import QualityParams

# What the readers of published formats are is part of a stage's version.
_CODE = ("hrmctl_sandbox.formats",)
_FILE = {"file": InputSpec("dataset", "the published file, where it is not to be downloaded", required=False)}
_SPLITS = {
    split: OutputSpec("dataset", f"the {split} split, where the set has one", optional=True)
    for split in ("train", "test", "validation", "prompt")
}
_DOCUMENTS = InputSpec("dataset", "training documents: JSONL of any usual shape, or plain text; may be gzipped")
_GENERATED = {
    "train": OutputSpec("dataset", "training problems"),
    "test": OutputSpec("dataset", "test problems, of compositions that training never shows"),
    "validation": OutputSpec("dataset", "validation problems, of other such compositions", optional=True),
    "preferences": OutputSpec(
        "dataset", "pairs of completions of training problems, one right, one wrong", optional=True
    ),
}
_PUZZLES = {
    "train": OutputSpec("dataset", "training puzzles and their images"),
    "test": OutputSpec("dataset", "test puzzles, of classes that training never shows"),
    "validation": OutputSpec("dataset", "validation puzzles, of other such classes", optional=True),
}


def _fetch(name: str, summary: str, params: type) -> StageSpec:
    target = f"hrmctl_data.fetch:run_{name.replace('-', '_')}"
    return StageSpec(f"data.{name}", summary, params, target, _FILE, _SPLITS, code=_CODE)


STAGES = (
    StageSpec(
        "data.generate",
        "generate code problems, split by composition",
        GenerateParams,
        "hrmctl_data.generate:run",
        outputs=_GENERATED,
    ),
    StageSpec(
        "data.sudoku",
        "generate sudoku puzzles with one solution, split by class",
        SudokuParams,
        "hrmctl_data.sudoku:run",
        outputs=_PUZZLES,
    ),
    StageSpec(
        "data.maze",
        "generate mazes with one shortest path, split by walls",
        MazeParams,
        "hrmctl_data.maze:run",
        outputs=_PUZZLES,
    ),
    _fetch("get", "fetch any data set that a plugin declares", GetParams),
    _fetch("mbpp", "fetch MBPP, or read it from a file", MbppParams),
    _fetch("mbpp-plus", "fetch MBPP+ of evalplus, or read it from a file", PlusParams),
    _fetch("humaneval", "fetch HumanEval, or read it from a file", HumanEvalParams),
    _fetch("humaneval-plus", "fetch HumanEval+ of evalplus, or read it from a file", PlusParams),
    StageSpec(
        "data.jsonl",
        "read a local file of problems in hrmctl's, a published or any other shape",
        JsonlParams,
        "hrmctl_data.local:run",
        {"file": InputSpec("dataset", "JSONL, or one JSON array; may be gzipped")},
        {"data": OutputSpec("dataset", "the problems")},
        code=_CODE,
    ),
    StageSpec(
        "data.tooluse",
        "write requests that are answered by a chain of tool calls, judged by what the chain does",
        ToolUseParams,
        "hrmctl_data.tooluse:run",
        outputs={
            "test": OutputSpec("dataset", "judged by what the chain does in two shops"),
            "chains": OutputSpec("dataset", "the same requests, judged by whether the chain is valid"),
        },
        code=("hrmctl_sandbox",),
    ),
    StageSpec(
        "data.decontaminate",
        "find and remove training documents that hold parts of a benchmark",
        DecontaminateParams,
        "hrmctl_data.decontaminate:run",
        {
            "data": _DOCUMENTS,
            "benchmarks": InputSpec("dataset", "problems that training must not have seen", many=True),
        },
        {
            "data": OutputSpec("dataset", "the documents that are left, where any is", optional=True),
            "report": OutputSpec("report", "JSONL: each overlap of a document with a problem"),
        },
        code=_CODE,
    ),
    StageSpec(
        "data.quality",
        "score training documents from 0 to 100 by a fixed rubric",
        QualityParams,
        "hrmctl_data.quality:run",
        {"data": _DOCUMENTS},
        {
            "data": OutputSpec("dataset", "the documents that are kept, where any is", optional=True),
            "report": OutputSpec("report", "JSONL: the score of each document and the points it lost"),
        },
    ),
)
