"""Recipes: references become edges, a matrix becomes cells, and a plan says why a stage would run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hrmctl.errors import HrmctlError, InputError, StoreError
from hrmctl.plugins import Catalog, catalog
from hrmctl.recipe import FromPath, FromStage, Plan, load_recipe, make_plan
from hrmctl.recipe.single import single_stage
from hrmctl.recipe.status import plan_status, stage_key
from hrmctl.store import Store

from .lab import HEAD, write_lab, write_recipe

FOLDER: list[Path] = []
BASE = """
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, with: {data: "${data.data}"}}
"""


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_lab(tmp_path_factory.mktemp("lab"))
    (made / "words.txt").write_text("words")
    (made / "contracts").mkdir()
    for name in ("one", "two"):
        (made / "contracts" / f"{name}.yaml").write_text("kind: contract\n")
    FOLDER[:] = [made]
    return made


def plan(body: str, settings: Sequence[str] = (), head: str = HEAD) -> Plan:
    recipe = write_recipe(FOLDER[0], body, head)
    return make_plan(load_recipe(recipe, settings), catalog(FOLDER[0]))


def faults(body: str, settings: Sequence[str] = (), head: str = HEAD) -> list[str]:
    with pytest.raises(InputError) as caught:
        plan(body, settings, head)
    return [str(p).replace(f"{FOLDER[0]}/", "") for p in caught.value.problems]


# --- edges and order ------------------------------------------------------------------------------


def test_references_and_paths_become_inputs(folder: Path) -> None:
    (folder / "link.txt").symlink_to("words.txt")
    made = plan(f"{BASE}  b: {{uses: lab.train, with: {{data: link.txt}}, after: [a]}}\n")
    by_id = {s.id: s for s in made.stages}
    assert by_id["a"].inputs == {"data": [FromStage("data", "data")]}
    assert by_id["b"].inputs == {"data": [FromPath(folder / "link.txt")]}
    assert by_id["b"].parents == ["a"]
    assert [s.id for s in made.stages] == ["data", "a", "b"]


def test_the_order_follows_the_edges_not_the_file() -> None:
    made = plan(
        """
        stages:
          last: {uses: lab.compare, with: {models: ["${b.model}", "${a.model}"]}}
          b: {uses: lab.train, with: {data: "${data.data}"}}
          a: {uses: lab.train, with: {data: "${data.data}"}, after: [b]}
          data: {uses: lab.make}
        """
    )
    assert [s.id for s in made.stages] == ["data", "b", "a", "last"]
    assert made.descendants({"b"}) == {"b", "a", "last"}
    assert made.ancestors({"b"}) == {"b", "data"}
    assert made.width == 1


# --- cells ----------------------------------------------------------------------------------------

MATRIX = """
stages:
  data: {uses: lab.make, matrix: {text: [x, y]}}
  a: {uses: lab.train, with: {data: "${data.data}"}, matrix: {seed: [1, 2]}}
  b: {uses: lab.train, with: {data: "${data.data}", steps: 5}}
