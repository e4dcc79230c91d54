"""Bad samples and bad problems: every fault at once, with its line, exit code 2, and nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hrmctl_sandbox import Limits
from hrmctl_sandbox.formats import CodeTask
from hrmctl_score import command, scoring

from hrmctl import InputError

from .helpers import HUMAN, MBPP, REFERENCES, Desk, write


def test_problems_of_ones_own_need_no_reference(desk: Desk) -> None:
    row = {"task_id": "a", "prompt": "", "entry_point": "f", "tests": ["assert f() == 1"]}
    samples = [{"task_id": "a", "completion": f"def f(): return {n}"} for n in (1, 2)]
    done = desk.score([row], samples, "-k", "1")
    assert (done.code, done.out.split(":")[1].split()[0]) == (0, "0.5000"), done.err


def test_every_bad_sample_is_told_with_its_line(desk: Desk) -> None:
    samples: list[Any] = [
        REFERENCES[0],
        "{",
        [1],
        {"completion": "x"},
        {"task_id": True, "completion": "x"},
        {"task_id": "HumanEval/7", "completion": "x"},
        {"task_id": "HumanEval/1"},
        {"task_id": "HumanEval/1", "completion": 3},
        {"task_id": "HumanEval/1", "solution": None},
        {"task_id": "HumanEval_1", "completion": "x"},
    ]
    done = desk.score(HUMAN, samples)
    assert (done.code, desk.wrote_nothing) == (2, True)
    found = [line.partition("s.jsonl:")[2] for line in done.err.splitlines() if "s.jsonl:" in line]
    wanted = [
        "2:1: not JSON: Expecting property name",
        "3:1: not a JSON object",
        "4:1: no field 'task_id'",
        "5:1: no field 'task_id'",
        "6:1: the problems have no task 'HumanEval/7'",
        "7:1: has none of the fields 'completion', 'solution', 'program'",
        "8:1: field 'completion' is not text",
        "9:1: field 'solution' is not text",
        "10:1: the problems have no task 'HumanEval_1'",
    ]
    assert len(found) == len(wanted)
    for line, start in zip(found, wanted, strict=True):
        assert line.startswith(start), line


def test_many_bad_samples_are_cut_short(desk: Desk) -> None:
    done = desk.score(HUMAN, ["{}"] * 50)
    lines = [line for line in done.err.splitlines() if line.startswith("hrmctl: ")]
    assert (done.code, len(lines)) == (2, 21)
    assert lines[-1].endswith("30 more bad samples")


@pytest.mark.parametrize("body", ["", "\n\n", "[]"])
def test_no_samples(desk: Desk, body: str) -> None:
    (desk.folder / "s.jsonl").write_text(body)
    done = desk.score(HUMAN, desk.folder / "s.jsonl")
    assert (done.code, "holds no sample" in done.err) == (2, True)


def test_files_that_are_not_there(desk: Desk) -> None:
    done = desk.score(HUMAN, desk.folder / "nothing.jsonl")
    assert (done.code, "nothing.jsonl: there is no such file" in done.err) == (2, True)
    (desk.folder / "samples").mkdir()
    assert "holds no sample" in desk.score(HUMAN, desk.folder / "samples").err


def test_bad_problems(desk: Desk) -> None:
    done = desk.score([{**HUMAN[0], "test": "def check(:"}, {"x": 1}], REFERENCES)
    assert (done.code, desk.wrote_nothing) == (2, True)
    assert "p.jsonl:1:1: field 'tests' is not Python" in done.err
    assert "p.jsonl:2:1: has none of the fields 'tests' (hrmctl)" in done.err


def test_a_shape_that_is_demanded(desk: Desk) -> None:
    done = desk.score(HUMAN, REFERENCES, "--shape", "mbpp")
    assert (done.code, "p.jsonl:1:1: field 'task_id' is not an integer" in done.err) == (2, True)
    done = desk.score(HUMAN, REFERENCES, "--shape", "nothing")
    assert (done.code, "--shape: unknown shape 'nothing'; there are auto" in done.err) == (2, True)


def test_problems_without_samples(desk: Desk) -> None:
    done = desk.score(HUMAN, REFERENCES[:1])
    assert (done.code, desk.wrote_nothing) == (2, True)
    assert "2 of 3 problems have no sample: HumanEval/1, HumanEval/2; give --partial" in done.err


def test_a_part_of_the_problems(desk: Desk) -> None:
    done = desk.score(HUMAN, REFERENCES[:1], "--partial", "--json")
    assert (done.code, done.result["problems"]) == (0, 1)
    assert done.result["missing"] == ["HumanEval/1", "HumanEval/2"]
    assert "1 samples of 1 of 3 problems" in desk.score(HUMAN, REFERENCES[:1], "--partial").err


def test_repeated_samples_are_told_and_count(desk: Desk) -> None:
    done = desk.score(HUMAN[:1], [REFERENCES[0]] * 3, "-k", "3", "--json")
    assert (done.code, done.result["samples"], done.result["n"]) == (0, 3, 3)
    assert "2 samples repeat another program of their problem; each counts as a sample" in done.err
    assert "samples repeat" not in desk.score(HUMAN, REFERENCES).err


def test_unequal_numbers_of_samples(desk: Desk) -> None:
    done = desk.score(HUMAN, [*REFERENCES, {"task_id": "HumanEval/0", "completion": "    return 0\n"}], "-k", "1,2")
    assert (done.code, "problems have 1 to 2 samples; k goes by the fewest" in done.err) == (0, True)
    assert "pass@2:" not in done.out


@pytest.mark.parametrize(
    ("k", "message"),
    [
        ("5", "no pass@k can be estimated from 1 samples of a problem; ask for -k 1 or less"),
        ("0", "-k 0: each k is at least 1"),
        ("1,x", "-k 1,x: not numbers separated by commas"),
        ("", "-k : not numbers separated by commas"),
    ],
)
def test_bad_k(desk: Desk, k: str, message: str) -> None:
    done = desk.score(HUMAN, REFERENCES, "-k", k)
    assert (done.code, desk.wrote_nothing) == (2, True)
    assert message in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cpu-seconds", "0"], "'--cpu-seconds': Input should be greater than or equal to 0.01"),
        (["--cpu-seconds", "1e300"], "'--cpu-seconds': Input should be less than or equal to 3600"),
        (["--cpu-seconds", "nan"], "--cpu-seconds"),
        (["--wall-seconds", "1e300"], "'--wall-seconds': Input should be less than or equal to 36000"),
        (["--wall-seconds", "-1"], "'--wall-seconds': Input should be greater than or equal to 0.01"),
        (["--memory-mb", "1048577"], "'--memory-mb': Input should be less than or equal to 1048576"),
        (["--workers", "0"], "'--workers': Input should be greater than or equal to 1"),
        (["--map", "task_id"], "--map takes OURS=THEIRS"),
        (["--map", "task_id=id"], "no field 'id', which is to be 'task_id'"),
        (["--memory-mb", "1"], "'--memory-mb': Input should be greater than or equal to 64"),
    ],
)
def test_bad_options(desk: Desk, options: list[str], message: str) -> None:
    done = desk.score(HUMAN, REFERENCES, *options)
    assert (done.code, desk.wrote_nothing) == (2, True)
    assert message in done.err


def test_the_widest_limits(desk: Desk) -> None:
    cases = [{"stdin": "", "stdout": ""}] * 9
    rows = [{"task_id": "a", "prompt": "", "completion": "", "entry_point": "", "cases": cases}]
    widest = ["--cpu-seconds", "3600", "--wall-seconds", "36000", "--memory-mb", "1048576"]
    done = desk.score(rows, [{"task_id": "a", "completion": "pass"}], *widest)
    assert done.code == 0, done.err
    assert desk.results[0]["passed"]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "p.jsonl"], "the results file p.jsonl: is PROBLEMS too"),
        (["--out", "./deep/../s.jsonl"], "is SAMPLES too"),
        (["--out", "link"], "the results file link: is PROBLEMS too"),
        (["--out", "hard"], "the results file hard: is SAMPLES too"),
        (["--export", "human-eval=p.jsonl"], "--export p.jsonl: is PROBLEMS too"),
        (["--export", "evalplus=s.jsonl"], "--export s.jsonl: is SAMPLES too"),
        (["--export", "evalplus=s.jsonl_results.jsonl"], "is the results file too"),
        (["--out", "new", "--export", "evalplus=deep/../new"], "is the results file too"),
        (["--out", "deep"], "the results file deep: is a folder"),
    ],
)
def test_nothing_that_is_given_is_overwritten(desk: Desk, options: list[str], message: str) -> None:
    (desk.folder / "deep").mkdir()
    (desk.folder / "link").symlink_to("p.jsonl")
    write(desk.folder / "p.jsonl", HUMAN)
    (desk.folder / "hard").hardlink_to(write(desk.folder / "s.jsonl", REFERENCES))
    before = contents(desk.folder)
    done = desk.score(HUMAN, REFERENCES, *options)
    assert (done.code, done.err.count("\n"), contents(desk.folder)) == (2, 1, before)
    assert message in done.err
    assert (desk.folder / "link").is_symlink()


def test_problems_under_the_name_of_the_results_are_not_overwritten(desk: Desk) -> None:
    (desk.folder / "s.jsonl_results.jsonl").symlink_to("p.jsonl")
    done = desk.score(HUMAN, REFERENCES)
    assert (done.code, "is PROBLEMS too" in done.err) == (2, True)


def test_no_sample_of_a_folder_is_overwritten(desk: Desk) -> None:
    sample = desk.folder / "samples" / "HumanEval_0" / "0.py"
    sample.parent.mkdir(parents=True)
    sample.write_text("def add(a, b): return a + b")
    before = contents(sample.parent)
    done = desk.score(HUMAN[:1], desk.folder / "samples", "--out", sample)
    assert (done.code, contents(sample.parent)) == (2, before)
    assert "lies among SAMPLES" in done.err
    assert desk.score(HUMAN[:1], desk.folder / "samples", "--out", "samples/results.jsonl").code == 0


@pytest.mark.parametrize("packages", ["numpy", 5, None, [1]])
def test_packages_that_are_no_list_of_names(packages: Any) -> None:
    task = CodeTask("a", "", entry_point="f", tests=("f()",), meta={"packages": packages})
    with pytest.raises(InputError, match="a: 'packages' in field 'meta' is not a list of names"):
        command._may_run([task], scoring.Settings(Limits()), True)


def test_problems_in_two_spellings(desk: Desk) -> None:
    rows = [
        {"task_id": name, "prompt": "", "completion": "", "entry_point": "f", "tests": ["f()"]}
        for name in ("1", "mbpp/1")
    ]
    done = desk.score(rows, [{"task_id": 1, "completion": "def f(): pass"}])
    assert (done.code, "hold 'mbpp/1' in two spellings" in done.err) == (2, True)


def test_a_disk_that_refuses(desk: Desk) -> None:
    write(desk.folder / "taken", [])
    done = desk.score(MBPP[:1], [{"task_id": 11, "completion": MBPP[0]["code"]}], "--out", Path("taken") / "r.jsonl")
    assert (done.code, "cannot write" in done.err) == (2, True)
