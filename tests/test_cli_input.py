"""Bad input on the command line: exit 2, one clear line that names place and remedy, and nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .lab import CONTRACT, HEAD, command, hrmctl, listing, write_contract, write_lab, write_recipe

CHAIN = """
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, with: {data: "${data.data}"}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return write_lab(tmp_path)


# --- bad input: exit 2, one clear line, nothing written -------------------------------------------------------


def deep(levels: int) -> str:
    return "kind: recipe\nstages: " + "[" * levels


LINES = {
    "an unknown key": (
        f"{HEAD}stages: {{a: {{uses: lab.make}}}}\nstagse: {{}}\n",
        "lab.yaml:5:1: unknown key 'stagse'; did you mean 'stages'?",
    ),
    "a duplicate key": (
        f"{HEAD}seed: 8\nstages: {{a: {{uses: lab.make}}}}\n",
        "lab.yaml:4:1: duplicate key 'seed'; first given in line 3",
    ),
    "a tab": (f"{HEAD}stages:\n\ta: 1\n", "lab.yaml:5:1: a tab in the indentation; indent with spaces"),
    "a wrong type": (
        f"{HEAD}stages:\n  a: {{uses: lab.train, with: {{data: hrmctl_plugins.py, steps: ten}}}}\n",
        "lab.yaml:5:63: steps: expected an integer, found text ('ten')",
    ),
    "a value out of range": (
        f"{HEAD}stages:\n  a: {{uses: lab.train, with: {{data: hrmctl_plugins.py, steps: 0}}}}\n",
        "lab.yaml:5:63: steps: an integer ('0') is out of range; must be at least 1",
    ),
    "a cycle": (
        f"{HEAD}stages:\n  a: {{uses: lab.make, after: [b]}}\n  b: {{uses: lab.make, after: [a]}}\n",
        "lab.yaml:6:6: stages form a cycle: b → a → b; remove one reference",
    ),
    "a stage that is not there": (
        f"{HEAD}stages:\n  a: {{uses: lab.train, with: {{data: '${{b.data}}'}}}}\n",
        "lab.yaml:5:37: no stage 'b'; known: a",
    ),
    "an output that is not there": (
        f"{HEAD}stages:\n  b: {{uses: lab.make}}\n  a: {{uses: lab.train, with: {{data: '${{b.dat}}'}}}}\n",
        "lab.yaml:6:37: stage 'b' has no output 'dat'; did you mean 'data'?",
    ),
    "an unknown plugin": (f"{HEAD}stages:\n  a: {{uses: lab.maek}}\n", "lab.yaml:5:13: unknown stage 'lab.maek'; did"),
    "NaN": (
        f"{HEAD}stages:\n  a: {{uses: lab.make, with: {{text: .nan}}}}\n",
        "lab.yaml:5:36: nan is not a number that a recipe can hold; write a finite number",
    ),
    "10,000 levels": (deep(10_000), "lab.yaml:2:72: nested deeper than 64 levels"),
    "not UTF-8": ("kind: recipe\n# \xff\n", "lab.yaml:2:3: not UTF-8 (byte 0xff); save it as UTF-8"),
    "an alias": (f"{HEAD}stages: *x\n", "lab.yaml:4:9: aliases are not part of hrmctl's YAML; write the value out"),
    "no contract": (
        f"{HEAD}stages: {{a: {{uses: lab.make}}}}\ncontracts: [none.yaml]\n",
        "lab.yaml:5:13: no contract matches 'none.yaml'; looked in . and contracts; "
        "correct the path, or write a contract with: hrmctl contracts new ID",
    ),
    "nothing": ("", "lab.yaml:1:1: the file is empty"),
}


