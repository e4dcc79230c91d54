"""A bundle of real evidence files, and the report that an honest author would write on them by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrmctl import Evidence, Provenance
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
    row = {"obligation": "QS/claim", "verdict": "FAIL", "title": "At least 90 % pass", "run": "r1", "attempts": 2}
    row |= {
        "because": "most",
        "reason": "p.value is 0.5, not 0.9",
        "remedy": "hrmctl eval",
        "evidence": [kept[0].digest],
    }
    (folder / "check.json").write_text(json.dumps({"judgements": [row]}))
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

## Comparisons

Both sides were measured on the same problems in run `20250102T030405-quickstart-ab12`.

| measured | against | figure | difference | interval | p | n | evidence |
|---|---|---|---|---|---|---|---|
| `hrm-tiny` | `gpt2-tiny` | pass@1 | 0.25 | 0 to 0.5 | 0.5 | 4 | `{ours}` `{theirs}` |

| verdict | obligation | claim | run | attempts | why | remedy | evidence |
|---|---|---|---|---|---|---|---|
| FAIL | `QS/claim` | At least 90 % pass | `r1` | 2 | most: p.value is 0.5, not 0.9 | `hrmctl eval` | `{ours}` |

| status | system | benchmark | metric | figure | source |
|---|---|---|---|---|---|
| quoted | GPT-4 | HumanEval | pass@1 | 67.0 | https://x.org |
"""


def honest(bundle: Exported) -> str:
    """The report on `bundle`."""
    return REPORT.format(ours=bundle.ours, theirs=bundle.theirs, speed=bundle.speed)
