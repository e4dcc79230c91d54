"""What is no evidence: NaN, placeholders, counts that do not add up."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrmctl.contract.examples import expand
from hrmctl.contract.payload import PLACEHOLDERS, fault

SAMPLES = expand("samples/v1", {"passed": 2, "n": 3, "samples": 4})
SERIES: dict[str, Any] = {"series": {"loss": {"steps": [1, 2], "values": [3.5, 2]}}}
MEASUREMENT: dict[str, Any] = {"value": 3, "unit": "s", "n": 2, "trials": [2, 4], "context": {"dtype": "float32"}}
FILES: dict[str, Any] = {"files": [{"path": "a", "bytes": 0, "sha256": "0" * 64}]}
TEXT: dict[str, Any] = {"prompt": "1+1", "completion": "2", "parts": {"answer": 2}}
WHOLE = {"samples/v1": SAMPLES, "series/v1": SERIES, "measurement/v1": MEASUREMENT, "files/v1": FILES, "text/v1": TEXT}


def changed(payload: Any, path: tuple[Any, ...], value: Any) -> Any:
    result = copy.deepcopy(payload)
    place = result
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return result


@pytest.mark.parametrize("kind", WHOLE)
def test_what_stages_report_is_evidence(kind: str) -> None:
    assert fault(kind, WHOLE[kind]) == ""


FIRST = ("problems", 0)
LOSS = ("series", "loss")
BAD = [
    ("samples/v1", ("problems",), [], "problems is empty"),
    ("samples/v1", ("problems",), ..., "problems is empty"),
    ("samples/v1", ("n",), 0, "n is 0, not a count of at least 1"),
    ("samples/v1", ("n",), True, "n is True, not a count of at least 1"),
    ("samples/v1", ("n",), 5, "problem example/000000 has 4 samples, not 5"),
    ("samples/v1", (*FIRST, "c"), 5, "problem example/000000 says 5 of 4 passed"),
    ("samples/v1", (*FIRST, "c"), 3, "problem example/000000 says 3 of 4 passed, its outcomes say otherwise"),
    ("samples/v1", (*FIRST, "c"), True, "problem example/000000 says True of 4 passed"),
    ("samples/v1", (*FIRST, "c"), -1, "problem example/000000 says -1 of 4 passed"),
    ("samples/v1", (*FIRST, "n"), 0, "problem example/000000 says 4 of 0 passed"),
    ("samples/v1", (*FIRST, "outcomes"), ["passed"] * 3, "problem example/000000 has 4 samples, and its outcomes are"),
    ("samples/v1", (*FIRST, "outcomes"), None, "problem example/000000 has 4 samples, and its outcomes are"),
    ("samples/v1", (*FIRST, "completions"), ["a"], "problem example/000000 has 4 samples, and its completions are"),
    ("samples/v1", (*FIRST, "id"), "example/000001", "problem example/000001 occurs twice"),
    ("samples/v1", (*FIRST, "id"), "", "a problem has no id"),
    ("samples/v1", FIRST, 3, "a problem has no id"),
    ("samples/v1", ("mode",), "TBD", "mode holds the placeholder 'TBD'"),
    ("series/v1", ("series",), {}, "series is empty"),
    ("series/v1", (*LOSS, "steps"), [], "series loss has 0 steps and 2 values"),
    ("series/v1", (*LOSS, "steps"), [2, 1], "series loss has steps out of order"),
    ("series/v1", (*LOSS, "steps"), [1, 1], "series loss has steps out of order"),
    ("series/v1", (*LOSS, "values"), [1, True], "series loss holds something that is not a number"),
    ("series/v1", (*LOSS, "values"), [1, math.nan], "series.loss.values holds nan, not a finite number"),
    ("series/v1", (*LOSS, "steps"), [0.5, 2], "series loss holds something that is not a number"),
    ("series/v1", LOSS, [], "series loss has 0 steps and 0 values"),
    ("measurement/v1", ("value",), math.inf, "value holds inf, not a finite number"),
    ("measurement/v1", ("value",), "TODO", "value holds the placeholder 'TODO'"),
    ("measurement/v1", ("value",), "3", "value is '3', not a number"),
    ("measurement/v1", ("value",), True, "value is True, not a number"),
    ("measurement/v1", ("value",), ..., "value is None, not a number"),
    ("measurement/v1", ("n",), 0, "n is 0, not a count of at least 1"),
    ("measurement/v1", ("n",), ..., "n is None, not a count of at least 1"),
    ("measurement/v1", ("unit",), ..., "unit is missing"),
    ("measurement/v1", ("unit",), " n/A ", "unit holds the placeholder ' n/A '"),
    ("measurement/v1", ("trials",), [], "trials is not a list of numbers"),
    ("measurement/v1", ("trials",), ["3"], "trials is not a list of numbers"),
    ("measurement/v1", ("context", "dtype"), "unknown", "context.dtype holds the placeholder 'unknown'"),
    ("files/v1", ("files",), [], "files is empty"),
    ("files/v1", ("files", 0, "bytes"), -1, "file a lacks its bytes or sha256"),
    ("files/v1", ("files", 0, "sha256"), "abc", "file a lacks its bytes or sha256"),
    ("files/v1", ("files", 0, "path"), "", "file path '' is empty or occurs twice"),
    ("files/v1", ("files",), FILES["files"] * 2, "file path 'a' is empty or occurs twice"),
    ("text/v1", ("completion",), ..., "completion is missing"),
    ("text/v1", ("prompt",), 3, "prompt is missing"),
    ("text/v1", ("completion",), "?", "completion holds the placeholder '?'"),
]


@pytest.mark.parametrize(("kind", "path", "value", "said"), BAD)
def test_broken_payloads_are_refused(kind: str, path: tuple[Any, ...], value: Any, said: str) -> None:
    assert fault(kind, changed(WHOLE[kind], path, value)).startswith(said)


def test_a_curve_may_say_that_a_value_was_not_finite() -> None:
    assert fault("series/v1", changed(WHOLE["series/v1"], (*LOSS, "values"), [1, None])) == ""
    assert fault("series/v1", changed(WHOLE["series/v1"], (*LOSS, "steps"), [1, None])) != ""


@pytest.mark.parametrize("kind", WHOLE)
def test_a_payload_is_a_mapping(kind: str) -> None:
    assert fault(kind, [1]) == "the payload is not a mapping"
    assert fault(kind, {}) != ""


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for key, child in value.items() for leaf in leaves(child, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, child in enumerate(value) for leaf in leaves(child, (*path, index))]
    return [path]


@given(
    st.sampled_from([(kind, leaf) for kind, payload in WHOLE.items() for leaf in leaves(payload)]),
    st.sampled_from([math.nan, math.inf, -math.inf, None, *sorted(PLACEHOLDERS)]),
)
def test_no_leaf_may_hold_nan_or_a_placeholder(place: tuple[str, tuple[Any, ...]], value: Any) -> None:
    kind, path = place
    if value is None and path[0] in ("mode", "context", "parts"):
        return  # free-form values may be absent
    if value is None and path[:-1] == (*LOSS, "values"):
        return  # a value that was not finite
    assert fault(kind, changed(WHOLE[kind], path, value)) != ""


@pytest.mark.parametrize(
    "among", [["s", math.nan], ["s", " TBD "], ["s", {"of": "n/a"}], ["s", ["t", "todo"]], [["?"]]]
)
def test_what_lies_among_texts_is_seen(among: list[Any]) -> None:
    whole = {"value": 1, "unit": "s", "n": 1, "context": ["s", "ms"]}
    assert fault("measurement/v1", whole) == ""
    assert fault("measurement/v1", {**whole, "context": among}) != ""
