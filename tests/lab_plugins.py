"""Small real stages for the tests of the core; `lab.write_lab` copies them beside a recipe as hrmctl_plugins.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types as at

from hrmctl import (
    Context,
    Evidence,
    InputError,
    InputSpec,
    MeasureSpec,
    Observation,
    Output,
    OutputSpec,
    Problem,
    StageError,
    StageInputs,
    StageResult,
    StageSpec,
    TrackerSpec,
    hookimpl,
)
from hrmctl.jsonio import write_atomic
from hrmctl.schema import doc

Act = Literal[
    *("", "raise", "stage error", "input error", "exit", "kill", "orphan", "nan", "nan evidence"),
    *("bad output", "bad metric", "bad row", "bad rows", "nothing"),
]


@dataclass(frozen=True)
class MakeParams:
    """What the data set says."""

    text: Annotated[str, at.MinLen(1), doc("content of the file")] = "hello"
    extra: Annotated[bool, doc("whether to give the optional output too")] = False


@dataclass(frozen=True)
class Point:
    """A parameter with keys of its own."""

    at: Annotated[int, at.Ge(1), doc("where")]
    word: Annotated[str, doc("what")] = ""


@dataclass(frozen=True)
class TrainParams:
    """A training that only counts."""

    steps: Annotated[int, at.Ge(1), at.Le(10_000), doc("number of steps")] = 3
    pause: Annotated[float, at.Ge(0), doc("seconds that each step takes")] = 0.0
    act: Annotated[Act, doc("what goes wrong")] = ""
    at: Annotated[int, at.Ge(0), doc("the step at which it goes wrong")] = 2
    once: Annotated[str, doc("a file that is made when it goes wrong; nothing goes wrong while it is there")] = ""
    every: Annotated[int, at.Ge(1), doc("steps from one checkpoint to the next")] = 1
    bytes: Annotated[int, at.Ge(0), doc("size of a file beside the weights")] = 0
    trace: Annotated[str, doc("a file to which begin, each step and end are appended with process and time")] = ""
    words: Annotated[tuple[str, ...], doc("some words")] = ()
    table: Annotated[dict[str, int], doc("some numbers")] = field(default_factory=dict)
    rate: Annotated[float | None, at.Gt(0), doc("some rate")] = None
    fast: Annotated[bool, doc("whether it is fast")] = False
    points: Annotated[tuple[Point, ...], doc("some points")] = ()
    first: Annotated[Point | None, doc("a point or none")] = None
    warn: Annotated[int, at.Ge(0), doc("log so many different warnings, each twice")] = 0


def make(params: MakeParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """One line of text as a data set."""
    path = ctx.scratch / "data.jsonl"
    path.write_text(params.text + "\n")
    data = Output(path, "lab@train")
    outputs = {"data": data}
    if params.extra:
        outputs["extra"] = Output(path, "lab@extra")
    seen = {
        "threads": ctx.threads,
        "omp": os.environ["OMP_NUM_THREADS"],
        "device": ctx.device,
        "draw": ctx.rng.random(),
    }
    length = {"value": len(params.text), "unit": "characters", "n": 1, "context": seen}
    return StageResult(outputs, [Observation("length", "measurement/v1", length, {"dataset": data})])


def train(params: TrainParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Count, with a checkpoint after every step."""
    _trace(params, "begin")
    state = ctx.scratch / "state.json"
    losses: list[float] = json.loads(state.read_text()) if state.exists() else []
    given = inputs["data"].path.read_text()
    if params.act == "bad row":
        raise StageError(Problem("no word", str(inputs["data"].path), 1, 3))
    if params.act == "bad rows":
        raise StageError(*(Problem("no word", str(inputs["data"].path), line, 3, "mend it") for line in (1, 2)))
    for number in [n for n in range(params.warn) for _ in "ab"]:
        ctx.log.warning("loss stands still\x1b at [/%d]", number)
    for step in range(len(losses) + 1, params.steps + 1):
        if step == params.at and _wrong(params):
            _go_wrong(params.act)
        losses.append((len(given) + ctx.seed) / step)
        _trace(params, str(step))
        time.sleep(params.pause)
        if params.act == "bad metric":
            ctx.progress(step, params.steps, step=1.0)
        shown = float("nan") if params.act == "nan" and step == params.at else losses[-1]
        try:
            ctx.progress(step, params.steps, loss=shown, rate=1)
        finally:
            if step % params.every == 0:
                write_atomic(state, json.dumps(losses))
    folder = ctx.scratch / "model"
    folder.mkdir(exist_ok=True)
    (folder / "weights.json").write_text(json.dumps(losses))
    (folder / "ballast").write_bytes(b"\0" * params.bytes)
    if params.act == "nothing":
        return None  # type: ignore[return-value]
    model = Output(folder if params.act != "bad output" else ctx.scratch / "nothing", "lab-model")
    _trace(params, "end")
    value = float("nan") if params.act == "nan evidence" else losses[-1]
    seen = Observation("loss", "measurement/v1", {"value": value, "unit": "nats", "n": params.steps}, {"model": model})
    return StageResult({"model": model}, [seen])


