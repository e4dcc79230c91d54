"""Every criterion takes points for its fault and for no other; good and bad corpora lie far apart."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hrmctl_data import quality
from hrmctl_data.benchmarks import humaneval, mbpp
from hrmctl_data.documents import Document
from hrmctl_data.microcode import problems
from hrmctl_data.quality import Scores, weights
from hrmctl_data.quality_params import QualityParams
from hrmctl_data.quality_parts import Parts, parts_of
from hrmctl_data.quality_rubric import Score, ramp, score
from hrmctl_data.quality_text import STOP_WORDS
from hypothesis import given
from hypothesis import strategies as st

from hrmctl import StageError, StageResult
from hrmctl.testing import make_artifact, make_context

from ...lab import hrmctl

CODE = "def mean(values):\n    total = sum(values)\n    return total / len(values)\n"
PROMPT = "Write a function for the mean of a list of numbers."
PROSE = (
    "The river rises in the hills to the north of the town, and it has been dammed with stone since the days of the "
    "mills that once stood on its banks. They have all been taken down, but the walls of two of them are to be seen."
)


def read(folder: Path, documents: Iterable[Any], **options: Any) -> tuple[StageResult, list[dict[str, Any]]]:
    data = folder / "data"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in documents]
    data.write_text("".join(line + "\n" for line in lines))
    inputs = {"data": make_artifact(data, "dataset", "mine@train")}
    result = quality.run(QualityParams(**options), inputs, make_context(folder))
    return result, [json.loads(line) for line in result.artifacts["report"].path.read_text().splitlines()]


def value(result: StageResult, name: str) -> Any:
    return next(o.payload["value"] for o in result.evidence if o.name == name)


def scored(row: dict[str, Any], kind: Any = "auto") -> Score:
    return score(parts_of(Document(1, b"", row, ""), kind), False)


# --- criteria -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": PROMPT, "completion": CODE},
        {"instruction": PROMPT, "response": f"Here it is:\n```python\n{CODE}```\nIt divides the sum by the count."},
        {"messages": [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": f"```python\n{CODE}```"}]},
        {"prompt": "def mean(values):\n", "completion": CODE.partition("\n")[2]},
        {"prompt": PROMPT, "prefix": "def mean(values):\n", "completion": CODE.partition("\n")[2]},
        {"prompt": PROMPT, "completion": CODE, "entry_point": "mean", "tests": ["assert mean([1, 3]) == 2"]},
        {"text": PROSE},
        {"question": "What of the river?", "answer": PROSE},
        {"prompt": [{"role": "user", "content": "?"}], "chosen": [{"role": "assistant", "content": PROSE}]},
    ],
    ids=["pair", "fenced", "chat", "body", "prefix", "problem", "prose", "answer", "preference"],
)
def test_what_is_good_loses_nothing(row: dict[str, Any]) -> None:
    row = {**row, "prompt": PROMPT} if isinstance(row.get("prompt"), list) else row
    assert scored(row) == Score(100.0, dict.fromkeys(scored(row).lost, 0.0))


BAD_CODE: dict[str, tuple[str, float]] = {
    "": ("empty", 100),
    "  \n": ("empty", 100),
    CODE.replace("sum(", "sum)"): ("parses", 70),
    CODE[:-8]: ("truncated", 70),
    "def mean(values):\n": ("truncated", 70),
    'def mean(values):\n    """The mean.\n    return 1\n': ("truncated", 70),
    CODE.replace("total =", "totl ="): ("names", 40),
    CODE.rpartition("    return")[0]: ("idle", 40),
    "def mean(values):\n    pass\n": ("idle", 40),
    "def mean(values):\n    return\n": ("idle", 40),
    "print(sum([1, 2, 3]) / 3)\n": ("structure", 10),
    CODE + "".join(f"# {word}, a remark that goes on for quite some time\n" for word in PROSE.split()): (
        "comments",
        15,
    ),
    CODE + "\n\nNAMES = [" + "".join(f"{n}, " for n in range(900)) + "]\n": ("lines", 30),
    CODE + "    total = total + 1\n" * 20: ("repetition", 60),
    CODE + 'api_key = "a8F3kq9Zp2Lm4Xw7Tb1C"\n': ("secrets", 60),
    CODE + 'KEY = "AKIAIOSFODNN7EXAMPLE"\n': ("secrets", 60),
    CODE + "# -----BEGIN RSA PRIVATE KEY-----\n": ("secrets", 60),
    CODE + "# ask jane.doe@mail.corp.org\n": ("personal", 25),
    CODE + "# call +44 20 7946 0958\n": ("personal", 25),
    CODE + "# \x00\x01\x02 \ufffd\n": ("garbage", 80),
    CODE + "x = '" + "жизнь " * 30 + "'\n": ("foreign", 30),
    CODE + "assert mean([1, 3]) == 2\n": ("leaked_tests", 30),
    "def f(x): return ((((-(~((+(x))))))))\n" + "f(-(+(-(+(-(~(1)))))))\n": ("symbols", 40),
}