@pytest.mark.parametrize("what", LINES)
def test_a_recipe_that_is_wrong(lab: Path, what: str) -> None:
    text, message = LINES[what]
    (lab / "lab.yaml").write_bytes(text.encode("latin-1" if what == "not UTF-8" else "utf-8"))
    before = listing(lab)
    done = command("pipeline", "lab.yaml", cwd=lab, check=2)
    assert done.stderr.startswith(f"hrmctl: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert listing(lab) == before


CONTRACTS = {
    "no FAIL control": CONTRACT[: CONTRACT.index("  - {expect: FAIL")],
    "prose where a check should be": CONTRACT.replace("{id: small, left: v.value, op: le, right: 100}", "it is small"),
    "a control that does not do what it says": CONTRACT.replace("value: 101", "value: 99"),
    "a clause that no control needs": CONTRACT.replace(
        "right: 100}", "right: 100}\n  - {id: idle, left: v.n, op: ge, right: 0}"
    ),
    "NaN where evidence should be": CONTRACT.replace("{value: 100}", "{value: .nan}"),
}


@pytest.mark.parametrize("what", CONTRACTS)
def test_a_contract_that_is_wrong_refuses_the_run(lab: Path, what: str) -> None:
    write_contract(lab, CONTRACTS[what])
    write_recipe(lab, CHAIN + "contracts: [loss.yaml]\n")
    before = listing(lab)
    done = command("pipeline", "lab.yaml", cwd=lab, check=2)
    assert done.stderr.startswith("hrmctl: loss.yaml:")
    assert "Traceback" not in done.stderr
    assert command("pipeline", "lab.yaml", "--plan", cwd=lab, check=2).stderr == done.stderr
    assert listing(lab) == before


def test_a_recipe_of_100_mb(lab: Path) -> None:
    with (lab / "lab.yaml").open("wb") as stream:
        stream.truncate(100_000_000)
    done = command("pipeline", "lab.yaml", cwd=lab, check=2)
    assert done.stderr == "hrmctl: lab.yaml: 100,000,000 bytes; the limit is 1,048,576; split it\n"


COMMANDS = {
    "a missing recipe": (["pipeline", "absent.yaml"], "absent.yaml: cannot read: No such file or directory"),
    "a folder": (["pipeline", "."], ".: cannot read: Is a directory"),
    "an unknown setting": (["pipeline", "lab.yaml", "--set", "vars.x=1"], "--set vars.x=1: the recipe has no 'vars'"),
    "an unknown stage to run": (["pipeline", "lab.yaml", "--only", "dta"], "no stage 'dta'; did you mean 'data'?"),
    "an unknown stage to begin at": (["pipeline", "lab.yaml", "--from", "b"], "no stage 'b'; known: a, data"),
    "an unknown run": (["pipeline", "lab.yaml", "--resume", "r"], "no run 'r' in .hrmctl; latest: none"),
    "an unknown executor": (["pipeline", "lab.yaml", "--executor", "ray"], "unknown executor 'ray'; known: local"),
    "an unknown tracker": (["pipeline", "lab.yaml", "--tracker", "x"], "unknown tracker 'x'; known: broken, mirror"),
    "an unknown profile": (
        ["pipeline", "lab.yaml", "--profile", "kpi"],
        "no contract has a profile 'kpi'; known: none",
    ),
    "no device": (
        ["pipeline", "lab.yaml", "--device", "tpu:banana"],
        "--device tpu:banana: no such device; choose auto, cpu, cuda or mps, or one GPU as cuda:1",
    ),
    "a name for a device": (["pipeline", "lab.yaml", "--device", "gpu"], "--device gpu: no such device; choose auto,"),
    "a number for a device": (["pipeline", "lab.yaml", "--device", "cuda:-1"], "--device cuda:-1: no such device;"),
    "a stage on no device": (
        ["finetune", "--data", "lab.yaml", "--init", "hrm-tiny", "--device", "gpu"],
        "--device gpu: no such device; choose auto, cpu, cuda or mps",
    ),
    "an unknown option": (["pipeline", "lab.yaml", "--paln"], "No such option: --paln"),
    "an unknown command": (["pipelin"], "No such command 'pipelin'"),
    "a value that is none": (["pipeline", "lab.yaml", "--jobs", "0"], "Invalid value for '--jobs'"),
    "no recipe": (["pipeline"], "Missing argument 'recipe'"),
    "no run to show": (["runs", "show"], ".hrmctl holds no run; make one with: hrmctl pipeline RECIPE"),
    "an unknown thing": (["plugins", "show", "finetnue"], "no plugin provides 'finetnue'; did you mean 'finetune'?"),
    "a store that is a file": (["pipeline", "lab.yaml", "--store", "lab.yaml"], "cannot create lab.yaml: "),
    "a store in a file": (["pipeline", "lab.yaml", "--store", "lab.yaml/x"], "cannot create lab.yaml/x: "),
    "a read-only store": (["pipeline", "lab.yaml", "--store", "/proc/x"], "cannot create /proc/x: "),
    "a parameter out of range": (
        ["finetune", "--data", "lab.yaml", "--init", "hrm-tiny", "--steps", "-1"],
        "hrmctl finetune: steps: an integer ('-1') is out of range",
    ),
    "a missing input": (["finetune", "--init", "hrm-tiny"], "hrmctl finetune: input 'data' is missing"),
    "a missing file": (
        ["finetune", "--init", "hrm-tiny", "--data", "absent"],
        "hrmctl finetune: input 'data': no file or folder 'absent'",
    ),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_that_is_wrong(lab: Path, what: str) -> None:
    argv, message = COMMANDS[what]
    write_recipe(lab, CHAIN)
    before = listing(lab)
    done = command(*argv, cwd=lab, check=2)
    assert done.stderr.startswith(f"hrmctl: {message}"), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert listing(lab) == before
    if argv[0] == "pipeline" and "store" not in what:
        planned = command(*argv, "--plan", cwd=lab, check=2)
        assert (planned.stdout, planned.stderr) == ("", done.stderr)
        assert listing(lab) == before


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "mps", "cuda:1", "cuda:0"])
def test_a_device_that_can_be(lab: Path, device: str) -> None:
    write_recipe(lab, CHAIN)
    command("pipeline", "lab.yaml", "--plan", "--device", device, cwd=lab)


