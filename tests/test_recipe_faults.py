"""Recipes that are wrong: every fault has its place and remedy, and all are told at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrmctl.errors import InputError
from hrmctl.plugins import catalog
from hrmctl.recipe import Plan, load_recipe, make_plan, read_recipe
from hrmctl.recipe.plan import MAX_CELLS

from .lab import HEAD, write_lab, write_recipe

FOLDER: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_lab(tmp_path_factory.mktemp("lab"))
    (made / "words.txt").write_text("words")
    FOLDER[:] = [made]
    write_recipe(made, VARS, name="vars.yaml")
    return made


def plan(body: str, settings: Sequence[str] = (), head: str = HEAD) -> Plan:
    recipe = write_recipe(FOLDER[0], body, head)
    return make_plan(read_recipe(recipe, settings), catalog(FOLDER[0]))


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


REMEDIES = [
    ("a: {uses: lab.make, text: x}", "5:23: unknown key 'text'; parameters and inputs stand under 'with'"),
    (
        "a: {uses: lab.make, with: {matrix: {}}}",
        "5:30: lab.make has no parameter or input 'matrix'; 'matrix' stands be",
    ),
    (
        "a: {uses: finetune, with: {colour: 1, data: words.txt, init: hrm-tiny}}",
        "5:30: finetune has no parameter or input 'colour'; see hrmctl plugins show finetune",
    ),
    (
        "a: {uses: lab.train, with: {data: words.txt, steps: '6'}}",
        "5:55: steps: expected an integer, found text ('6'); write it without quotes",
    ),
    (
        "a: {uses: lab.train, with: {data: words.txt, steps: '${n}'}}",
        "5:55: 'steps' is a parameter and takes no reference, but says '${n}'; only",
    ),
]


@pytest.mark.parametrize(("stage", "message"), REMEDIES)
def test_a_fault_says_where_it_belongs(stage: str, message: str) -> None:
    (found,) = faults(f"stages:\n  {stage}\n")
    assert found.startswith(f"lab.yaml:{message}")


@pytest.mark.parametrize("written", ["data", "data.data", "$data.data", "${data}", "${data.data"])
def test_what_names_a_stage_and_is_no_reference_is_told_how_to_write_it(written: str) -> None:
    (found,) = faults(f"stages:\n  data: {{uses: lab.make}}\n  a: {{uses: lab.train, with: {{data: '{written}'}}}}\n")
    assert found.startswith("lab.yaml:6:37: ")
    outputs = "" if "data.data" in written else ' or "${data.extra}"'
    assert found.endswith(f'; write "${{data.data}}"{outputs}')


def test_a_variable_without_its_prefix_is_told_how_to_write_it() -> None:
    (found,) = faults("vars: {n: 3}\nstages:\n  a: {uses: lab.train, with: {data: words.txt, steps: '${n}'}}\n")
    assert found.endswith("""but says '${n}'; write "${vars.n}\"""")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("stages:\n  a: {uses: lab.train, with: {data: ${b.data}}}", 'inside { } and [ ] write "${…}" in quotes'),
        ("stages:\n  a:\n    uses: lab.make\n     with: {}", "indent it like its neighbours, or quote text that holds"),
        ("stages:\n  a: {uses: lab.make", "close the bracket or put a comma before it"),
        ("stages: [a]", "write key: value, without dashes"),
        ("name: `x`", "put the text in quotes"),
        ("name: 'x", "close the quotes"),
    ],
)
def test_what_is_not_yaml_has_a_remedy(text: str, remedy: str) -> None:
    (found,) = faults("", head=f"kind: recipe\n{'' if 'name' in text else 'name: x'}\n{text}\n")
    assert f"; {remedy}" in found


def test_names_that_are_equally_near_are_both_told() -> None:
    (found,) = faults("stages:\n  a: {uses: quantize, with: {model: words.txt, scheme: int3}}\n")
    assert found.endswith("did you mean 'int4' or 'int8'?")


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
        "lab.yaml:6:39",
        "lab.yaml:7:37",
        "lab.yaml:7:59",
        "lab.yaml:8:13",
        "lab.yaml:9:30",
        "lab.yaml:9:56",
    ]


