"""Run one stage in a process of its own: `python -m hrmctl.run.worker CALL.json FD PARENT` (`-`: the call on stdin).

Messages go to descriptor FD as JSON lines; standard output and error go to the stage's log.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import math
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from hrmctl.errors import HrmctlError, StageError, one_line
from hrmctl.execution import StageCall
from hrmctl.jsonio import canonical, digest_of
from hrmctl.machine import hardware, tools
from hrmctl.model import Artifact, Cancelled, Evidence, Observation, Output, Provenance, StageResult, StageSpec
from hrmctl.plugins import catalog
from hrmctl.registry import resolve
from hrmctl.run.history import History
from hrmctl.schema import decode_or_raise
from hrmctl.store import Store
from hrmctl.yamlio import Node

_HISTORY = "progress.jsonl"
_COLUMNS = {"stage", "step", "total", "time"}
_MOST_OF_A_KIND = 10
_ONE_AT_A_TIME = threading.Lock()
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass
class WorkerContext:
    """The `Context` of a stage that runs for real."""

    scratch: Path
    seed: int
    device: str
    threads: int
    log: logging.Logger
    channel: TextIO
    rng: random.Random = field(init=False)
    history: History = field(init=False)
    cancelled: bool = False

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.history = History(self.scratch / _HISTORY)
        if self.history.earlier:
            send(self.channel, "history", rows=self.history.earlier)

    def progress(self, done: int, total: int, **metrics: float) -> None:
        reserved = _COLUMNS & metrics.keys()
        if reserved:
            raise StageError(f"'{min(reserved)}' is a column of metrics.jsonl; give the metric another name")
        numbers = {name: float(value) for name, value in metrics.items()}
        known = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        row = {"done": int(done), "total": int(total), "metrics": known, "time": _now()}
        self.history.add(row)
        send(self.channel, "progress", **row)
        self.check()

    def check(self) -> None:
        if self.cancelled:
            raise Cancelled


class Warnings(logging.Handler):
    """Tells the run what the stage warns of: each text once, and of one line of code the first few.

    The log has them all.
    """

    def __init__(self, channel: TextIO):
        super().__init__(logging.WARNING)
        self._channel = channel
        self._told: dict[tuple[str, int], list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = one_line(record.getMessage())
        except Exception:
            return self.handleError(record)
        kind = self._told.setdefault((record.pathname, record.lineno), [])
        if text in kind or len(kind) == _MOST_OF_A_KIND:
            return None
        kind.append(text)
        last = len(kind) == _MOST_OF_A_KIND
        send(self._channel, "warning", text=f"{text} (more of this kind is only in the log)" if last else text)
        return None


def send(channel: TextIO, kind: str, **data: Any) -> None:
    """Write one message; threads of a stage may do so together."""
    line = json.dumps({"kind": kind, **data}, default=str, allow_nan=False) + "\n"
    with _ONE_AT_A_TIME:
        channel.write(line)
        channel.flush()


def main(call_path: str, descriptor: int, parent: int) -> int:
    """Run the call and report how it ended; the exit status only says whether it was reported."""
    _die_with(parent)
    # A program that the stage starts must not keep the channel open after the stage has died.
    os.set_inheritable(descriptor, False)
    channel = os.fdopen(descriptor, "w")
    call = StageCall(**json.loads(sys.stdin.read() if call_path == "-" else Path(call_path).read_text()))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        _run(call, channel)
    except Cancelled:
        send(channel, "cancelled")
    except BaseException as error:
        traceback.print_exc()
        send(channel, "failed", **_describe(error, call))
    return 0


def _describe(error: BaseException, call: StageCall) -> dict[str, Any]:
    if isinstance(error, HrmctlError):
        text = "\n".join(str(problem) for problem in error.problems)
        return {"error": _as_labelled(text, call), "exit_code": error.exit_code, "expected": True}
    if isinstance(error, OSError) and error.errno in _FULL:
        text = f"{error.strerror}: {error.filename or 'the store'}; free space and run again, it resumes"
        return {"error": text, "exit_code": 2, "expected": True}
    lines = str(error).strip().splitlines()
    return {"error": f"{type(error).__name__}: {lines[0] if lines else ''}", "exit_code": 4, "expected": False}


def _as_labelled(text: str, call: StageCall) -> str:
    """The text with the labels of the inputs, which people know, in place of their paths in the store."""
    store = Store(Path(call.store))
    for given in (artifact for artifacts in call.inputs.values() for artifact in artifacts):
        text = text.replace(str(store.object_path(given["digest"])), given["label"])
    return text


def _die_with(parent: int) -> None:
    """On Linux the kernel ends this process when the run that started it is killed."""
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the run is gone")


def _run(call: StageCall, channel: TextIO) -> None:
    store = Store(Path(call.store))
    spec = catalog().stage(call.uses)
    params: Any = decode_or_raise(Node.of(call.params, call.stage), spec.params)
    inputs = _inputs(call, spec, store)
    scratch = store.scratch(call.key)
    with scratch.with_name(f"{call.key}.lock").open("w") as lock:
        _acquire(lock)
        log = logging.getLogger(call.stage)
        log.addHandler(Warnings(channel))
        context = WorkerContext(scratch, call.seed, call.device, call.threads, log, channel)
        signal.signal(signal.SIGTERM, lambda *_: setattr(context, "cancelled", True))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        started = _now()
        result: StageResult = resolve(spec.target)(params, inputs, context)
        _finish(call, spec, store, result, started, channel)


def _acquire(lock: TextIO) -> None:
    """Wait for a killed attempt's process to be gone; two never share a scratch folder."""
    for _ in range(100):
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.1)
    raise HrmctlError("another process is running this very stage; wait for it or end it")


