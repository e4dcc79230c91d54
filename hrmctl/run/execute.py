"""Execute a plan: what is cached is taken, what can run runs, what depends on a failure is blocked."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hrmctl.errors import InputError
from hrmctl.events import RunStarted, StageFinished, StageProgress, StageStarted, StageWarned
from hrmctl.execution import Executor, Message, StageCall
from hrmctl.machine import cores
from hrmctl.model import Artifact, ArtifactType, Tracker
from hrmctl.plugins import Catalog
from hrmctl.recipe import FromPath, FromStage, Plan, PlannedStage, Recipe
from hrmctl.recipe.status import input_digests, path_label, stage_key, stage_versions
from hrmctl.run.announce import Listener, announce
from hrmctl.run.record import LOCK_NAME, Record, file_name, finite, read_lock
from hrmctl.store import Store

_PATIENCE = 300.0  # seconds that a cancelled stage has to end its step and save it


@dataclass(frozen=True)
class RunOptions:
    """How to execute; `force` holds stage ids that run again although they are cached."""

    device: str = "auto"
    keep_going: bool = False
    force: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    argv: Sequence[str] = ()
    settings: Sequence[str] = ()
    questions: Sequence[str] = ()
    jobs: int = field(default_factory=cores)


@dataclass
class StageState:
    """Where one stage of a run stands. `status` is waiting, running, done, cached, failed, blocked or cancelled.

    `cause` is the id of the stage whose end kept this one from running, where that was another.
    """

    status: str = "waiting"
    key: str = ""
    outputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    evidence: Sequence[str] = ()
    seconds: float = 0.0
    error: str = ""
    cause: str = ""
    exit_code: int = 0
    started: float = 0.0

    @property
    def good(self) -> bool:
        return self.status in ("done", "cached")

    @property
    def ended(self) -> bool:
        return self.status not in ("waiting", "running")


class Run:
    """One execution of a plan. `execute` returns when every stage has ended one way or another."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        catalog: Catalog,
        run_id: str,
        options: RunOptions,
        listeners: Sequence[Listener] = (),
    ):
        self.plan = plan
        self.store = store
        self.id = run_id
        self.options = options
        self.record = Record(store.runs / run_id)
        self.states = {s.id: StageState() for s in plan.stages if options.only is None or s.id in options.only}
        self.stages = [s for s in plan.stages if s.id in self.states]
        self._catalog = catalog
        self._versions = stage_versions(plan, catalog)
        self._listeners = listeners
        self._trackers: list[Tracker] = []
        self._local: dict[Path, Artifact] = {}
        self._before = previous_lock(self.record.folder, plan.recipe)
        self._failed = ""  # the first stage that failed, where the others are not to go on

    def mirror(self, makers: Sequence[Callable[[str, Path], Tracker]]) -> None:
        """Mirror the metrics in trackers; one that cannot start is warned about."""
        for make in makers:
            try:
                self._trackers.append(make(self.id, self.record.folder))
            except Exception as error:
                warnings.warn(f"tracker did not start: {type(error).__name__}: {error}", stacklevel=1)

    # --- the loop ------------------------------------------------------------------------------

    def execute(self, executor: Executor) -> None:
        """Run every stage that can run. KeyboardInterrupt passes through after the workers were stopped, and so does
        BrokenPipeError: a listener whose reader is gone is a terminal that was closed.
        """
        try:
            self._announce(RunStarted(self.id, str(self.plan.recipe.path), self.record.folder, [*self.states]))
            self._write_lock("running")
            while not all(state.ended for state in self.states.values()):
                self._settle(executor)
                if self._running():
                    for message in executor.wait(0.2):
                        self._take(message, executor)
        except (KeyboardInterrupt, BrokenPipeError) as error:
            if isinstance(error, BrokenPipeError):
                self._listeners = []
            self._drain(executor)
            self._write_lock("interrupted")
            raise
        finally:
            executor.close()
            self._close_trackers()
        self._write_lock(self.status)

    @property
    def status(self) -> str:
        statuses = {state.status for state in self.states.values()}
        for bad in ("failed", "cancelled", "blocked"):
            if bad in statuses:
                return "failed"
        return "done"

    @property
    def exit_code(self) -> int:
        """0 when every stage is good, 2 when one met bad input or a full disk, else 4."""
        failed = [s.exit_code for s in self.states.values() if s.status == "failed"]
        if not failed:
            return 0 if self.status == "done" else 4
        return 2 if set(failed) == {2} else 4

    @property
    def evidence(self) -> list[str]:
        """Digests of all evidence of this run, in the order of the plan."""
        return [digest for state in self.states.values() if state.good for digest in state.evidence]

    def _running(self) -> list[PlannedStage]:
        return [s for s in self.stages if self.states[s.id].status == "running"]

    def _settle(self, executor: Executor) -> None:
        """Block, take from the cache or start every waiting stage that is ready for it."""
        for stage in self.stages:
            state = self.states[stage.id]
            if state.status != "waiting":
                continue
            broken = [p for p in stage.parents if p in self.states and self.states[p].status in _BROKEN]
            if broken:
                cause = self.states[broken[0]].cause or broken[0]
                self._end(stage, "blocked", f"{cause} {self.states[cause].status}", cause)
            elif self._failed:
                self._end(stage, "cancelled", f"{self._failed} failed; --keep-going runs the rest", self._failed)
            elif all(self.states[p].good for p in stage.parents):
                self._begin(stage, executor)

    def _begin(self, stage: PlannedStage, executor: Executor) -> None:
        state = self.states[stage.id]
        absent = self._absent(stage)
        if absent:
            return self._end(stage, "blocked", absent)
        if not state.key:
            state.key = self._key(stage)
        if any(self.states[s.id].key == state.key for s in self._running()):
            return None  # The very same work is being done; take its result from the cache.
        entry = None if stage.id in self.options.force else self.store.cached(state.key)
        if entry is not None:
            self._announce(StageStarted(self.id, stage.id, stage.spec.name, cached=True))
            self._finish(stage, "cached", entry)
            self.store.drop_scratch(state.key)
        elif self._fits(stage):
            state.status, state.started = "running", time.monotonic()
            self._announce(StageStarted(self.id, stage.id, stage.spec.name, cached=False))
            executor.start(self._call(stage))
            self._write_lock("running")
        return None

    def _absent(self, stage: PlannedStage) -> str:
        """An optional output that this stage takes and that its parent did not give, in words."""
        sources = [s for given in stage.inputs.values() for s in given if isinstance(s, FromStage)]
        missing = [s for s in sources if s.output not in self.states[s.stage].outputs]
        return f"{missing[0].stage} gave no '{missing[0].output}'" if missing else ""

    def _fits(self, stage: PlannedStage) -> bool:
        """Whether the machine's budget has room; a stage that measures time has the machine to itself."""
        running = self._running()
        if not running:
            return True
        if stage.spec.exclusive or any(s.spec.exclusive for s in running):
            return False
        used = sum(self._threads(s) for s in running)
        return len(running) < self.options.jobs and used + self._threads(stage) <= self.options.jobs

    def _threads(self, stage: PlannedStage) -> int:
        if stage.threads is not None:
            return stage.threads
        return max(1, self.options.jobs // max(1, self.plan.width))

    # --- messages ------------------------------------------------------------------------------

    def _take(self, message: Message, executor: Executor) -> None:
        stage = next(s for s in self.stages if s.id == message.stage)
        if message.kind == "progress":
            self._progress(stage, message.data)
        elif message.kind == "warning":
            self._announce(StageWarned(self.id, stage.id, message.data["text"]))
        elif message.kind == "history":
            self.record.history(stage.id, message.data["rows"])
        elif message.kind == "finished":
            self._finish(stage, "done", message.data)
            self.store.drop_scratch(self.states[stage.id].key)
        elif message.kind == "cancelled":
            self._end(stage, "cancelled", "stopped; the next run continues from its last checkpoint", self._failed)
        else:
            self._fail(stage, message.data, executor)

    def _progress(self, stage: PlannedStage, data: Mapping[str, Any]) -> None:
        metrics = finite(data["metrics"])
        self.record.metrics(stage.id, data["done"], data["total"], metrics, data["time"])
        for tracker in list(self._trackers):
            try:
                tracker.log(stage.id, data["done"], metrics)
            except Exception as error:
                self._trackers.remove(tracker)
                warnings.warn(f"tracker stopped: {type(error).__name__}: {error}", stacklevel=1)
        self._announce(StageProgress(self.id, stage.id, data["done"], data["total"], metrics), keep=False)

    def _fail(self, stage: PlannedStage, data: Mapping[str, Any], executor: Executor) -> None:
        self.states[stage.id].exit_code = data["exit_code"]
        where = "" if data.get("expected") else f"; log: {self._log(stage)}"
        self._end(stage, "failed", f"{data['error']}{where}")
        if not self.options.keep_going:
            self._failed = self._failed or stage.id
            executor.cancel()

    def _finish(self, stage: PlannedStage, status: str, entry: Mapping[str, Any]) -> None:
        state = self.states[stage.id]
        state.outputs, state.evidence = entry["outputs"], entry["evidence"]
        for digest in state.evidence:
            self.record.evidence(stage.id, self.store.get_evidence(digest))
        self._end(stage, status)

    def _end(self, stage: PlannedStage, status: str, error: str = "", cause: str = "") -> None:
        state = self.states[stage.id]
        state.status, state.error, state.cause = status, error, cause
        state.seconds = time.monotonic() - state.started if state.started else 0.0
        self._write_lock("running")
        self.record.drop_evidence(stage.id, state.evidence)
        self._announce(StageFinished(self.id, stage.id, status, round(state.seconds, 3), error))

    def _drain(self, executor: Executor) -> None:
        executor.cancel()
        deadline = time.monotonic() + _PATIENCE
        told = time.monotonic() + 5
        with suppress(KeyboardInterrupt):
            while self._running() and time.monotonic() < deadline:
                if time.monotonic() > told:
                    told = deadline
                    names = ", ".join(sorted(stage.id for stage in self._running()))
                    warnings.warn(f"{names} ends a step and saves it; Ctrl-C again to stop at once", stacklevel=1)
                for message in executor.wait(0.2):
                    self._take(message, executor)

    # --- calls and files -----------------------------------------------------------------------

    def _artifacts(self, stage: PlannedStage) -> dict[str, list[Artifact | Mapping[str, str]]]:
        result: dict[str, list[Artifact | Mapping[str, str]]] = {}
        for name, sources in stage.inputs.items():
            kind = stage.spec.inputs[name].type
            result[name] = [
                self._from_path(source.path, kind)
                if isinstance(source, FromPath)
                else self.states[source.stage].outputs[source.output]
                for source in sources
            ]
        return result

    def _from_path(self, path: Path, kind: ArtifactType) -> Artifact:
        """A local input, read once in a run; the user may give a link to it."""
        if path not in self._local:
            self._local[path] = self.store.put(path.resolve(), kind, path_label(path))
        return replace(self._local[path], type=kind)

    def _key(self, stage: PlannedStage) -> str:
        return stage_key(stage, self._versions[stage.id], input_digests(self._artifacts(stage)), self.options.device)

    def _call(self, stage: PlannedStage) -> StageCall:
        folder = self.plan.recipe.path.parent
        return StageCall(
            run=self.id,
            stage=stage.id,
            uses=stage.spec.name,
            key=self.states[stage.id].key,
            version=self._versions[stage.id],
            params=plain_params(stage),
            inputs=input_digests(self._artifacts(stage)),
            seed=stage.seed,
            device=self.options.device,
            threads=cores() if stage.spec.exclusive and stage.threads is None else self._threads(stage),
            store=str(self.store.root.resolve()),
            plugins=str(folder.resolve()) if (folder / "hrmctl_plugins.py").exists() else "",
            log=str(self._log(stage)),
            argv=list(self.options.argv),
        )

    def _log(self, stage: PlannedStage) -> Path:
        return self.record.folder / "logs" / f"{file_name(stage.id)}.log"

    def _write_lock(self, status: str) -> None:
        recipe = self.plan.recipe
        self.record.lock(
            {
                "run": self.id,
                "recipe": str(recipe.path),
                "recipe_digest": recipe.digest,
                "name": recipe.entry.name,
                "seed": recipe.entry.seed,
                "settings": list(self.options.settings),
                "argv": list(self.options.argv),
                "started": self._before.get("started") or self.record.started,
                "status": status,
                "contracts": [str(p) for p in recipe.contracts],
                "hypotheses": [str(p) for p in recipe.hypotheses],
                "questions": list(self.options.questions),
                "stages": {s.id: self._locked(s) for s in self.plan.stages},
            }
        )

    def _locked(self, stage: PlannedStage) -> dict[str, Any]:
        """The stage as it stands; what a resumed run had finished stays in the lock until it is replaced."""
        state = self.states.get(stage.id, StageState(status="left-out"))
        before: dict[str, Any] | None = self._before.get("stages", {}).get(stage.id)
        if before is not None and (state.status == "left-out" or (not state.ended and before["status"] in _GOOD)):
            return before
        return {
            "uses": stage.spec.name,
            "version": self._versions[stage.id],
            "status": state.status,
            "key": state.key,
            "seed": stage.seed,
            "params": plain_params(stage),
            "inputs": input_digests(self._artifacts(stage)) if state.key else {},
            "gives": sorted({output.type for output in stage.spec.outputs.values()}),
            "outputs": dict(state.outputs),
            "evidence": list(state.evidence),
            "error": state.error,
            "cause": state.cause,
        }

    # --- listeners -----------------------------------------------------------------------------

    def _announce(self, event: Any, keep: bool = True) -> None:
        if keep:
            self.record.event(event)
        announce(self._catalog, self._listeners, event)

    def _close_trackers(self) -> None:
        for tracker in self._trackers:
            try:
                tracker.close()
            except Exception as error:
                warnings.warn(f"tracker did not close: {type(error).__name__}: {error}", stacklevel=1)


_GOOD = ("done", "cached")
_BROKEN = ("failed", "blocked", "cancelled")


def previous_lock(folder: Path, recipe: Recipe) -> Mapping[str, Any]:
    """The lock of the run to resume, empty for a new one. Raises InputError where it is not of `recipe`."""
    if not (folder / LOCK_NAME).exists():
        return {}
    before = read_lock(folder)
    if before["recipe_digest"] != recipe.digest:
        raise InputError(f"run {folder.name} was made from another recipe or other --set values; start a new run")
    return before


def plain_params(stage: PlannedStage) -> dict[str, Any]:
    """The stage's parameters as the YAML keys and plain values that `schema.decode` reads back."""
    from hrmctl.jsonio import to_json
    from hrmctl.schema import fields_of

    return {f.name: to_json(getattr(stage.params, f.attribute)) for f in fields_of(stage.spec.params)}
