"""Cache keys, and for each stage of a plan whether it is cached or why it will run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrmctl.jsonio import digest_of, to_json
from hrmctl.machine import hardware, tools
from hrmctl.model import Artifact
from hrmctl.plugins import Catalog, stage_version
from hrmctl.recipe.draft import FromPath
from hrmctl.recipe.plan import FromStage, Plan, PlannedStage
from hrmctl.store import Store, content_digest

Inputs = Mapping[str, Sequence[Mapping[str, str]]]


@dataclass(frozen=True)
class StageStatus:
    """One line of `--plan`: `cached`, or `run` with the reason."""

    stage: PlannedStage
    cached: bool
    reason: str


def path_label(path: Path) -> str:
    """The label of a local input: `./NAME`, which no stage gives, so that a file cannot pose as a stage's output."""
    return f"./{path.name}"


def stage_versions(plan: Plan, catalog: Catalog) -> dict[str, str]:
    """The version of each planned stage's code."""
    return {s.id: stage_version(catalog.owner[s.spec.name], s.spec) for s in plan.stages}


def stage_key(stage: PlannedStage, version: str, inputs: Inputs, device: str = "auto") -> str:
    """The digest of everything that a stage's result depends on."""
    parts = {
        "stage": stage.spec.name,
        "version": version,
        "params": to_json(stage.params),
        "inputs": inputs,
        "seed": stage.seed,
    }
    if stage.spec.exclusive:
        # What measures time holds for the machine it was measured on alone.
        parts["machine"] = {"hardware": hardware(), "tools": tools(), "device": device}
    return digest_of(parts)


def input_digests(artifacts: Mapping[str, Sequence[Artifact | Mapping[str, str]]]) -> dict[str, list[dict[str, str]]]:
    """Inputs in the form of keys and locks: digest, type and label of each artifact."""
    return {name: [_short(artifact) for artifact in given] for name, given in artifacts.items()}


def _short(artifact: Artifact | Mapping[str, str]) -> dict[str, str]:
    if isinstance(artifact, Artifact):
        return {"digest": artifact.digest, "type": artifact.type, "label": artifact.label}
    return {key: artifact[key] for key in ("digest", "type", "label")}


def plan_status(
    plan: Plan,
    catalog: Catalog,
    store: Store,
    last: Mapping[str, Any],
    force: frozenset[str] = frozenset(),
    device: str = "auto",
) -> list[StageStatus]:
    """What would happen to each stage; `last` is the lock of the latest run of the same recipe, empty for none."""
    versions = stage_versions(plan, catalog)
    outputs: dict[str, Mapping[str, Mapping[str, str]]] = {}
    result = []
    for stage in plan.stages:
        waits = [p for p in stage.parents if p not in outputs]
        absent = [s for given in stage.inputs.values() for s in given if _gone(s, outputs)]
        if waits or absent:
            reason = f"{waits[0]} runs first" if waits else "an input was not given"
            result.append(StageStatus(stage, False, reason))
            continue
        inputs = _inputs(stage, outputs)
        key = stage_key(stage, versions[stage.id], inputs, device)
        entry = None if stage.id in force else store.cached(key)
        if entry is not None:
            outputs[stage.id] = entry["outputs"]
        reason = "asked for" if stage.id in force else _why(stage, versions[stage.id], inputs, last, key)
        result.append(StageStatus(stage, entry is not None, f"from run {entry['run']}" if entry else reason))
    return result


def _gone(source: FromStage | FromPath, outputs: Mapping[str, Mapping[str, Any]]) -> bool:
    return isinstance(source, FromStage) and source.output not in outputs.get(source.stage, {})


def _inputs(stage: PlannedStage, outputs: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Inputs:
    found: dict[str, list[dict[str, str]]] = {}
    for name, sources in stage.inputs.items():
        kind = stage.spec.inputs[name].type
        found[name] = [
            {"digest": content_digest(s.path.resolve()), "type": kind, "label": path_label(s.path)}
            if isinstance(s, FromPath)
            else dict(outputs[s.stage][s.output])
            for s in sources
        ]
    return found


def _why(stage: PlannedStage, version: str, inputs: Inputs, last: Mapping[str, Any], key: str) -> str:
    before = last.get("stages", {}).get(stage.id)
    if before is None:
        return "never ran here"
    if before["status"] in ("failed", "cancelled", "interrupted", "running", "waiting", "blocked", "left-out"):
        return f"{before['status']} last time"
    if before["key"] == key:
        return "its result is gone from the store"
    changes = []
    params = {k.rstrip("_"): v for k, v in to_json(stage.params).items()}
    for name, value in params.items():
        if before["params"].get(name) != value:
            changes.append(f"{name}: {before['params'].get(name)} → {value}")
    if before["seed"] != stage.seed:
        changes.append(f"seed: {before['seed']} → {stage.seed}")
    if before["version"] != version:
        changes.append("its code changed")
    changed_inputs = [n for n, given in inputs.items() if before["inputs"].get(n) != given]
    if changed_inputs:
        changes.append(f"input {', '.join(changed_inputs)} changed")
    return "; ".join(changes) or "not in the cache"
