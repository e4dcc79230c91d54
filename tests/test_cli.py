"""The command line as people and scripts see it: help, completion, stable JSON, stages alone, progress."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hrmctl import Evidence, __version__
from hrmctl.cli.common import measured
from hrmctl.cli.progress import Bars, Lines
from hrmctl.events import RunStarted, StageFinished, StageProgress, StageStarted
from hrmctl.hookspecs import hookimpl

from .lab import CONTRACT, command, hrmctl, installed_lab, listing, open_store, write_contract, write_lab, write_recipe

CHAIN = """
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, with: {data: "${data.data}"}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return write_lab(tmp_path)


# --- help -------------------------------------------------------------------------------------------

HEAVY = ("torch", "transformers", "scipy")
IMPORTS = """
import sys
from hrmctl.cli import run
code = run(sys.argv[1:])
print(sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "argv", [["--help"], ["pipeline", "--help"], ["plugins", "list"], ["finetune", "--help"], ["runs", "list"]]
)
def test_what_only_shows_imports_nothing_heavy(tmp_path: Path, argv: list[str]) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-P", "-c", IMPORTS, *argv]
    for _ in range(2 if argv == ["--help"] else 1):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        seen = done.stderr.splitlines()[-1]
        assert "'hrmctl'" in seen
        for name in HEAVY:
            assert f"'{name}'" not in seen, f"hrmctl {' '.join(argv)} imports {name}"


def test_registering_every_plugin_imports_nothing_heavy() -> None:
    code = """
