"""Tiny measures by plain arithmetic, so that the engine's tests need no plugin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge

from hrmctl import Evidence, InputError, MeasureError, MeasureSpec, Provenance, Undecidable
from hrmctl.contract import Contract, load_one
from hrmctl.schema import doc

EXAMPLE = """\
kind: contract
id: HRM-P1
title: HRM solves at least 20 % of the MBPP test problems at the first try
subjects:
  claim: {model: hrm-27m, dataset: mbpp@test}
  proxy: {model: hrm-tiny, dataset: microcode@test}
evidence:
  e: {type: samples/v1, stage: eval}
measure:
  p: {fn: pass_at_k, of: [e], k: 1}
require:
  - {id: whole, left: p.n, op: eq, right: 500, else: INVALID}
  - {id: target, left: p.value, op: ge, right: 0.20}
controls:
  - {expect: PASS, data: {e: {passed: 100, n: 500}}}
  - {expect: FAIL, because: target, data: {e: {passed: 99, n: 500}}}
  - {expect: INVALID, because: whole, data: {e: {passed: 100, n: 499}}}
  - {expect: INVALID, because: whole, data: {e: {passed: 110, n: 501}}}
"""


@dataclass(frozen=True)
class Nothing:
    """No parameters."""


@dataclass(frozen=True)
class PassParams:
    """Parameters of pass_at_k."""

    k: Annotated[int, Ge(1), doc("tries")] = 1


def pass_at_k(evidence: Sequence[Evidence], params: PassParams) -> dict[str, Any]:
    problems = evidence[0].payload["problems"]
    if any(problem["n"] < params.k for problem in problems):
        raise MeasureError("n < k")
    solved = sum(problem["c"] for problem in problems)
    return {"value": solved / sum(problem["n"] for problem in problems), "n": len(problems)}


def value(evidence: Sequence[Evidence], params: Nothing) -> dict[str, Any]:
    payload = evidence[0].payload
    return {"value": payload["value"], "n": payload["n"], "unit": payload["unit"]}


def ratio(evidence: Sequence[Evidence], params: Nothing) -> dict[str, Any]:
    left, right = (item.payload["value"] for item in evidence)
    if right == 0:
        raise Undecidable("the second is 0")
    return {"value": left / right}


def chance(evidence: Sequence[Evidence], params: Nothing) -> dict[str, Any]:
    """The value is read as a p value."""
    return {"p": evidence[0].payload["value"], "value": evidence[0].payload["value"]}


def mode(evidence: Sequence[Evidence], params: Nothing) -> dict[str, Any]:
    payload = evidence[0].payload
    return {"value": payload["mode"], "sealed": payload["mode"] == "sealed"}


def odd(evidence: Sequence[Evidence], params: Nothing) -> Any:
    """Returns or raises what a broken measure might, by the value given."""
    number = evidence[0].payload["value"]
    if number == 13:
        raise ZeroDivisionError("thirteen")
    answers: dict[float, Any] = {1: {"value": float("nan")}, 2: {"value": [1]}, 3: None, 4: {}, 5: {"value": "many"}}
    return answers.get(number, {"value": True if number == 6 else number})


def _spec(
    name: str, params: type, accepts: tuple[Any, ...], returns: str, arity: tuple[int, int] = (1, 1)
) -> MeasureSpec:
    fields = dict.fromkeys(returns.split(), "a value")
    return MeasureSpec(name, name, params, f"{__name__}:{name}", accepts, fields, arity)


MEASUREMENT = ("measurement/v1",)
MEASURES = {
    spec.name: spec
    for spec in [
        _spec("pass_at_k", PassParams, ("samples/v1",), "value n"),
        _spec("mode", Nothing, ("samples/v1",), "value sealed"),
        _spec("value", Nothing, MEASUREMENT, "value n unit"),
        _spec("ratio", Nothing, MEASUREMENT, "value", (2, 2)),
        _spec("chance", Nothing, MEASUREMENT, "value p"),
        _spec("odd", Nothing, MEASUREMENT, "value"),
    ]
}


def on_value(require: str, controls: str, more: str = "", fn: str = "value") -> str:
    """A contract on one measurement `v`, measured as `m`."""
    return f"""\
kind: contract
id: V
title: the value is right
subjects: {{it: {{model: hrm-tiny}}}}
evidence: {{v: {{type: measurement/v1, stage: eval, name: speed}}}}
measure: {{m: {{fn: {fn}, of: [v]}}}}
require:
{require}
controls:
{controls}
{more}"""


@pytest.fixture(scope="session")
def measures() -> dict[str, MeasureSpec]:
    """The tiny measures by name."""
    return MEASURES


@pytest.fixture(scope="session")
def example() -> str:
    """The contract of the design."""
    return EXAMPLE


@pytest.fixture(scope="session")
def about_value() -> Callable[..., str]:
    """Writes a contract on one measurement `v`, measured as `m`."""
    return on_value


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Contract]:
    """Reads a contract from text through a real file named c.yaml."""

    def load(text: str) -> Any:
        path = tmp_path / "c.yaml"
        path.write_text(text, encoding="utf-8")
        return load_one(path, MEASURES)

    return load


@pytest.fixture
def refused(read: Callable[[str], Any], tmp_path: Path) -> Callable[[str], list[str]]:
    """What a text is refused with: `c.yaml:line:column: message; remedy`, in order."""

    def faults(text: str) -> list[str]:
        with pytest.raises(InputError) as caught:
            read(text)
        assert caught.value.exit_code == 2
        return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return faults


@pytest.fixture(scope="session")
def observed() -> Callable[..., Evidence]:
    """Makes evidence as a stage of run r1 reports it: digests by role, labels by role."""

    def make(
        payload: dict[str, Any],
        labels: dict[str, str],
        digests: dict[str, str] | None = None,
        *,
        type: Any = "measurement/v1",
        name: str = "speed",
        uses: str = "eval",
        run: str = "r1",
    ) -> Evidence:
        subjects = digests or {role: f"digest of {label}" for role, label in labels.items()}
        source = Provenance(
            run, uses, uses, "key", subjects, labels, "params", 7, (), "code", {}, {}, "2026-01-01", "2026-01-01"
        )
        return Evidence(name, type, payload, source, f"{name}/{sorted(payload.items())}/{sorted(subjects.items())}")

    return make
