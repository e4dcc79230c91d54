"""A stage's own check: what no type shows is told when the plan is made, with its place, and before anything runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hrmctl.recipe.check import _placed
from hrmctl.yamlio import parse

from .lab import HEAD, command, hrmctl, listing, run_lab, write_lab, write_recipe
from .test_cli import IMPORTS

FAULTS = {
    "a misspelt architecture": (
        "a: {uses: finetune, with: {data: words.txt, init: hrm-tny}}",
        "5:53: init: no architecture 'hrm-tny'; did you mean 'hrm-tiny'?",
    ),
    "an architecture like none": (
        "a: {uses: finetune, with: {data: words.txt, init: bert}}",
        "5:53: init: no architecture 'bert'; known: gpt2-117m, gpt2-micro,",
    ),
    "a setting that it has not": (
        "a: {uses: finetune, with: {data: words.txt, init: hrm-tiny, config: {H_cycles: 2, hidden_szie: 8}}}",
        "5:85: config.hidden_szie: hrm-tiny has no setting 'hidden_szie'; did you mean 'hidden_size'?",
    ),
    "settings of a model": (
        "a: {uses: finetune, with: {data: words.txt, model: folder, config: {H_cycles: 2}}}",
        "5:70: config: changes the architecture of fresh weights; set init; a model keeps its own",
    ),
    "two starts": (
        "a: {uses: finetune, with: {data: words.txt, model: folder, init: hrm-tiny}}",
        "5:68: init: a training starts from init or from a model, and both were given; give one",
    ),
    "no start": (
        "a: {uses: finetune, with: {data: words.txt}}",
        "5:29: init: a training starts from init or from a model, and neither was given; give one",
    ),
    "early stopping without validation rows": (
        "a: {uses: finetune, with: {data: words.txt, init: hrm-tiny, steps: 9, eval_interval: 3, early_stopping: 2}}",
        "5:107: early_stopping: needs validation rows; give the input validation, or set validation_split",
    ),
    "an intervention on a validation": (
        "a: {uses: finetune, with: {data: words.txt, init: hrm-tiny, eval_interval: 3, validation_split: 0,"
        " interventions: [{at_step: 1, stop: true}, "
        "{at_step: 2, stop: true, when: {metric: val_loss, op: gt, value: 1}}]}}",
        "5:176: interventions.1.when.metric: needs validation rows",
    ),
    "a plateau of a validation": (
        "a: {uses: finetune, with: {data: words.txt, init: hrm-tiny, plateau: {metric: val_loss}}}",
        "5:73: plateau.metric: needs validation rows",
    ),
    "validation rows twice": (
        "a: {uses: finetune, with: {data: words.txt, init: hrm-tiny, validation: words.txt, validation_split: 0.1}}",
        "5:104: validation_split: validation rows come from the input too; give one of the two",
    ),
    "weights for other data": (
        "a: {uses: finetune, with: {data: [words.txt, more.txt], init: hrm-tiny, mix: [1, 2, 3]}}",
        "5:80: mix: 3 weights for 2 data sets; give one for each",
    ),
    "few-shot without exemplars": (
        "a: {uses: eval, with: {model: folder, tasks: words.txt, strategy: few-shot}}",
        "5:69: strategy: few-shot has no exemplars; give a problem set",
    ),
    "exemplars that nothing shows": (
        "a: {uses: eval, with: {model: folder, tasks: words.txt, exemplars: words.txt}}",
        "5:70: exemplars: standard shows none; leave them out, or set strategy to few-shot",
    ),
    "an evaluation without a model": (
        "a: {uses: eval, with: {tasks: words.txt}}",
        "5:25: model: eval has no model; give one, or set source to references",
    ),
    "a student with two starts": (
        "a: {uses: distill, with: {teacher: folder, data: words.txt, init: hrm-tiny, layers: 1}}",
        "5:69: init: the student starts from init, layers or a model, and init and layers given; give one",
    ),
    "an axis of a matrix": (
        "a: {uses: finetune, with: {data: words.txt}, matrix: {init: [hrm-tiny, hrm-tny]}}",
        "5:63: init: no architecture 'hrm-tny'; did you mean 'hrm-tiny'?",
    ),
}


@pytest.mark.parametrize("key", ["points.x", "points.7", "points.-1", "points.0.at.y", "data.a.b", "none.x", "", "."])
def test_a_fault_with_an_odd_key_is_still_a_fault(key: str) -> None:
    entry = parse("uses: a\nwith: {data: words.txt, points: [{at: 1}]}\n", "r.yaml")
    found = _placed(entry, key, "no good", "mend it")
    assert (found.message, found.file, found.line) == (f"{key}: no good", "r.yaml", 2)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    for name in ("words.txt", "more.txt"):
        (tmp_path / name).write_text("some words")
    (tmp_path / "folder").mkdir()
    return write_lab(tmp_path)


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_that_no_type_shows_has_its_place(lab: Path, what: str) -> None:
    stage, message = FAULTS[what]
    (lab / "lab.yaml").write_text(f"{HEAD}stages:\n  {stage}\n")
    before = listing(lab)
    for argv in (["--plan"], []):
        done = command("pipeline", "lab.yaml", *argv, cwd=lab, check=2)
        # A condition on a validation also needs the interval, which is told beside it.
        lines = [line for line in done.stderr.splitlines() if " eval_interval: " not in line]
        assert [line.startswith(f"hrmctl: lab.yaml:{message}") for line in lines] == [True], done.stderr
        assert done.stdout == ""
    assert listing(lab) == before


def test_it_is_told_beside_every_other_fault(lab: Path) -> None:
    text = """\
    stages:
      a: {uses: finetune, with: {data: words.txt, init: hrm-tny, eval_interval: 3}}
      b: {uses: eval, with: {tasks: absent.txt, source: references, strategy: few-shot}}
      c: {uses: finetune, with: {data: "${a.nothing}", init: hrm-tiny, batch: 0}}
    """
    write_recipe(lab, text)
    lines = command("pipeline", "lab.yaml", "--plan", cwd=lab, check=2).stderr.splitlines()
    places = [line.split(": ")[1].rpartition(":")[0].removeprefix("lab.yaml:") for line in lines]
    assert sorted(places) == sorted(["6", "7", "6", "5", "5", "7"]), lines


def test_what_is_right_is_not_complained_of(lab: Path) -> None:
    text = """\
    stages:
      a: {uses: finetune, with: {data: words.txt, init: hrm-tiny, eval_interval: 3, validation: more.txt}}
      b: {uses: finetune, with: {data: words.txt, model: "${a.model}", eval_interval: 3, validation_split: 0.1}}
      c: {uses: eval, with: {model: "${b.model}", tasks: words.txt, strategy: few-shot, exemplars: more.txt}}
      d: {uses: distill, with: {teacher: "${a.model}", data: words.txt, init: gpt2-tiny}}
    """
    write_recipe(lab, text)
    assert len(json.loads(command("pipeline", "lab.yaml", "--plan", "--json", cwd=lab).stdout)) == 4


def test_the_command_of_a_stage_tells_it_too(lab: Path) -> None:
    before = listing(lab)
    done = command("finetune", "--data", "words.txt", "--init", "hrm-tny", cwd=lab, check=2)
    assert done.stderr == "hrmctl: hrmctl finetune: init: no architecture 'hrm-tny'; did you mean 'hrm-tiny'?\n"
    assert listing(lab) == before


def test_a_plan_imports_nothing_heavy(lab: Path) -> None:
    write_recipe(
        lab,
        f"stages:\n  {FAULTS['few-shot without exemplars'][0]}\n  b: {{uses: finetune, with: {{data: words.txt}}}}\n",
    )
    argv = [sys.executable, "-P", "-c", IMPORTS, "pipeline", "lab.yaml", "--plan"]
    done = subprocess.run(argv, cwd=lab, env=os.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    seen = done.stderr.splitlines()[-1]
    assert "'hrmctl_finetune'" in seen
    for name in ("torch", "transformers", "scipy", "numpy"):
        assert f"'{name}'" not in seen


CHECKED = """
from hrmctl import Fault

