"""From a plan to an exit code: prove the contracts, execute, judge, record, report."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hrmctl.errors import HrmctlError, InputError, Problem
from hrmctl.events import RunFinished
from hrmctl.machine import cores
from hrmctl.model import CheckReport
from hrmctl.plugins import Catalog
from hrmctl.recipe import Plan
from hrmctl.registry import resolve
from hrmctl.run.announce import announce
from hrmctl.run.execute import Run, RunOptions, previous_lock
from hrmctl.run.judge import Claims, judge_runs, load_claims
from hrmctl.run.record import new_run_id
from hrmctl.run.report import write_report
from hrmctl.store import Store

_DEVICE = re.compile(r"auto|(cpu|cuda|mps)(:(0|[1-9][0-9]{0,2}))?")


@dataclass(frozen=True)
class PipelineOptions:
    """The options of `hrmctl pipeline`."""

    settings: Sequence[str] = ()
    only: frozenset[str] = frozenset()
    force: frozenset[str] = frozenset()
    resume: str | None = None
    keep_going: bool = False
    executor: str = "local"
    trackers: Sequence[str] = ()
    device: str = "auto"
    jobs: int | None = None
    profile: str = ""
    judge: bool = True
    kind: str = ""
    argv: Sequence[str] = ()


@dataclass(frozen=True)
class StageLine:
    """How one stage ended."""

    stage: str
    status: str
    seconds: float
    error: str


@dataclass(frozen=True)
class PipelineResult:
    """What `hrmctl pipeline --json` prints."""

    run: str
    status: str
    exit_code: int
    stages: Sequence[StageLine]
    check: CheckReport | None
    report: str
    notes: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prepared:
    """What a run needs besides its plan; `executor` and `trackers` make theirs."""

    options: RunOptions
    claims: Claims
    executor: Callable[[int], Any]
    trackers: Sequence[Callable[..., Any]]


def run_pipeline(
    plan: Plan, catalog: Catalog, store: Store, options: PipelineOptions, listener: Callable[[Any], None]
) -> PipelineResult:
    """Execute `plan` and judge its contracts. A contract that is not proven refuses the run before it starts."""
    ready = prepare(plan, catalog, store, options)
    run_id = options.resume or new_run_id(plan.recipe.entry.name, "only" if options.only else options.kind)
    with store.lock("run", run_id):
        store.sweep()
        run = Run(plan, store, catalog, run_id, ready.options, [listener])
        run.mirror(ready.trackers)
        return _execute(run, ready, catalog, options, listener)


def prepare(plan: Plan, catalog: Catalog, store: Store, options: PipelineOptions) -> Prepared:
    """Everything that can be told before a run starts; writes nothing. Raises InputError or StoreError."""
    _require_device(options.device)
    executor = _pick(catalog, "executor", options.executor)
    trackers = [_pick(catalog, "tracker", name) for name in options.trackers]
    if options.resume:
        previous_lock(store.run_folder(options.resume), plan.recipe)
    claims = load_claims(plan.recipe.contracts, plan.recipe.hypotheses, catalog.measures)
    claims.require_profile(options.profile)
    claims.require_proven(catalog.measures)
    return Prepared(_run_options(plan, options, claims), claims, executor, trackers)


def _execute(
    run: Run, ready: Prepared, catalog: Catalog, options: PipelineOptions, listener: Callable[[Any], None]
) -> PipelineResult:
    begun = time.monotonic()
    try:
        run.execute(ready.executor(run.options.jobs))
    except KeyboardInterrupt:
        announce(catalog, [listener], RunFinished(run.id, "interrupted", 130, time.monotonic() - begun))
        raise InterruptedRun(run, options) from None
    notes: list[str] = []
    check = None
    if options.only:
        notes.append("contracts were not checked: only some stages were asked for")
    elif not options.judge:
        notes.append("contracts were not checked: --no-check; `hrmctl check` judges what was measured")
    elif ready.claims:
        check = judge_runs(run.store, catalog, [run.id], ready.claims, options.profile, [listener])
    else:
        notes.append("the recipe has no contracts: nothing was claimed, nothing was checked")
    code = run.exit_code or (check.exit_code if check else 0)
    if check is not None:
        # What is printed and reported of the check names the exit code that the run ends with.
        check = replace(check, exit_code=code)
    report = write_report(run.store, catalog, run.id, check)
    if report is not None:
        notes.append(f"report: {report}")
    event = RunFinished(run.id, run.status, code, round(time.monotonic() - begun, 3))
    run.record.event(event)
    announce(catalog, [listener], event)
    lines = [StageLine(i, s.status, round(s.seconds, 3), s.error) for i, s in run.states.items()]
    return PipelineResult(run.id, run.status, code, lines, check, str(report or ""), notes)


class InterruptedRun(HrmctlError):
    """Ctrl-C: the run stopped cleanly and says how to go on."""

    exit_code = 130

    def __init__(self, run: Run, options: PipelineOptions):
        recipe, store = shlex.quote(str(run.plan.recipe.path)), shlex.quote(str(run.store.root))
        how = f"go on with: hrmctl pipeline {recipe} --resume {run.id} --store {store}"
        if options.kind == "stage":
            # There is no recipe; the same stage with the same parameters and inputs continues by its key.
            how = f"repeat the command to go on from its last checkpoint: {shlex.join(['hrmctl', *options.argv])}"
        super().__init__(f"stopped; {how}")


def _run_options(plan: Plan, options: PipelineOptions, claims: Claims) -> RunOptions:
    return RunOptions(
        device=options.device,
        keep_going=options.keep_going,
        force=frozenset(plan.descendants(options.force)) if options.force else frozenset(),
        only=frozenset(plan.ancestors(options.only)) if options.only else None,
        argv=options.argv,
        settings=options.settings,
        questions=sorted(claims.questions),
        jobs=options.jobs or cores(),
    )


def _require_device(name: str) -> None:
    """Raises InputError unless `name` can be a device; whether this machine has it, a stage that uses it finds out."""
    if not _DEVICE.fullmatch(name):
        raise InputError(f"--device {name}: no such device; choose auto, cpu, cuda or mps, or one GPU as cuda:1")


def _pick(catalog: Catalog, kind: Literal["executor", "tracker"], name: str) -> Callable[..., Any]:
    table = catalog.executors if kind == "executor" else catalog.trackers
    spec = table.get(name)
    if spec is None:
        none = "" if table else f"none is installed; a plugin gives one by the hook hrmctl_{kind}s"
        remedy = "; ".join(filter(None, [none, catalog.unknown(name, table)]))
        raise InputError(Problem(f"unknown {kind} '{name}'", remedy=remedy))
    return resolve(spec.target)