@pytest.mark.parametrize(("code", "expected"), BAD_CODE.items(), ids=[name for name, _ in BAD_CODE.values()])
def test_faults_of_code(code: str, expected: tuple[str, float]) -> None:
    criterion, most = expected
    found = scored({"prompt": PROMPT, "completion": code, "tests": ["assert mean([1, 3])==2"]})
    assert 0 < found.lost[criterion] <= most == weights()["code"][criterion]
    assert found.value == pytest.approx(max(0, 100 - sum(found.lost.values())))
    beside = {name for name, points in found.lost.items() if points} - {criterion, "repetition", "lines"}
    assert beside <= ({"parses"} if "\x00" in code else {"garbage"} if "ж" in code else set())


WORDS = PROSE.split()
BAD_TEXT: dict[str, tuple[str, float]] = {
    "\t": ("empty", 100),
    "The end.": ("words", 60),
    PROSE.replace(" ", ""): ("word_length", 40),
    " ".join(word[:2] for word in WORDS) + ".": ("word_length", 40),
    " ".join(f"{number} {number}" for number in range(40)) + ".": ("letters", 40),
    " ".join(word for word in WORDS if word.lower() not in STOP_WORDS): ("stop_words", 60),
    f"{PROSE} {PROSE} {PROSE}": ("repetition", 60),
    "\n".join([PROSE] * 5): ("repetition", 60),
    PROSE.replace(" ", " # "): ("marks", 20),
    "\n".join(f"- {sentence}." for sentence in PROSE.split(".") * 2 if sentence): ("lists", 20),
    PROSE[:-20]: ("ending", 10),
    PROSE.replace(" ", " %&* "): ("symbols", 40),
    PROSE.replace("river", "ri\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdver"): ("garbage", 80),
    PROSE + " Write to jane@mail.corp.org.": ("personal", 25),
}


@pytest.mark.parametrize(("text", "expected"), BAD_TEXT.items(), ids=[name for name, _ in BAD_TEXT.values()])
def test_faults_of_text(text: str, expected: tuple[str, float]) -> None:
    criterion, most = expected
    found = scored({"text": text})
    assert 0 < found.lost[criterion] <= most == weights()["text"][criterion]
    assert found.value == pytest.approx(max(0, 100 - sum(found.lost.values())), abs=0.01)


def test_an_answer_out_of_proportion() -> None:
    assert scored({"prompt": PROSE * 10, "completion": "It is so."}).lost["balance"] == 25


@pytest.mark.parametrize(
    "text",
    [
        "me@example.com",
        "a@b.example",
        "x@localhost",
        "@decorator",
        "token = 'abc'",
        "password = 'correct-horse-battery'",
    ],
)
def test_what_is_neither_secret_nor_personal(text: str) -> None:
    lost = scored({"prompt": PROMPT, "completion": f"{CODE}# {text}\n"}).lost
    assert (lost["secrets"], lost["personal"]) == (0, 0)


