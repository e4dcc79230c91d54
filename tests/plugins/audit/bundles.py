"""A bundle of real evidence files, and the report that an honest author would write on them by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hrmctl_reporters.machine import json_report

from hrmctl import CheckReport, Evidence, Judgement, Provenance, Verdict, ledger
from hrmctl.run.report import ledger_texts
from hrmctl.store import Store

DATA = "d" * 64


def made(model: str, digest: str, uses: str = "eval", data: str = DATA) -> Provenance:
    """The provenance of an evaluation of `model`."""
    return Provenance(
        "20250102T030405-quickstart-ab12", f"eval-{model}", uses, "k", {"model": digest, "dataset": data},
        {"model": model, "dataset": "microcode@test"}, "p" * 64, 7, ["pipeline", "recipes/quickstart.yaml"], "c0de",
        {"python": "3.11.9"}, {"cpu": "x86"}, "2025-01-02T03:04:05.000+00:00", "2025-01-02T03:05:05.000+00:00",
    )  # fmt: skip


def samples(*outcomes: tuple[str, ...], **settings: Any) -> dict[str, Any]:
    """A samples/v1 payload of one problem for each tuple of outcomes."""
    rows = [
        {"id": f"p{i}", "n": len(o), "c": o.count("passed"), "outcomes": list(o), "completions": ["x"] * len(o)}
        for i, o in enumerate(outcomes)
    ]
    return {"n": len(outcomes[0]), "mode": "sealed", "k": [1], "temperature": 0.8, "problems": rows, **settings}


OURS = samples(("passed", "passed"), ("passed", "wrong_answer"), ("syntax", "compile"), ("passed", "runtime"))
THEIRS = samples(("passed", "syntax"), ("wrong_answer",) * 2, ("syntax",) * 2, ("refused", "passed"))


def record(store: Store, folder: Path, check: str, judgements: Sequence[Judgement]) -> CheckReport:
    """Record the judgements as the second model's of their test sets, and write `check.json` and the rows."""
    before = [replace(j, subjects={**j.subjects, "model": "0" * 64}) for j in judgements if j.subjects]
    ledger.append(store.ledger, "before", before)
    report = CheckReport(check, "", ledger.append(store.ledger, check, judgements), 3)
    ledger.append(store.ledger, "after", before)
    (folder / "check.json").write_text(json_report(report))
    for name, text in ledger_texts(store, check).items():
        (folder / name).write_text(text)
    return report


@dataclass
class Exported:
    """A bundle in `folder`; `ours`, `theirs` and `speed` are the digests of its evidence, as a report cites them."""

    folder: Path
    ours: str
    theirs: str
    speed: str

    @property
    def quoted(self) -> Path:
        """The file of quoted figures."""
        return self.folder.parent / "quoted.json"


def export(root: Path) -> Exported:
    """Write the bundle below `root` through the store itself."""
    store = Store(root / "store")
    kept = [
        store.put_evidence(evidence)
        for evidence in (
            Evidence("samples", "samples/v1", OURS, made("hrm-tiny", "a" * 64)),
            Evidence("samples", "samples/v1", THEIRS, made("gpt2-tiny", "b" * 64)),
            Evidence("latency_median", "measurement/v1", {"value": 0.25, "unit": "s", "n": 8}, made("h", "a" * 64)),
        )
    ]
    folder = root / "bundle"
    (folder / "evidence").mkdir(parents=True)
    for evidence in kept:
        text = store.object_path(evidence.digest).read_text()
        (folder / "evidence" / f"{evidence.digest}.json").write_text(text)
    ours, theirs, speed = (evidence.digest[:12] for evidence in kept)
    row = Judgement(
        "QS", "c" * 64, "At least 90 % pass", "claim", "acceptance", Verdict.FAIL, "most", "p.value is 0.5, not 0.9",
        "hrmctl eval", {"p": {"value": 0.5}}, [kept[0].digest], {"model": "a" * 64}, {"model": "hrm-tiny"}, run="r1",
    )  # fmt: skip
    record(store, folder, "20250103T000000-ff00ff00", [row, replace(row, subject="proxy", verdict=Verdict.PASS)])
    quoted = {
        "system": "GPT-4",
        "benchmark": "HumanEval",
        "metric": "pass@1",
        "figure": 67.0,
        "source": "https://x.org",
    }
    (root / "quoted.json").write_text(json.dumps({"figures": [quoted]}))
    return Exported(folder, ours, theirs, speed)


