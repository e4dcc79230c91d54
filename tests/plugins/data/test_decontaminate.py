"""Leaks planted in every disguise are found, what is no leak is not, and figures of real benchmarks."""

from __future__ import annotations

import gzip
import json
import random
import re
import tracemalloc
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hrmctl_data import decontaminate
from hrmctl_data.benchmarks import humaneval, mbpp
from hrmctl_data.decontaminate_params import DecontaminateParams

from hrmctl import StageError, StageResult
from hrmctl.testing import make_artifact, make_context

from ...lab import hrmctl

SOLUTION = (
    "def similar_elements(left, right):\n    found = set()\n    for item in left:\n        if item in right:\n"
    "            found.add(item)\n    return tuple(sorted(found))\n"
)
PROBLEM = {
    "task_id": "bench/1",
    "text": "Write a function to find the similar elements from the given two tuple lists, in order.",
    "prompt": '"""\nWrite a function to find the similar elements from the given two tuple lists, in order.\n"""\n',
    "completion": SOLUTION,
    "entry_point": "similar_elements",
    "tests": [
        "assert similar_elements((3, 4, 5, 6), (5, 7, 4, 10)) == (4, 5)",
        "assert similar_elements((), ()) == ()",
    ],
}
SHORT = {
    "task_id": "bench/2",
    "text": "Add one.",
    "prompt": "def add_one(x):\n",
    "prefix": "def add_one(x):\n",
    "completion": "    return x + 1\n",
    "entry_point": "add_one",
    "tests": ["assert add_one(1) == 2"],
}
INNOCENT = {
    "prompt": "Write a function that counts the vowels of a text.",
    "completion": "def f(s):\n    return x + 1\n",
}


def screen(
    folder: Path, documents: list[Any] | str | bytes, *benchmarks: list[dict[str, Any]], **options: Any
) -> tuple[StageResult, list[dict[str, Any]]]:
    """The result of the stage over documents (rows, or plain text) and the rows of its report."""
    data = folder / "data"
    text = documents if isinstance(documents, str | bytes) else "".join(json.dumps(row) + "\n" for row in documents)
    data.write_bytes(text if isinstance(text, bytes) else text.encode())
    given = []
    for number, rows in enumerate(benchmarks or ([PROBLEM, SHORT],)):
        path = folder / f"bench{number}"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        given.append(make_artifact(path, "dataset", f"bench{number}@test"))
    inputs = {"data": make_artifact(data, "dataset", "mine@train"), "benchmarks": tuple(given)}
    result = decontaminate.run(DecontaminateParams(**options), inputs, make_context(folder))
    return result, [json.loads(line) for line in result.artifacts["report"].path.read_text().splitlines()]


def measured(result: StageResult, name: str, benchmark: str = "") -> dict[str, Any]:
    """The one payload of that name, about that benchmark."""
    [found] = [
        o.payload
        for o in result.evidence
        if o.name == name and (not benchmark or getattr(o.about.get("benchmark"), "label", "") == benchmark)
    ]
    return dict(found)


def renamed(source: str) -> str:
    names = {"similar_elements": "common", "left": "a", "right": "b", "found": "seen", "item": "thing"}
    return re.sub("|".join(names), lambda match: names[match[0]], source)