@pytest.mark.parametrize(
    "code",
    [
        "import os.path as p, sys\nfrom a import b as c\nprint(p, sys, c)\n",
        "class A:\n    x: int = 1\n    def f(self, *args, key=None, **kw):\n        return self.x, args, key, kw\n",
        "try:\n    pass\nexcept ValueError as e:\n    print(e)\nwith open('f') as g:\n    print(g)\n",
        "print([a + b for a, b in zip([1], [2])], {k: v for k, v in {}.items()}, lambda q: q)\n",
        "match {}:\n    case {'a': a, **rest}:\n        print(a, rest)\n    case [b, *c] as d:\n        b(c, d)\n",
        "from math import *\nprint(sin(1))\n",
        "def f():\n    global g\n    g = 1\nprint(f, g, __name__)\nif (n := 3) > 2: print(n)\n",
    ],
)
def test_every_way_to_bind_a_name_is_known(code: str) -> None:
    assert scored({"prompt": PROMPT, "completion": code}, "code").lost["names"] == 0


def test_names_may_come_from_what_a_problem_is_given() -> None:
    row = {"prompt": PROMPT, "completion": CODE.replace("sum(", "helper("), "tests": []}
    assert scored(row).lost["names"] == 40
    assert scored({**row, "setup": "def helper(xs):\n    return 0\n"}).lost["names"] == 0


@pytest.mark.parametrize(
    "code",
    [
        "(" * 100_000,
        "-" * 100_000 + "1",
        "not " * 50_000 + "x",
        "lambda:" * 20_000 + "0",
        "\x00",
        "\ud800",
        "a." * 50_000,
    ],
    ids=["open", "minus", "not", "lambda", "nul", "surrogate", "dots"],
)
def test_hostile_programs_are_only_bad_ones(code: str) -> None:
    assert scored({"prompt": PROMPT, "completion": code}, "code").value < 80


def test_a_program_too_long_to_parse_is_not_parsed() -> None:
    assert scored({"prompt": PROMPT, "completion": "x = 1\n" * 200_000}, "code").lost["parses"] == 70


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5))
def test_ramps_are_monotone_and_bounded(x: float, good: float, bad: float) -> None:
    if math.isclose(good, bad, abs_tol=1e-3):
        return
    assert 0 <= ramp(x, good, bad) <= 1
    assert ramp(good, good, bad) == 0
    assert ramp(bad, good, bad) == pytest.approx(1)


# --- the stage ----------------------------------------------------------------------------------


def test_every_document_is_reported_and_the_bad_ones_left_out(tmp_path: Path) -> None:
    good, bad = {"prompt": PROMPT, "completion": CODE, "id": "g"}, {"prompt": PROMPT, "completion": ""}
    result, report = read(tmp_path, [bad, good, good], keep_above=80)
    assert [(row["line"], row["id"], row["score"], row["kept"]) for row in report] == [
        (1, "", 0.0, False),
        (2, "g", 100.0, True),
        (3, "g", 40.0, False),
    ]
    assert report[2]["lost"] == dict.fromkeys(weights()["code"], 0.0) | {"duplicate": 60.0}
    assert result.artifacts["data"].path.read_text() == json.dumps(good) + "\n"
    assert result.artifacts["data"].label == "mine@train/filtered"
    payloads = {(o.name, o.about["dataset"].label): (o.payload["value"], o.payload["n"]) for o in result.evidence}
    assert payloads["quality", "mine@train"] == (pytest.approx(140 / 3), 3)
    assert payloads["quality_min", "mine@train"] == (0.0, 3)
    assert payloads["below_80", "mine@train"] == (pytest.approx(2 / 3), 3)
    assert payloads["quality_p50", "mine@train"] == (40.0, 3)
    assert {label for _, label in payloads} == {"mine@train"}, "what was kept for its score says nothing of the scorer"