def test_faults_of_every_step_of_reading_are_told_in_the_order_of_the_file() -> None:
    found = faults(
        """
        vars: {n: 3, bad: .nan}
        seeed: 4
        stages:
          data: {uses: lab.make, wiht: {text: a}}
          a: {uses: lab.train, with: {data: "${data.data}", steps: "${vars.m}", pause: "${vars.bad}"}}
          a: {uses: lab.make}
          2b: {uses: lab.train, with: {data: "${a.modle}", steps: 0}}
          c: {uses: lab.trian, threads: 0}
          d: {with: {text: 1}}
          e: {uses: lab.make, after: [d, f, g], matrix: {text: [a, 1, 2], seed: [1, x]}}
          f: {uses: lab.make, after: [e]}
        contracts: [absent.yaml, "${vars.m}.yaml"]
        """,
        ["vars.k=1", "seed"],
    )
    assert [line.removeprefix("lab.yaml:").partition(str(FOLDER[0]))[0] for line in found] == [
        "--set vars.k=1: the recipe has no 'k' there; known: bad, n",
        "--set seed: no '='; write --set vars.steps=100",
        "5:19: nan is not a number that a recipe can hold; write a finite number",
        "6:1: unknown key 'seeed'; did you mean 'seed'?",
        "8:26: unknown key 'wiht'; did you mean 'with'?",
        "9:60: unknown variable '${vars.m}'; known: bad, n",
        "10:3: duplicate key 'a'; first given in line 9",
        "11:3: '2b' is not a name; letters, digits, - and _; first a letter",
        "11:38: stage 'a' has no output 'modle'; did you mean 'model'?",
        "11:59: steps: an integer ('0') is out of range; must be at least 1",
        "12:13: unknown stage 'lab.trian'; did you mean 'lab.train'?",
        "12:33: threads: an integer ('0') is out of range; must be at least 1",
        "13:6: missing key 'uses'; the stage's name, e.g. finetune or data.generate",
        "14:37: after: no stage 'g'; known: 2b, a, c, d, data, e, f",
        "14:60: text: expected text, found an integer ('1')",
        "14:63: text: expected text, found an integer ('2')",
        "14:77: seed: expected an integer, found text ('x')",
        "15:6: stages form a cycle: f → e → f; remove one reference",
        "16:13: no contract matches 'absent.yaml'; looked in ",
        "16:26: unknown variable '${vars.m}'; known: bad, n",
    ]


ONE_FAULT = [
    "vras: {n: 3}\nstages:\n  a: {uses: lab.train, with: {data: words.txt, steps: '${vars.n}'}}\n",
    "vars: [3]\nstages:\n  a: {uses: lab.train, with: {data: words.txt, steps: '${vars.n}'}}\n",
    "vars: {n: .inf}\nstages:\n  a: {uses: lab.train, with: {data: words.txt, steps: '${vars.n}'}}\n",
    "stages:\n  a: {uses: lab.train, with: {dta: words.txt}}\n",
    "stages:\n  a: {uses: lab.train, wiht: {data: words.txt}}\n  b: {uses: lab.make, after: [a]}\n",
    "stages:\n  a: {uses: '${vars.n}'}\n",
    "stages:\n  a: {uses: lab.make, matrix: {text: '${vars.n}'}}\n",
    "stages:\n  a: {usse: lab.make}\n  b: {uses: lab.train, with: {data: '${a.data}'}}\n",
    "stages:\n  a: {uses: eval, with: {modle: words.txt, tasks: words.txt}}\n",
    "stages:\n  a: {uses: eval, with: {model: words.txt, tasks: words.txt, source: '${vars.n}'}}\n",
    "stages:\n  a: {uses: eval, with: {model: words.txt, tasks: words.txt, samples: '${n}', k: [1, 10]}}\n",
    "stages:\n  a: {uses: eval, with: {model: words.txt, tasks: words.txt, sampels: 10, k: [1, 10]}}\n",
    "stages:\n  a: {uses: lab.make, matrix: {text: '${n}'}}\n",
    "stages:\n  a: {uses: finetune, with: {init hrm-tiny, data: words.txt}}\n",
    "stages:\n  a: {uses lab.make}\n",
    "stages:\n  a: &x {uses: lab.make}\n  b: {<<: *x, uses: lab.train}\n",
]


@pytest.mark.parametrize("body", ONE_FAULT)
def test_a_fault_makes_no_others(body: str) -> None:
    found = faults(body)
    assert len(found) == (1 if "&x" not in body else 2), found


def test_a_kind_that_is_misspelt_hides_nothing() -> None:
    stages = "name: x\nstages: {a: {uses: lab.maek}}"
    for head, place in [("knid: recipe", "1:1: unknown key 'knid'"), ("kind: recip", "1:7: not a recipe: 'recip'")]:
        first, second = faults("", head=f"{head}\n{stages}")
        assert first.startswith(f"lab.yaml:{place}")
        assert second.startswith("lab.yaml:3:20: unknown stage 'lab.maek'")


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
            make_plan(read_recipe(FOLDER[0] / "vars.yaml", texts), catalog(FOLDER[0]))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=6), st.lists, max_leaves=5))
@settings(deadline=None, max_examples=60)
def test_no_value_anywhere_surprises(value: Any) -> None:
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True).replace("\n...\n", "").strip()
    for path in PLACES:
        with suppress(InputError):
            make_plan(read_recipe(FOLDER[0] / "vars.yaml", [f"{path}={text}"]), catalog(FOLDER[0]))