LEAKS: dict[str, tuple[dict[str, Any], str, str]] = {
    "request": ({"instruction": f"Please: {PROBLEM['text']}", "response": "I cannot."}, "request", "same"),
    "other case and space": ({"text": PROBLEM["text"].upper().replace(" ", "\n  ")}, "request", "same"),
    "invisible marks": ({"text": PROBLEM["text"].replace("e", "e\u200b")}, "request", "same"),
    "solution": ({"text": f"Look at this.\n{SOLUTION}And so on."}, "solution", "same"),
    "in a message": ({"messages": [{"role": "assistant", "content": SOLUTION}]}, "solution", "same"),
    "in a field nobody reads": ({"text": "hello", "meta": {"more": [SOLUTION]}}, "solution", "same"),
    "tests": ({"text": "\n".join(PROBLEM["tests"])}, "tests", "same"),
    "part of the solution": ({"text": "\n".join(SOLUTION.splitlines()[2:])}, "solution", "same"),
    "other names": ({"prompt": "Compute.", "completion": renamed(SOLUTION)}, "solution", "renamed"),
    "other names and comments": (
        {"text": renamed(SOLUTION).replace(":\n", ":  # here we go\n").replace("   ", "\t")},
        "solution",
        "renamed",
    ),
    "in JSON in JSON": ({"text": json.dumps({"messages": [SOLUTION]})}, "solution", "same"),
    "in JSON in JSON in JSON": ({"text": json.dumps(json.dumps({"code": SOLUTION}))}, "solution", "same"),
    "escaped, with other names": (
        {"text": json.dumps(renamed(SOLUTION).replace(":\n", ':  # "go"\n'))},
        "solution",
        "renamed",
    ),
    "escaped for the web": ({"text": PROBLEM["text"].replace(" ", "\\u0020")}, "request", "same"),
    "a short problem": ({"text": "def add_one(x):\n    return x + 1\n"}, "solution", "same"),
}


@pytest.mark.parametrize(("leak", "field", "match"), LEAKS.values(), ids=LEAKS)
def test_a_planted_leak_is_caught_named_and_dropped(
    tmp_path: Path, leak: dict[str, Any], field: str, match: str
) -> None:
    result, report = screen(tmp_path, [INNOCENT, {**leak, "id": "planted"}, INNOCENT])
    assert [(row["line"], row["document"], row["id"]) for row in report] == [(2, 2, "planted")] * len(report)
    task = "bench/2" if "add_one" in str(leak) else "bench/1"
    assert (task, field, match) in {(row["task_id"], row["field"], row["match"]) for row in report}
    assert all(0 < row["share"] <= 1 and row["excerpt"] and row["benchmark"] == "bench0@test" for row in report)
    clean = result.artifacts["data"]
    assert clean.path.read_text() == (json.dumps(INNOCENT) + "\n") * 2
    assert clean.label == "mine@train/decontaminated"
    assert measured(result, "overlap_any")["value"] == pytest.approx(1 / 3)


def test_what_is_no_leak_is_kept(tmp_path: Path) -> None:
    documents = [
        INNOCENT,
        {"text": "Add one teaspoon of salt; then return it to the oven."},
        {"text": "Write a function to find the given elements."},
        {"completion": renamed(SOLUTION).replace("seen.add(thing)", "seen.add(a)")},
        {"completion": "def g(x):\n    return x + 1\n"},
    ]
    result, report = screen(tmp_path, documents)
    assert report == []
    assert measured(result, "overlap_any") == {
        "value": 0.0,
        "unit": "share of documents",
        "n": 5,
        "context": {"ngram": 13, "granularity": "words", "threshold": 0.0, "count": 0},
    }


ESCAPING = {
    **PROBLEM,
    "task_id": "bench/3",
    "text": "Show a table.",
    "prompt": '"""\nShow a table.\n"""\n',
    "completion": "def table(rows):\n    lines = []\n    for row in rows:\n"
    '        lines.append("\\t".join(row).replace("\\n", "\\\\n").replace(\'"\', "\\u00e9"))\n'
    '    return "\\r\\n".join(lines)\n',
    "entry_point": "table",
    "tests": ["assert table([]) == ''"],
}


@pytest.mark.parametrize("escapes", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"granularity": "code", "n": 30}], ids=["words", "code"])
def test_a_solution_that_holds_escapes_is_found_whole(tmp_path: Path, escapes: int, options: dict[str, Any]) -> None:
    text = ESCAPING["completion"]
    for _ in range(escapes):
        text = json.dumps({"code": text})
    _, report = screen(tmp_path, [{"text": text}], [ESCAPING], renamed=False, **options)
    assert [(row["field"], row["share"]) for row in report if row["field"] == "solution"] == [("solution", 1.0)]


