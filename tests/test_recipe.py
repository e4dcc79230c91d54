"""Recipes: every fault has its place and remedy, references become edges, a matrix becomes cells."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl.errors import HrmctlError, InputError, StoreError
from hrmctl.plugins import Catalog, catalog
from hrmctl.recipe import FromPath, FromStage, Plan, load_recipe, make_plan
from hrmctl.recipe.plan import MAX_CELLS
from hrmctl.recipe.single import single_stage
from hrmctl.recipe.status import plan_status, stage_key
from hrmctl.store import Store

from .lab import HEAD, write_lab, write_recipe

FOLDER: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_lab(tmp_path_factory.mktemp("lab"))
    (made / "words.txt").write_text("words")
    (made / "contracts").mkdir()
    for name in ("one", "two"):
        (made / "contracts" / f"{name}.yaml").write_text("kind: contract\n")
    FOLDER[:] = [made]
    write_recipe(made, VARS, name="vars.yaml")
    return made


def plan(body: str, settings: Sequence[str] = (), head: str = HEAD) -> Plan:
    recipe = write_recipe(FOLDER[0], body, head)
    return make_plan(load_recipe(recipe, settings), catalog(FOLDER[0]))


def faults(body: str, settings: Sequence[str] = (), head: str = HEAD) -> list[str]:
    with pytest.raises(InputError) as caught:
        plan(body, settings, head)
    return [str(p).replace(f"{FOLDER[0]}/", "") for p in caught.value.problems]


# --- bad input ------------------------------------------------------------------------------------

HEADLESS = [
    ("", "lab.yaml:1:1: the file is empty"),
    ("- 1", "lab.yaml:1:1: not a recipe: no kind; the file must say kind: recipe"),
    ("kind: contract\nid: X", "lab.yaml:1:7: not a recipe: 'contract'; the file must say kind: recipe"),
    ("kind: recipe\nname: x\nstages: {}", "lab.yaml:3:9: a recipe needs at least one stage"),
    ("kind: recipe\nname: x\nstages: [a]", "lab.yaml:3:9: stages: expected a mapping, found a list"),
    ("kind: recipe\nname: x\n", "lab.yaml:1:1: missing key 'stages'; stages by id"),
    (
        "kind: recipe\nname: ../../x\nstages: {a: {uses: lab.make}}",
        "lab.yaml:2:7: '../../x' is not a name; letters, digits, - and _; first a letter",
    ),
    (
        "kind: recipe\nname: ''\nstages: {a: {uses: lab.make}}",
        "lab.yaml:2:7: name: text ('') is out of range; must have at least 1",
    ),
    ("kind: recipe\nname: x\nseed: -1\nstages: {a: {uses: lab.make}}", "lab.yaml:3:7: seed: an integer ('-1') is out"),
    ("kind: recipe\nname: x\nseed: .nan\nstages: {a: {uses: lab.make}}", "lab.yaml:3:7: seed: expected an integer"),
    ("kind: recipe\nname: x\nstagse: {a: 1}", "lab.yaml:3:1: unknown key 'stagse'; did you mean 'stages'?"),
    ("kind: recipe\nname: x\nname: y", "lab.yaml:3:1: duplicate key 'name'; first given in line 2"),
    ("kind: recipe\nstages:\n\ta: 1", "lab.yaml:3:1: a tab in the indentation; indent with spaces"),
]


@pytest.mark.parametrize(("text", "message"), HEADLESS)
def test_an_outline_that_is_wrong(text: str, message: str) -> None:
    assert faults("", head=text)[0].startswith(message)


STAGES = [
    ("a: {uses: lab.maek}", "5:13: unknown stage 'lab.maek'; did you mean 'lab.make'?"),
    ("a: {}", "5:6: missing key 'uses'; the stage's name, e.g. finetune or data.generate"),
    ("a: lab.make", "5:6: expected a mapping, found text"),
    ("a: {uses: lab.make, wiht: {}}", "5:23: unknown key 'wiht'; did you mean 'with'?"),
    ("a: {uses: lab.make, with: [1]}", "5:29: 'with' must be a mapping"),
    ("a: {uses: lab.make, with: {txet: x}}", "5:30: lab.make has no parameter or input 'txet'; did you mean 'text'?"),
    ("a: {uses: lab.make, with: {text: 3}}", "5:36: text: expected text, found an integer ('3')"),
    ("a: {uses: lab.make, with: {text: ''}}", "5:36: text: text ('') is out of range; must have at least 1"),
    ("a: {uses: lab.make, seed: x}", "5:29: seed: expected an integer, found text ('x')"),
    ("a: {uses: lab.make, threads: 0}", "5:32: threads: an integer ('0') is out of range; must be at least 1"),
    ("a: {uses: lab.make, with: {text: .nan}}", "5:36: nan is not a number that a recipe can hold; write a finite"),
    ("1a: {uses: lab.make}", "5:3: '1a' is not a name; letters, digits, - and _; first a letter"),
    ("vars: {uses: lab.make}", "5:3: 'vars' cannot be the name of a stage"),
    ("a: {uses: lab.train}", "5:6: input 'data' is missing; the data"),
    ("a: {uses: lab.train, with: {steps: 1}}", "5:30: input 'data' is missing; the data"),
    ("a: {uses: lab.train, with: {data: }}", "5:31: input 'data' is missing; the data"),
    ("a: {uses: lab.train, with: {data: 3}}", "5:37: input 'data' must be ${stage.output} or a path"),
    ("a: {uses: lab.train, with: {data: [x]}}", "5:37: input 'data' takes one artifact, not a list"),
    (
        "a: {uses: lab.train, with: {data: absent.txt}}",
        "5:37: input 'data': no file or folder 'absent.txt'; write a path or ${stage.output}",
    ),
    ("a: {uses: lab.train, with: {data: ~nobody-of-that-name}}", "5:37: input 'data': no file or folder '~nobody"),
    (f"a: {{uses: lab.train, with: {{data: {'x' * 3000}}}}}", "5:37: input 'data': no file or folder 'xxx"),
    ("a: {uses: lab.train, with: {data: /dev/null}}", "5:37: input 'data': no file or folder '/dev/null'"),
    ("a: {uses: lab.train, with: {data: '${b.data}'}}", "5:37: no stage 'b'; known: a"),
    ("a: {uses: lab.train, with: {data: '${b}'}}", "5:37: '${b}' is not a reference; write ${stage.output}"),
    ("a: {uses: lab.train, with: {data: 'x${b.data}'}}", "5:37: input 'data': no file or folder 'x${b.data}'"),
    ("a: {uses: lab.make, after: [b]}", "5:31: after: no stage 'b'; known: a"),
    (
        "a: {uses: lab.make, with: {text: '${b.data}'}}",
        "5:36: 'text' is a parameter and takes no reference, but says '${b.data}'; only ${vars.name} can stand here",
    ),
    ("a: {uses: lab.make, with: {text: '${var.x}'}}", "5:36: 'text' is a parameter and takes no reference"),
    ("a: {uses: lab.make, with: {text: '${vars.x}'}}", "5:36: unknown variable '${vars.x}'; declare it under vars"),
    ("a: {uses: lab.make, with: {text: 'x ${vars}'}}", "5:36: unknown variable '${vars}'; declare it under vars"),
    ("a: {uses: lab.make, matrix: {txet: [a]}}", "5:32: matrix: 'txet' is no parameter of lab.make; did you mean"),
    ("a: {uses: lab.make, matrix: {text: a}}", "5:38: matrix: 'text' needs a list of values"),
    ("a: {uses: lab.make, matrix: {text: []}}", "5:38: matrix: 'text' needs a list of values"),
    ("a: {uses: lab.make, matrix: {text: [a, 1]}}", "5:42: text: expected text, found an integer ('1')"),
    ("a: {uses: lab.make, matrix: {seed: [a]}}", "5:39: seed: expected an integer, found text ('a')"),
    ("a: {uses: lab.make, matrix: {seed: [-1]}}", "5:39: seed: an integer ('-1') is out of range"),
    ("a: {uses: lab.make, matrix: {seed: [1.5]}}", "5:39: seed: expected an integer, found a number ('1.5')"),
    ("a: {uses: lab.make, matrix: {seed: [1, 1]}}", "5:6: 2 cells are called 'a[seed=1]'; give each value once"),
    ("a: {uses: lab.make, matrix: {text: ['${b.c}']}}", "5:39: 'text' is a parameter and takes no reference"),
]


@pytest.mark.parametrize(("stage", "message"), STAGES)
def test_a_stage_that_is_wrong(stage: str, message: str) -> None:
    found = faults(f"stages:\n  {stage}\n")
    assert len(found) == 1
    assert found[0].startswith(f"lab.yaml:{message}")


BASE = """
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, with: {data: "${data.data}"}}
"""
EDGES = [
    ("b: {uses: lab.train, with: {data: '${dtaa.data}'}}", "8:37: no stage 'dtaa'; did you mean 'data'?"),
    ("b: {uses: lab.train, with: {data: '${data.dat}'}}", "8:37: stage 'data' has no output 'dat'; did you mean"),
    ("b: {uses: lab.train, with: {data: '${a.model}'}}", "8:37: 'a.model' is a model, this input takes a dataset"),
    ("b: {uses: lab.train, with: {data: '${data[*].data}'}}", "8:37: [*] takes every cell, but this input takes one"),
    ("b: {uses: lab.train, with: {data: '${data[x=1].data}'}}", "8:37: no cell 'data[x=1]'; cells: data"),
    ("b: {uses: lab.compare, with: {models: ['${a.model}', 3]}}", "8:56: input 'models' must be ${stage.output}"),
]


@pytest.mark.parametrize(("stage", "message"), EDGES)
def test_an_edge_that_is_wrong(stage: str, message: str) -> None:
    found = faults(f"{BASE}  {stage}\n")
    assert len(found) == 1
    assert found[0].startswith(f"lab.yaml:{message}")


@pytest.mark.parametrize(
    ("stages", "cycle"),
    [
        ("a: {uses: lab.make, after: [a]}", "5:6: stages form a cycle: a → a"),
        ("a: {uses: lab.make, after: [b]}\n  b: {uses: lab.make, after: [a]}", "6:6: stages form a cycle: b → a → b"),
        (
            "z: {uses: lab.make, after: [a]}\n  a: {uses: lab.make, after: [b]}\n"
            "  b: {uses: lab.make, after: [c]}\n  c: {uses: lab.make, after: [a]}",
            "8:6: stages form a cycle: c → b → a → c",
        ),
    ],
)
def test_a_cycle_is_named_step_by_step(stages: str, cycle: str) -> None:
    assert faults(f"stages:\n  {stages}\n") == [f"lab.yaml:{cycle}; remove one reference"]


def test_every_fault_of_every_stage_is_told_at_once() -> None:
    found = faults(
        """
        stages:
          data: {uses: lab.make, with: {text: 1}}
          a: {uses: lab.train, with: {data: "${dat.data}", steps: 0}}
          b: {uses: lab.nothing}
          c: {uses: lab.make, with: {etxt: a}, matrix: {text: ['', x]}}
        """
    )
    assert [line.split(": ")[0] for line in found] == [
        "lab.yaml:8:13",
        "lab.yaml:9:30",
        "lab.yaml:7:37",
        "lab.yaml:6:39",
        "lab.yaml:7:59",
        "lab.yaml:9:56",
    ]


def test_an_unknown_stage_also_names_broken_plugins(tmp_path: Path) -> None:
    (tmp_path / "hrmctl_plugins.py").write_text("import a_module_that_is_not_there\n")
    recipe = write_recipe(tmp_path, "stages:\n  a: {uses: lab.make}\n")
    with pytest.raises(InputError) as caught:
        make_plan(load_recipe(recipe), catalog(tmp_path))
    text = str(caught.value)
    assert "unknown stage 'lab.make'" in text
    assert "plugin hrmctl_plugins.py is broken (ModuleNotFoundError: No module named 'a_module" in text
    assert "\n" not in text


def test_a_matrix_is_bounded_before_it_is_laid_out() -> None:
    values = list(range(10))
    axes = "".join(f", {name}: {values}" for name in ("seed", "steps", "at"))
    begun = time.monotonic()
    wide = f"stages:\n  a: {{uses: lab.train, with: {{data: words.txt}}, matrix: {{pause: {values}{axes}}}}}\n"
    found = faults(wide.replace("steps: [0, ", "steps: ["))
    assert found == [f"lab.yaml:5:6: 9000 cells or more; the limit is {MAX_CELLS}; shorten the matrix"]
    joined = "stages:\n" + "".join(
        f"  m{i}: {{uses: lab.train, with: {{data: words.txt}}, matrix: {{{axis}: {list(range(1, 101))}}}}}\n"
        for i, axis in enumerate(["seed", "steps", "at", "pause"])
    )
    models = ", ".join(f"'${{m{i}.model}}'" for i in range(4))
    joined += f"  all: {{uses: lab.compare, with: {{models: [{models}]}}}}\n"
    assert "cells or more" in faults(joined)[0]
    assert time.monotonic() - begun < 10


def test_cells_that_never_meet_are_a_fault() -> None:
    found = faults(
        """
        stages:
          a: {uses: lab.train, with: {data: words.txt}, matrix: {seed: [1, 2]}}
          b: {uses: lab.train, with: {data: words.txt}, matrix: {seed: [3]}}
          c: {uses: lab.compare, with: {models: ["${a.model}", "${b.model}"]}}
          d: {uses: lab.make, after: [c]}
        """
    )
    assert found == ["lab.yaml:8:6: no cells of its inputs go together; name one, e.g. ${stage[seed=1].model}"]


def test_a_long_chain_of_stages_is_planned_in_time() -> None:
    lines = [f"  s{i}: {{uses: lab.make{f', after: [s{i - 1}]' if i else ''}}}\n" for i in range(2000)]
    begun = time.monotonic()
    assert len(plan("stages:\n" + "".join(lines)).stages) == 2000
    assert time.monotonic() - begun < 20


# --- variables and --set --------------------------------------------------------------------------

VARS = """
vars: {n: 4, word: ab, seeds: [1, 2], table: {x: 1}}
stages:
  a:
    uses: lab.train
    with: {data: words.txt, steps: "${vars.n}", words: ["${vars.word}-${vars.n}"], table: "${vars.table}"}
    matrix: {seed: "${vars.seeds}"}
