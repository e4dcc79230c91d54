"""`hrmctl runs evidence`, `diff` and `gc`: what a run holds, how two differ, and what can go."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from hrmctl import ledger
from hrmctl.run.record import every_run

from .lab import command, hrmctl, listing, lock_of, open_store, run_lab, write_contract, write_lab, write_recipe
from .test_run_disturbed import start, wait_for

CHAIN = """
vars: {steps: 3, text: hello}
stages:
  data: {uses: lab.make, with: {text: "${vars.text}"}}
  a: {uses: lab.train, with: {data: "${data.data}", steps: "${vars.steps}"}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return write_lab(tmp_path)


def runs(lab: Path, *argv: str, check: int = 0) -> Any:
    return command("runs", *argv, "--store", "store", cwd=lab, check=check)


# --- evidence -----------------------------------------------------------------------------------------------


def test_one_piece_of_evidence_is_printed_whole(lab: Path) -> None:
    first = run_lab(write_recipe(lab, CHAIN)).run
    run_lab(lab / "lab.yaml", ["vars.steps=5"])
    listed = json.loads(runs(lab, "evidence", first, "--json").stdout)
    assert [(row["stage"], row["name"], row["type"]) for row in listed] == [
        ("data", "length", "measurement/v1"),
        ("a", "loss", "measurement/v1"),
    ]
    digest = listed[1]["digest"]
    plain = runs(lab, "evidence", first).stdout.splitlines()
    assert plain[2].split() == ["a", "loss", "measurement/v1", digest[:12], "lab-model"]
    for which in ("loss", "a.loss", digest, digest[:8]):
        shown = json.loads(runs(lab, "evidence", first, which).stdout)
        assert shown["digest"] == digest
        assert shown["payload"] == {"value": 13 / 3 - 0.0, "unit": "nats", "n": 3}
        assert shown["provenance"]["run"] == first
    # A name alone is looked for in the latest run.
    assert json.loads(runs(lab, "evidence", "loss").stdout)["payload"]["n"] == 5


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["lsos"], "has no evidence 'lsos'; did you mean 'loss'?"),
        (["nothing-like-it"], "has no evidence 'nothing-like-it'; known: length, loss"),
        (["absent", "loss"], "no run 'absent' in store; latest: "),
        (["loss"], "3 pieces are called 'loss'; say which: a[seed=1].loss "),
    ],
)
def test_evidence_that_is_not_one_piece(lab: Path, argv: list[str], message: str) -> None:
    body = CHAIN.replace('steps}"}}', 'steps}"}, matrix: {seed: [1, 2, 3]}}')
    run_lab(write_recipe(lab, body))
    done = runs(lab, "evidence", *argv, check=2)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- diff ---------------------------------------------------------------------------------------------------


def test_two_runs_side_by_side(lab: Path) -> None:
    write_contract(lab)
    recipe = write_recipe(lab, CHAIN + "contracts: [loss.yaml]\n")
    a = run_lab(recipe).run
    b = run_lab(recipe, ["vars.steps=6", "vars.text=hello you"]).run
    found = json.loads(runs(lab, "diff", a, b, "--json").stdout)
    assert found["runs"] == [a, b]
    differs = {(one["stage"], one["what"]): (one["a"], one["b"]) for one in found["differences"]}
    assert differs["", "settings"] == ([], ["vars.steps=6", "vars.text=hello you"])
    assert differs["data", "text"] == ("hello", "hello you")
    assert differs["a", "steps"] == (3, 6)
    stage_a, stage_b = (lock_of(lab, run)["stages"]["a"] for run in (a, b))
    assert differs["a", "input data"] == tuple([s["inputs"]["data"][0]["digest"]] for s in (stage_a, stage_b))
    assert differs["a", "output model"] == tuple(s["outputs"]["model"]["digest"] for s in (stage_a, stage_b))
    assert ("a", "seed") not in differs
    assert found["measurements"][1] == {
        **{"stage": "a", "name": "loss", "unit": "nats", "of": ["lab-model"]},
        **{"a": 13 / 3, "b": 17 / 6},
    }
    assert found["verdicts"] == [{"obligation": "LAB-LOSS/one", "a": "PASS", "b": "PASS"}]
    shown = [line.split() for line in runs(lab, "diff", a, b).stdout.splitlines()]
    assert ["a", "steps", "3", "6"] in shown
    assert ["a", "loss", "4.33333", "nats", "2.83333", "nats", "-1.5", "nats", "(-34.6", "%)", "lab-model"] in shown
    assert ["LAB-LOSS/one", "PASS", "PASS"] in shown