import sys
from hrmctl.plugins import catalog
found = catalog()
assert {"data.generate", "finetune"} <= set(found.stages), list(found.stages)
print(sorted({"torch", "transformers", "scipy", "numpy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_help_names_every_command(tmp_path: Path) -> None:
    shown = hrmctl("--help", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache")).stdout
    for name in "pipeline check contracts ledger runs report plugins doctor finetune data".split():  # noqa: SIM905
        assert f"\n  {name} " in shown
    assert shown.count("\n  data ") == 1


def test_the_version(tmp_path: Path) -> None:
    assert hrmctl("--version", cwd=tmp_path).stdout == f"hrmctl {__version__}\n"


def test_options_of_a_stage_come_from_its_parameters(tmp_path: Path) -> None:
    shown = hrmctl("finetune", "--help", cwd=tmp_path, COLUMNS="200").stdout
    for text in ("--steps", "--data", "--seed", "--device", "--out", "--store", "--json", "[default: (0.001)]"):
        assert text in shown


# --- completion -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("hrmctl pi", {"pipeline"}),
        ("hrmctl pipeline --kee", {"--keep-going"}),
        ("hrmctl finetune --ste", {"--steps"}),
        ("hrmctl data gen", {"generate"}),
        ("hrmctl runs ", {"list", "show"}),
    ],
)
def test_the_shell_completes(tmp_path: Path, words: str, wanted: set[str]) -> None:
    settings = {"_HRMCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = hrmctl(cwd=tmp_path, **settings)
    assert wanted <= set(done.stdout.split())


def test_the_completion_script_can_be_shown(tmp_path: Path) -> None:
    # The shell is that of the process above this one.
    script = f"'{sys.executable}' -P -m hrmctl --show-completion; true"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "_HRMCTL_COMPLETE=complete_bash" in done.stdout
    assert "complete -o default -F _hrmctl_completion hrmctl" in done.stdout


# --- JSON ---------------------------------------------------------------------------------------------------


def test_a_pipeline_in_json_and_what_it_left(lab: Path) -> None:
    write_recipe(lab, CHAIN)
    planned = json.loads(command("pipeline", "lab.yaml", "--plan", "--json", cwd=lab).stdout)
    assert planned == [
        {"stage": "data", "uses": "lab.make", "parents": [], "cached": False, "reason": "never ran here"},
        {"stage": "a", "uses": "lab.train", "parents": ["data"], "cached": False, "reason": "data runs first"},
    ]
    assert not (lab / ".hrmctl").exists()
    done = hrmctl("pipeline", "lab.yaml", "--json", cwd=lab)
    result = json.loads(done.stdout)
    assert done.stderr == "the recipe has no contracts: nothing was claimed, nothing was checked\n"
    assert set(result) == {"run", "status", "exit_code", "stages", "check", "report", "notes"}
    assert [(s["stage"], s["status"], s["error"]) for s in result["stages"]] == [
        ("data", "done", ""),
        ("a", "done", ""),
    ]
    assert (result["status"], result["exit_code"], result["check"]) == ("done", 0, None)
    runs = json.loads(command("runs", "list", "--json", cwd=lab).stdout)
    assert [set(run) for run in runs] == [{"run", "name", "recipe", "status", "started"}]
    shown = json.loads(command("runs", "show", "--json", cwd=lab).stdout)
    assert shown["losses"] == [{"stage": "a", "curve": "loss", "first": 13, "last": 13 / 3, "steps": [1, 3]}]
    found = {m["name"]: (m["stage"], m["value"], m["unit"], m["n"], m["of"]) for m in shown["measurements"]}
    assert found["loss"] == ("a", 13 / 3, "nats", 3, ["lab-model"])
    assert shown["run"] == result["run"] == runs[0]["run"]
    assert set(shown["stages"]["a"]) >= {"uses", "version", "status", "key", "seed", "params", "inputs", "outputs"}
    plain = command("runs", "list", cwd=lab).stdout.splitlines()
    assert plain[0].split() == ["run", "recipe", "status", "stages", "started"]
    assert plain[1].split()[:4] == [result["run"], "lab", "done", "2"]
    shown = command("runs", "show", cwd=lab).stdout
    assert "a      lab.train  done" in shown
    assert [line.split() for line in shown.splitlines()[-2:]] == [
        ["data", "length", "5", "characters", "lab@train"],
        ["a", "loss", "4.33333", "nats", "lab-model"],
    ]
    assert ["a", "loss", "13", "→", "4.333", "1", "→", "3"] in [line.split() for line in shown.splitlines()]


def test_samples_are_shown_by_how_they_ended() -> None:
    problems = [{"n": 2, "c": 1, "outcomes": ["passed", "syntax"]}, {"n": 2, "c": 0, "outcomes": ["syntax", "timeout"]}]
    evidence = Evidence("samples", "samples/v1", {"problems": problems}, None, "0" * 64)
    assert measured(evidence) == "1 of 4 samples of 2 problems passed, 2 syntax, 1 timeout"


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (512, "bytes", "512 bytes"),
        (12_345_678, "bytes", "12.3 MB"),
        (3.2e9, "bytes", "3.2 GB"),
        (12.345, "seconds", "12.345 seconds"),
        (150, "seconds", "2.5 min"),
        (9000, "s", "2.5 h"),
        (1_234_567, "tokens", "1,234,567 tokens"),
        (2.5e12, "FLOPs", "2.5 TFLOPs"),
        (0.123456789, "share", "0.123457 share"),
    ],
)
def test_figures_are_shown_as_people_read_them(value: float, unit: str, shown: str) -> None:
    seen = Evidence("m", "measurement/v1", {"value": value, "unit": unit, "n": 1}, None, "0" * 64)
    assert measured(seen) == shown


def test_a_stage_names_its_inputs_as_people_do(lab: Path) -> None:
    write_recipe(lab, CHAIN.replace('"}}', '", act: bad row}}'))
    failed = hrmctl("pipeline", "lab.yaml", cwd=lab, check=4)
    assert "a: FAILED: lab@train:1:3: no word" in failed.stderr


def test_each_fault_of_a_stage_has_a_line_of_its_own(lab: Path) -> None:
    write_recipe(lab, CHAIN.replace('"}}', '", act: bad rows}}'))
    failed = hrmctl("pipeline", "lab.yaml", cwd=lab, check=4)
    faults = ["lab@train:1:3: no word; mend it", "lab@train:2:3: no word; mend it"]
    assert f"a: FAILED\n  {faults[0]}\n  {faults[1]}\n" in failed.stderr
    shown = command("runs", "show", cwd=lab).stdout.splitlines()
    assert [line.split("  ")[-1].strip() for line in shown if line.startswith("a  ")] == [faults[0]]
    assert f"a: {faults[1]}" in shown


def test_a_failed_pipeline_in_json(lab: Path) -> None:
    write_recipe(lab, CHAIN.replace('"}}', '", act: stage error}}'))
    result = json.loads(command("pipeline", "lab.yaml", "--json", cwd=lab, check=4).stdout)
    assert result["status"] == "failed"
    assert result["exit_code"] == 4
    assert result["stages"][1]["error"] == "the loss became NaN at step 2; lower the learning rate"


def test_a_verdict_decides_the_exit_code(lab: Path) -> None:
    write_contract(lab)
    write_recipe(lab, CHAIN + "contracts: [loss.yaml]\n")
    result = json.loads(command("pipeline", "lab.yaml", "--json", cwd=lab).stdout)
    assert [j["verdict"] for j in result["check"]["judgements"]] == ["PASS"]
    write_contract(lab, CONTRACT.replace("100", "1").replace("101", "2"))
    result = json.loads(command("pipeline", "lab.yaml", "--json", cwd=lab, check=1).stdout)
    assert [s["status"] for s in result["stages"]] == ["cached", "cached"]
    assert [j["verdict"] for j in result["check"]["judgements"]] == ["FAIL"]


def test_the_exit_code_that_is_shown_is_that_of_the_process(lab: Path) -> None:
    write_contract(lab)
    write_recipe(lab, CHAIN.replace('"}}', '", act: stage error}}') + "contracts: [loss.yaml]\n")
    shown = hrmctl("pipeline", "lab.yaml", cwd=lab, check=4).stdout
    assert shown.splitlines()[-1] == "Exit code 4"
    result = json.loads(hrmctl("pipeline", "lab.yaml", "--json", cwd=lab, check=4).stdout)
    assert (result["exit_code"], result["check"]["exit_code"]) == (4, 4)
    page = Path(lab / result["report"]).read_text()
    assert "<dt>exit code</dt><dd>4</dd>" in page


def test_doctor_fits_a_terminal(tmp_path: Path) -> None:
    more = """
    @hookimpl
    def hrmctl_diagnostics():
        from hrmctl import DiagnosticSpec
        return [DiagnosticSpec("lab", "", f"{__name__}:asked")]

    def asked():
        from hrmctl import Finding
        return Finding("lab", "missing", "words " * 30, "mend it " * 20)
    """
    write_lab(tmp_path, more)
    shown = hrmctl("doctor", cwd=tmp_path, check=None, COLUMNS="80").stdout.splitlines()
    assert max(len(line) for line in shown) <= 80
    text = " ".join(" ".join(shown).split())
    assert "lab missing " + "words " * 30 + "→ " + "mend it " * 20 in text + " "


def test_doctor_and_plugins_in_json(tmp_path: Path) -> None:
    findings = json.loads(command("doctor", "--json", cwd=tmp_path, check=None).stdout)
    assert all(set(f) == {"subject", "state", "detail", "remedy"} for f in findings)
    assert {"python", "hrmctl", "cores", "store", "accelerator"} <= {f["subject"] for f in findings}
    rows = json.loads(command("plugins", "list", "--json", cwd=tmp_path).stdout)
    assert all(set(row) == {"name", "distribution", "version", "error"} for row in rows)
    assert "### `finetune`" in command("plugins", "show", "finetune", cwd=tmp_path).stdout


# --- a stage alone ------------------------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with installed_lab(tmp_path, monkeypatch) as work:
        yield work


def test_parameters_are_options(alone: Path) -> None:
    argv = ["lab", "train", "--data", "words.txt", "--steps", "2", "--words", "a", "--words", "b", "--table", "k=3"]
    argv += ["--no-fast", "--rate", "0.5", "--seed", "5", "--act", "nan", "--at", "1", "--json"]
    result = json.loads(hrmctl(*argv, cwd=alone).stdout)
    assert set(result) == {"run", "exit_code", "error", "outputs", "evidence"}
    assert (result["exit_code"], result["error"]) == (0, "")
    evidence = result["evidence"][0]
    assert (evidence["name"], evidence["type"]) == ("loss", "measurement/v1")
    assert evidence["payload"] == {"value": 7.5, "unit": "nats", "n": 2}
    model = Path(result["outputs"]["model"])
    assert json.loads((alone / model / "weights.json").read_text()) == [15.0, 7.5]
    lock = json.loads(hrmctl("runs", "show", "--json", cwd=alone).stdout)
    given = lock["stages"]["lab-train"]["params"]
    assert given["words"] == ["a", "b"]
    assert (given["table"], given["fast"], given["rate"], given["steps"]) == ({"k": 3}, False, 0.5, 2)
    assert lock["argv"] == argv


def test_outputs_are_copied_whole_and_never_over_something(alone: Path) -> None:
    argv = ["lab", "train", "--data", "words.txt", "--out", "out"]
    done = command(*argv, cwd=alone)
    assert done.stdout == "model: out/model\n"
    assert "loss: 3.33333 nats" in done.stderr
    assert sorted(os.listdir(alone / "out")) == ["model"]
    assert sorted(os.listdir(alone / "out" / "model")) == ["ballast", "weights.json"]
    assert os.access(alone / "out" / "model" / "weights.json", os.W_OK)
    assert (alone / "out" / "model" / "weights.json").stat().st_mode & 0o200
    before = listing(alone)
    again = command(*argv, cwd=alone, check=2)
    assert again.stderr == "hrmctl: out/model exists; remove it or choose another --out\n"
    assert listing(alone) == before
    command("lab", "make", "--out", "out", cwd=alone)
    assert (alone / "out" / "data.jsonl").read_text() == "hello\n"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--table", "k"], "--table k: no '='; write --table key=value"),
        (["--table", "k=x"], "hrmctl lab train: table.k: expected an integer, found text ('x')"),
        (["--steps", "0"], "hrmctl lab train: steps: an integer ('0') is out of range; must be at least 1"),
        (["--steps", "x"], "Invalid value for '--steps'"),
        (["--act", "dance"], "Invalid value for '--act'"),
        (["--seed", "-1"], "hrmctl lab train: seed: an integer ('-1') is out of range"),
        (["--data", "absent"], "hrmctl lab train: input 'data': no file or folder 'absent'"),
    ],
)
def test_an_option_that_is_wrong(alone: Path, more: list[str], message: str) -> None:
    before = listing(alone)
    done = command("lab", "train", "--data", "words.txt", *more, cwd=alone, check=2)
    assert done.stderr.startswith(f"hrmctl: {message}"), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert listing(alone) == before


