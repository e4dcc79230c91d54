"""Control data in shorthand becomes whole payloads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrmctl.contract.examples import expand
from hrmctl.contract.payload import fault


def test_passed_of_n() -> None:
    payload = expand("samples/v1", {"passed": 2, "n": 3})
    assert [p["c"] for p in payload["problems"]] == [1, 1, 0]
    assert payload["n"] == 1
    assert payload["mode"] == "sealed"
    assert payload["problems"][2]["outcomes"] == ["wrong_answer"]


def test_runs_keep_the_ids_of_two_sides_paired() -> None:
    left = expand("samples/v1", {"runs": [[103, 1], [53, 1], [27, 0], [317, 0]]})
    right = expand("samples/v1", {"runs": [[103, 1], [53, 0], [27, 1], [317, 0]]})
    pairs = list(zip(left["problems"], right["problems"], strict=True))
    assert all(a["id"] == b["id"] for a, b in pairs)
    table = [sum((a["c"], b["c"]) == cell for a, b in pairs) for cell in ((1, 1), (1, 0), (0, 1), (0, 0))]
    assert table == [103, 53, 27, 317]


@pytest.mark.parametrize(("distinct", "different"), [(True, 4), (False, 1), (3, 3)])
def test_distinct_completions(distinct: Any, different: int) -> None:
    payload = expand("samples/v1", {"runs": [[2, 1]], "samples": 4, "distinct": distinct})
    completions = [p["completions"] for p in payload["problems"]]
    assert [len(set(c)) for c in completions] == [different, different]
    assert not set(completions[0]) & set(completions[1])


def test_the_other_types() -> None:
    assert expand("series/v1", {"loss": [6.2, 1.0]}) == {"series": {"loss": {"steps": [1, 2], "values": [6.2, 1.0]}}}
    assert expand("measurement/v1", {"value": 3}) == {"value": 3, "unit": "", "n": 1}
    assert expand("measurement/v1", {"value": 3, "n": 5, "trials": [3]})["n"] == 5
    files = expand("files/v1", {"bytes": [100, 200], "paths": ["a", "b"]})["files"]
    assert [(f["path"], f["bytes"]) for f in files] == [("a", 100), ("b", 200)]
    assert expand("text/v1", {"prompt": "a", "completion": "b"}) == {"prompt": "a", "completion": "b"}


WHOLE = {"samples/v1": {"problems": []}, "series/v1": {"series": {}}, "files/v1": {"files": []}}


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_payloads_pass_unchanged(kind: str) -> None:
    assert expand(kind, WHOLE[kind]) is WHOLE[kind]


def test_what_a_caller_does_to_its_shorthand_later_changes_no_payload() -> None:
    curve = [3.0, 2.0]
    first = expand("series/v1", {"later": curve})
    curve.append(1.0)
    assert expand("series/v1", {"later": [3.0, 2.0]}) is first
    assert first["series"]["later"]["values"] == [3.0, 2.0]


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("samples/v1", {"passed": 6, "n": 5}, "passed is 6 of n = 5"),
        ("samples/v1", {"passed": 1}, "n must be a whole number"),
        ("samples/v1", {"passed": -1, "n": 5}, "passed must be a whole number of at least 0"),
        ("samples/v1", {"passed": True, "n": 5}, "passed must be a whole number"),
        ("samples/v1", {"pased": 1, "n": 5}, "'pased' is no part of this shorthand"),
        ("samples/v1", {"runs": [[1, 2, 3]]}, "runs must be a list of"),
        ("samples/v1", {"passed": 1, "n": 10**12}, "an example has at most 1,000,000 samples"),
        ("samples/v1", {"runs": [[1000, 1]], "samples": 1001}, "an example has at most"),
        ("samples/v1", {"runs": 7}, "runs must be a list of"),
        ("measurement/v1", {"valeu": 1}, "'valeu' is no part"),
        ("files/v1", {"bytes": 7}, "bytes must be a list"),
        ("files/v1", {"bytes": [7], "paths": []}, "paths must be a list as long"),
        ("text/v1", "prose", "expected a mapping"),
    ],
)
def test_shorthand_that_says_nothing(kind: str, data: Any, said: str) -> None:
    with pytest.raises(ValueError, match="^" + said):
        expand(kind, data)


@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 4))
def test_every_expansion_is_evidence(passed: int, extra: int, samples: int) -> None:
    payload = expand("samples/v1", {"passed": passed, "n": passed + extra, "samples": samples})
    assert fault("samples/v1", payload) == ""
    assert sum(p["c"] for p in payload["problems"]) == passed * samples