def test_renaming_is_seen_through_only_where_it_is_asked_for(tmp_path: Path) -> None:
    leak = {"completion": renamed(SOLUTION)}
    assert screen(tmp_path, [leak], renamed=False)[1] == []
    assert [row["match"] for row in screen(tmp_path, [leak])[1]] == ["renamed"]


def test_the_threshold_is_a_share_of_the_fields_ngrams(tmp_path: Path) -> None:
    words = str(PROBLEM["text"]).split()
    half = {"text": " ".join(words[:14])}
    [row] = screen(tmp_path, [half], action="report")[1]
    assert row["share"] == pytest.approx(2 / 4)
    assert screen(tmp_path, [half], threshold=0.5, action="report")[1] == [row]
    assert screen(tmp_path, [half], threshold=0.51, action="report")[1] == []
    assert screen(tmp_path, [half], n=15)[1] == []


def test_code_tokens_tell_operators_apart_and_words_do_not(tmp_path: Path) -> None:
    again = {"text": SOLUTION.replace("(item)", "[item]")}
    assert screen(tmp_path, [again], renamed=False)[1]
    assert screen(tmp_path, [again], renamed=False, granularity="code", n=30)[1] == []
    assert screen(tmp_path, [{"text": SOLUTION}], renamed=False, granularity="code", n=30)[1]


def test_report_keeps_everything_as_it_is(tmp_path: Path) -> None:
    result, report = screen(tmp_path, [INNOCENT, PROBLEM], action="report")
    assert report
    assert result.artifacts["data"].path.read_bytes() == (tmp_path / "data").read_bytes()
    assert result.artifacts["data"].label == "mine@train"