def checked(params, inputs, catalog):
    if params.text == "hello":
        yield Fault("text", f"{sorted(inputs.items())} {'lab.make' in catalog.stages}")

MODELS = {"models": InputSpec("model", "the models", many=True, required=False), "one": DATA}
STAGES = [
    *hrmctl_stages(),
    StageSpec("lab.checked", "checked", MakeParams, f"{__name__}:compare", MODELS, check=f"{__name__}:checked"),
]

@hookimpl
def hrmctl_stages():
    return STAGES
"""


def test_a_check_is_given_the_inputs_that_are_wired(tmp_path: Path) -> None:
    lab = write_lab(tmp_path, CHECKED)
    text = """\
    stages:
      data: {uses: lab.make}
      a: {uses: lab.train, with: {data: "${data.data}"}, matrix: {seed: [1, 2, 3]}}
      c: {uses: lab.checked, with: {one: "${data.data}", models: "${a[*].model}"}}
    """
    write_recipe(lab, text)
    done = hrmctl("pipeline", "lab.yaml", "--plan", cwd=lab, check=2)
    assert done.stderr == "hrmctl: lab.yaml:7:32: text: [('models', 3), ('one', 1)] True\n"


CHAINS = """\
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, with: {data: "${data.data}"}}
  fresh: {uses: lab.make, with: {text: fresh}}
  b: {uses: lab.train, with: {data: "${fresh.data}"}}
