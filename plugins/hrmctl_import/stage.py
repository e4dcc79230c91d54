"""The stage `import`: fetch or copy, verify, report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hrmctl import Artifact, Context, InputError, Observation, Output, StageError, StageInputs, StageResult
from hrmctl.jsonio import file_digest
from hrmctl_import import hub
from hrmctl_import.checksums import Expected, compare, copy_verified, known_checksums
from hrmctl_import.files import INDEX, SAFE_NAMES, pickles_among, read_json, read_weights, tensors_of, weight_names
from hrmctl_import.params import ImportParams

_QUANTIZED = "hrmctl_quantization.json"


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came in: the folder, its weight files, what files were compared with, and where it is from."""

    folder: Path
    label: str
    weights: list[str]
    expected: Mapping[str, Expected]
    origin: Mapping[str, str]


@dataclass
class _Meter:
    """Turns bytes done into progress reports, at most five a second."""

    ctx: Context
    total: int = 1
    done: int = 0
    said: float = field(default=0.0)

    def plan(self, size: int) -> Callable[[int], None]:
        """Expect `size` bytes twice: once to bring, once to scan."""
        self.total = max(1, 2 * size)
        return self.advance

    def advance(self, size: int) -> None:
        self.done += size
        now = time.monotonic()
        if now - self.said >= 0.2:
            self.said = now
            self.ctx.progress(min(self.done, self.total), self.total, megabytes=self.done / 1e6)


def run(params: ImportParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Bring the model in and refuse it, with the reason, unless every post-condition holds.

    Raises InputError unless exactly one of `source` and `folder` is given, StageError on refusal.
    """
    given: Artifact | None = inputs.get("folder")
    if (given is None) == (params.source is None):
        raise InputError("import needs either source (a hub name) or folder (a local model folder), and not both")
    meter = _Meter(ctx)
    arrival = _from_folder(given, params, ctx, meter) if given else _from_hub(params, ctx, meter)
    tensors_of(arrival.folder, arrival.weights)

    # Imported here so that a model refused for its files costs no import of torch.
    from hrmctl_import.examine import examine

    found = examine(arrival.folder, arrival.weights, params, meter.advance)
    refusals = _self_tested(arrival, params, ctx) if params.self_test else {}
    ctx.progress(meter.total, meter.total)
    output = Output(arrival.folder, arrival.label)
    probe = found.probe
    measured = {
        "tensors": _measurement(len(found.verified), "tensors", found.tensors, arrival.origin),
        "nonfinite_tensors": _measurement(found.nonfinite, "tensors", found.tensors),
        "checksummed_files": _checksummed(arrival),
        "forward_logits_finite": _measurement(probe.finite, "logits", probe.logits, {"tokens": probe.tokens}),
        "parameters": _measurement(probe.parameters, "parameters", probe.parameters),
        "vocabulary": _measurement(probe.vocabulary, "tokens", 1),
    }
    if refusals:
        count = sum(map(bool, refusals.values()))
        measured["corruptions_refused"] = _measurement(count, "corruptions", len(refusals), refusals)
    about = {"model": output}
    evidence = [Observation(name, "measurement/v1", payload, about) for name, payload in measured.items()]
    return StageResult({"model": output}, [*evidence, Observation("files", "files/v1", _files(arrival.folder), about)])


def _self_tested(arrival: Arrival, params: ImportParams, ctx: Context) -> dict[str, str]:
    from hrmctl_import.examine import examine
    from hrmctl_import.planted import refused

    def again(folder: Path) -> None:
        examine(folder, arrival.weights, params, lambda _: ctx.check())

    return refused(arrival.folder, arrival.weights, ctx.scratch, again)


def _from_folder(given: Artifact, params: ImportParams, ctx: Context, meter: _Meter) -> Arrival:
    if params.digest is not None and params.digest != given.digest:
        found, meant = given.digest[:12], params.digest[:12]
        raise StageError(f"the folder's digest is {found}…, not {meant}…; it is not the model you meant")
    source = given.path
    if not source.is_dir():
        raise StageError(f"{given.label} is a file; give a folder in transformers' format")
    names = {path.name for path in source.iterdir() if path.is_file()}
    _refuse_foreign(names, params.ignore_pickles)
    index = read_json(source / INDEX) if INDEX in names else None
    weights = weight_names(names, index)
    # Structure before checksums: "truncated" helps more than "another digest".
    read_weights(source, weights, index)
    expected = known_checksums(source, params.checksums)
    wanted = sorted(names & (SAFE_NAMES | {INDEX})) + weights
    target = ctx.scratch / "model"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    advance = meter.plan(sum((source / name).stat().st_size for name in wanted))
    for name in wanted:
        copy_verified(source / name, target / name, expected.get(name), advance)
    used = {name: expected[name] for name in wanted if name in expected}
    return Arrival(target, given.label, weights, used, {"folder": given.label, "digest": given.digest})


def _refuse_foreign(names: set[str], ignore_pickles: bool) -> None:
    if _QUANTIZED in names:
        raise StageError("the model is already quantized by hrmctl; import the model it was made from")
    pickles = pickles_among(names)
    if pickles and not ignore_pickles:
        raise StageError(f"{pickles[0]} is a pickle, which can run code when loaded; remove it, or pass ignore_pickles")


def _from_hub(params: ImportParams, ctx: Context, meter: _Meter) -> Arrival:
    if params.digest is not None:
        raise InputError("digest is of a local folder; with source give revision or checksums")
    assert params.source is not None
    repository = hub.look_up(params.source, params.revision)
    ctx.log.info("%s@%s is commit %s", params.source, params.revision, repository.commit)
    folder = hub.commit_folder(ctx.scratch / "download", repository.commit)
    expected = hub.fetch(repository, folder, meter.plan)
    for name, value in params.checksums.items():
        if name not in expected:
            raise StageError(f"checksums name {name}, which is not fetched from {params.source}; correct the name")
        compare(name, Expected("sha256", value, "the parameter checksums"), file_digest(folder / name))
    index = read_json(folder / INDEX) if INDEX in expected else None
    weights = weight_names(expected, index)
    origin = {"source": params.source, "revision": params.revision, "commit": repository.commit}
    return Arrival(folder, params.source, weights, expected, origin)


def _measurement(value: int, unit: str, n: int, context: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"value": value, "unit": unit, "n": n, "context": dict(context or {})}


def _checksummed(arrival: Arrival) -> dict[str, Any]:
    compared = [name for name in arrival.weights if name in arrival.expected]
    origins = sorted({arrival.expected[name].origin for name in compared})
    return _measurement(len(compared), "files", len(arrival.weights), {"against": origins})


def _files(folder: Path) -> dict[str, Any]:
    paths = sorted(folder.iterdir())
    return {"files": [{"path": p.name, "bytes": p.stat().st_size, "sha256": file_digest(p)} for p in paths]}