@pytest.mark.parametrize("argv", [["runs", "diff"], ["compare"]])
@pytest.mark.parametrize("lost", ["settings", "seed", "recipe", "recipe_digest"])
def test_a_lock_that_lacks_a_line_differs_there(lab: Path, argv: list[str], lost: str) -> None:
    recipe = write_recipe(lab, CHAIN)
    a, b = run_lab(recipe).run, run_lab(recipe).run
    lock = open_store(lab).run_folder(a) / "recipe.lock.yaml"
    lock.write_text("".join(s for s in lock.read_text().splitlines(True) if not s.startswith(f"{lost}:")))
    found = json.loads(hrmctl(*argv, a, b, "--store", "store", "--json", cwd=lab).stdout)
    assert [one["a"] for one in found["differences"] if one["what"] == lost] == [None]


def test_a_stage_that_only_one_run_has_and_runs_that_are_the_same(lab: Path) -> None:
    a = run_lab(write_recipe(lab, CHAIN)).run
    same = run_lab(lab / "lab.yaml").run
    assert {one["what"] for one in json.loads(runs(lab, "diff", a, same, "--json").stdout)["differences"]} == {"status"}
    b = run_lab(write_recipe(lab, "stages:\n  data: {uses: lab.make}\n")).run
    found = json.loads(runs(lab, "diff", a, b, "--json").stdout)
    assert {"stage": "a", "what": "uses", "a": "lab.train", "b": None} in found["differences"]
    assert found["measurements"][-1]["b"] is None
    assert found["verdicts"] == []
    assert "a      loss         4.33333 nats  -" in runs(lab, "diff", a, b).stdout
    assert "no run 'x'" in runs(lab, "diff", a, "x", check=2).stderr


def test_a_curve_may_begin_with_what_is_not_finite(tmp_path: Path) -> None:
    lab = write_lab(tmp_path)
    curve = (
        'Observation("curve", "series/v1", {"series": {"loss": {"steps": [1, 2], "values": [None, 0.5]}}}, seen.about)'
    )
    source = (lab / "hrmctl_plugins.py").read_text()
    (lab / "hrmctl_plugins.py").write_text(
        source.replace('{"model": model}, [seen])', f'{{"model": model}}, [{curve}])')
    )
    run_lab(write_recipe(lab, CHAIN))
    assert "not finite → 0.5" in runs(lab, "show").stdout
    (loss,) = json.loads(runs(lab, "show", "--json").stdout)["losses"]
    assert (loss["first"], loss["last"]) == (None, 0.5)


# --- gc -----------------------------------------------------------------------------------------------------


def objects(lab: Path) -> set[str]:
    return {p.parent.name + p.name for p in (lab / "store" / "objects").glob("sha256/??/*")}