"""


def test_variables_keep_their_type_and_are_interpolated() -> None:
    stages = plan(VARS).stages
    assert [s.id for s in stages] == ["a[seed=1]", "a[seed=2]"]
    assert stages[0].params.steps == 4
    assert stages[0].params.words == ("ab-4",)
    assert stages[0].params.table == {"x": 1}


def test_set_replaces_before_anything_is_checked() -> None:
    settings = ["vars.n=6", "vars.seeds=[5]", "stages.a.with.pause=0.5", "seed=3", "name=other", "vars.word=x y"]
    made = plan(VARS, settings)
    assert [s.id for s in made.stages] == ["a[seed=5]"]
    stage = made.stages[0]
    assert (stage.params.steps, stage.params.pause, stage.params.words) == (6, 0.5, ("x y-6",))
    assert made.recipe.entry.name == "other"
    assert made.recipe.digest != plan(VARS).recipe.digest


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("vars.n", "--set vars.n: no '='; write --set vars.steps=100"),
        ("vars.m=1", "--set vars.m=1: the recipe has no 'm' there; known: n, seeds, table, word"),
        ("vras.n=1", "--set vras.n=1: the recipe has no 'vras' there; did you mean 'vars'?"),
        ("name.x=1", "--set name.x=1: 'x' is inside something that is not a mapping"),
        ("vars.n=[1", "--set vars.n:2:1: not YAML: did not find expected ',' or ']'"),
        ("vars.n=\udcff", "--set vars.n:1:1: the character U+DCFF is not allowed"),
        ("vars.n=ten", "lab.yaml:9:36: steps: expected an integer, found text ('ten')"),
        ("vars.n=", "lab.yaml:9:36: steps: expected an integer, found text ('')"),
        ("vars.n=.nan", "--set vars.n:1:1: nan is not a number that a recipe can hold"),
        ("sede=3", "--set sede:1:1: unknown key 'sede'; did you mean 'seed'?"),
        ("seed=x", "--set seed:1:1: seed: expected an integer, found text ('x')"),
        ("stages.a.with.step=1", "--set stages.a.with.step:1:1: lab.train has no parameter or input 'step'"),
        ("=1", "--set :1:1: unknown key ''"),
    ],
)
def test_a_setting_that_is_wrong(setting: str, message: str) -> None:
    assert faults(VARS, [setting])[0].startswith(message)


PLACES = [
    *("stages", "vars", "contracts", "hypotheses", "name", "seed", "kind"),
    *(f"stages.a{key}" for key in ("", ".uses", ".with", ".with.data", ".with.table", ".after", ".seed", ".threads")),
    *(f"stages.a.matrix{key}" for key in ("", ".seed", ".steps")),
]


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=8)), max_size=3))
@settings(deadline=None, max_examples=60)
def test_no_setting_surprises(pairs: list[tuple[str, str]]) -> None:
    for texts in ([f"{k}={v}" for k, v in pairs], [f"stages.a.{k}={v}" for k, v in pairs]):
        with suppress(InputError):
            make_plan(load_recipe(FOLDER[0] / "vars.yaml", texts), catalog(FOLDER[0]))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=6), st.lists, max_leaves=5))
@settings(deadline=None, max_examples=60)
def test_no_value_anywhere_surprises(value: Any) -> None:
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True).replace("\n...\n", "").strip()
    for path in PLACES:
        with suppress(InputError):
            make_plan(load_recipe(FOLDER[0] / "vars.yaml", [f"{path}={text}"]), catalog(FOLDER[0]))


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
