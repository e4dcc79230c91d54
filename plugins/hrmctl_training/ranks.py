"""Several processes for one training: who starts the others, what they are given, and what their end means.

The others run the stage's own function. By the time that the first one trains, whatever comes before is in the scratch
folder (tokenizer, token ids, references, a budget), so they come to the same model, objective and examples as a later
attempt would, and there they join.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hrmctl_models.loading import resolve_device
from torch import distributed, nn

from hrmctl import Context, InputError, StageError, StageResult
from hrmctl_training.channel import Channel
from hrmctl_training.group import PATIENCE, Broken, Follower, Group, Several
from hrmctl_training.params import TrainingParams

_MEETING = "ranks-"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# A process that was killed takes a moment to be seen dead, and one that failed to say why.
_GRACE = 5.0
_UNSEEN = 30.0

Run = Callable[[Any, Any, Context], StageResult]


@dataclass(frozen=True)
class Call:
    """What another process needs to run the stage's function (`target`, module:function) as this one does."""

    target: str
    params: Any
    inputs: Mapping[str, Any]


_CALL: ContextVar[Call | None] = ContextVar("call", default=None)
FOLLOWER: ContextVar[Follower | None] = ContextVar("follower", default=None)


def in_processes(run: Run) -> Run:
    """Let the function of a stage train in as many processes as its parameters say.

    It must come to `fit` by its parameters, its inputs and its scratch folder alone. Raises InputError before any
    work where so many processes cannot be had.
    """

    @functools.wraps(run)
    def called(params: Any, inputs: Any, ctx: Context) -> StageResult:
        if FOLLOWER.get() is None:
            size_of(params, ctx.device)
        token = _CALL.set(Call(f"{run.__module__}:{run.__qualname__}", params, dict(inputs)))
        try:
            return run(params, inputs, ctx)
        finally:
            _CALL.reset(token)

    return called


def size_of(params: TrainingParams, device: str) -> int:
    """The number of processes. Raises InputError where the devices, or `accumulation`, do not allow it."""
    if params.processes == 1:
        return 1
    kind = resolve_device(device)
    if kind.type == "cpu":
        return _checked(params.processes or 1, params)
    if kind.type != "cuda" or kind.index is not None:
        raise InputError(f"{device} is one device, for one process; leave processes out, or set the device to cuda")
    visible = torch.cuda.device_count()
    if params.processes > visible:
        raise InputError(f"processes is {params.processes} and {visible} CUDA devices are visible; lower it")
    size = params.processes or visible
    names = {torch.cuda.get_device_name(index) for index in range(size)}
    if len(names) > 1:
        raise InputError(f"{' and '.join(sorted(names))} do not compute alike; choose one kind by CUDA_VISIBLE_DEVICES")
    return _checked(size, params)


def _checked(size: int, params: TrainingParams) -> int:
    if params.accumulation % size:
        raise InputError(
            f"accumulation {params.accumulation} cannot be shared out among {size} processes; set it to a multiple"
        )
    return size


@contextmanager
def group_of(params: TrainingParams, device: torch.device, ctx: Context) -> Iterator[Group]:
    """The group that trains; afterwards the other processes are gone. On the CPU they share the stage's threads."""
    follower = FOLLOWER.get()
    size = 1 if follower else size_of(params, ctx.device)
    for left in ctx.scratch.glob(f".{_MEETING}*") if follower is None else ():
        shutil.rmtree(left, ignore_errors=True)
    if size == 1:
        yield follower or Group()
        return
    call = _CALL.get()
    if call is None:
        raise InputError("this stage trains in one process; leave processes out")
    threads = torch.get_num_threads()
    leader = Leader(size, device, call, ctx)
    torch.set_num_threads(leader.threads)
    try:
        yield leader
    finally:
        leader.close()
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Setting:
    """What a process is given before it runs the call."""

    call: Call
    rank: int
    size: int
    folder: Path
    scratch: Path
    seed: int
    device: str
    threads: int


@dataclass(frozen=True)
class _Child:
    rank: int
    process: subprocess.Popen[bytes]
    channel: Channel


