"""Data sets by name: checksums, sizes, labels, evidence, sets of third parties."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hrmctl_data.fetch as stage
import pytest
from hrmctl_data.params import GetParams, HumanEvalParams, MbppParams, PlusParams
from hrmctl_sandbox import Isolation

from hrmctl import DatasetSpec, InputError, Observation, Output, StageError
from hrmctl.testing import make_artifact, make_context

from .server import FakeHub, serve


def mbpp_line(number: int) -> str:
    return json.dumps(
        {
            "task_id": number,
            "text": "Add one.",
            "code": "def g(x):\r\n  return x + 1",
            "test_setup_code": "",
            "test_list": ["assert g(1) == 2", "assert g(2) == 3"],
            "challenge_test_list": [],
        }
    )


SMALL = "\n".join(mbpp_line(number) for number in (5, 20, 21, 700)).encode()


def spec_of(url: str = "http://127.0.0.1:9/f", body: bytes = SMALL, **changes: Any) -> DatasetSpec:
    values = {
        "name": "third",
        "summary": "a set",
        "url": url,
        "sha256": hashlib.sha256(body).hexdigest(),
        "licence": "MIT",
        "splits": {"prompt": 1, "test": 2, "train": 1},
        "target": "hrmctl_data.benchmarks:mbpp",
    }
    return DatasetSpec(**{**values, **changes})


def given(path: Path, body: bytes = SMALL) -> dict[str, Any]:
    path.write_bytes(body)
    return {"file": make_artifact(path, "dataset", "given")}


def labels(result: Any) -> dict[str, str]:
    return {name: output.label for name, output in result.artifacts.items()}


def test_a_download_becomes_one_artifact_a_split(tmp_path: Path) -> None:
    ctx = make_context(tmp_path)
    with serve(FakeHub(SMALL)) as hub:
        result = stage.fetch(spec_of(hub.url), {}, ctx, allow_other_checksum=False)
    assert labels(result) == {"prompt": "third@prompt", "test": "third@test", "train": "third@train"}
    assert len(result.artifacts["test"].path.read_text().splitlines()) == 2
    assert ctx.rows[-1][:2] == (len(SMALL), len(SMALL))
    payload = {"value": 2, "unit": "problems", "n": 2}
    assert Observation("problems", "measurement/v1", payload, {"dataset": result.artifacts["test"]}) in result.evidence
    assert len(result.evidence) == 3


def test_a_given_file_needs_no_network(tmp_path: Path) -> None:
    result = stage.fetch(spec_of(), given(tmp_path / "f"), make_context(tmp_path), allow_other_checksum=False)
    assert labels(result)["test"] == "third@test"


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"not the published third: its sha256 is .*allow_other_checksum: true"):
        stage.fetch(spec_of(), given(tmp_path / "f", SMALL + b"\n"), make_context(tmp_path), allow_other_checksum=False)


def test_another_file_that_is_allowed_is_called_custom(tmp_path: Path) -> None:
    body = SMALL + b"\n" + mbpp_line(30).encode()
    result = stage.fetch(spec_of(), given(tmp_path / "f", body), make_context(tmp_path), allow_other_checksum=True)
    assert labels(result)["test"] == "third-custom@test"
    assert len(result.artifacts["test"].path.read_text().splitlines()) == 3


def test_faults_of_another_file_name_it(tmp_path: Path) -> None:
    inputs = given(tmp_path / "f", SMALL + b"\n{")
    with pytest.raises(StageError, match=r"^given:5:1: not JSON"):
        stage.fetch(spec_of(), inputs, make_context(tmp_path), allow_other_checksum=True)


def test_the_published_file_is_never_called_custom(tmp_path: Path) -> None:
    result = stage.fetch(spec_of(), given(tmp_path / "f"), make_context(tmp_path), allow_other_checksum=True)
    assert labels(result)["test"] == "third@test"


def test_a_download_of_another_file_is_refused_even_so(tmp_path: Path) -> None:
    with serve(FakeHub(SMALL + b"\n")) as hub, pytest.raises(StageError, match="now serves a file of sha256"):
        stage.fetch(spec_of(hub.url), {}, make_context(tmp_path), allow_other_checksum=True)


def test_sizes_are_asserted(tmp_path: Path) -> None:
    spec = spec_of(splits={"prompt": 1, "test": 3, "train": 1})
    with pytest.raises(StageError, match="third has the splits"):
        stage.fetch(spec, given(tmp_path / "f"), make_context(tmp_path), allow_other_checksum=False)


def plus_line(task_id: str, solution: str) -> str:
    row = {"task_id": task_id, "prompt": '"""Add one."""\n', "canonical_solution": solution, "entry_point": "g"}
    return json.dumps({**row, "contract": "", "base_input": [[1]], "plus_input": [[2], [3]], "atol": 0})


def test_what_evalplus_releases_gets_its_expected_outputs(tmp_path: Path) -> None:
    body = plus_line("Mbpp/3", "def g(x):\n    return x + 1\n").encode()
    inputs = given(tmp_path / "f", gzip.compress(body))
    result = stage.run_mbpp_plus(PlusParams(allow_other_checksum=True), inputs, make_context(tmp_path))
    assert labels(result) == {"test": "mbpp-plus-custom@test"}
    (row,) = (json.loads(line) for line in result.artifacts["test"].path.read_text().splitlines())
    assert "_plus_input_expected = [3, 4]" in row["tests"][1]
    with pytest.raises(StageError, match="not the published humaneval-plus"):
        stage.run_humaneval_plus(PlusParams(), inputs, make_context(tmp_path))


def test_a_reference_that_fails_is_a_fault_of_its_row(tmp_path: Path) -> None:
    lines = [plus_line("Mbpp/3", "def g(x):\n    return x\n"), plus_line("Mbpp/4", "def g(x):\n    return 1 / 0\n")]
    inputs = given(tmp_path / "f", "\n".join(lines).encode())
    with pytest.raises(StageError, match=r"^given:2:1: the reference gives no answers: ZeroDivisionError"):
        stage.run_mbpp_plus(PlusParams(allow_other_checksum=True), inputs, make_context(tmp_path))


def test_references_that_cannot_be_contained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Isolation("unsafe", (), ("seccomp",), "use another kernel")
    monkeypatch.setattr("hrmctl_sandbox.formats.expected.probe", lambda: found)
    inputs = given(tmp_path / "f", plus_line("Mbpp/3", "def g(x):\n    return x\n").encode())
    with pytest.raises(StageError, match=r"cannot be contained here \(missing: seccomp\). use another kernel"):
        stage.run_mbpp_plus(PlusParams(allow_other_checksum=True), inputs, make_context(tmp_path))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    inputs = {"file": SimpleNamespace(path=tmp_path / "d")}
    with pytest.raises(StageError, match="is a folder"):
        stage.fetch(spec_of(), inputs, make_context(tmp_path), allow_other_checksum=True)


def bad_reader(path: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    return {"test": [{"task_id": "x/1", "prompt": "", "completion": "", "entry_point": "f", "tests": []}]}


def odd_reader(path: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    return {"dev": []}


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (bad_reader, "bad row 1 of test: field 'tests' is not a list of at least one text"),
        (odd_reader, "has a split 'dev'"),
    ],
)
def test_readers_of_third_parties_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Any, message: str
) -> None:
    monkeypatch.setattr(stage, "resolve", lambda target: reader)
    with pytest.raises(StageError, match=message):
        stage.fetch(spec_of(), given(tmp_path / "f"), make_context(tmp_path), allow_other_checksum=False)


def test_data_get_knows_the_sets_of_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = stage.catalog()
    monkeypatch.setattr(
        stage,
        "catalog",
        lambda: SimpleNamespace(datasets={**known.datasets, "third": spec_of()}, unknown=known.unknown),
    )
    result = stage.run_get(GetParams("third"), given(tmp_path / "f"), make_context(tmp_path))
    assert labels(result)["train"] == "third@train"
    with pytest.raises(InputError, match=r"unknown data set 'thrid'.*third"):
        stage.run_get(GetParams("thrid"), {}, make_context(tmp_path))


def made(result: Any) -> dict[str, tuple[str, int]]:
    return {n: (o.label, len(o.path.read_text(encoding="utf-8").splitlines())) for n, o in result.artifacts.items()}


def real(shared_data: Path, name: str) -> dict[str, Any]:
    return {"file": make_artifact(shared_data / name, "dataset", name)}


def outputs(name: str, **sizes: int) -> dict[str, tuple[str, int]]:
    return {split: (f"{name}@{split}", size) for split, size in sizes.items()}


def test_mbpp_for_real(shared_data: Path, tmp_path: Path) -> None:
    result = stage.run_mbpp(MbppParams(), real(shared_data, "mbpp.jsonl"), make_context(tmp_path))
    assert made(result) == outputs("mbpp", prompt=10, test=500, validation=90, train=374)
    ids = [json.loads(line)["task_id"] for line in result.artifacts["test"].path.open(encoding="utf-8")]
    assert sorted(ids) == sorted(f"mbpp/{number}" for number in range(11, 511))


def test_sanitized_mbpp_for_real(shared_data: Path, tmp_path: Path) -> None:
    params = MbppParams(sanitized=True)
    result = stage.run_mbpp(params, real(shared_data, "sanitized-mbpp.json"), make_context(tmp_path))
    assert made(result) == outputs("mbpp-sanitized", prompt=7, test=257, validation=43, train=120)


def test_humaneval_for_real(shared_data: Path, tmp_path: Path) -> None:
    result = stage.run_humaneval(HumanEvalParams(), real(shared_data, "HumanEval.jsonl.gz"), make_context(tmp_path))
    assert made(result) == outputs("humaneval", test=164)


def test_one_set_is_not_taken_for_another(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="not the published mbpp"):
        stage.run_mbpp(MbppParams(), real(shared_data, "sanitized-mbpp.json"), make_context(tmp_path))


def test_outputs_lie_in_scratch(tmp_path: Path) -> None:
    ctx = make_context(tmp_path)
    result = stage.fetch(spec_of(), given(tmp_path / "f"), ctx, allow_other_checksum=False)
    assert all(isinstance(o, Output) and o.path.parent == ctx.scratch for o in result.artifacts.values())