def _inputs(call: StageCall, spec: StageSpec, store: Store) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, given in call.inputs.items():
        artifacts = tuple(store.get(a["digest"], a["type"], a["label"]) for a in given)  # type: ignore[arg-type]
        result[name] = artifacts if spec.inputs[name].many else artifacts[0]
    return result


def _finish(call: StageCall, spec: StageSpec, store: Store, result: StageResult, started: str, channel: TextIO) -> None:
    _check_word(spec, result)
    ended = _now()
    stored = {n: store.put(o.path, spec.outputs[n].type, o.label) for n, o in result.artifacts.items()}
    evidence = [
        store.put_evidence(_evidence(call, o, result.artifacts, stored, started, ended)) for o in result.evidence
    ]
    entry = {
        "uses": call.uses,
        "run": call.run,
        "started": started,
        "ended": ended,
        "outputs": {n: {"digest": a.digest, "type": a.type, "label": a.label} for n, a in stored.items()},
        "evidence": [e.digest for e in evidence],
    }
    store.remember(call.key, entry)
    send(channel, "finished", **entry)


def _check_word(spec: StageSpec, result: Any) -> None:
    if not isinstance(result, StageResult):
        raise StageError(f"stage {spec.name} broke its word: it returned {type(result).__name__}, not StageResult")
    missing = [n for n, o in spec.outputs.items() if not o.optional and n not in result.artifacts]
    extra = [n for n in result.artifacts if n not in spec.outputs]
    if missing or extra:
        raise StageError(f"stage {spec.name} broke its word: missing outputs {missing}, undeclared outputs {extra}")
    for name, output in result.artifacts.items():
        if not output.path.exists():
            raise StageError(f"stage {spec.name} broke its word: there is no {output.path} for its output '{name}'")
    for seen in result.evidence:
        try:
            canonical(seen.payload)
        except HrmctlError as error:
            raise HrmctlError(f"evidence '{seen.name}' is {error}; report finite numbers or leave it out") from error


def _evidence(
    call: StageCall,
    seen: Observation,
    outputs: Mapping[str, Output],
    stored: Mapping[str, Artifact],
    started: str,
    ended: str,
) -> Evidence:
    about = {role: _subject(call, what, outputs, stored) for role, what in seen.about.items()}
    provenance = Provenance(
        run=call.run,
        stage=call.stage,
        uses=call.uses,
        key=call.key,
        subjects={role: digest for role, (digest, _) in about.items()},
        labels={role: label for role, (_, label) in about.items()},
        params_digest=digest_of(call.params),
        seed=call.seed,
        argv=list(call.argv),
        code_version=call.version,
        tools=tools(),
        hardware=hardware(),
        started=started,
        ended=ended,
    )
    return Evidence(seen.name, seen.type, seen.payload, provenance)


def _subject(
    call: StageCall, what: Artifact | Output, outputs: Mapping[str, Output], stored: Mapping[str, Artifact]
) -> tuple[str, str]:
    """Digest and label of what was observed, as the run knows it and not as the stage says."""
    for name, output in outputs.items():
        if output == what:
            return stored[name].digest, stored[name].label
    for given in (artifact for artifacts in call.inputs.values() for artifact in artifacts):
        if isinstance(what, Artifact) and given["digest"] == what.digest:
            return given["digest"], given["label"]
    raise HrmctlError(f"evidence is about {what.label}, which is neither an input nor an output of the stage")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
