"""The stage `audit.project`: the quality gates of a source tree, each a subprocess of the tool that this Python has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from hrmctl import Artifact, Context, Observation, Output, StageError, StageInputs, StageResult
from hrmctl.jsonio import canonical, write_atomic
from hrmctl_audit.gates import GATES, Finding, Tree, left_out
from hrmctl_audit.params import ProjectParams

_TOOLS = ("ruff", "mypy", "import-linter", "pytest")
_SKIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", ".*")


def run(params: ProjectParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Put the parts of the input `tree` together again and run every gate on them.

    Each gate reports the number of its findings of n things looked at; the outputs say each of them. The label of
    the tests' output names the tests that ran, so that a few never stand for all; `tests_not_run` counts those that
    were skipped or deselected all the same. Raises StageError where a tool is not installed, ends without having
    looked, or would look at another tree than the one given.
    """
    parts: tuple[Artifact, ...] = inputs["tree"]
    tree = Tree(_assembled(parts, ctx.scratch / "tree"), ctx.scratch / "work", params, ctx.check)
    shutil.rmtree(tree.work, ignore_errors=True)
    tree.work.mkdir(parents=True)
    _require_own_code(tree)
    findings: dict[str, list[Finding]] = {}
    counts: dict[str, int] = {}
    for number, (name, gate) in enumerate(GATES.items(), 1):
        found, n = gate(tree)
        if n < 1:
            raise StageError(f"the gate {name} looked at nothing; give the whole source tree")
        findings[name], counts[name] = found, n
        ctx.progress(number, len(GATES), findings=sum(map(len, findings.values())))
    outputs = {
        "findings": _written(
            ctx.scratch / "findings.jsonl", tree.project, {n: f for n, f in findings.items() if n != "tests"}
        ),
        "tests": _written(
            ctx.scratch / "tests.jsonl", f"{tree.project}@{'+'.join(params.tests)}", {"tests": findings["tests"]}
        ),
    }
    context = {"tools": {tool: metadata.version(tool) for tool in _TOOLS}, "tests": list(params.tests)}
    seen = [
        Observation(
            name,
            "measurement/v1",
            {"value": len(findings[name]), "unit": "findings", "n": n, "context": context},
            {"tests": outputs["tests"]} if name == "tests" else {"project": outputs["findings"]},
        )
        for name, n in counts.items()
    ]
    left, all_tests = left_out(tree, counts["tests"])
    payload = {"value": left, "unit": "tests", "n": all_tests, "context": context}
    seen.append(Observation("tests_not_run", "measurement/v1", payload, {"tests": outputs["tests"]}))
    return StageResult(outputs, seen)


def _written(path: Path, label: str, findings: Mapping[str, Sequence[Finding]]) -> Output:
    """One line for each gate with its count, then one for each finding."""
    rows = [{"gate": name, "findings": len(found)} for name, found in findings.items()]
    rows += [asdict(finding) for found in findings.values() for finding in found]
    write_atomic(path, "".join(canonical(row) + "\n" for row in rows))
    return Output(path, label)


def _assembled(parts: Sequence[Artifact], root: Path) -> Path:
    """The tree of `parts`, each under its own name."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for part in parts:
        target = root / part.label.removeprefix("./")
        if target.parent != root or target.exists():
            raise StageError(f"{part.label} is no part of a tree; give each file and folder of its root once, by path")
        if part.path.is_dir():
            shutil.copytree(part.path, target, ignore=_SKIPPED)
        else:
            shutil.copyfile(part.path, target)
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return root


def _require_own_code(tree: Tree) -> None:
    code = "import hrmctl, pathlib; print(pathlib.Path(hrmctl.__file__).parent.parent)"
    where = tree.python("-c", code).stdout.strip()
    if not where or not os.path.samefile(where, tree.root):
        raise StageError(
            f"the tests would import hrmctl from {where or 'nowhere'}, not from the tree; give hrmctl and plugins"
        )