def test_without_a_limit_everything_is_kept_as_it_is(tmp_path: Path) -> None:
    result, _ = read(tmp_path, [{"text": "x"}, {"text": PROSE}])
    assert result.artifacts["data"].path.read_bytes() == (tmp_path / "data").read_bytes()
    assert result.artifacts["data"].label == "mine@train"
    assert {o.about["dataset"].label for o in result.evidence} == {"mine@train"}
    assert len(result.evidence) == 8


def test_paragraphs_stay_apart(tmp_path: Path) -> None:
    text = f"{PROSE}\n\nx\n\n\n{PROSE} Again.\n"
    everything, report = read(tmp_path, [text])
    assert everything.artifacts["data"].path.read_bytes() == (tmp_path / "data").read_bytes()
    kept, _ = read(tmp_path, [text], keep_above=90)
    assert len(report) == 3
    assert kept.artifacts["data"].path.read_text() == f"{PROSE}\n\n{PROSE} Again.\n\n"


def test_programs_that_differ_in_an_escape_are_no_duplicates(tmp_path: Path) -> None:
    rows = [{"prompt": PROMPT, "completion": f'def f(x):\n    return "{mark}".join(x)\n'} for mark in (r"\n", r"\t")]
    assert [row["lost"]["duplicate"] for row in read(tmp_path, rows)[1]] == [0, 0]


def test_nothing_kept_is_no_data_set(tmp_path: Path) -> None:
    result, report = read(tmp_path, [{"text": "x"}], keep_above=100)
    assert result.artifacts.keys() == {"report"}
    assert [row["kept"] for row in report] == [False]


def test_duplicates_are_known_in_other_dress(tmp_path: Path) -> None:
    again = CODE.replace("    ", "\t").replace("\n", "  # so\n", 1)
    rows = [
        {"prompt": PROMPT, "completion": CODE},
        {"prompt": PROMPT.upper(), "completion": again},
        {"prompt": "Another request, for the same.", "completion": CODE},
        {"prompt": PROMPT, "completion": CODE.replace("/", "//")},
        {"text": PROSE},
        {"text": PROSE.upper().replace(",", ";")},
    ]
    _, report = read(tmp_path, rows)
    assert [bool(row["lost"]["duplicate"]) for row in report] == [False, True, False, False, False, True]


def test_every_bad_row_is_named(tmp_path: Path) -> None:
    rows = [
        {"text": PROSE},
        "{",
        {"title": "no field of a document"},
        {"completion": 3, "prompt": "p"},
        {"messages": [{"role": "user", "content": "hello"}]},
        {"messages": [{"role": "assistant", "content": None}], "x": "y"},
    ]
    with pytest.raises(StageError) as caught:
        read(tmp_path, rows)
    found = str(caught.value).splitlines()
    starts = ["not JSON", "has none of the fields text", "field 'completion' is not text"]
    starts += ["the last message is not the assistant's", "a message has no text"]
    assert len(found) == len(starts)
    for line, (text, start) in enumerate(zip(found, starts, strict=True), start=2):
        assert text.startswith(f"mine@train:{line}:1: {start}"), text


def test_the_kind_can_be_said(tmp_path: Path) -> None:
    rows = [{"text": PROSE}]
    assert [row["kind"] for row in read(tmp_path, rows)[1]] == ["text"]
    result, report = read(tmp_path, rows, kind="code")
    assert report[0]["lost"]["parses"] + report[0]["lost"]["truncated"] == 70
    assert value(result, "quality") < 80


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.integers(1, 99), st.integers(0, 1000))
def test_counted_scores_are_those_of_a_plain_sort(tenths: list[int], percent: int, limit: int) -> None:
    scores = Scores()
    for number in tenths:
        scores.add(Score(number / 10, {}))
    ranked = sorted(tenths)
    assert scores.n == len(tenths)
    assert scores.mean() == pytest.approx(sum(tenths) / len(tenths) / 10)
    assert scores.percentile(percent) == ranked[math.ceil(percent * len(ranked) / 100) - 1] / 10
    assert scores.below(limit / 10) == sum(number < limit for number in tenths)