def test_gc_shows_first_and_removes_only_what_nothing_needs(lab: Path) -> None:
    recipe = write_recipe(lab, CHAIN)
    made = [run_lab(recipe, [f"vars.steps={n}"]).run for n in (1, 2, 3, 4)]
    before = listing(lab)
    shown = runs(lab, "gc", "--keep", "2")
    assert listing(lab) == before
    assert shown.stdout.splitlines()[:2] == [f"run {made[0]}", f"run {made[1]}"]
    assert "would go" in shown.stdout
    assert "nothing was removed; --yes removes it" in shown.stderr
    told = json.loads(runs(lab, "gc", "--keep", "2", "--json").stdout)
    assert (told["removed"], told["kept"]) == (False, made[2:])
    gone = {path.removeprefix("objects/sha256/").replace("/", "") for path in told["objects"]}
    old, new = ([lock_of(lab, run)["stages"]["a"] for run in some] for some in (made[:2], made[2:]))
    assert gone == {d for s in old for d in (s["outputs"]["model"]["digest"], *s["evidence"])}
    runs(lab, "gc", "--keep", "2", "--yes")
    assert every_run(open_store(lab)) == made[2:]
    assert not objects(lab) & gone
    assert all(s["outputs"]["model"]["digest"] in objects(lab) for s in new)
    # What is kept is still cached; what went runs again, from data that are kept.
    again = run_lab(recipe, ["vars.steps=4"])
    assert [line.status for line in again.stages] == ["cached", "cached"]
    assert [line.status for line in run_lab(recipe, ["vars.steps=1"]).stages] == ["cached", "done"]


def test_gc_keeps_what_the_ledger_needs(lab: Path) -> None:
    write_contract(lab)
    recipe = write_recipe(lab, CHAIN + "contracts: [loss.yaml]\n")
    made = [run_lab(recipe, [f"vars.steps={n}"]).run for n in (1, 2, 3)]
    told = json.loads(runs(lab, "gc", "--keep", "1", "--yes", "--json").stdout)
    assert told["for_ledger"] == made[:2]
    old = lock_of(lab, made[0])["stages"]["a"]
    assert old["outputs"]["model"]["digest"] not in objects(lab)
    assert set(old["evidence"]) <= objects(lab)
    hrmctl("verify", "--replay", "--store", "store", cwd=lab)
    assert len(ledger.rows(open_store(lab).ledger)) == 3
    assert "LAB-LOSS" in command("report", made[0], "--store", "store", cwd=lab).stdout
    assert runs(lab, "show", made[0]).stdout.count("lab-model") == 1
    # The instrument: without the evidence that was kept, the replay fails.
    digest = old["evidence"][0]
    open_store(lab).object_path(digest).unlink()
    assert "is missing" in hrmctl("verify", "--replay", "--store", "store", cwd=lab, check=1).stderr


def test_gc_keeps_what_a_run_was_judged_on_before_it_was_resumed(lab: Path) -> None:
    write_contract(lab)
    recipe = write_recipe(lab, CHAIN + "contracts: [loss.yaml]\n")
    first = run_lab(recipe).run
    before = lock_of(lab, first)["stages"]
    changed = (lab / "hrmctl_plugins.py").read_text().replace("ctx.seed) / step", "ctx.seed) / step / 2")
    (lab / "hrmctl_plugins.py").write_text(changed.replace("len(params.text), ", "len(params.text) + 1, "))
    hrmctl("pipeline", recipe, "--resume", first, "--store", "store", cwd=lab)
    assert not {d for s in before.values() for d in s["evidence"]} & {
        d for s in lock_of(lab, first)["stages"].values() for d in s["evidence"]
    }
    runs(lab, "gc", "--keep", "1", "--yes")
    assert {d for s in before.values() for d in s["evidence"]} <= objects(lab)
    hrmctl("verify", "--replay", "--store", "store", cwd=lab)


