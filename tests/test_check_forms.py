"""`hrmctl check` in several forms at once, the job's summary of GitHub, and the bundle for an auditor."""

from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hrmctl_audit.bundle import read_bundle
from hrmctl_audit.report import audit
from hrmctl_reporters import evaluation

from hrmctl.cli import show
from hrmctl.cli.show import EXPORTED
from hrmctl.ledger import head_path
from hrmctl.model import Evidence
from hrmctl.run.replay import report_from_ledger
from hrmctl.run.report import evidence_report

from .lab import command, hrmctl, open_store, run_lab, write_contract, write_lab, write_recipe

CHAIN = """
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, with: {data: "${data.data}"}}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_lab(tmp_path_factory.mktemp("forms"))
    write_contract(folder)
    run_lab(write_recipe(folder, CHAIN))
    return folder


@pytest.fixture(autouse=True)
def outside_of_github(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def test_several_forms_of_one_check(lab: Path) -> None:
    outs = ["--out", "json=out/latest.json", "--out", "junit=out/check.xml", "--out", "evaluation-report=out/report.md"]
    done = command("check", "loss.yaml", "--store", "store", "--format", "json", *outs, cwd=lab)
    written = (lab / "out/latest.json").read_text()
    assert json.loads(written) == json.loads(done.stdout), "the same check, judged once"
    assert ET.parse(lab / "out/check.xml").getroot().get("tests") == "1"
    assert json.loads(written)["check"] in (lab / "out/report.md").read_text()
    assert [p.name for p in (lab / "out").iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("outs", "said"),
    [
        (["nonsense=a"], "unknown format 'nonsense'"),
        (["json"], "write --out FORM=FILE"),
        (["json="], "write --out FORM=FILE"),
        (["=a"], "write --out FORM=FILE"),
        (["json=-"], "write --out FORM=FILE"),
        (["json=a", "tap=a"], "is already the file of json"),
        (["json=."], "is a folder"),
    ],
)
def test_a_form_that_cannot_be_written_is_refused_before_anything_is_judged(
    lab: Path, outs: list[str], said: str
) -> None:
    before = open_store(lab).ledger.read_bytes() if open_store(lab).ledger.exists() else b""
    given = [part for out in outs for part in ("--out", out)]
    done = command("check", "loss.yaml", "--store", "store", *given, cwd=lab, check=2)
    assert said in done.stderr
    assert (open_store(lab).ledger.read_bytes() if open_store(lab).ledger.exists() else b"") == before
    assert not (lab / "a").exists()


def test_a_failing_form_leaves_no_other_behind(lab: Path, tmp_path: Path) -> None:
    folder = write_lab(
        tmp_path,
        """
        from hrmctl import ReporterSpec
        def broken(report):
            raise ValueError("no such form")
        @hookimpl
        def hrmctl_reporters():
            return [ReporterSpec("broken", "", f"{__name__}:broken")]
        """,
    )
    write_contract(folder)
    outs = ["--out", "json=a.json", "--out", "broken=b"]
    command("check", "loss.yaml", "--store", "store", *outs, cwd=folder, check=None)
    assert not (folder / "a.json").exists()


def test_the_summary_is_appended_where_github_says(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# Earlier step\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    same = summary.stat().st_ino
    command("check", "loss.yaml", "--store", "store", cwd=lab)
    assert summary.read_text() == "# Earlier step\n", "only the form github writes there"
    done = command("check", "loss.yaml", "--store", "store", "--format", "github", cwd=lab)
    assert done.stdout.startswith("::")
    text = summary.read_text()
    assert text.startswith("# Earlier step\n## ")
    assert text.count("`LAB-LOSS/one`") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["summary.md"]
    assert summary.stat().st_ino == same, "the runner's own file, not another in its place"
    command("check", "loss.yaml", "--store", "store", "--format", "github", cwd=lab)
    assert summary.read_text().count("`LAB-LOSS/one`") == 2


def test_the_form_github_needs_no_github(lab: Path) -> None:
    done = command("check", "loss.yaml", "--store", "store", "--format", "github", cwd=lab)
    assert done.stdout.startswith("::notice ")


def test_an_auditor_gets_the_report_and_every_piece_of_evidence(lab: Path, tmp_path: Path) -> None:
    command("check", "loss.yaml", "--store", "store", "--export", tmp_path / "audit", cwd=lab)
    assert (tmp_path / "audit" / EXPORTED).read_text().startswith("# Evaluation report\n")
    files = list((tmp_path / "audit/bundle/evidence").iterdir())
    assert files
    assert all(hashlib.sha256(p.read_bytes()).hexdigest() == p.stem for p in files)
    check = json.loads((tmp_path / "audit/bundle/check.json").read_text())
    assert {d for j in check["judgements"] for d in j["evidence"]} <= {p.stem for p in files}
    rows = [json.loads(line) for line in (tmp_path / "audit/bundle/ledger.jsonl").read_text().splitlines()]
    assert [(r["check"], r["subject"], r["verdict"]) for r in rows] == [
        (check["check"], j["subject"], j["verdict"]) for j in check["judgements"]
    ]
    head = (tmp_path / "audit/bundle/ledger.head.json").read_text()
    assert head == head_path(open_store(lab).ledger).read_text()
    assert json.loads(head)["hash"] == rows[-1]["hash"]
    done = command("report", "--store", "store", "--export", tmp_path / "again", cwd=lab, check=check["exit_code"])
    assert done.stdout.strip() == str(tmp_path / "again")
    assert (tmp_path / "again" / EXPORTED).read_text() == (tmp_path / "audit" / EXPORTED).read_text()


def test_what_was_exported_is_clean_to_the_auditor(lab: Path, tmp_path: Path) -> None:
    command("check", "loss.yaml", "--store", "store", "--export", tmp_path / "new", cwd=lab)
    command("report", "--store", "store", "--export", tmp_path / "same", cwd=lab)
    quoted = Path(evaluation.__file__).parent / "quoted.json"
    for name in ("new", "same"):
        found = audit((tmp_path / name / EXPORTED).read_text(), read_bundle(tmp_path / name / "bundle", quoted))
        assert found.findings == []
        assert found.counts["verdicts"] == 1


def test_a_bundle_is_never_mixed_with_an_older_one(lab: Path, tmp_path: Path) -> None:
    command("check", "loss.yaml", "--store", "store", "--export", tmp_path / "audit", cwd=lab)
    before = open_store(lab).ledger.read_bytes()
    done = command("check", "loss.yaml", "--store", "store", "--export", tmp_path / "audit", cwd=lab, check=2)
    assert "bundle exists; remove it" in done.stderr
    (tmp_path / "file").touch()
    done = command("check", "loss.yaml", "--store", "store", "--export", tmp_path / "file", cwd=lab, check=2)
    assert "is a file; name a folder" in done.stderr
    assert open_store(lab).ledger.read_bytes() == before, "refused before anything is judged"


def test_a_bundle_is_there_whole_or_not_at_all(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str | bytes, real: Any = show.write_atomic) -> None:
        if path.parent.name == "evidence":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, text)

    monkeypatch.setattr(show, "write_atomic", full)
    command("check", "loss.yaml", "--store", "store", "--export", tmp_path / "audit", cwd=lab, check=None)
    assert not list((tmp_path / "audit").iterdir())


def test_the_report_of_a_run_that_was_resumed_is_of_what_was_judged_or_refused(tmp_path: Path) -> None:
    lab = write_lab(tmp_path)
    write_contract(lab)
    recipe = write_recipe(lab, CHAIN)
    run = run_lab(recipe).run
    command("check", "loss.yaml", "--store", "store", cwd=lab, check=0)
    store = open_store(lab)
    judged = report_from_ledger(store, run)
    before = [piece.digest for piece in evidence_report(store, judged).evidence]
    assert set(judged.judgements[0].evidence) <= set(before)
    source = (lab / "hrmctl_plugins.py").read_text().replace("ctx.seed) / step", "ctx.seed) / step / 2")
    (lab / "hrmctl_plugins.py").write_text(source)
    hrmctl("pipeline", recipe, "--resume", run, "--no-check", "--store", "store", cwd=lab)
    assert [piece.digest for piece in evidence_report(store, judged).evidence] == before
    for form in ("export", "html"):
        done = command("report", run, "--store", "store", f"--{form}", tmp_path / "out", cwd=lab, check=2)
        assert f"run {run} is no longer what was judged" in done.stderr
    assert not (tmp_path / "out").exists()
    command("check", "loss.yaml", "--store", "store", cwd=lab, check=0)
    command("report", run, "--store", "store", "--html", tmp_path / "out", cwd=lab, check=0)


def test_what_a_verdict_rests_on_is_in_its_report_whatever_the_lock_says(lab: Path) -> None:
    done = command("check", "loss.yaml", "--store", "store", "--format", "json", cwd=lab)
    report = report_from_ledger(open_store(lab), json.loads(done.stdout)["judgements"][0]["run"])
    other = open_store(lab).put_evidence(Evidence("more", "measurement/v1", {"value": 1}, None))
    more = replace(report, judgements=[replace(report.judgements[0], evidence=(other.digest,))])
    assert other.digest in {piece.digest for piece in evidence_report(open_store(lab), more).evidence}


def test_the_evidence_of_a_report_is_verified(lab: Path, tmp_path: Path) -> None:
    folder = write_lab(tmp_path)
    write_contract(folder)
    run_lab(write_recipe(folder, CHAIN))
    done = command("check", "loss.yaml", "--store", "store", "--format", "json", cwd=folder)
    [digest] = json.loads(done.stdout)["judgements"][0]["evidence"]
    path = open_store(folder).object_path(digest)
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"value":', '"value": '))
    done = command("report", "--store", "store", "--export", tmp_path / "x", cwd=folder, check=2)
    assert "was altered" in done.stderr
    assert not (tmp_path / "x" / EXPORTED).exists()
