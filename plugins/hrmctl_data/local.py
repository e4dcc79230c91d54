"""The stage `data.jsonl`: a local file of problems in one of three shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hrmctl import Artifact, Context, InputError, Observation, Output, StageError, StageInputs, StageResult
from hrmctl.plugins import catalog
from hrmctl_data.benchmarks import humaneval_row, mbpp_row
from hrmctl_data.params import JsonlParams
from hrmctl_data.reading import Convert, faults_of, read_problems
from hrmctl_data.rows import BadRow, write_rows

_GENERATED = ("microcode",)


def run(params: JsonlParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Check each row of the input `file` and write them as one artifact `NAME@SPLIT`.

    Raises InputError for the name of a known data set, so that a local file never stands for it, and
    StageError with the line of each bad row.
    """
    if params.name in (*_GENERATED, *catalog().datasets):
        raise InputError(f"'{params.name}' is the name of a published data set; give a local file a name of its own")
    given: Artifact = inputs["file"]
    if not given.path.is_file():
        raise StageError("the input file of data.jsonl is a folder; give one file of problems")
    with faults_of(given):
        rows = read_problems(given.path, _CONVERTERS[params.shape])
    output = Output(ctx.scratch / f"{params.split}.jsonl", f"{params.name}@{params.split}")
    count = write_rows(output.path, rows)
    ctx.progress(count, count)
    payload = {"value": count, "unit": "problems", "n": count}
    return StageResult({"data": output}, [Observation("problems", "measurement/v1", payload, {"dataset": output})])


def _as_it_is(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return entry


def _by_its_fields(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    for field, convert in (("tests", _as_it_is), ("test_list", mbpp_row), ("canonical_solution", humaneval_row)):
        if field in entry:
            return convert(entry)
    raise BadRow("has none of the fields 'tests' (hrmctl), 'test_list' (MBPP), 'canonical_solution' (HumanEval)")


_CONVERTERS: Mapping[str, Convert] = {
    "auto": _by_its_fields,
    "hrmctl": _as_it_is,
    "mbpp": mbpp_row,
    "humaneval": humaneval_row,
}
