"""Stages as processes: one `python -m hrmctl.run.worker` each, messages over a pipe."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hrmctl.errors import HrmctlError
from hrmctl.execution import Message, StageCall
from hrmctl.jsonio import canonical
from hrmctl.plugins import FOLDER

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(eq=False)
class _Worker:
    call: StageCall
    process: subprocess.Popen[bytes]
    channel: int
    pending: bytes = b""
    ended: bool = False


class LocalExecutor:
    """Runs each call in a process group of its own, with the call's number of threads."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._cancelled = False
        self._selector = selectors.DefaultSelector()

    def start(self, call: StageCall) -> None:
        try:
            self._launch(call)
        except OSError as error:
            where = error.filename or "a process"
            remedy = "free space and run again, it resumes"
            raise HrmctlError(f"cannot start {call.stage}: {where}: {error.strerror or error}; {remedy}") from error

    def _launch(self, call: StageCall) -> None:
        log = Path(call.log)
        log.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = os.pipe()
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "hrmctl.run.worker", "-", str(theirs), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(theirs,),
                env=_environment(call),
                start_new_session=True,
            )
        os.close(theirs)
        os.set_blocking(ours, False)
        self._selector.register(ours, selectors.EVENT_READ, _Worker(call, process, ours))
        # A worker that is dead already is told by the end of its channel.
        with suppress(BrokenPipeError), process.stdin as stdin:  # type: ignore[union-attr]
            stdin.write(canonical(call).encode())

    def wait(self, timeout: float) -> Sequence[Message]:
        messages: list[Message] = []
        for key, _ in self._selector.select(timeout):
            messages.extend(self._read(key.data))
        for worker in self._workers():
            # A forked child may hold the channel open after the worker itself has died.
            if worker.process.poll() is not None:
                messages.extend(self._read_rest(worker))
        return messages

    def cancel(self) -> None:
        self._cancelled = True
        for worker in self._workers():
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        for worker in self._workers():
            _kill_group(worker.process)
            worker.process.wait()
            os.close(worker.channel)
        self._selector.close()

    def _workers(self) -> list[_Worker]:
        return [key.data for key in self._selector.get_map().values()]

    def _read(self, worker: _Worker) -> list[Message]:
        chunk = os.read(worker.channel, 1 << 16)
        lines = (worker.pending + chunk).split(b"\n")
        worker.pending = lines.pop()
        messages = [_message(worker, json.loads(line)) for line in lines]
        if not chunk:
            messages.extend(self._gone(worker))
        return messages

    def _read_rest(self, worker: _Worker) -> list[Message]:
        _kill_group(worker.process)
        messages: list[Message] = []
        try:
            while worker in self._workers():
                messages.extend(self._read(worker))
        except BlockingIOError:
            messages.extend(self._gone(worker))
        return messages

    def _gone(self, worker: _Worker) -> list[Message]:
        self._selector.unregister(worker.channel)
        os.close(worker.channel)
        _kill_group(worker.process)
        code = worker.process.wait()
        if worker.ended:
            return []
        if self._cancelled and code == -signal.SIGTERM:
            return [Message(worker.call.stage, "cancelled", {})]
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        why = "; out of memory?" if code == -signal.SIGKILL else ""
        data = {"error": f"the worker was {how}{why}", "exit_code": 4, "expected": False}
        return [Message(worker.call.stage, "failed", data)]


def _message(worker: _Worker, data: dict[str, object]) -> Message:
    kind = data.pop("kind")
    worker.ended = worker.ended or kind not in ("history", "progress", "warning")
    return Message(worker.call.stage, kind, data)  # type: ignore[arg-type]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _environment(call: StageCall) -> dict[str, str]:
    """Fixed thread counts, and threads that sleep while they wait: spinning ones slow a shared machine tenfold."""
    extra = {
        **dict.fromkeys(_THREAD_VARIABLES, str(call.threads)),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        FOLDER: call.plugins,
    }
    return {**os.environ, **extra}
