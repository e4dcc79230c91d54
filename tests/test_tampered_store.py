"""Random edits of a store: `ledger verify` or `verify --replay` finds every one, whatever byte it is in.

What verdicts rest on is the ledger, its head, the texts of the contracts, the evidence and the locks of the runs.
Events, metrics, logs and reports are not evidence: no verdict reads them, and nothing here covers them.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hrmctl import ledger
from hrmctl.jsonio import canonical, loads
from hrmctl.model import Evidence
from hrmctl.plugins import Catalog, catalog
from hrmctl.run.replay import replay
from hrmctl.store import Store

from .lab import CONTRACT, HEAD, command, lock_of, open_store, run_lab, write_contract, write_lab, write_recipe

RECIPE = """
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, with: {data: "${data.data}"}}
  s: {uses: lab.score, with: {data: "${data.data}", model: "${a.model}"}}
"""
BLOCKED = RECIPE.replace('"}}\n  s', '", act: raise}}\n  s')
SCORE = CONTRACT.replace("LAB-LOSS", "LAB-SCORE").replace(
    "stage: lab.train, name: loss", "stage: lab.score, name: score"
)
ABSENT = CONTRACT.replace("LAB-LOSS", "LAB-ABSENT").replace("stage: lab.train", "stage: merge")
Edit = Callable[[random.Random, Path, Path], str]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab folder whose store holds two recipes' runs and three checks: PASS, FAIL, BLOCKED and UNTESTED."""
    folder = write_lab(tmp_path_factory.mktemp("lab"))
    write_contract(folder)
    write_contract(folder, SCORE.replace("100", "2").replace("101", "3"), "score.yaml")
    write_contract(folder, ABSENT, "absent.yaml")
    contracts = "contracts: [loss.yaml, score.yaml, absent.yaml]\n"
    run_lab(write_recipe(folder, RECIPE + contracts))
    run_lab(write_recipe(folder, BLOCKED + contracts, HEAD.replace("name: lab", "name: other"), "other.yaml"))
    command("check", folder / "loss.yaml", folder / "score.yaml", "--store", "store", cwd=folder, check=1)
    rows = ledger.rows(open_store(folder).ledger)
    assert {row["verdict"] for row in rows} == {"PASS", "FAIL", "BLOCKED", "UNTESTED"}
    assert found(open_store(folder).root, catalog(folder)) == ""
    return folder


def found(root: Path, known: Catalog) -> str:
    """What the two commands find, in one text."""
    store = Store(root)
    problems = ledger.verify(store.ledger)
    if not problems and store.ledger.exists():
        count, problems = replay(store, known)
        assert count or problems
    return "; ".join(map(str, problems)) if store.ledger.exists() or problems else "there is no ledger: exit code 3"


def files(root: Path) -> dict[str, list[Path]]:
    """What verdicts rest on, by kind."""
    objects = [p for p in sorted((root / "objects").rglob("*")) if p.is_file()]
    return {
        "ledger": [root / "ledger.jsonl"],
        "head": [root / "ledger.head.json"],
        "contract": sorted((root / "contracts").glob("*.yaml")),
        "evidence": [p for p in objects if b'"provenance":{' in p.read_bytes()],
        "kept lock": sorted((root / "locks").glob("*.yaml")),
        "lock": sorted((root / "runs").glob("*/recipe.lock.yaml")),
        "copy": sorted((root / "runs").glob("*/evidence/*.json")),
    }


def change_byte(rng: random.Random, path: Path, other: Path) -> str:
    raw = bytearray(path.read_bytes())
    place = rng.randrange(len(raw))
    raw[place] ^= rng.randrange(1, 256)
    path.write_bytes(raw)
    return f"byte {place} changed"


def insert_byte(rng: random.Random, path: Path, other: Path) -> str:
    raw = path.read_bytes()
    place = rng.choice([0, len(raw), rng.randrange(len(raw))])
    path.write_bytes(raw[:place] + rng.choice([b" ", b"\n", b"\r", b"#", b"0", b"\x00", b"\xff"]) + raw[place:])
    return f"byte inserted at {place}"


def delete_bytes(rng: random.Random, path: Path, other: Path) -> str:
    raw = path.read_bytes()
    place = rng.randrange(len(raw))
    path.write_bytes(raw[:place] + raw[place + rng.randrange(1, 30) :])
    return f"bytes deleted at {place}"


def truncate(rng: random.Random, path: Path, other: Path) -> str:
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
    return "truncated"