def compare(params: MakeParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """The weights of all models beside each other."""
    path = ctx.scratch / "report.txt"
    path.write_text("".join((m.path / "weights.json").read_text() for m in inputs["models"]) + params.text)
    return StageResult({"report": Output(path, "lab-report")})


def score(params: Any, inputs: StageInputs, ctx: Context) -> StageResult:
    """How many losses the model holds, as a figure of the model on the data set."""
    losses = json.loads((inputs["model"].path / "weights.json").read_text())
    about = {"model": inputs["model"], "dataset": inputs["data"]}
    return StageResult({}, [Observation("score", "measurement/v1", {"value": len(losses), "unit": "", "n": 1}, about)])


def _trace(params: TrainParams, word: str) -> None:
    if params.trace:
        with open(params.trace, "a") as stream:
            stream.write(f"{word} {os.getpid()} {time.monotonic()}\n")


def _wrong(params: TrainParams) -> bool:
    if not params.once:
        return True
    first = not Path(params.once).exists()
    Path(params.once).touch()
    return first


def _go_wrong(act: str) -> None:
    if act == "raise":
        raise RuntimeError("it broke\nover two lines")
    if act == "stage error":
        raise StageError("the loss became NaN at step 2; lower the learning rate")
    if act == "input error":
        raise InputError("the data has no rows; give more")
    if act == "exit":
        sys.exit(3)
    if act == "orphan" and os.fork() == 0:
        os.setsid()
        time.sleep(30)
    if act == "orphan":
        subprocess.Popen(["sleep", "30"], close_fds=False)
    if act in ("kill", "orphan"):
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class NoParams:
    """Nothing to choose."""


def value(evidence: Sequence[Evidence], params: NoParams) -> Mapping[str, float]:
    """What a measurement says."""
    return {"value": evidence[0].payload["value"], "n": evidence[0].payload["n"]}


class Mirror:
    """A tracker that writes each row to a file; the broken one cannot."""

    def __init__(self, folder: Path, broken: bool) -> None:
        self.path, self.broken = folder / "mirror.jsonl", broken

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        if self.broken:
            raise OSError("no connection")
        with self.path.open("a") as stream:
            stream.write(json.dumps([stage, step, dict(metrics)]) + "\n")

    def close(self) -> None:
        if self.broken:
            raise OSError("still no connection")


def mirror(run: str, folder: Path) -> Mirror:
    """A tracker that works."""
    return Mirror(folder, broken=False)


def broken(run: str, folder: Path) -> Mirror:
    """A tracker whose log and close raise."""
    return Mirror(folder, broken=True)


def stillborn(run: str, folder: Path) -> Any:
    """A tracker that cannot be made."""
    raise ConnectionError("no key")


DATA = InputSpec("dataset", "the data")
MODEL = OutputSpec("model", "the model")
GIVEN = InputSpec("model", "the model")


@hookimpl
def hrmctl_stages() -> Iterable[StageSpec]:
    made = {"data": OutputSpec("dataset", "the data"), "extra": OutputSpec("dataset", "more", optional=True)}
    return [
        StageSpec("lab.make", "make data", MakeParams, f"{__name__}:make", {}, made),
        StageSpec("lab.train", "train", TrainParams, f"{__name__}:train", {"data": DATA}, {"model": MODEL}),
        StageSpec("lab.race", "train alone", TrainParams, f"{__name__}:train", {"data": DATA}, {"model": MODEL}, True),
        StageSpec("lab.score", "score", NoParams, f"{__name__}:score", {"data": DATA, "model": GIVEN}),
        StageSpec(
            "lab.compare",
            "compare models",
            MakeParams,
            f"{__name__}:compare",
            {"models": InputSpec("model", "the models", many=True)},
            {"report": OutputSpec("report", "the report")},
        ),
    ]


@hookimpl
def hrmctl_measures() -> Iterable[MeasureSpec]:
    returns = {"value": "the value", "n": "observations behind it"}
    return [MeasureSpec("lab_value", "the value", NoParams, f"{__name__}:value", ("measurement/v1",), returns)]


@hookimpl
def hrmctl_trackers() -> Iterable[TrackerSpec]:
    return [TrackerSpec(f.__name__, "a mirror", f"{__name__}:{f.__name__}") for f in (mirror, broken, stillborn)]
