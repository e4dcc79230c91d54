"""What passes between a run and the place where its stages execute: calls out, messages back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class StageCall:
    """Everything that a worker needs to run one stage; plain JSON types only, so that it can travel.

    `inputs` maps a name to artifacts as `{digest, type, label}`; the worker reads them from `store`.
    `plugins` is the folder of a `hrmctl_plugins.py`, empty for none.
    """

    run: str
    stage: str
    uses: str
    key: str
    version: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Sequence[Mapping[str, str]]]
    seed: int
    device: str
    threads: int
    store: str
    plugins: str
    log: str
    argv: Sequence[str]


@dataclass(frozen=True, slots=True)
class Message:
    """What a worker reports of its stage.

    `history`: rows, the progress that earlier attempts reported; before any other message. `progress`: done, total,
    metrics, time. `warning`: text, one line of what the stage logged. `finished`: outputs, evidence (digests), started,
    ended. `failed`: error (a line for each fault), exit_code. `cancelled`: nothing.
    """

    stage: str
    kind: Literal["history", "progress", "warning", "finished", "failed", "cancelled"]
    data: Mapping[str, Any]


class Executor(Protocol):
    """Runs stage calls, several at a time; made by the target of an `ExecutorSpec` with its capacity."""

    def start(self, call: StageCall) -> None:
        """Begin a call and return at once."""
        ...

    def wait(self, timeout: float) -> Sequence[Message]:
        """Messages that have come, after at most `timeout` seconds. Each call ends with exactly one last message."""
        ...

    def cancel(self) -> None:
        """Ask every running call to stop at its next step."""
        ...

    def close(self) -> None:
        """End everything that is still running and free what is held."""
        ...