def test_a_stage_that_fails_says_so(alone: Path) -> None:
    argv = ["lab", "train", "--data", "words.txt", "--act", "stage error"]
    done = command(*argv, cwd=alone, check=4)
    assert "lab-train: FAILED: the loss became NaN at step 2; lower the learning rate\n" in done.stderr
    assert done.stdout == ""
    result = json.loads(command(*argv, "--json", cwd=alone, check=4).stdout)
    assert result["error"] == "the loss became NaN at step 2; lower the learning rate"
    assert result["outputs"] == {}


# --- people ---------------------------------------------------------------------------------------------------------


def test_results_go_to_stdout_and_the_rest_to_stderr(lab: Path) -> None:
    write_recipe(lab, CHAIN)
    done = hrmctl("pipeline", "lab.yaml", cwd=lab)
    run = open_store(lab).root.parent / ".hrmctl" / "runs"
    (name,) = os.listdir(run)
    lines = done.stderr.splitlines()
    assert lines[:2] == [f"run {name}", "data: started"]
    assert lines[2].startswith("data: done in ")
    assert lines[-1] == "the recipe has no contracts: nothing was claimed, nothing was checked"
    assert "\x1b" not in done.stderr


def test_a_terminal_gets_bars_whatever_stages_are_called(lab: Path) -> None:
    write_recipe(lab, CHAIN.replace('"}}', '", pause: 0.3}, matrix: {words: [["[/x]"], ["b"]]}}'))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "hrmctl", "pipeline", "lab.yaml"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(command, cwd=lab, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:
            break
    assert process.wait(timeout=30) == 0, shown.decode()
    text = shown.decode()
    assert "a[words=['[/x]']]: done" in text
    assert re.search(r"[123]/3\b", text)
    assert "loss" in text


def events(stage: str) -> list[Any]:
    return [
        RunStarted("r", "recipe", Path(), [stage]),
        StageStarted("r", stage, "lab", False),
        StageProgress("r", stage, 1, 3, {"loss": 1.5}),
        StageFinished("r", stage, "failed", 0.5, "it broke [/red]"),
    ]


@pytest.mark.parametrize("kind", [Bars, Lines])
def test_progress_shows_names_as_they_are(kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    shown = kind()
    for event in events("a[/b]"):
        shown(event)
    shown.close()
    assert "a[/b]: FAILED: it broke [/red]" in capsys.readouterr().err


def test_a_surprise_leaves_a_log(lab: Path, tmp_path: Path) -> None:
    more = """
    def explode(report):
        raise ZeroDivisionError("surprise")

    @hookimpl
    def hrmctl_executors():
        from hrmctl import ExecutorSpec
        return [ExecutorSpec("bomb", "", f"{__name__}:explode")]
    """
    write_lab(lab, more)
    write_recipe(lab, CHAIN)
    logs = tmp_path / "logs"
    logs.mkdir()
    done = hrmctl("pipeline", "lab.yaml", "--executor", "bomb", cwd=lab, check=4, TMPDIR=str(logs))
    lines = done.stderr.splitlines()
    assert lines[0] == "hrmctl: this should not have happened: ZeroDivisionError: surprise"
    log = Path(lines[1].removeprefix("hrmctl: details, for a bug report: "))
    assert "in explode" in log.read_text()
    assert "'python'" in log.read_text()


def test_the_marker_of_hooks_is_public() -> None:
    import hrmctl as public

    assert public.hookimpl is hookimpl
    assert set(public.__all__) >= {"StageSpec", "StageResult", "StageError", "Observation", "Output", "hookimpl"}