class Leader(Several):
    """The first process. It starts the others when there is a step to make, and notices when one is gone."""

    def __init__(self, size: int, device: torch.device, call: Call, ctx: Context) -> None:
        super().__init__(0, size, device)
        self.threads = max(1, ctx.threads // size)
        self._call = call
        self._ctx = ctx
        self._children: list[_Child] = []
        self._folder: Path | None = None
        self._heard = time.monotonic()
        self._closing = threading.Event()
        if device.type == "cpu" and ctx.threads < size:
            ctx.log.warning("%d processes train with %d threads in all", size, ctx.threads)

    def start(self, beginning: Mapping[str, Any], ctx: Context) -> None:
        """Raises Cancelled too: the others take seconds to come here."""
        self._folder = Path(tempfile.mkdtemp(prefix=f".{_MEETING}", dir=ctx.scratch))
        for rank in range(1, self.size):
            self._children.append(self._launched(rank))
        threading.Thread(target=self._watch, daemon=True).start()
        for child in self._children:
            child.channel.waiting = self._starting
            try:
                found = json.loads(self._received(child, child.channel.receive))
            except StageError:
                # What cancels this process may end one that does not yet stand against signals.
                ctx.check()
                raise
            child.channel.waiting = self._patient
            if found != dict(beginning):
                raise StageError(f"process {child.rank + 1} begins with {found} and the first with {beginning}")
        self.tell("join")
        with self._losses():
            self.join(self._folder)
        ctx.log.info("%d processes train, of %d threads each", self.size, self.threads)

    def tell(self, do: str, rate_scale: float = 1.0) -> None:
        if do == "end":
            self._closing.set()
        self._send(json.dumps({"do": do, "rate_scale": rate_scale}).encode())

    def everyones(self, value: Any) -> list[Any]:
        # Through JSON here too, so that all see the same.
        found = [json.loads(json.dumps(value))]
        found += [json.loads(self._received(child, child.channel.receive)) for child in self._children]
        self._send(json.dumps(found).encode())
        return found

    def collected(self, state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [state, *(self._received(child, child.channel.receive_tensors) for child in self._children)]

    def sum_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        with self._losses():
            super().sum_gradients(weights)

    def check(self) -> None:
        if not self._closing.is_set() and self._ended(0.0):
            raise self._lost()

    def close(self) -> None:
        """End the others, if they have not ended."""
        failed = sys.exc_info()[0] is not None
        self._closing.set()
        # Over NCCL a member that is gone would be waited for; the end of this process frees what it holds.
        if distributed.is_initialized() and not (failed and self.device.type == "cuda"):
            distributed.destroy_process_group()
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(0.0 if failed else _GRACE)
            child.process.kill()
            child.process.wait()
            child.channel.close()
        self._children = []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _launched(self, rank: int) -> _Child:
        incoming, theirs_out = os.pipe()
        theirs_in, outgoing = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "hrmctl_training.rank", str(theirs_in), str(theirs_out), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs_in, theirs_out),
            env=_environment(self.threads),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        child = _Child(rank, process, Channel(incoming, outgoing, self._patient))
        ctx, device = self._ctx, f"cuda:{rank}" if self.device.type == "cuda" else self.device.type
        assert self._folder is not None
        setting = Setting(self._call, rank, self.size, self._folder, ctx.scratch, ctx.seed, device, self.threads)
        with suppress(EOFError):
            child.channel.send(pickle.dumps(setting))
        return child

    def _send(self, message: bytes) -> None:
        for child in self._children:
            try:
                child.channel.send(message)
            except EOFError:
                raise self._lost() from None

    def _received(self, child: _Child, receive: Callable[[], Any]) -> Any:
        self._heard = time.monotonic()
        try:
            return receive()
        except EOFError:
            raise self._lost() from None

    def _starting(self) -> None:
        self._ctx.check()
        self._patient()

    def _patient(self) -> None:
        if time.monotonic() - self._heard > PATIENCE:
            raise StageError(f"a training process has not answered for {PATIENCE:.0f} seconds")

    @contextmanager
    def _losses(self) -> Iterator[None]:
        """Within this a sum that failed for want of a process is told as its loss."""
        try:
            yield
        except Broken as error:
            raise (self._lost() if self._ended(_GRACE) else error) from error

    def _ended(self, patience: float) -> list[_Child]:
        deadline = time.monotonic() + patience
        while True:
            found = [child for child in self._children if child.process.poll() is not None]
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.01)

    def _lost(self) -> StageError:
        """What is told of the process that ended first: one that says why, or was killed, not those it took along."""
        ended = self._ended(_GRACE)
        told = [(child, self._reason(child)) for child in ended]
        told.sort(key=lambda one: (one[1] is None, one[0].rank))
        if not told:
            return StageError("a training process does not answer any more")
        child, reason = told[0]
        reason = reason or f"ended with status {child.process.returncode}"
        return StageError(
            f"process {child.rank + 1} of {self.size} {reason}; the next attempt goes on from the last checkpoint"
        )

    def _reason(self, child: _Child) -> str | None:
        code = child.process.returncode
        if code < 0:
            why = " (out of memory?)" if code == -signal.SIGKILL else ""
            return f"was killed by {signal.Signals(-code).name}{why}"
        note = note_of(self._folder or Path(), child.rank)
        return f"failed: {note.read_text('utf-8')}" if note.is_file() else None

    def _watch(self) -> None:
        """End this process where another one's end cannot reach it, as in a sum over NCCL."""
        while not self._closing.wait(1.0):
            if self._ended(0.0):
                break
        if self._closing.wait(_UNSEEN):
            return
        self._ctx.log.critical("%s", self._lost())
        os._exit(1)


def note_of(folder: Path, rank: int) -> Path:
    """Where a process leaves the one line that says why it failed."""
    return folder / f"{rank}.error"


def _environment(threads: int) -> dict[str, str]:
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    quiet = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": path}
    return {**os.environ, **dict.fromkeys(_THREADS, str(threads)), **quiet}