def test_a_kind_of_plugin_that_nobody_has(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(
        HEAD + "stages:\n  data: {uses: data.generate, with: {family: microcode, train: 64, test: 8}}\n"
    )
    done = hrmctl("pipeline", "lab.yaml", "--tracker", "wandb", cwd=tmp_path, check=2)
    told = "none is installed; a plugin gives one by the hook hrmctl_trackers"
    assert done.stderr == f"hrmctl: unknown tracker 'wandb'; {told}\n"


@pytest.mark.parametrize("argv", [["pipeline", "lab.yaml"], ["runs", "list"], ["pipeline", "lab.yaml", "--plan"]])
def test_a_store_of_a_newer_version(lab: Path, argv: list[str]) -> None:
    write_recipe(lab, CHAIN)
    (lab / ".hrmctl").mkdir()
    (lab / ".hrmctl" / "version").write_text("2\n")
    before = listing(lab)
    done = command(*argv, cwd=lab, check=2)
    assert done.stderr == "hrmctl: .hrmctl was written by a newer hrmctl (store version 2); upgrade hrmctl\n"
    assert listing(lab) == before


def test_bytes_that_are_no_text_are_no_surprise(lab: Path) -> None:
    write_recipe(lab, CHAIN)
    command = [sys.executable, "-P", "-m", "hrmctl", "pipeline", "lab.yaml", "--plan", "--set"]
    done = subprocess.run([*command, b"name=\xff"], cwd=lab, capture_output=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(b"hrmctl: --set name:1:1: the character U+DCFF is not allowed")
    named = subprocess.run([*command[:-2], "--tracker", b"\xff"], cwd=lab, capture_output=True, timeout=60)
    assert named.returncode == 2
    assert named.stderr.startswith(b"hrmctl: unknown tracker '\\udcff'")


@pytest.mark.parametrize("what", ["an unknown key", "10,000 levels", "not UTF-8"])
def test_a_process_of_its_own_ends_the_same(lab: Path, what: str) -> None:
    text, message = LINES[what]
    (lab / "lab.yaml").write_bytes(text.encode("latin-1"))
    before = listing(lab)
    done = hrmctl("pipeline", "lab.yaml", cwd=lab, check=2)
    assert done.stderr.startswith(f"hrmctl: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert listing(lab) == before


def test_a_ratchet_without_accepted_verdicts_says_how_to_make_them(lab: Path) -> None:
    write_contract(lab)
    before = listing(lab)
    done = hrmctl("check", "loss.yaml", "--ratchet", "accepted.json", cwd=lab, check=2)
    (line,) = done.stderr.splitlines()
    assert "accepted.json: nothing has been accepted yet" in line
    assert "--accept" in line
    assert listing(lab) == before