def test_the_weights_are_those_of_the_docs(root: Path) -> None:
    text = (root / "docs" / "screening.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (code|text|both) \|", text, re.MULTILINE)
    told = {
        kind: {name: int(points) for name, points, where in rows if where in (kind, "both")}
        for kind in ("code", "text")
    }
    assert told == weights()


# --- good and bad corpora -----------------------------------------------------------------------


def shuffled(text: str, rng: random.Random) -> str:
    return "".join(rng.sample(text, len(text)))


Ruins = dict[str, Callable[[str, random.Random], str]]
SPOILT: Ruins = {
    "shuffled": shuffled,
    "repeated": lambda text, rng: (text.strip().rpartition("\n")[2][:60] + "\n") * 20,
    "empty": lambda text, rng: "",
}
CODE_RUINS: Ruins = {**SPOILT, "truncated": lambda text, rng: text[: int(len(text) * rng.uniform(0.3, 0.9))]}
TEXT_RUINS: Ruins = {**SPOILT, "fragments": lambda text, rng: text[:40]}


def require_apart(folder: Path, rows: list[dict[str, Any]], field: str, ruins: Ruins) -> None:
    """The corpus is good; spoilt in any of these ways it is not."""
    good = read(folder, rows)[0]
    assert value(good, "quality") >= 99
    assert value(good, "below_80") <= 0.02
    rng = random.Random(7)
    for name, spoil in ruins.items():
        bad = read(folder, [{**row, field: spoil(row[field], rng)} for row in rows])[0]
        assert value(bad, "quality") <= 50, name
        assert value(bad, "below_80") >= 0.9, name


def test_generated_code_and_its_ruins_lie_far_apart(tmp_path: Path) -> None:
    require_apart(tmp_path, [dict(row) for row in problems("train", 300, 7)], "completion", CODE_RUINS)


def test_real_code_and_its_ruins_lie_far_apart(tmp_path: Path, shared_data: Path) -> None:
    rows = [dict(row) for row in mbpp(shared_data / "mbpp.jsonl")["test"]]
    require_apart(tmp_path, rows, "completion", CODE_RUINS)


def test_real_text_and_its_ruins_lie_far_apart(tmp_path: Path, shared_data: Path) -> None:
    lines = (shared_data / "wikitext2-test.txt").read_text(encoding="utf-8").splitlines()
    require_apart(tmp_path, [{"text": line} for line in lines if len(line.split()) >= 30][:500], "text", TEXT_RUINS)


def test_humaneval_references_are_good(tmp_path: Path, shared_data: Path) -> None:
    result, report = read(tmp_path, humaneval(shared_data / "HumanEval.jsonl.gz")["test"])
    assert value(result, "quality_min") >= 80
    assert {row["kind"] for row in report} == {"code"}


def test_a_reference_of_mbpp_that_uses_a_name_it_never_defines(tmp_path: Path, shared_data: Path) -> None:
    _, report = read(tmp_path, mbpp(shared_data / "mbpp.jsonl")["test"])
    assert [row["id"] for row in report if row["lost"]["names"]] == ["mbpp/218"]


def test_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": PROSE}) + "\n" + json.dumps({"text": "x y"}) + "\n")
    options = ("--data", "train.jsonl", "--keep-above", "80", "--store", "store", "--out", "out", "--json")
    done = hrmctl("data", "quality", *options, cwd=tmp_path)
    evidence = json.loads(done.stdout)["evidence"]
    assert [item["payload"]["n"] for item in evidence if item["name"] == "quality"] == [2]
    assert (tmp_path / "out" / "data.jsonl").read_text() == json.dumps({"text": PROSE}) + "\n"
    assert len((tmp_path / "out" / "report").read_text().splitlines()) == 2


def test_parts_of_a_fenced_answer_are_its_code() -> None:
    parts = parts_of(Document(1, b"", {"prompt": PROMPT, "response": f"So:\n```python\n{CODE}```"}, ""), "auto")
    assert parts == Parts("code", PROMPT, parts.answer, [CODE, PROMPT + parts.answer], "", [])