"""


def cells(body: str) -> dict[str, Any]:
    return {s.id: s for s in plan(body).stages}


def test_a_matrix_fans_out_and_is_inherited() -> None:
    found = cells(MATRIX)
    assert list(found) == [
        "data[text=x]",
        "data[text=y]",
        "a[text=x,seed=1]",
        "a[text=x,seed=2]",
        "a[text=y,seed=1]",
        "a[text=y,seed=2]",
        "b[text=x]",
        "b[text=y]",
    ]
    assert found["a[text=y,seed=2]"].seed == 2
    assert found["a[text=y,seed=2]"].inputs == {"data": [FromStage("data[text=y]", "data")]}
    assert found["b[text=x]"].seed == 7
    assert found["data[text=y]"].params.text == "y"


def test_cells_join_on_the_axes_they_share() -> None:
    found = cells(f'{MATRIX}  c: {{uses: lab.compare, with: {{models: ["${{a.model}}", "${{b.model}}"]}}}}\n')
    joined = {name: s.parents for name, s in found.items() if name.startswith("c")}
    assert joined == {
        "c[text=x,seed=1]": ["a[text=x,seed=1]", "b[text=x]"],
        "c[text=x,seed=2]": ["a[text=x,seed=2]", "b[text=x]"],
        "c[text=y,seed=1]": ["a[text=y,seed=1]", "b[text=y]"],
        "c[text=y,seed=2]": ["a[text=y,seed=2]", "b[text=y]"],
    }
    assert found["c[text=x,seed=2]"].seed == 2


def test_a_star_gathers_every_cell() -> None:
    found = cells(f'{MATRIX}  c: {{uses: lab.compare, with: {{models: ["${{a[*].model}}"]}}}}\n')
    assert found["c"].parents == [name for name in found if name.startswith("a")]


def test_one_cell_can_be_chosen() -> None:
    body = f'{MATRIX}  c: {{uses: lab.compare, with: {{models: ["${{a[text=x, seed=2].model}}", "${{b.model}}"]}}}}\n'
    found = cells(body)
    assert found["c[text=y]"].parents == ["a[text=x,seed=2]", "b[text=y]"]
    assert "lab.yaml:9:42: no cell 'a[seed=2]'; cells: a[text=x,seed=1], " in faults(body.replace("text=x, ", ""))[0]


def test_an_axis_can_hold_lists_and_mappings() -> None:
    found = cells(
        """
        stages:
          a: {uses: lab.train, with: {data: words.txt}, matrix: {words: [[p], [p, q]], table: [{k: 1}, {k: 2}]}}
          c: {uses: lab.compare, with: {models: ["${a.model}"]}}
        """
    )
    assert len(found) == 8
    assert [s.params.words for s in found.values() if s.name == "a"] == [("p",), ("p",), ("p", "q"), ("p", "q")]
    assert all(len(s.parents) == 1 for s in found.values() if s.name == "c")


def test_the_seed_of_a_stage_goes_before_that_of_the_recipe() -> None:
    found = cells(
        """
        stages:
          a: {uses: lab.make, seed: 0}
          b: {uses: lab.make}
          c: {uses: lab.make, seed: 3, matrix: {seed: [0, 9]}}
        """
    )
    assert [s.seed for s in found.values()] == [0, 7, 0, 9]


# --- contracts ------------------------------------------------------------------------------------

ONE = "stages:\n  a: {uses: lab.make}\n"


def test_contract_patterns_are_found_beside_the_recipe(folder: Path) -> None:
    made = plan(f"{ONE}contracts: ['*.yaml', one.yaml]\n".replace("'*.yaml'", "contracts/*.yaml"))
    assert [p.name for p in made.recipe.contracts] == ["one.yaml", "two.yaml"]
    absolute = plan(f"{ONE}contracts: [{folder}/contracts/o*.yaml]\n")
    assert [p.name for p in absolute.recipe.contracts] == ["one.yaml"]


@pytest.mark.parametrize("pattern", ["absent.yaml", "", ".", "**x", "/absent/*.yaml", "a\0b", "/"])
def test_a_pattern_that_matches_nothing_is_a_fault(pattern: str) -> None:
    shown = '"a\\0b"' if "\0" in pattern else f"'{pattern}'"
    assert faults(f"{ONE}contracts: [{shown}]\n")[0].startswith("lab.yaml:6:13: no contract matches '")


@pytest.mark.parametrize(
    ("pattern", "looked"),
    [
        ("contracts/*.yaml", "looked in deep/recipes, deep/recipes/contracts, deep/contracts and contracts"),
        ("/absent/*.yaml", "it names an absolute path"),
    ],
)
def test_every_folder_that_was_tried_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, looked: str
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Path("deep", "recipes", "lab.yaml")
    recipe.parent.mkdir(parents=True)
    recipe.write_text(f"kind: recipe\nname: lab\nstages: {{a: {{uses: lab.make}}}}\ncontracts: ['{pattern}']\n")
    with pytest.raises(InputError) as caught:
        load_recipe(recipe)
    remedy = "correct the path, or write a contract with: hrmctl contracts new ID"
    assert str(caught.value) == f"{recipe}:4:13: no contract matches '{pattern}'; {looked}; {remedy}"


def test_a_claim_is_a_contract_or_a_hypothesis() -> None:
    found = faults(f"{ONE}contracts: [contracts/one.yaml]\nhypotheses: [contracts/*.yaml]\n")
    assert found == ["lab.yaml:7:1: one.yaml is also among the contracts; a claim is either"]


# --- one stage alone ------------------------------------------------------------------------------


def test_a_single_stage_is_a_recipe(folder: Path) -> None:
    recipe = single_stage("lab.train", {"steps": 4, "data": str(folder / "words.txt")}, 11)
    stage = make_plan(recipe, catalog(folder)).stages[0]
    assert (stage.id, stage.seed, stage.params.steps) == ("lab-train", 11, 4)
    with pytest.raises(InputError, match=r"hrmctl lab train: steps: .* out of range; must be at least 1"):
        make_plan(single_stage("lab.train", {"steps": 0, "data": str(folder)}, 0), catalog(folder))


# --- what --plan says -----------------------------------------------------------------------------


def test_a_plan_says_why_a_stage_would_run(folder: Path, tmp_path: Path) -> None:
    found: Catalog = catalog(folder)
    store = Store(tmp_path / "store")
    made = plan(BASE)
    assert [s.reason for s in plan_status(made, found, store, {})] == ["never ran here", "data runs first"]
    assert not store.root.exists()
    lines = plan_status(made, found, store, {"stages": {"data": {"status": "failed"}}}, frozenset({"data"}))
    assert lines[0].reason == "asked for"
    before = {"status": "done", "key": "k", "params": {"text": "old", "extra": False}, "seed": 3, "version": "0"}
    lines = plan_status(made, found, store, {"stages": {"data": {**before, "inputs": {}}}})
    assert lines[0].reason == "text: old → hello; seed: 3 → 7; its code changed"
    lines = plan_status(made, found, store, {"stages": {"data": {"status": "failed"}}})
    assert lines[0].reason == "failed last time"


def test_a_file_that_is_not_utf_8_is_refused(folder: Path) -> None:
    path = folder / "latin.yaml"
    path.write_bytes(textwrap.dedent(HEAD).encode() + b"# \xff\n")
    with pytest.raises(InputError, match=r"latin\.yaml:4:3: not UTF-8 \(byte 0xff\); save it as UTF-8"):
        load_recipe(path)


def test_errors_of_the_store_are_expected_ones() -> None:
    assert issubclass(StoreError, HrmctlError)
    assert StoreError("x").exit_code == 2


def test_what_measures_time_is_cached_for_its_machine_alone() -> None:
    timed, counted = plan(
        """
        stages:
          a: {uses: lab.race, with: {data: words.txt}}
          b: {uses: lab.train, with: {data: words.txt}}
        """
    ).stages
    assert stage_key(timed, "1", {}, "cpu") != stage_key(timed, "1", {}, "cuda")
    assert stage_key(counted, "1", {}, "cpu") == stage_key(counted, "1", {}, "cuda")
    assert stage_key(counted, "1", {}) != stage_key(counted, "2", {})
