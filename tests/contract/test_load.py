"""Files, folders and globs; ids once; the template and the editor's schema."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from hrmctl import InputError, MeasureSpec
from hrmctl.cli import run
from hrmctl.contract import Contract, load_contracts, parse_text, proof_of
from hrmctl.contract.editor import contract_schema
from hrmctl.contract.template import template


@pytest.fixture
def folder(tmp_path: Path, example: str) -> Path:
    for name in ("b/two", "a/one", "b/c/three"):
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(example.replace("HRM-P1", path.stem))
    (tmp_path / "accepted.json").write_text("{}")
    return tmp_path


def ids(paths: list[Path], measures: dict[str, MeasureSpec]) -> list[str]:
    return [item.id for item in load_contracts(paths, measures)]


def test_files_folders_and_globs(
    folder: Path, measures: dict[str, MeasureSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ids([folder], measures) == ["one", "three", "two"]
    assert ids([folder / "b"], measures) == ["three", "two"]
    assert ids([folder / "b" / "two.yaml", folder / "b"], measures) == ["three", "two"]
    assert ids([folder / "b", folder / "a" / ".." / "b" / "two.yaml"], measures) == ["three", "two"]
    assert ids([folder / "*" / "t*.yaml"], measures) == ["two"]
    monkeypatch.chdir(folder)
    assert ids([Path("**/*.yaml")], measures) == ["one", "three", "two"]
    assert ids([Path("a")], measures) == ["one"]


def test_the_copies_that_a_store_keeps_are_not_the_users_contracts(
    folder: Path, example: str, measures: dict[str, MeasureSpec]
) -> None:
    kept = folder / ".hrmctl" / "contracts" / "abc.yaml"
    kept.parent.mkdir(parents=True)
    kept.write_text(example.replace("HRM-P1", "one"))
    assert ids([folder], measures) == ["one", "three", "two"]
    assert ids([kept], measures) == ["one"]


def test_nothing_there_is_an_error(folder: Path, measures: dict[str, MeasureSpec]) -> None:
    (folder / "empty").mkdir()
    missing = [folder / "none.yaml", folder / "empty", folder / "x*.yaml"]
    with pytest.raises(InputError) as caught:
        load_contracts([*missing, folder / "a"], measures)
    assert [p.file for p in caught.value.problems] == [str(path) for path in missing]
    assert caught.value.problems[0].message == "no contract is there"


def test_an_id_is_given_once(folder: Path, example: str, measures: dict[str, MeasureSpec]) -> None:
    (folder / "z.yaml").write_text("# again\n" + example.replace("HRM-P1", "two"))
    with pytest.raises(InputError) as caught:
        load_contracts([folder], measures)
    assert str(caught.value) == f"{folder}/z.yaml:3:5: the id 'two' is taken; first given in {folder}/b/two.yaml:2:5"


def test_the_faults_of_all_files_come_together(folder: Path, measures: dict[str, MeasureSpec]) -> None:
    for name in ("a/one", "b/two"):
        path = folder / f"{name}.yaml"
        path.write_text(path.read_text().replace("title", "titel"))
    (folder / "recipe.yaml").write_text("kind: recipe\n")
    with pytest.raises(InputError) as caught:
        load_contracts([folder], measures)
    assert {Path(p.file).name for p in caught.value.problems} == {"one.yaml", "two.yaml", "recipe.yaml"}


def test_the_template_loads_and_proves_as_written(measures: dict[str, MeasureSpec]) -> None:
    contract = parse_text(template("NEW-1", 'It says "yes": always\\'), measures)
    assert isinstance(contract, Contract)
    assert (contract.id, contract.title) == ("NEW-1", 'It says "yes": always\\')
    proof = proof_of(contract, measures)
    assert proof.ok
    assert proof.total >= 13
    assert parse_text(template("1"), measures).id == "1"
    with pytest.raises(InputError, match="'a/b' is not an id"):
        template("a/b")


def test_the_template_proves_with_the_real_measures() -> None:
    specs = pytest.importorskip("hrmctl_statistics.specs").MEASURES
    real = {spec.name: spec for spec in specs}
    assert proof_of(parse_text(template("NEW-1"), real), real).ok


def test_the_schema_accepts_what_loads_and_refuses_misspellings(example: str, measures: dict[str, MeasureSpec]) -> None:
    schema = contract_schema(measures)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    gate = (Path(__file__).parent / "test_gate.py").read_text().split('GATE = """\\\n')[1].split('"""')[0]
    for text in (example, template("NEW-1"), gate):
        validator.validate(yaml.safe_load(text))
    for old, new in (("k: 1", "kk: 1"), ("op: ge", "op: gee"), ("title:", "titel:"), ("stage:", "stge:")):
        assert not validator.is_valid(yaml.safe_load(example.replace(old, new)))
    assert json.dumps(schema)


def test_the_engine_imports_nothing_heavy() -> None:
    code = (
        "import sys, hrmctl.contract, hrmctl.contract.bind, hrmctl.contract.editor, hrmctl.ledger, hrmctl.ratchet;"
        "print([m for m in ('torch', 'transformers', 'scipy', 'numpy', 'pluggy.x') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_contracts_of_the_manual_are_proven(root: Path) -> None:
    specs = pytest.importorskip("hrmctl_statistics.specs").MEASURES
    real = {spec.name: spec for spec in specs}
    blocks = re.findall(r"```yaml\n(kind: .*?)```", (root / "docs" / "contracts.md").read_text(), re.DOTALL)
    items = [parse_text(block, real) for block in blocks]
    assert [item.id for item in items] == ["HRM-P1", "FASTER", "GO-ON"]
    for item in items:
        assert proof_of(item, real).problems == ()


# --- contracts new --------------------------------------------------------------------------------


def new(*argv: str) -> tuple[int, str]:
    """The exit code of `contracts new` in the current folder and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run(["contracts", "new", *argv])
    return code, said.getvalue()


@pytest.mark.parametrize(
    ("cwd", "more", "place"),
    [
        (".", [], "contracts/deep/other.yaml"),
        (".", ["--folder", "contracts/new"], "contracts/deep/other.yaml"),
        ("contracts", [], "deep/other.yaml"),
        ("contracts/deep", ["--folder", ".."], "../deep/other.yaml"),
    ],
)
def test_an_id_that_a_file_has_is_not_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cwd: str, more: list[str], place: str
) -> None:
    other = tmp_path / "contracts" / "deep" / "other.yaml"
    other.parent.mkdir(parents=True)
    other.write_text(template("MY-P1"))
    (other.parent / "broken.yaml").write_text("kind: contract\nid: MY-P1\nid: [\n")
    (other.parent / "list.yaml").write_text("[MY-P1]\n")
    (other.parent / "note.yaml").write_text("kind: [note]\nid: MY-P1\n")
    monkeypatch.chdir(tmp_path / cwd)
    before = sorted(tmp_path.rglob("*"))
    assert new("MY-P1", *more) == (2, f"hrmctl: {place}:3:5: the id 'MY-P1' is taken; choose another id\n")
    assert sorted(tmp_path.rglob("*")) == before
    assert new("MY-P", *more)[0] == 0


def test_a_contract_goes_into_the_folder_of_contracts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert new("MY-P1") == (0, "contracts/my-p1.yaml\n")
    monkeypatch.chdir("contracts")
    assert new("MY-P2") == (0, "my-p2.yaml\n")
    assert new("MY-P3", "--folder", "contracts") == (0, "contracts/my-p3.yaml\n")
    assert sorted(p.name for p in Path().rglob("*")) == ["contracts", "my-p1.yaml", "my-p2.yaml", "my-p3.yaml"]
