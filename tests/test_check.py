"""A check over several runs: which run each obligation is judged on, and what is said where no run speaks."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from hrmctl import Evidence, ledger
from hrmctl.plugins import catalog
from hrmctl.run import remedy, witness
from hrmctl.run.replay import _judgement, replay, report_from_ledger

from .lab import CONTRACT, HEAD, command, hrmctl, open_store, run_lab, write_contract, write_lab, write_recipe

CHAIN = """
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, with: {data: "${data.data}"}}
"""
LISTED = "contracts: [../loss.yaml]\n"
DATA_ONLY = "stages:\n  data: {uses: lab.make}\n"
LENGTH = CONTRACT.replace("LAB-LOSS", "LAB-LENGTH").replace("model: lab-model", "dataset: lab@train")
LENGTH = LENGTH.replace("stage: lab.train, name: loss", "stage: lab.make, name: length")
MISSING = CONTRACT.replace("LAB-LOSS", "LAB-MISSING").replace("lab.train", "merge")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return write_lab(tmp_path)


def recipe(lab: Path, name: str, body: str) -> Path:
    return write_recipe(lab, body, HEAD.replace("name: lab", f"name: {name}"), f"{name}.yaml")


def check(lab: Path, *argv: str | Path, code: int | None = None) -> dict[str, Any]:
    """The judgements of `hrmctl check` by obligation."""
    done = command("check", *argv, "--store", "store", "--format", "json", cwd=lab, check=code)
    report = json.loads(done.stdout)
    return {j["obligation"]: j for j in report["judgements"]} | {"run": report["run"]}


def test_each_obligation_is_judged_on_the_newest_run_that_speaks_of_it(lab: Path) -> None:
    write_contract(lab)
    write_contract(lab, LENGTH, "length.yaml")
    first = run_lab(recipe(lab, "both", CHAIN)).run
    second = run_lab(recipe(lab, "other", DATA_ONLY.replace("lab.make}", "lab.make, with: {text: longer}}"))).run
    found = check(lab, "loss.yaml", "length.yaml", code=0)
    assert found["LAB-LOSS/one"]["run"] == first
    assert found["LAB-LENGTH/one"]["run"] == second, "newer, and it measured the data set again"
    assert found["run"] == ""
    assert found["LAB-LENGTH/one"]["measured"]["v"]["value"] == 6
    assert replay(open_store(lab), catalog(lab)) == (2, [])


def test_the_newest_counts_and_not_the_best(lab: Path) -> None:
    write_contract(lab, CONTRACT.replace("100", "3").replace("101", "4"))
    good = run_lab(recipe(lab, "lab", CHAIN.replace('"}}', '", steps: 6}}'))).run
    bad = run_lab(recipe(lab, "lab", CHAIN)).run
    assert check(lab, "loss.yaml", code=1)["LAB-LOSS/one"]["run"] == bad
    assert check(lab, "loss.yaml", "--run", good, code=0)["LAB-LOSS/one"]["run"] == good
    both = check(lab, "loss.yaml", "--run", bad, "--run", good, code=1)
    assert both["LAB-LOSS/one"]["run"] == bad, "the order in which runs are named says nothing"


def test_a_stage_that_failed_hides_what_its_recipe_measured_before_and_nothing_of_another_recipe(lab: Path) -> None:
    write_contract(lab)
    chain = recipe(lab, "lab", CHAIN)
    measured = run_lab(chain).run
    other = recipe(lab, "other", CHAIN.replace('"}}', '", act: raise}}'))
    run_lab(other)
    assert check(lab, "loss.yaml", code=0)["LAB-LOSS/one"]["run"] == measured
    recipe(lab, "lab", CHAIN.replace('"}}', '", act: raise}}'))
    failed = run_lab(chain).run
    found = check(lab, "loss.yaml", code=3)["LAB-LOSS/one"]
    assert (found["verdict"], found["run"]) == ("BLOCKED", failed)
    assert "stage a failed" in found["reason"]
    assert replay(open_store(lab), catalog(lab))[1] == []


def test_a_failure_says_nothing_once_a_newer_run_of_its_recipe_finished_the_stage(lab: Path) -> None:
    write_contract(lab, CONTRACT.replace("model: lab-model", "model: other-model"))
    path = recipe(lab, "lab", CHAIN.replace('"}}', '", act: "${vars.act}"}}') + "vars: {act: ''}\n")
    failed = run_lab(path, ["vars.act=raise"]).run
    found = check(lab, "loss.yaml", code=3)["LAB-LOSS/one"]
    assert (found["verdict"], found["run"]) == ("BLOCKED", failed), "of what it would have been about nobody knows"
    run_lab(recipe(lab, "other", CHAIN))
    assert check(lab, "loss.yaml", code=3)["LAB-LOSS/one"]["verdict"] == "BLOCKED", "another recipe mends nothing"
    run_lab(path)
    found = check(lab, "loss.yaml", code=3)["LAB-LOSS/one"]
    assert (found["verdict"], found["run"]) == ("UNTESTED", "")
    assert replay(open_store(lab), catalog(lab)) == (3, [])
    failed = run_lab(path, ["vars.act=raise"]).run
    assert check(lab, "loss.yaml", code=3)["LAB-LOSS/one"]["run"] == failed, "with other settings"


def test_a_stage_that_failed_and_is_no_more_in_its_recipe_says_nothing(lab: Path) -> None:
    write_contract(lab, CONTRACT.replace("model: lab-model", "model: other-model"))
    run_lab(recipe(lab, "lab", CHAIN.replace('"}}', '", act: raise}}')))
    run_lab(recipe(lab, "lab", DATA_ONLY))
    assert check(lab, "loss.yaml", code=3)["LAB-LOSS/one"]["verdict"] == "UNTESTED"


def test_to_drop_a_stage_that_failed_brings_no_older_pass_back(lab: Path) -> None:
    write_contract(lab)
    run_lab(recipe(lab, "lab", CHAIN))
    assert check(lab, "loss.yaml")["LAB-LOSS/one"]["verdict"] == "PASS"
    failed = run_lab(recipe(lab, "lab", CHAIN.replace('"}}', '", act: raise}}'))).run
    run_lab(recipe(lab, "lab", DATA_ONLY))
    found = check(lab, "loss.yaml", code=3)["LAB-LOSS/one"]
    assert (found["verdict"], found["run"]) == ("BLOCKED", failed)


def test_a_failure_of_what_the_same_recipe_once_measured_blocks_no_claim_about_another_model(lab: Path) -> None:
    other = CONTRACT.replace("LAB-LOSS", "LAB-OTHER").replace("model: lab-model", "model: other-model")
    write_contract(lab)
    write_contract(lab, other, "other.yaml")
    once = lab / "once"
    once.touch()
    path = recipe(lab, "lab", CHAIN.replace('"}}', f'", act: raise, once: {once}}}}}'))
    run_lab(path)
    once.unlink()
    failed = run_lab(path, force=frozenset({"a"})).run
    found = check(lab, "loss.yaml", "other.yaml", code=3)
    assert (found["LAB-LOSS/one"]["verdict"], found["LAB-LOSS/one"]["run"]) == ("BLOCKED", failed)
    assert found["LAB-OTHER/one"]["verdict"] == "UNTESTED"
    assert replay(open_store(lab), catalog(lab)) == (2, [])


def test_a_run_that_says_a_part_counts_where_no_other_says_all(lab: Path) -> None:
    two = CONTRACT.replace("model: lab-model", "model: lab-model, dataset: lab@train")
    two = two.replace(
        "name: loss}\n", "name: loss, about: [model]}\n  d: {type: measurement/v1, stage: lab.make, about: [dataset]}\n"
    )
    two = two.replace("of: [e]}\n", "of: [e]}\n  w: {fn: lab_value, of: [d]}\n")
    two = two.replace("right: 100}\n", "right: 100}\n  - {id: some, left: w.value, op: ge, right: 1}\n")
    two = two.replace("{e: {value: 100}}", "{e: {value: 100}, d: {value: 1}}")
    two = two.replace("{e: {value: 101}}", "{e: {value: 101}, d: {value: 1}}")
    two += "  - {expect: FAIL, because: some, data: {e: {value: 1}, d: {value: 0.5}}}\n"
    write_contract(lab, two)
    part = run_lab(recipe(lab, "part", DATA_ONLY)).run
    found = check(lab, "loss.yaml", code=3)["LAB-LOSS/one"]
    assert (found["verdict"], found["run"], found["because"]) == ("UNTESTED", part, "e")
    whole = run_lab(recipe(lab, "whole", CHAIN)).run
    assert check(lab, "loss.yaml", code=0)["LAB-LOSS/one"]["run"] == whole
    run_lab(recipe(lab, "part", DATA_ONLY))
    assert check(lab, "loss.yaml", code=0)["LAB-LOSS/one"]["run"] == whole, "another recipe says nothing against it"
    again = run_lab(recipe(lab, "whole", DATA_ONLY)).run
    found = check(lab, "loss.yaml", code=3)["LAB-LOSS/one"]
    assert (found["verdict"], found["run"]) == ("UNTESTED", again), "its own recipe measures it no more"


def test_only_some_stages_are_no_run_of_the_recipe(lab: Path) -> None:
    write_contract(lab)
    chain = recipe(lab, "lab", CHAIN)
    partial = run_lab(chain, only=frozenset({"a"})).run
    assert check(lab, "loss.yaml", code=0)["LAB-LOSS/one"]["run"] == partial
    run_lab(recipe(lab, "other", DATA_ONLY))
    found = check(lab, "loss.yaml", code=3)["LAB-LOSS/one"]
    assert (found["verdict"], found["run"]) == ("UNTESTED", "")
    assert check(lab, "loss.yaml", "--run", partial, code=0)["LAB-LOSS/one"]["run"] == partial


def test_what_a_recipe_asked_as_a_question_is_one_on_its_runs(lab: Path) -> None:
    write_contract(lab, CONTRACT.replace("100", "1").replace("101", "2"))
    asked = run_lab(recipe(lab, "asking", CHAIN + "hypotheses: [loss.yaml]\n")).run
    found = check(lab, "loss.yaml", code=0)["LAB-LOSS/one"]
    assert (found["kind"], found["run"], found["verdict"]) == ("hypothesis", asked, "FAIL")
    claimed = run_lab(recipe(lab, "claiming", CHAIN + "contracts: [loss.yaml]\n")).run
    found = check(lab, "loss.yaml", code=1)["LAB-LOSS/one"]
    assert (found["kind"], found["run"]) == ("acceptance", claimed)


def test_a_misspelt_stage_or_name_is_asked_about(lab: Path) -> None:
    write_contract(lab, CONTRACT.replace("LAB-LOSS", "LAB-STAGE").replace("lab.train", "lab.trian"), "stage.yaml")
    write_contract(lab, CONTRACT.replace("LAB-LOSS", "LAB-NAME").replace("name: loss", "name: losss"), "name.yaml")
    write_contract(lab, MISSING, "missing.yaml")
    run_lab(recipe(lab, "lab", CHAIN))
    found = check(lab, "stage.yaml", "name.yaml", "missing.yaml", code=3)
    reasons = {name: found[f"LAB-{name}/one"]["reason"] for name in ("STAGE", "NAME", "MISSING")}
    named = "no losss (measurement/v1) of a stage lab.train about lab-model; did you mean 'loss'?"
    assert reasons == {
        "STAGE": "no evidence e: no plugin provides the stage lab.trian; did you mean 'lab.train'?",
        "NAME": f"no evidence e: {named}",
        "MISSING": "no evidence e: no plugin provides the stage merge",
    }
    lint = command("contracts", "lint", "stage.yaml", "name.yaml", "missing.yaml", cwd=lab, check=0)
    (line,) = lint.stderr.splitlines()
    remedy = "did you mean 'lab.train'?"
    assert line == f"warning: stage.yaml:7:36: no plugin provides the stage 'lab.trian'; {remedy}"


def test_what_is_untested_says_what_would_measure_it(lab: Path) -> None:
    write_contract(lab)
    write_contract(lab, MISSING, "missing.yaml")
    (lab / "recipes").mkdir()
    found = check(lab, "loss.yaml", "missing.yaml", code=3)
    assert found["LAB-LOSS/one"]["remedy"] == "no recipe here names it: run the stage lab.train on lab-model"
    assert found["LAB-MISSING/one"]["reason"] == "no evidence e: no plugin provides the stage merge"
    remedy = "install a plugin whose hrmctl_stages gives the stage merge, and run it on lab-model"
    assert found["LAB-MISSING/one"]["remedy"] == remedy
    for name, word in {"measures": "lab-model", "of-the-proxy": "lab-mod"}.items():
        body = CHAIN.replace('data}"', f'data}}", trace: {word}') + "contracts: [../loss.yaml]\n"
        recipe(lab / "recipes", name, body)
    recipe(lab / "recipes", "lists", DATA_ONLY + "contracts: [../loss.yaml]\n")
    (lab / "recipes" / "broken.yaml").write_text("kind: recipe\n")
    found = check(lab, "loss.yaml", code=3)
    assert found["LAB-LOSS/one"]["remedy"] == "hrmctl pipeline recipes/measures.yaml"
    (lab / "recipes" / "measures.yaml").rename(lab / "recipes" / "measures all.yaml")
    found = check(lab, "loss.yaml", code=3)
    assert found["LAB-LOSS/one"]["remedy"] == "hrmctl pipeline 'recipes/measures all.yaml'", "to be pasted"


def test_a_recipe_that_ran_and_measures_another_label_is_no_remedy(lab: Path) -> None:
    (lab / "recipes").mkdir()
    write_lab(lab / "recipes")
    write_contract(lab, LENGTH.replace("lab@train", "lab@trian"))
    path = recipe(lab / "recipes", "mine", DATA_ONLY.replace("{uses", "{with: {text: lab}, uses") + LISTED)
    assert check(lab, "loss.yaml", code=3)["LAB-LENGTH/one"]["remedy"] == "hrmctl pipeline recipes/mine.yaml"
    said = "recipes/mine.yaml has run without it: such evidence is about lab@train; did you mean 'lab@train'?"
    done = command("pipeline", "recipes/mine.yaml", "--store", "store", "--json", cwd=lab, check=3)
    (judgement,) = json.loads(done.stdout)["check"]["judgements"]
    assert (judgement["verdict"], judgement["remedy"]) == ("UNTESTED", said)
    assert check(lab, "loss.yaml", code=3)["LAB-LENGTH/one"]["remedy"] == said
    write_contract(lab, LENGTH.replace("lab@train", "lab@elsewhere"))
    mend = f"{said.partition(';')[0]}; mend the labels of the contract, or the recipe"
    assert check(lab, "loss.yaml", code=3)["LAB-LENGTH/one"]["remedy"] == mend
    write_contract(lab, LENGTH.replace("name: length", "name: lenght"))
    mend = "recipes/mine.yaml has run without it: mend the contract, or the recipe"
    assert check(lab, "loss.yaml", code=3)["LAB-LENGTH/one"]["remedy"] == mend
    path.write_text(path.read_text().replace("text: lab", "text: lab, extra: true"))
    found = check(lab, "loss.yaml", code=3)["LAB-LENGTH/one"]
    assert found["remedy"] == "hrmctl pipeline recipes/mine.yaml", "it is another recipe now"


def test_a_recipe_beside_the_contracts_is_found_among_whatever_lies_there(lab: Path) -> None:
    (lab / "contracts").mkdir()
    write_contract(lab / "contracts")
    body = CHAIN.replace('data}"', 'data}", trace: lab-model') + "contracts: [contracts/*.yaml]\n"
    recipe(lab, "mine", body).rename(lab / "mine.yml")
    (lab / "recipes.yaml").mkdir()
    (lab / "settings.yaml").write_text("kind: recipe\nname: [")
    (lab / "values.yaml").write_text("kind: Deployment\n")
    (lab / "bytes.yaml").write_bytes(b"kind: recipe\xff\0")
    (lab / "gone.yaml").symlink_to("nowhere")
    os.mkfifo(lab / "pipe.yaml")
    recipe(lab, "large", body + "#" * 300_000)
    done = command("check", "--store", "store", "--format", "json", cwd=lab, check=3)
    assert done.stderr == ""
    (judgement,) = json.loads(done.stdout)["judgements"]
    assert judgement["remedy"] == "hrmctl pipeline mine.yml"


def test_a_check_in_a_folder_of_many_files_parses_none_that_is_no_recipe(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_contract(lab)
    for index in range(50):
        (lab / f"a{index}.yaml").write_text("kind: contract\n# as a kind of recipe\n")
        (lab / f"b{index}.yaml").write_text("kind: recipe\n")
    parsed: list[Path] = []
    monkeypatch.setattr(remedy, "load_recipe", lambda p, real=remedy.load_recipe: parsed.append(p) or real(p))
    check(lab, "loss.yaml", code=3)
    assert sorted(path.name[0] for path in parsed) == ["b"] * 50
    parsed.clear()
    monkeypatch.setattr(remedy, "_MOST_FILES", 60)
    check(lab, "loss.yaml", code=3)
    assert len(parsed) == 10


ON_SCORE = CONTRACT.replace("LAB-LOSS", "LAB-SCORE").replace("lab.train, name: loss", "lab.score, name: score")
SCORING = CHAIN + '  s: {uses: lab.score, with: {data: "${data.data}", model: "${a.model}"}}\n'
SCORING += "  t: {uses: lab.make, after: [s]}\n"


def test_what_waited_for_a_failed_stage_names_the_stage_that_failed(lab: Path) -> None:
    write_contract(lab, ON_SCORE)
    write_contract(lab, LENGTH, "length.yaml")
    path = recipe(lab, "lab", SCORING.replace('"}}\n  s:', '", act: "${vars.act}"}}\n  s:') + "vars: {act: raise}\n")
    run = run_lab(path, ["vars.act=exit"], keep_going=True).run
    found = check(lab, "loss.yaml", code=3)["LAB-SCORE/one"]
    log = open_store(lab).run_folder(run) / "logs" / "a.log"
    said = f"no evidence e: stage s did not finish: stage a failed: SystemExit: 3; log: {log}"
    assert (found["verdict"], found["reason"]) == ("BLOCKED", said)
    assert found["remedy"] == f"mend stage a, then: hrmctl pipeline {path} --set vars.act=exit"
    assert replay(open_store(lab), catalog(lab))[1] == []


def test_a_failed_stage_that_makes_nothing_of_its_own_speaks_of_what_it_was_given(tmp_path: Path) -> None:
    lab = write_lab(tmp_path, "def score(params, inputs, ctx):\n    raise StageError('no samples')\n")
    write_contract(lab, ON_SCORE)
    for name, subject in {"other": "model: lab-model2", "data": "model: lab-model, dataset: lab@test"}.items():
        text = ON_SCORE.replace("LAB-SCORE", f"LAB-{name.upper()}").replace("model: lab-model", subject)
        write_contract(lab, text, f"{name}.yaml")
    failed = run_lab(recipe(lab, "lab", SCORING)).run
    files = ["loss.yaml", "other.yaml", "data.yaml"]
    found = check(lab, *files, code=3)
    assert {name: found[f"LAB-{name}/one"]["verdict"] for name in ("SCORE", "OTHER", "DATA")} == {
        "SCORE": "BLOCKED",
        "OTHER": "UNTESTED",
        "DATA": "UNTESTED",
    }
    assert check(lab, *files, "--run", failed, code=3)["LAB-OTHER/one"]["verdict"] == "UNTESTED"
    lock = open_store(lab).run_folder(failed) / "recipe.lock.yaml"
    assert replay(open_store(lab), catalog(lab)) == (6, [])
    lock.write_text(re.sub(r"\n    gives:.*(\n    - .*)*", "", lock.read_text()))
    assert "gives" not in lock.read_text()
    found = check(lab, *files, code=3)
    assert found["LAB-OTHER/one"]["verdict"] == "BLOCKED", "an earlier version did not say what a stage gives"


def test_a_lock_that_names_no_stage_to_blame_still_speaks(lab: Path) -> None:
    write_contract(lab, ON_SCORE)
    run = run_lab(recipe(lab, "lab", SCORING.replace('"}}\n  s:', '", act: raise}}\n  s:'))).run
    lock = open_store(lab).run_folder(run) / "recipe.lock.yaml"
    kept = [line for line in lock.read_text().splitlines() if not line.startswith("    cause:")]
    lock.write_text("\n".join(kept) + "\n")
    found = check(lab, "loss.yaml", code=3)["LAB-SCORE/one"]
    assert found["reason"] == "no evidence e: stage s blocked: a failed"
    assert found["remedy"].startswith("mend stage s, then: hrmctl pipeline ")


@pytest.mark.parametrize("cause", ["absent", "[31m", "data"])
def test_a_lock_that_blames_a_stage_that_did_not_stop_blames_the_stage_itself(lab: Path, cause: str) -> None:
    """A lock that somebody changed must not break the check of all other runs."""
    write_contract(lab)
    run = run_lab(recipe(lab, "lab", CHAIN.replace('"}}', '", act: raise}}'))).run
    lock = open_store(lab).run_folder(run) / "recipe.lock.yaml"
    lock.write_text(lock.read_text().replace("cause: ''", f"cause: {json.dumps(cause)}"))
    found = check(lab, "loss.yaml", code=3)["LAB-LOSS/one"]
    assert found["verdict"] == "BLOCKED"
    assert found["reason"].startswith("no evidence e: stage a failed: RuntimeError: ")


STAGE = {"uses": "eval", "status": "cancelled", "error": "stopped; more", "evidence": []}
LOCK = {"version": 1, "name": "eval", "status": "interrupted", "recipe": "my eval.yaml", "stages": {"e": STAGE}}


@pytest.mark.parametrize(
    ("run", "more", "said"),
    [
        ("t-lab-0000", {"settings": ["vars.a=b c"]}, "hrmctl pipeline 'my eval.yaml' --set 'vars.a=b c'"),
        ("t-eval.stage-0000", {"argv": ["eval", "--model", "a b"]}, "hrmctl eval --model 'a b'"),
        ("t-eval.stage-0000", {}, ""),
    ],
)
def test_the_command_that_runs_what_was_run(tmp_path: Path, run: str, more: dict[str, Any], said: str) -> None:
    found = witness.Witness(open_store(tmp_path), run, json.dumps(LOCK | more).encode())
    assert found.again == said
    (stop,) = found.stopped["eval"]
    assert (stop.reason, stop.remedy) == (
        "stage e cancelled: stopped; more",
        f"finish stage e: {said or 'run it again'}",
    )


def test_what_does_not_hold_says_the_command_that_measures_it(lab: Path) -> None:
    write_contract(lab, CONTRACT.replace("100", "1").replace("101", "2"))
    path = recipe(lab, "lab", CHAIN)
    run_lab(path)
    found = check(lab, "loss.yaml", code=1)["LAB-LOSS/one"]
    assert found["remedy"] == f"improve what was measured, then again: hrmctl pipeline {path}"


def test_a_replay_does_not_ask_for_the_words_of_another_version(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_contract(lab)
    gate = """
    kind: gate
    id: GATE
    title: whether the loss is small
    over: {loss: LAB-LOSS/one}
    rules:
      - {id: small, when: {left: loss, op: eq, right: PASS}, then: GO}
      - {id: rest, otherwise: HOLD}
    verdicts: {GO: PASS, HOLD: INCONCLUSIVE}
    controls:
      - {expect: GO, because: small, data: {loss: PASS}}
      - {expect: HOLD, because: rest, data: {loss: FAIL}}
    """
    write_contract(lab, textwrap.dedent(gate), "gate.yaml")
    run_lab(recipe(lab, "lab", CHAIN))
    monkeypatch.setattr("hrmctl.contract.gate._why", lambda rule, given: "the words of a version before")
    assert check(lab, "loss.yaml", "gate.yaml", code=0)["GATE/gate"]["reason"].endswith("the words of a version before")
    monkeypatch.undo()
    assert check(lab, "loss.yaml", "gate.yaml", code=0)["GATE/gate"]["reason"] == "GO by rule `small`: loss PASS"
    assert replay(open_store(lab), catalog(lab)) == (4, [])


def test_a_check_that_proves_for_long_says_how_far_it_is(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_contract(lab)
    write_contract(lab, LENGTH, "length.yaml")
    assert "proving" not in command("check", "loss.yaml", "--store", "store", cwd=lab, check=3).stderr, "it was quick"
    monkeypatch.setattr("hrmctl.cli.progress.PLAIN_SECONDS", 0.0)
    steps = ["proving contracts: 0/2", "proving contracts: 1/2"]
    for argv in (["check", "--store", "store"], ["contracts", "prove"], ["contracts", "lint"]):
        done = command(*argv, "loss.yaml", "length.yaml", cwd=lab, check=None)
        assert [line for line in done.stderr.splitlines() if "proving" in line] == steps, argv
    quiet = command("contracts", "prove", "--json", "loss.yaml", "length.yaml", cwd=lab)
    assert (quiet.stderr, len(json.loads(quiet.stdout))) == ("", 2)


def test_a_terminal_gets_a_bar_and_titles_of_its_width(lab: Path) -> None:
    write_contract(lab, CONTRACT.replace("the loss is at most 100", "the loss is at most 100, " + "and so on " * 9))
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-P", "-m", "hrmctl", "check", "loss.yaml", "--store", "store"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "50"}
    process = subprocess.Popen(argv, cwd=lab, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):
        while part := os.read(ours, 4096):
            shown += part
    assert process.wait(timeout=30) == 3, shown.decode()
    assert "proving contracts" in shown.decode()
    assert "\r\n          the loss is at most 100, and so on and…\r\n" in shown.decode()


def test_the_table_shows_everything_and_counts_what_the_ledger_has(lab: Path) -> None:
    two = "subjects:\n  claim: {model: lab-27m, needs: [cuda]}\n  proxy: {model: lab-model}\n"
    write_contract(lab, CONTRACT.replace("subjects:\n  one: {model: lab-model}\n", two))
    write_contract(lab, MISSING, "missing.yaml")
    run_lab(recipe(lab, "lab", CHAIN))
    done = command("check", "loss.yaml", "missing.yaml", "--store", "store", cwd=lab, check=3)
    for word, name in (("BLOCKED", "LAB-LOSS/claim"), ("PASS", "LAB-LOSS/proxy"), ("UNTESTED", "LAB-MISSING/one")):
        assert any(line.startswith(word) and name in line for line in done.stdout.splitlines()), done.stdout
    assert [line.split() for line in done.stdout.splitlines()[-5:]] == [
        [*["subjects", "of", "this", "check", "PASS", "FAIL", "INCONCLUSIVE", "UNTESTED", "BLOCKED", "INVALID", "all"]],
        ["claim", "0", "0", "0", "0", "1", "0", "1"],
        ["proxy", "1", "0", "0", "0", "0", "0", "1"],
        ["other", "0", "0", "0", "1", "0", "0", "1"],
        ["all", "1", "0", "0", "1", "1", "0", "3"],
    ]


def test_a_pipeline_that_checks_nothing_says_so(lab: Path) -> None:
    write_contract(lab, CONTRACT.replace("100", "1").replace("101", "2"))
    recipe(lab, "lab", CHAIN + "contracts: [loss.yaml]\n")
    done = hrmctl("pipeline", "lab.yaml", "--no-check", "--store", "store", cwd=lab, check=0)
    assert "contracts were not checked: --no-check" in done.stderr
    assert not (lab / "store" / "ledger.jsonl").exists()
    recipe(lab, "lab", CHAIN.replace('"}}', '", act: raise}}') + "contracts: [loss.yaml]\n")
    command("pipeline", lab / "lab.yaml", "--no-check", "--store", "store", cwd=lab, check=4)
    assert not (lab / "store" / "ledger.jsonl").exists()


def test_the_report_of_a_run_is_its_own_check_else_the_whole_check_that_spoke_of_it(lab: Path) -> None:
    write_contract(lab)
    write_contract(lab, LENGTH, "length.yaml")
    both = run_lab(recipe(lab, "both", CHAIN)).run
    data = run_lab(recipe(lab, "data", DATA_ONLY + "contracts: [length.yaml]\n")).run
    check(lab, "loss.yaml", "length.yaml", code=0)
    store = open_store(lab)
    own = report_from_ledger(store, data)
    assert (own.run, [j.obligation for j in own.judgements]) == (data, ["LAB-LENGTH/one"])
    shared = report_from_ledger(store, both)
    assert (shared.run, len(shared.judgements)) == ("", 2)
    assert {j.run for j in shared.judgements} == {both, data}
    text = command("report", both, "--store", "store", cwd=lab, check=0).stdout
    assert "LAB-LENGTH/one" in text


def test_the_heading_of_evidence_is_its_evidence_without_the_payload(lab: Path) -> None:
    store = open_store(lab)
    result = run_lab(recipe(lab, "lab", CHAIN))
    for digest in witness.Witness(store, result.run).digests():
        heading, whole = store.heading(digest), store.get_evidence(digest)
        assert (heading.name, heading.type, heading.provenance) == (whole.name, whole.type, whole.provenance)
        assert not heading.payload
    sly = {"value": 1, "unit": "", "n": 1, "context": {"provenance": {"run": "forged"}}}
    source = store.get_evidence(digest).provenance
    kept = store.put_evidence(Evidence("x" * 5000, "measurement/v1", sly, source))
    assert store.heading(kept.digest).provenance == source, "also where the name is longer than what is read first"
    kept = store.put_evidence(Evidence("x", "measurement/v1", sly, None))
    assert store.heading(kept.digest).provenance is None


def test_a_store_of_two_hundred_runs_is_read_from_the_newest_and_no_further(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_contract(lab)
    write_contract(lab, LENGTH.replace("dataset: lab@train", "dataset: lab@test"), "length.yaml")
    store = open_store(lab)
    run = run_lab(recipe(lab, "lab", CHAIN)).run
    for index in range(200):
        shutil.copytree(store.run_folder(run), store.runs / f"29990101T{index:06}-lab-0000")
    parsed: list[Path] = []
    monkeypatch.setattr(witness, "parse_lock", lambda t, p, real=witness.parse_lock: parsed.append(p) or real(t, p))
    found = check(lab, "loss.yaml", code=0)
    assert found["run"] == "29990101T000199-lab-0000"
    assert len(parsed) == 1
    started = time.monotonic()
    found = check(lab, "length.yaml", code=3)
    assert found["LAB-LENGTH/one"]["verdict"] == "UNTESTED"
    assert time.monotonic() - started < 5
    write_contract(lab, MISSING, "missing.yaml")
    parsed.clear()
    check(lab, "missing.yaml", code=3)
    assert not parsed, "no run has such a stage, which the text of the locks says"


# --- attempts ---------------------------------------------------------------------------------------------------------

SCORED = """
vars: {steps: 1}
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, with: {data: "${data.data}", steps: "${vars.steps}"}}
  s: {uses: lab.score, with: {data: "${data.data}", model: "${a.model}"}}