REPORT = """\
# Evaluation report

## `hrm-tiny` on `microcode@test`

| figure | value | unit | interval | n | evidence |
|---|---|---|---|---|---|
| pass@1 | 0.5 | share of problems | 0.125 to 0.875 | 4 | `{ours}` |
| syntax valid | 0.875 | share of samples | no interval | 8 | `{ours}` |
| compiles | 0.75 | share of samples | no interval | 8 | `{ours}` |
| passes tests | 0.5 | share of samples | no interval | 8 | `{ours}` |
| latency_median | 0.25 | s | no interval | 8 | `{speed}` |

| outcome | samples | share | evidence |
|---|---|---|---|
| passed | 4 | 0.5 | `{ours}` |
| runtime | 1 | 0.125 | `{ours}` |

| problem | samples | syntax valid | compiles | passes tests | evidence |
|---|---|---|---|---|---|
| `p0` | 2 | 2 | 2 | 2 | `{ours}` |
| `p1` | 2 | 2 | 2 | 1 | `{ours}` |
| `p2` | 2 | 1 | 0 | 0 | `{ours}` |
| `p3` | 2 | 2 | 2 | 1 | `{ours}` |

| provenance | value | evidence |
|---|---|---|
| run | `20250102T030405-quickstart-ab12` | `{ours}` |
| seed | `7` | `{ours}` |
| version of python | `3.11.9` | `{ours}` |
| setting temperature | `0.8` | `{ours}` |

## `gpt2-tiny` on `microcode@test`

| figure | value | unit | interval | n | evidence |
|---|---|---|---|---|---|
| pass@1 | 0.25 | share of problems | 0 to 0.5 | 4 | `{theirs}` |

| problem | samples | syntax valid | compiles | passes tests | evidence |
|---|---|---|---|---|---|
| `p0` | 2 | 1 | 1 | 1 | `{theirs}` |
| `p1` | 2 | 2 | 2 | 0 | `{theirs}` |
| `p2` | 2 | 0 | 0 | 0 | `{theirs}` |
| `p3` | 2 | 1 | 1 | 1 | `{theirs}` |

## Comparisons

Both sides were measured on the same problems in run `20250102T030405-quickstart-ab12`.

| measured | against | figure | difference | interval | p | n | evidence |
|---|---|---|---|---|---|---|---|
| `hrm-tiny` | `gpt2-tiny` | pass@1 | 0.25 | 0 to 0.5 | 0.5 | 4 | `{ours}` `{theirs}` |

| verdict | obligation | claim | run | attempts | why | remedy | evidence |
|---|---|---|---|---|---|---|---|
| FAIL | `QS/claim` | At least 90 % pass | `r1` | 2 | most: p.value is 0.5, not 0.9 | `hrmctl eval` | `{ours}` |
| PASS | `QS/proxy` | At least 90 % pass | `r1` | 2 | most: p.value is 0.5, not 0.9 | `hrmctl eval` | `{ours}` |

| status | system | benchmark | metric | figure | source |
|---|---|---|---|---|---|
| quoted | GPT-4 | HumanEval | pass@1 | 67.0 | https://x.org |
"""


def honest(bundle: Exported) -> str:
    """The report on `bundle`."""
    return REPORT.format(ours=bundle.ours, theirs=bundle.theirs, speed=bundle.speed)