def test_nothing_is_removed_while_a_check_reads_it(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_contract(lab)
    recipe = write_recipe(lab, CHAIN)
    old = run_lab(recipe, ["vars.steps=1"]).run
    run_lab(recipe, ["vars.steps=2"])
    refused: list[str] = []

    def append(*args: Any, real: Any = ledger.append, **options: Any) -> Any:
        refused.append(hrmctl("runs", "gc", "--keep", "1", "--yes", "--store", "store", cwd=lab, check=None).stderr)
        return real(*args, **options)

    monkeypatch.setattr(ledger, "append", append)
    command("check", "loss.yaml", "--run", old, "--store", "store", cwd=lab, check=0)
    assert len(refused) == 1
    assert "another hrmctl is using" in refused[0]
    hrmctl("verify", "--replay", "--store", "store", cwd=lab)
    with open_store(lab).lock("evidence", shared=True):
        command("check", "loss.yaml", "--run", old, "--store", "store", cwd=lab, check=0)
    with open_store(lab).lock("evidence"):
        done = command("check", "loss.yaml", "--run", old, "--store", "store", cwd=lab, check=2)
        assert "another hrmctl is using" in done.stderr


def test_a_killed_run_goes_as_the_list_without_yes_says(lab: Path) -> None:
    recipe = write_recipe(lab, CHAIN)
    killed, *newer = [run_lab(recipe, [f"vars.steps={n}"]).run for n in (1, 2, 3)]
    path = open_store(lab).run_folder(killed) / "recipe.lock.yaml"
    path.write_text(path.read_text().replace("status: done\ncontracts", "status: running\ncontracts"))
    assert lock_of(lab, killed)["status"] == "running"
    shown = json.loads(runs(lab, "gc", "--keep", "2", "--json").stdout)
    gone = json.loads(runs(lab, "gc", "--keep", "2", "--yes", "--json").stdout)
    assert shown["kept"] == gone["kept"] == newer
    assert {**shown, "removed": True} == gone
    assert every_run(open_store(lab)) == newer


def test_a_killed_run_resumes_after_gc(lab: Path) -> None:
    body = CHAIN.replace('steps}"}}', f'steps}}", pause: 0.05, trace: {lab}/trace}}}}')
    recipe = write_recipe(lab, body)
    run_lab(recipe, ["vars.steps=2"])
    (lab / "trace").unlink()
    process = start(lab, "--set", "vars.steps=60")
    wait_for(lab / "trace", "\n4 ")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    killed = every_run(open_store(lab))[-1]
    left = set((lab / "store" / "scratch").iterdir())
    (lab / "store" / "scratch" / ("0" * 64)).mkdir()
    told = json.loads(runs(lab, "gc", "--keep", "1", "--yes", "--json").stdout)
    assert told["kept"][-1] == killed
    assert left <= set((lab / "store" / "scratch").iterdir())
    hrmctl("pipeline", "lab.yaml", "--resume", killed, "--store", "store", cwd=lab)
    steps = [line.split()[0] for line in (lab / "trace").read_text().splitlines()]
    assert steps.count("1") == 1, "it went on from its checkpoint"
    # Once every run that is kept has ended, nothing needs a scratch folder.
    runs(lab, "gc", "--keep", "1", "--yes")
    assert list((lab / "store" / "scratch").iterdir()) == []


def test_the_newest_run_that_is_done_is_kept_beside_newer_failed_ones(lab: Path) -> None:
    recipe = write_recipe(
        lab, CHAIN.replace("vars: {", 'vars: {act: "", ').replace('steps}"}}', 'steps}", act: "${vars.act}"}}')
    )
    done = run_lab(recipe).run
    failed = [run_lab(recipe, ["vars.act=raise"]).run for _ in range(2)]
    runs(lab, "gc", "--keep", "1", "--yes")
    assert every_run(open_store(lab)) == [done, failed[1]]


def test_gc_waits_for_nobody_and_guesses_nothing(lab: Path) -> None:
    run = run_lab(write_recipe(lab, CHAIN)).run
    with open_store(lab).lock("evidence"), open_store(lab).lock("run"):
        assert "another hrmctl is using" in runs(lab, "gc", "--yes", check=2).stderr
        assert "0 runs" in runs(lab, "gc").stdout
    (open_store(lab).run_folder(run) / "recipe.lock.yaml").write_text("nonsense")
    before = listing(lab)
    assert "not the lock of a run" in runs(lab, "gc", "--yes", check=2).stderr
    assert {k: v for k, v in listing(lab).items() if not k.endswith(".lock")} == {
        k: v for k, v in before.items() if not k.endswith(".lock")
    }
    shutil.rmtree(lab / "store")
    assert "0 runs" in runs(lab, "gc", "--yes").stdout
    assert not (lab / "store").exists()