"""
GOOD = CONTRACT.replace("LAB-LOSS", "LAB-GOOD").replace("model: lab-model", "model: lab-model, dataset: lab@train")
GOOD = GOOD.replace("stage: lab.train, name: loss", "stage: lab.score, name: score").replace("op: le", "op: ge")
GOOD = GOOD.replace("{value: 101}", "{value: 99}")
TRIED = """\
kind: contract
id: LAB-TRIED
title: at least three models were scored on this data set
subjects:
  one: {model: lab-model, dataset: lab@train}
evidence:
  e: {type: measurement/v1, stage: lab.score, name: score}
  tries: {type: measurement/v1, stage: ledger, name: attempts}
measure:
  v: {fn: lab_value, of: [e]}
  t: {fn: lab_value, of: [tries]}
require:
  - {id: scored, left: v.n, op: eq, right: 1, else: INVALID}
  - {id: enough, left: t.value, op: ge, right: 3, else: INCONCLUSIVE}
  - {id: few, left: t.value, op: le, right: 100}
controls:
  - {expect: PASS, data: {e: {value: 1}, tries: {value: 3}}}
  - {expect: INCONCLUSIVE, because: enough, data: {e: {value: 1}, tries: {value: 2}}}
  - {expect: INVALID, because: scored, data: {e: {value: 1, n: 2}, tries: {value: 3}}}
  - {expect: INVALID, because: scored, data: {e: {value: 1, n: 2}, tries: {value: 2}}}
  - {expect: PASS, data: {e: {value: 1}, tries: {value: 100}}}
  - {expect: FAIL, because: few, data: {e: {value: 1}, tries: {value: 101}}}