"""


def planned(lab: Path, *argv: str) -> list[str]:
    """The stages that `--plan` shows."""
    done = command("pipeline", "lab.yaml", "--store", "store", "--plan", "--json", *argv, cwd=lab)
    return [line["stage"] for line in json.loads(done.stdout)]


def test_a_plan_shows_what_the_same_options_run(tmp_path: Path) -> None:
    lab = write_lab(tmp_path)
    write_recipe(lab, CHAINS)
    assert planned(lab) == ["data", "fresh", "a", "b"]
    assert planned(lab, "--only", "fresh", "--from", "data") == ["fresh"]
    assert planned(lab, "--only", "b") == ["fresh", "b"]
    assert planned(lab, "--only", "b", "--only", "data") == ["data", "fresh", "b"]


def test_a_plan_tells_that_a_run_to_resume_is_of_another_recipe(tmp_path: Path) -> None:
    lab = write_lab(tmp_path)
    run = run_lab(write_recipe(lab, "stages:\n  data: {uses: lab.make}\n")).run
    assert planned(lab, "--resume", run) == ["data"]
    write_recipe(lab, CHAINS)
    before = listing(lab)
    for more in ([], ["--plan"]):
        done = command("pipeline", "lab.yaml", "--store", "store", "--resume", run, *more, cwd=lab, check=2)
        told = "was made from another recipe or other --set values; start a new run"
        assert done.stderr == f"hrmctl: run {run} {told}\n"
    assert listing(lab) == before


def test_a_plan_tells_that_a_pattern_takes_the_recipe_for_a_contract(tmp_path: Path) -> None:
    lab = write_lab(tmp_path)
    write_recipe(lab, CHAINS + "contracts: ['*.yaml']\n")
    for more in ([], ["--plan"]):
        done = command("pipeline", "lab.yaml", *more, cwd=lab, check=2)
        assert done.stderr.startswith("hrmctl: lab.yaml:1:7: 'recipe' is neither contract nor gate")


def test_a_plan_asks_the_cache_for_the_device_of_the_run(tmp_path: Path) -> None:
    lab = write_lab(tmp_path)
    race = 'a: {uses: lab.race, with: {data: "${data.data}"}}'
    run_lab(write_recipe(lab, f"stages:\n  data: {{uses: lab.make}}\n  {race}\n"), device="cpu")
    argv = ["pipeline", "lab.yaml", "--store", "store", "--plan", "--json"]
    cached = {
        device: [line["cached"] for line in json.loads(command(*argv, "--device", device, cwd=lab).stdout)]
        for device in ("cpu", "cuda")
    }
    assert cached == {"cpu": [True, True], "cuda": [True, False]}