def remove(rng: random.Random, path: Path, other: Path) -> str:
    path.unlink()
    return "removed"


def exchange(rng: random.Random, path: Path, other: Path) -> str:
    mine, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    other.write_bytes(mine)
    return f"exchanged with {other.name}"


def overwrite(rng: random.Random, path: Path, other: Path) -> str:
    path.write_bytes(other.read_bytes())
    return f"overwritten with {other.name}"


def edit_rows(rng: random.Random, path: Path, other: Path) -> str:
    """Rows dropped, swapped or repeated; with a head that fits the length as often as not."""
    rows = path.read_bytes().splitlines(keepends=True)
    first, second = rng.randrange(len(rows)), rng.randrange(len(rows))
    act = rng.choice(["dropped", "swapped", "repeated", "moved to the end", "last dropped"])
    if act == "dropped":
        del rows[first]
    elif act == "swapped":
        rows[first], rows[second] = rows[second], rows[first]
    elif act == "repeated":
        rows.insert(second, rows[first])
    elif act == "moved to the end":
        rows.append(rows.pop(first))
    else:
        rows.pop()
    path.write_bytes(b"".join(rows))
    if rng.random() < 0.5:
        place = path.with_name("ledger.head.json")
        head = {**loads(place.read_text()), "bytes": path.stat().st_size}
        place.write_text(canonical(head) + "\n")
    return f"row {first} {act}"


def edit_head(rng: random.Random, path: Path, other: Path) -> str:
    head = loads(path.read_text())
    changes = {"seq": head["seq"] + rng.choice([-1, 1]), "bytes": rng.randrange(head["bytes"]), "hash": "0" * 64}
    key, change = rng.choice([*changes.items(), ("version", 0), ("more", 1)])
    path.write_text(canonical({**head, key: change}) + "\n")
    return f"{key} set to {change}"


EVERYWHERE: list[Edit] = [change_byte, change_byte, insert_byte, delete_bytes, truncate, exchange, overwrite, remove]
ONLY: dict[str, list[Edit]] = {"ledger": [edit_rows] * 6, "head": [edit_head] * 4}
# A copy for people that is not there misleads nobody, and all kinds of head and ledger have but one file.
NOT = {"copy": {"remove"}, "ledger": {"exchange", "overwrite"}, "head": {"exchange", "overwrite"}}


def attempt(lab: Path, root: Path, seed: int) -> tuple[str, str]:
    """One random edit of the store at `root`, undone again: what was edited, and what the commands say of it."""
    rng = random.Random(seed)
    kinds = files(root)
    kind = rng.choice(sorted(kinds))
    edits = [edit for edit in EVERYWHERE if edit.__name__ not in NOT.get(kind, ())] + ONLY.get(kind, [])
    path, other = rng.choice(kinds[kind]), rng.choice(kinds[kind])
    before = {p: p.read_bytes() for p in (path, other, *kinds["head"])}
    modes = {p: p.stat().st_mode for p in before}
    for p in before:
        p.chmod(0o644)
    edit = rng.choice(edits)
    what = f"{kind} {path.name}: {edit(rng, path, other)}"
    same = all(p.exists() and p.read_bytes() == raw for p, raw in before.items())
    said = "nothing was changed" if same else found(root, catalog(lab))
    for p, raw in before.items():
        p.write_bytes(raw)
        p.chmod(modes[p])
    return what, said


def search(lab: Path, root: Path, seeds: range) -> Counter[str]:
    """Tries one edit a seed, and counts them by kind; every one must be found."""
    shutil.copytree(lab / "store", root)
    counted: Counter[str] = Counter()
    for seed in seeds:
        what, said = attempt(lab, root, seed)
        assert said, f"seed {seed}: nobody noticed: {what}"
        if said != "nothing was changed":
            counted[what.split(" ")[0]] += 1
    assert found(root, catalog(lab)) == "", "what was undone is whole again"
    return counted


def test_every_edit_is_found(lab: Path, tmp_path: Path) -> None:
    counted = search(lab, tmp_path / "store", range(300))
    assert sum(counted.values()) > 250
    assert len(counted) == 7, counted


@pytest.mark.slow
def test_every_one_of_thousands_of_edits_is_found(lab: Path, tmp_path: Path) -> None:
    counted = search(lab, tmp_path / "store", range(1000, 7000))
    print(f"\n{sum(counted.values())} edits, each of them found: {dict(counted)}")