"""
GATE = """\
kind: gate
id: LAB-GATE
title: stop when three attempts were not good enough
over: {good: LAB-GOOD/one, tried: LAB-TRIED/one}
rules:
  - {id: stop, when: {all: [{left: good, op: eq, right: FAIL}, {left: tried, op: eq, right: PASS}]}, then: NO-GO}
  - {id: go, when: {left: good, op: eq, right: PASS}, then: GO}
  - {id: wait, otherwise: HOLD}
verdicts: {GO: PASS, NO-GO: FAIL, HOLD: INCONCLUSIVE}
controls:
  - {expect: NO-GO, because: stop, data: {good: FAIL, tried: PASS}}
  - {expect: GO, because: go, data: {good: PASS, tried: PASS}}
  - {expect: HOLD, because: wait, data: {good: FAIL, tried: INCONCLUSIVE}}
  - {expect: HOLD, because: wait, data: {good: INCONCLUSIVE, tried: PASS}}
"""


def test_a_gate_stops_after_three_recorded_attempts(lab: Path) -> None:
    (lab / "c").mkdir()
    for name, text in (("good", GOOD), ("tried", TRIED), ("gate", GATE)):
        write_contract(lab / "c", text, f"{name}.yaml")
    scored = recipe(lab, "lab", SCORED)
    seen = []
    for steps, code in ((1, 1), (1, 1), (2, 1), (3, 1)):
        run_lab(scored, [f"vars.steps={steps}"])
        found = check(lab, "c", code=code)
        tried, gate = found["LAB-TRIED/one"], found["LAB-GATE/gate"]
        seen.append((tried["measured"]["t"]["value"], tried["verdict"], gate["measured"]["gate"]["outcome"]))
        assert tried["attempts"] == found["LAB-GOOD/one"]["attempts"] == tried["measured"]["t"]["value"]
        assert len(tried["evidence"]) == 1, "what the ledger says is no object of the store"
    assert seen == [
        (1, "INCONCLUSIVE", "HOLD"),
        (1, "INCONCLUSIVE", "HOLD"),
        (2, "INCONCLUSIVE", "HOLD"),
        (3, "PASS", "NO-GO"),
    ]
    store = open_store(lab)
    assert replay(store, catalog(lab)) == (12, [])
    rows = ledger.rows(store.ledger)
    store.ledger.unlink()
    ledger.head_path(store.ledger).unlink()
    judgements = [_judgement(row) for row in rows[-3:]]
    ledger.append(store.ledger, "c", judgements)
    (problem,) = replay(store, catalog(lab))[1]
    assert "LAB-TRIED/one: recorded PASS, replayed INCONCLUSIVE because enough" in str(problem)
