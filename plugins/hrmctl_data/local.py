"""The stage `data.jsonl`: a local file of problems in a published shape, or in any shape whose fields are named."""

from __future__ import annotations

from hrmctl_sandbox.formats import read_tasks

from hrmctl import Artifact, Context, InputError, Observation, Output, StageError, StageInputs, StageResult
from hrmctl.plugins import catalog
from hrmctl_data.params import JsonlParams
from hrmctl_data.reading import faults_of, read_faults
from hrmctl_data.rows import write_rows

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
    with faults_of(given), read_faults():
        tasks = read_tasks(given.path, params.shape, params.fields)
    output = Output(ctx.scratch / f"{params.split}.jsonl", f"{params.name}@{params.split}")
    count = write_rows(output.path, (task.row() for task in tasks))
    ctx.progress(count, count)
    payload = {"value": count, "unit": "problems", "n": count}
    return StageResult({"data": output}, [Observation("problems", "measurement/v1", payload, {"dataset": output})])