def test_fail_names_the_documents(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        screen(tmp_path, [INNOCENT, *[PROBLEM] * 25], action="fail")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("mine@train:2:1: holds 100% of the request of bench/1 (bench0@test)")
    assert lines[-1] == "5 more documents overlap"
    assert screen(tmp_path, [INNOCENT], action="fail")[1] == []


def test_no_document_left_is_no_data_set(tmp_path: Path) -> None:
    result, _ = screen(tmp_path, [PROBLEM])
    assert result.artifacts.keys() == {"report"}
    assert measured(result, "overlap_any")["value"] == 1.0


def test_evidence_is_told_apart_by_benchmark(tmp_path: Path) -> None:
    result, report = screen(tmp_path, [INNOCENT, {"text": PROBLEM["text"]}], [PROBLEM], [SHORT])
    assert [row["benchmark"] for row in report] == ["bench0@test"]
    for name, value in (("overlap", 0.5), ("problems_found", 1.0), ("self_overlap", 1.0), ("planted_found", 1.0)):
        assert measured(result, name, "bench0@test")["value"] == value
    for name, value, n in (("overlap", 0, 2), ("problems_found", 0, 1), ("ngram", 13, 1), ("threshold", 0, 1)):
        assert (measured(result, name, "bench1@test")["value"], measured(result, name, "bench1@test")["n"]) == (
            value,
            n,
        )
    assert all(o.about["dataset"].label == "mine@train" for o in result.evidence)


def test_the_own_control_sees_a_blunt_instrument(tmp_path: Path) -> None:
    sharp, _ = screen(tmp_path, [INNOCENT], [PROBLEM])
    blunt, _ = screen(tmp_path, [INNOCENT], [PROBLEM], n=50, renamed=False)
    assert measured(sharp, "planted_found")["value"] == 1.0
    assert measured(blunt, "planted_found")["value"] == 0.0


def test_a_benchmark_without_references_says_nothing_of_planted_ones(tmp_path: Path) -> None:
    case = {"stdin": "3 4 5 6 7 8 9 10", "stdout": "52"}
    row = {"task_id": "c/1", "prompt": "Add the numbers.", "completion": "", "entry_point": "", "cases": [case]}
    result, report = screen(tmp_path, [{"text": f"Input: {case['stdin']}\n\n{case['stdout']}."}], [row])
    assert [line["field"] for line in report] == ["tests"]
    assert "planted_found" not in {o.name for o in result.evidence}


def test_bad_rows_are_all_named_and_nothing_comes_out(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        screen(tmp_path, '{"text": "a"}\n{\n{"n": 1}\n')
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == ["mine@train:2:1", "mine@train:3:1"]


def test_bad_benchmarks(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"bench0@test:1:1: no field 'completion'"):
        screen(tmp_path, [INNOCENT], [{"task_id": "x", "prompt": "p", "tests": ["1"]}])
    with pytest.raises(StageError, match="given twice"):
        screen(tmp_path, [INNOCENT], [PROBLEM], [PROBLEM])
    inputs = {
        "data": make_artifact(tmp_path / "data", "dataset", "d"),
        "benchmarks": (make_artifact(tmp_path / "scratch", "dataset", "folder"),),
    }
    with pytest.raises(StageError, match="folder is a folder"):
        decontaminate.run(DecontaminateParams(), inputs, make_context(tmp_path))


def test_plain_text_is_screened_across_its_lines(tmp_path: Path) -> None:
    result, report = screen(tmp_path, f"A first paragraph.\n\n{SOLUTION}\nA last one.\n")
    assert {row["line"] for row in report} == {3}
    assert result.artifacts["data"].path.read_text() == "A first paragraph.\n\nA last one.\n"


def test_what_is_kept_of_a_text_is_the_same_documents_again(tmp_path: Path) -> None:
    text = f"A first one.\n\nA second one.\n \n\n{SOLUTION}\nA last one.\n"
    first, _ = screen(tmp_path, text)
    again, report = screen(tmp_path, first.artifacts["data"].path.read_text(), action="report")
    assert report == []
    assert (measured(first, "overlap_any")["n"], measured(again, "overlap_any")["n"]) == (4, 3)


@pytest.mark.parametrize(
    "wrap", [bytes, gzip.compress, lambda raw: b"\xef\xbb\xbf\n" + raw.rstrip()], ids=["plain", "gzip", "mark"]
)
@pytest.mark.parametrize("text", [f"One.\n\n\n{SOLUTION}\n\nTwo.\n\n", '{"text": "a"}\n\n{"text": "b"}\n'])
def test_where_nothing_is_dropped_the_output_is_the_input(tmp_path: Path, text: str, wrap: Any) -> None:
    result, _ = screen(tmp_path, wrap(text.encode()), action="report")
    assert result.artifacts["data"].path.read_bytes() == (tmp_path / "data").read_bytes()
    assert result.artifacts["data"].label == "mine@train"


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    documents = [INNOCENT, *(leak for leak, _, _ in LEAKS.values())]
    first = screen(tmp_path, documents, action="report")[0].artifacts["report"].path.read_bytes()
    assert screen(tmp_path, documents, action="report")[0].artifacts["report"].path.read_bytes() == first


# --- size ---------------------------------------------------------------------------------------


def pieces(count: int, seed: int = 7) -> Iterator[dict[str, str]]:
    """Documents of no benchmark: words and lines drawn at random."""
    rng = random.Random(seed)
    lines = [f"{a} = {b}({c})" for a in "uvw" for b in ("count", "order", "take") for c in "xyz"]
    words = [f"word{number}" for number in range(99)]
    for _ in range(count):
        yield {"prompt": " ".join(rng.choices(words, k=25)), "completion": "\n".join(rng.choices(lines, k=9))}


def peak_of(folder: Path, count: int) -> int:
    data = folder / "data"
    with data.open("w") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in pieces(count))
    bench = folder / "bench"
    bench.write_text(json.dumps(PROBLEM))
    inputs = {
        "data": make_artifact(data, "dataset", "big"),
        "benchmarks": (make_artifact(bench, "dataset", "bench@test"),),
    }
    context = make_context(folder)
    # The test's own context keeps each report of progress, and those grow with time.
    context.rows = deque(maxlen=1)  # type: ignore[assignment]
    tracemalloc.start()
    decontaminate.run(DecontaminateParams(), inputs, context)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_documents(tmp_path: Path) -> None:
    peak_of(tmp_path, 10)
    assert peak_of(tmp_path, 2500) < 1.2 * peak_of(tmp_path, 250)


# --- real benchmarks ----------------------------------------------------------------------------


def real(folder: Path, train: Any, benchmark: Any, **options: Any) -> StageResult:
    return screen(folder, list(train), list(benchmark), action="report", **options)[0]


def test_a_benchmark_against_itself_is_found_whole(tmp_path: Path, shared_data: Path) -> None:
    problems = humaneval(shared_data / "HumanEval.jsonl.gz")["test"]
    result = real(tmp_path, problems, problems)
    assert measured(result, "overlap")["value"] == 1.0
    assert measured(result, "problems_found")["value"] == 1.0
    assert measured(result, "self_overlap")["value"] == 1.0
    assert measured(result, "planted_found")["value"] >= 0.95


def test_real_sets_overlap_as_much_as_the_docs_say(tmp_path: Path, shared_data: Path) -> None:
    splits = mbpp(shared_data / "mbpp.jsonl")
    human = humaneval(shared_data / "HumanEval.jsonl.gz")["test"]
    assert measured(real(tmp_path, splits["train"], human), "overlap")["context"]["count"] == 1
    assert measured(real(tmp_path, splits["test"], human), "overlap")["context"]["count"] == 5
    found = real(tmp_path, splits["train"], splits["test"])
    assert measured(found, "overlap")["context"]["count"] == 64
    assert measured(found, "problems_found")["context"]["count"] == 72
    exact = real(tmp_path, splits["train"], splits["test"], renamed=False)
    assert measured(exact, "overlap")["context"]["count"] == 57


def test_a_leak_among_real_text_is_the_only_one_found(tmp_path: Path, shared_data: Path) -> None:
    problems = humaneval(shared_data / "HumanEval.jsonl.gz")["test"]
    wiki = (shared_data / "wikitext2-test.txt").read_text(encoding="utf-8").removeprefix("\ufeff")
    assert screen(tmp_path, wiki, list(problems))[1] == []
    lines = wiki.splitlines(keepends=True)
    _, report = screen(tmp_path, "".join([*lines[:900], str(problems[7]["completion"]), *lines[900:]]), list(problems))
    assert {(row["task_id"], row["line"]) for row in report} == {("HumanEval/7", report[0]["line"])}


def test_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(INNOCENT) + "\n" + json.dumps({"text": SOLUTION}) + "\n")
    (tmp_path / "bench.jsonl").write_text(json.dumps(PROBLEM) + "\n")
    options = ["--data", "train.jsonl", "--benchmarks", "bench.jsonl", "--store", "store"]
    done = hrmctl("data", "decontaminate", *options, "--out", "out", "--json", cwd=tmp_path)
    evidence = {item["name"]: item["payload"] for item in json.loads(done.stdout)["evidence"]}
    assert evidence["overlap_any"]["value"] == 0.5
    assert (tmp_path / "out" / "data.jsonl").read_text() == json.dumps(INNOCENT) + "\n"
    assert json.loads((tmp_path / "out" / "report").read_text())["line"] == 2
    failed = hrmctl("data", "decontaminate", *options, "--action", "fail", cwd=tmp_path, check=4)
    assert "./train.jsonl:2:1: holds 100% of the solution of bench/1" in failed.stderr


@pytest.mark.slow
def test_a_hundred_thousand_documents_take_no_more_memory(tmp_path: Path) -> None:
    peak_of(tmp_path, 10)
    assert peak_of(tmp_path, 100_000) < 1.2 * peak_of(tmp_path, 1000)
