"""The nouns of hrmctl as frozen dataclasses; nothing here does any work.

Data flows one way: recipe → plan → stages → evidence → contract → verdict → ledger → report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import random
    from logging import Logger

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
ArtifactType = Literal["model", "dataset", "tokenizer", "samples", "binary", "report"]
EvidenceType = Literal["samples/v1", "series/v1", "measurement/v1", "files/v1", "text/v1"]
EMPTY: Mapping[str, Any] = MappingProxyType({})


class Verdict(StrEnum):
    """What a check says of one obligation; see `severity` for the order."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNTESTED = "UNTESTED"
    BLOCKED = "BLOCKED"
    INVALID = "INVALID"

    @property
    def severity(self) -> int:
        """Rank in `INVALID > FAIL > BLOCKED > UNTESTED > INCONCLUSIVE > PASS`; larger is worse."""
        return _SEVERITY[self]


_ORDER = ("PASS", "INCONCLUSIVE", "UNTESTED", "BLOCKED", "FAIL", "INVALID")
_SEVERITY = {Verdict(name): rank for rank, name in enumerate(_ORDER)}


# --- artifacts and evidence -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Artifact:
    """An immutable file or folder in the store.

    `digest` is the sha256 (hex) of a file's bytes, or of a folder's manifest of relative paths,
    sizes and digests. `label` is what the stage that made it says it is (`hrm-tiny`,
    `microcode@test`); contracts name subjects by label and evidence binds to them by digest.
    """

    digest: str
    type: ArtifactType
    label: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Output:
    """A file or folder that a stage hands over; the run moves it into the store and names it by digest."""

    path: Path
    label: str


@dataclass(frozen=True, slots=True)
class Observation:
    """Evidence as a stage reports it, before the run adds the provenance.

    `about` says for each role (`model`, `dataset`, `baseline`) which artifact was observed: an
    input that the stage was given, or an output that it returns.
    """

    name: str
    type: EvidenceType
    payload: Mapping[str, Any]
    about: Mapping[str, Artifact | Output] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where one piece of evidence comes from. Times are UTC ISO 8601; digests are sha256 hex."""

    run: str
    stage: str
    uses: str
    key: str
    subjects: Mapping[str, str]
    labels: Mapping[str, str]
    params_digest: str
    seed: int
    argv: Sequence[str]
    code_version: str
    tools: Mapping[str, str]
    hardware: Mapping[str, str]
    started: str
    ended: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """One observation with its provenance. Controls have none: they are examples, never observations."""

    name: str
    type: EvidenceType
    payload: Mapping[str, Any]
    provenance: Provenance | None = None
    digest: str = ""


# --- stages -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One artifact input of a stage. `many` takes a list and hands the stage a tuple."""

    type: ArtifactType
    summary: str
    required: bool = True
    many: bool = False


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One artifact output of a stage. `optional` outputs may be left out of the result."""

    type: ArtifactType
    summary: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage's function returns: outputs by name and the observations it made."""

    artifacts: Mapping[str, Output] = field(default_factory=dict)
    evidence: Sequence[Observation] = ()


class Cancelled(Exception):
    """Raised by `Context.progress` and `Context.check` once the run has been asked to stop; let it pass through."""


class Context(Protocol):
    """What a stage may touch besides its inputs.

    `scratch` is a folder of the stage's own. A later attempt at the same stage (same key: same
    parameters, inputs, seed and code) gets the same folder back with whatever a killed attempt
    left there, so write checkpoints to it atomically and continue from them.
    """

    @property
    def scratch(self) -> Path: ...
    @property
    def seed(self) -> int: ...
    @property
    def rng(self) -> random.Random: ...
    @property
    def log(self) -> Logger: ...
    @property
    def device(self) -> str:
        """`auto`, `cpu`, `cuda`, `cuda:1` or `mps`."""
        ...

    @property
    def threads(self) -> int: ...

    def progress(self, done: int, total: int, **metrics: float) -> None:
        """Report step `done` of `total` with its metrics (also a cancellation point).

        Drives the progress bar and one row of the run's `metrics.jsonl`. A `done` that goes back
        tells that the stage resumed there: later rows of an earlier attempt are dropped.
        """
        ...

    def check(self) -> None:
        """A cancellation point that reports nothing, for long work outside of the steps. Raises Cancelled."""
        ...


StageInputs = Mapping[str, Any]
"""`Artifact` by input name; a tuple of them where the input is `many`; absent optional inputs are left out."""


