"""The stages `data.get`, `data.mbpp` and `data.humaneval`: data sets by name, one artifact a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hrmctl_sandbox.formats import BadRow, checked

from hrmctl import (
    Artifact,
    Context,
    DatasetSpec,
    InputError,
    Observation,
    Output,
    Problem,
    StageError,
    StageInputs,
    StageResult,
)
from hrmctl.jsonio import file_digest
from hrmctl.plugins import catalog
from hrmctl.registry import resolve
from hrmctl_data.download import download
from hrmctl_data.params import GetParams, HumanEvalParams, MbppParams, PlusParams
from hrmctl_data.reading import faults_of
from hrmctl_data.rows import write_rows

SPLITS = ("train", "test", "validation", "prompt")
Splits = Mapping[str, Sequence[Mapping[str, Any]]]


def run_get(params: GetParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Any data set that a plugin declares. Raises InputError for an unknown name, else as `fetch`."""
    return fetch(dataset(params.name), inputs, ctx, params.allow_other_checksum)


def run_mbpp(params: MbppParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """MBPP, whole or sanitized. Raises as `fetch`."""
    name = "mbpp-sanitized" if params.sanitized else "mbpp"
    return fetch(dataset(name), inputs, ctx, params.allow_other_checksum)


def run_humaneval(params: HumanEvalParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """HumanEval. Raises as `fetch`."""
    return fetch(dataset("humaneval"), inputs, ctx, params.allow_other_checksum)


def run_humaneval_plus(params: PlusParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """HumanEval+. Raises as `fetch`."""
    return fetch(dataset("humaneval-plus"), inputs, ctx, params.allow_other_checksum)


def run_mbpp_plus(params: PlusParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """MBPP+. Raises as `fetch`."""
    return fetch(dataset("mbpp-plus"), inputs, ctx, params.allow_other_checksum)


def dataset(name: str) -> DatasetSpec:
    """The declared data set of that name. Raises InputError with a suggestion."""
    known = catalog()
    if name not in known.datasets:
        raise InputError(Problem(f"unknown data set '{name}'", remedy=known.unknown(name, known.datasets)))
    return known.datasets[name]


def fetch(spec: DatasetSpec, inputs: StageInputs, ctx: Context, allow_other_checksum: bool) -> StageResult:
    """Download `spec`, or take the input `file` instead, and write each split as an artifact `NAME@SPLIT`.

    The file's sha256 and the sizes of the splits are those that `spec` pins. Where another file is
    allowed and given, sizes are free and the labels say `NAME-custom@SPLIT`. Raises StageError.
    """
    given: Artifact | None = inputs.get("file")
    if given is None:
        genuine = True
        found = resolve(spec.target)(download(spec.url, ctx.scratch / "download", spec.sha256, ctx.progress))
    else:
        genuine = _is_published(spec, given.path, allow_other_checksum)
        with faults_of(given):
            found = resolve(spec.target)(given.path)
    splits = {name: _checked(spec, name, rows) for name, rows in found.items()}
    if genuine:
        _assert_sizes(spec, splits)
    return _written(spec.name if genuine else f"{spec.name}-custom", splits, ctx)


def _is_published(spec: DatasetSpec, path: Path, allow_other_checksum: bool) -> bool:
    if not path.is_file():
        raise StageError(f"the input file of {spec.name} is a folder; give the published file itself")
    found = file_digest(path)
    if found != spec.sha256 and not allow_other_checksum:
        raise StageError(
            f"the given file is not the published {spec.name}: its sha256 is {found}, not {spec.sha256}; "
            f"give the file of {spec.url}, or set allow_other_checksum: true to use this one as {spec.name}-custom"
        )
    return found == spec.sha256


def _checked(spec: DatasetSpec, split: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if split not in SPLITS:
        raise StageError(f"{spec.name} has a split '{split}'; its reader may give {', '.join(SPLITS)}")
    result = []
    for number, row in enumerate(rows, start=1):
        try:
            result.append(dict(row) if _is_text(row) else checked(row).row())
        except BadRow as error:
            raise StageError(f"{spec.target} gives a bad row {number} of {split}: {error}; mend that reader") from error
    return result


def _is_text(row: Mapping[str, Any]) -> bool:
    return row.keys() == {"text"} and isinstance(row["text"], str)


def _assert_sizes(spec: DatasetSpec, splits: Splits) -> None:
    found = {name: len(rows) for name, rows in splits.items()}
    if found != dict(spec.splits):
        raise StageError(f"{spec.name} has the splits {found}, not {dict(spec.splits)}; mend its plugin")


def _written(name: str, splits: Splits, ctx: Context) -> StageResult:
    outputs: dict[str, Output] = {}
    evidence = []
    for split, rows in splits.items():
        outputs[split] = Output(ctx.scratch / f"{split}.jsonl", f"{name}@{split}")
        count = write_rows(outputs[split].path, rows)
        unit = "texts" if rows and _is_text(rows[0]) else "problems"
        payload = {"value": count, "unit": unit, "n": count}
        evidence.append(Observation("problems", "measurement/v1", payload, {"dataset": outputs[split]}))
    return StageResult(outputs, evidence)