def test_what_no_verdict_rests_on_is_not_covered(lab: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    shutil.copytree(lab / "store", root)
    for name in ("events.jsonl", "metrics.jsonl"):
        for path in root.glob(f"runs/*/{name}"):
            path.write_text("")
    assert found(root, catalog(lab)) == ""


def test_a_run_that_was_resumed_is_judged_again_and_its_earlier_verdicts_still_replay(tmp_path: Path) -> None:
    lab = write_lab(tmp_path)
    write_contract(lab)
    marker = lab / "broken once"
    once = RECIPE.replace('"}}\n  s', f'", act: raise, once: "{marker}"}}}}\n  s') + "contracts: [loss.yaml]\n"
    recipe = write_recipe(lab, once)
    first = run_lab(recipe)
    assert first.check is not None
    assert first.check.judgements[0].verdict == "BLOCKED"
    unjudged = run_lab(recipe, resume=first.run, judge=False)
    assert unjudged.status == "done"
    assert "it was resumed, or its lock altered" in found(lab / "store", catalog(lab))
    command("check", "loss.yaml", "--store", "store", cwd=lab, check=0)
    assert found(lab / "store", catalog(lab)) == "", "BLOCKED then and PASS now are both what they were"


MATRIX = """
stages:
  data: {uses: lab.make}
  a: {uses: lab.train, matrix: {steps: [1, 50]}, with: {data: "${data.data}"}}
"""
EVERY = CONTRACT.replace("LAB-LOSS", "LAB-EVERY").replace("right: 100", "right: 5").replace("101", "6")
EVERY = EVERY.replace("value: 100", "value: 5").replace("require:", "select: {of: every}\nrequire:")


def every_cell(tmp_path: Path) -> tuple[Path, Path]:
    """A lab whose contract asks every cell of a matrix, one of which fails it; the object of that cell's evidence."""
    lab = write_lab(tmp_path)
    write_contract(lab, EVERY)
    run = run_lab(write_recipe(lab, MATRIX)).run
    stages = lock_of(lab, run)["stages"]
    assert [round(open_store(lab).get_evidence(stages[f"a[steps={n}]"]["evidence"][0]).payload["value"], 2)
            for n in (1, 50)] == [13.0, 0.26]  # fmt: skip
    path = open_store(lab).object_path(stages["a[steps=1]"]["evidence"][0])
    path.chmod(0o644)
    return lab, path


def test_a_cell_cannot_be_hidden_by_another_type_while_a_check_runs(tmp_path: Path) -> None:
    lab, path = every_cell(tmp_path)
    command("check", "loss.yaml", "--store", "store", cwd=lab, check=1)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"measurement/v1", b"text/v1"))
    assert "was altered" in command("check", "loss.yaml", "--store", "store", cwd=lab, check=2).stderr
    path.write_bytes(whole)
    assert found(lab / "store", catalog(lab)) == ""
    assert {row["verdict"] for row in ledger.rows(open_store(lab).ledger)} == {"FAIL"}


def test_a_replay_binds_anew_over_all_that_the_run_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, path = every_cell(tmp_path)

    def unverified(store: Store, digest: str, real: Callable[[Store, str], Evidence] = Store.heading) -> Evidence:
        heading = real(store, digest)
        return replace(heading, type="text/v1") if digest.endswith(path.name) else heading

    with monkeypatch.context() as patch:
        patch.setattr(Store, "heading", unverified)
        command("check", "loss.yaml", "--store", "store", cwd=lab, check=0)
    said = found(lab / "store", catalog(lab))
    assert "recorded PASS, replayed FAIL" in said


def test_verify_covers_the_signature(lab: Path, tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen on this machine")
    root, key, signers = tmp_path / "store", tmp_path / "key", tmp_path / "signers"
    shutil.copytree(lab / "store", root)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    signers.write_text(f"ann {key.with_suffix('.pub').read_text()}")
    commands = (("ledger", "verify"), ("verify",), ("verify", "--replay"))
    for words in commands:
        done = command(*words, "--signers", signers, "--store", root, cwd=lab, check=1)
        assert "hrmctl ledger sign" in done.stderr
    command("ledger", "sign", "--key", key, "--store", root, cwd=lab)
    for words in commands:
        command(*words, "--signers", signers, "--store", root, cwd=lab, check=0)
    command("check", "loss.yaml", "--store", root, cwd=lab, check=0)
    for words in commands:
        done = command(*words, "--signers", signers, "--store", root, cwd=lab, check=1)
        assert "the signature does not hold" in done.stderr