# --- what plugins provide -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A stage as a plugin declares it; `target` (`"module:function"`) is imported only to run it.

    `params` is a frozen dataclass. `exclusive` stages measure time, so nothing runs beside them.
    `code` names further packages whose source is part of the stage's version (its own always is).
    `check`, where given, names `function(params, inputs: Mapping[str, int], catalog) -> Iterable[Fault]`, called when a
    plan is made with the number of artifacts of each input: for faults that no type shows. It imports nothing heavy.
    `topics` are headings for the help of the stage's command, each with the parameters under it.
    """

    name: str
    summary: str
    params: type
    target: str
    inputs: Mapping[str, InputSpec] = field(default_factory=dict)
    outputs: Mapping[str, OutputSpec] = field(default_factory=dict)
    exclusive: bool = False
    code: tuple[str, ...] = ()
    check: str = ""
    topics: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MeasureSpec:
    """A function of evidence usable in contracts.

    `target` names `function(evidence: Sequence[Evidence], params) -> Mapping[str, float | int | bool | str]`.
    `accepts` lists the evidence types it takes, `arity` the least and greatest number of pieces,
    `returns` documents every field a clause may name. It raises `hrmctl.MeasureError` on evidence
    that cannot be measured (verdict INVALID) and `hrmctl.Undecidable` where the statistics cannot
    decide (verdict INCONCLUSIVE). With `by_seed` every piece is a tuple: the evidence of each seed, in their order.
    `lint` names `function(contract: Contract, measure: Measure) -> Iterable[Problem]`: what `hrmctl contracts lint`
    warns of where a contract uses the measure.
    """

    name: str
    summary: str
    params: type
    target: str
    accepts: tuple[EvidenceType, ...]
    returns: Mapping[str, str]
    arity: tuple[int, int] = (1, 1)
    by_seed: bool = False
    lint: str = ""


@dataclass(frozen=True, slots=True)
class ArchitectureSpec:
    """A named model size; `target` names `function(vocab_size: int, **token_ids: int) -> PreTrainedConfig`.

    `settings` are the names in it that a recipe may change; empty: they are known only when the model is built.
    """

    name: str
    summary: str
    target: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A data set that can be had by name.

    `target` names `function(path: Path) -> Mapping[str, Sequence[Mapping[str, Json]]]`: problem rows
    by split. `splits` gives the exact number of rows of each, which is asserted after reading.
    """

    name: str
    summary: str
    url: str
    sha256: str
    licence: str
    splits: Mapping[str, int]
    target: str


@dataclass(frozen=True, slots=True)
class ReporterSpec:
    """A form in which a check can be shown; `target` names `function(report: CheckReport) -> str`.

    With `evidence` the function takes an `EvidenceReport` in its place. With `width` it also takes `width=`, the
    columns of the terminal that shows the form, 0 where it goes elsewhere.
    """

    name: str
    summary: str
    target: str
    evidence: bool = False
    width: bool = False


@dataclass(frozen=True, slots=True)
class TrackerSpec:
    """A mirror of `metrics.jsonl`; `target` names `function(run: str, folder: Path) -> Tracker`."""

    name: str
    summary: str
    target: str


class Tracker(Protocol):
    """Receives each metrics row after it was written; a failure warns and never fails the run."""

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command of its own, called as `hrmctl NAME`; for what is neither a stage nor a form of report.

    `target` names a function whose parameters are annotated for Typer and which returns the exit code. It is
    imported only when the command is called.
    """

    name: str
    summary: str
    target: str


@dataclass(frozen=True, slots=True)
class ExecutorSpec:
    """A place where stages run; `target` names `function(capacity: int) -> hrmctl.run.Executor`."""

    name: str
    summary: str
    target: str


@dataclass(frozen=True, slots=True)
class DiagnosticSpec:
    """Something that `hrmctl doctor` asks; `target` names `function() -> Finding`."""

    name: str
    summary: str
    target: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `hrmctl doctor`: `broken` findings make it fail, `missing` ones only tell."""

    subject: str
    state: Literal["ok", "missing", "broken"]
    detail: str
    remedy: str = ""


# --- verdicts -----------------------------------------------------------------------------------

Question = Literal["acceptance", "hypothesis", "gate"]
SUBJECT_KINDS = ("claim", "proxy", "other")


def subject_kind(subject: str) -> str:
    """The kind that totals count a subject under: `claim`, `proxy`, or any `other`."""
    return subject if subject in SUBJECT_KINDS else "other"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict of one obligation and everything it rests on.

    `because` is the id of the clause that decided (empty on PASS), `reason` one sentence for
    people, `measured` every value of every measure, `remedy` the command that would change it.
    `evidence` are digests; `subjects` maps each role to the digest that was judged.
    """

    contract: str
    contract_digest: str
    title: str
    subject: str
    kind: Question
    verdict: Verdict
    because: str = ""
    reason: str = ""
    remedy: str = ""
    measured: Mapping[str, Mapping[str, float | int | bool | str]] = field(default_factory=dict)
    evidence: Sequence[str] = ()
    subjects: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    profile: str = ""
    run: str = ""
    attempts: int = 0

    @property
    def obligation(self) -> str:
        """The stable name of the obligation: `CONTRACT/subject`, with `@profile` where one was asked for."""
        return f"{self.contract}/{self.subject}" + (f"@{self.profile}" if self.profile else "")


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All judgements of one check, in the order of the ledger, for reporters.

    `run` is empty where they are not all of one run; each judgement has its own, empty where no run said anything.
    """

    check: str
    run: str
    judgements: Sequence[Judgement]
    exit_code: int
