"""The bench's side of the runners: start one in its environment, give it jobs, see what hostile programs did to it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peers.environments import Unavailable
from peers.harnesses import Task
from peers.hostile import Corpus, Hostile

_HERE = Path(__file__).resolve().parent
_START_SECONDS, _SILENT_SECONDS, _JOB_SECONDS = 120.0, 40.0, 900.0


class Client:
    """One harness in a process of its own. Raises Unavailable where it does not start."""

    def __init__(
        self, name: str, python: Path, cache: Path, bwrap: str | None, inside: Path | None = None, answers: str = ""
    ) -> None:
        self.answer = (inside or cache) / f"answer-{name}.json"
        command = [str(python), str(_HERE / "runner.py"), name]
        if inside is not None:
            command = [sys.executable, str(_HERE / "container.py"), str(inside), *command]
        home = inside or cache
        for folder in (home / "home", home / "scratch"):
            folder.mkdir(parents=True, exist_ok=True)
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home / "home"),
            "HF_HOME": str(home / "home"),
            "TMPDIR": str(home / "scratch"),
            "HF_ALLOW_CODE_EVAL": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "ANSWERS": answers,
            **({"BWRAP": bwrap} if bwrap else {}),
        }
        self._process = subprocess.Popen(
            command, env=env, cwd=cache, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        if not self._told(_START_SECONDS):
            error = self.close()
            raise Unavailable(error.strip().splitlines()[-1][:300] if error.strip() else "it did not start")

    def _told(self, seconds: float) -> bool:
        """Whether the runner says that it is done within some time."""
        stream = self._process.stdout
        assert stream is not None
        return bool(select.select([stream], [], [], seconds)[0]) and bool(os.read(stream.fileno(), 1))

    def send(self, job: Mapping[str, Any]) -> None:
        """Give the runner a job."""
        self.answer.unlink(missing_ok=True)
        stream = self._process.stdin
        assert stream is not None
        stream.write(json.dumps({**job, "answer": str(self.answer)}).encode() + b"\n")
        stream.flush()

    def race(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The verdicts and seconds of a race job. Raises Unavailable where the harness breaks."""
        self.send(job)
        if not self._told(_JOB_SECONDS) or not self.answer.is_file():
            error = self.close().strip().splitlines()
            raise Unavailable(f"it broke: {error[-1][:200] if error else 'without a word'}")
        answer: dict[str, Any] = json.loads(self.answer.read_text())
        return answer

    def lines(self) -> list[dict[str, Any]]:
        """The verdicts on hostile programs so far."""
        if not self.answer.is_file():
            return []
        return [json.loads(line) for line in self.answer.read_text().splitlines() if line.endswith("}")]

    def ended(self) -> bool:
        """Whether the runner is gone. What it says is not asked: a hostile program can say the same."""
        return self._process.poll() is not None

    def last(self, job: Mapping[str, Any]) -> None:
        """Give the runner a job after which it ends."""
        self.send(job)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.stdin = None

    def close(self) -> str:
        """End the runner and all that it started; what it wrote to standard error."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return (self._process.communicate()[1] or b"").decode(errors="replace")


@dataclass(frozen=True)
class Verdict:
    """How one hostile program was met. `next` is the harmless program's verdict after it; `lost` why there is none."""

    name: str
    kind: str
    passed: bool
    next: bool
    effects: list[str] = field(default_factory=list)
    lost: str = ""

    @property
    def held(self) -> bool:
        """Graded right, nothing touched, and the harness and the next program unharmed."""
        return self.next and not (self.forged or self.escaped or self.lost)

    @property
    def forged(self) -> bool:
        """A pass that a program got without knowing the answers."""
        return self.passed and self.kind in ("forge", "stall")

    @property
    def escaped(self) -> bool:
        """Did something that a sandbox denies."""
        return bool(self.effects) or (self.passed and self.kind == "escape")


def attack(make: Callable[[], Client], corpus: Corpus, folder: Path, port: int, seconds: float) -> list[Verdict]:
    """Send every hostile program through a harness; `make` starts it anew where a program ended it or hung it.

    Raises Unavailable where the harness does not even pass a harmless program here.
    """
    control = Hostile("control", "control", corpus.harmless)
    passed = _send(make, corpus, [control], folder, port, seconds)[0]
    if not (passed.passed and passed.next):
        raise Unavailable(f"it fails a harmless program inside the outer container {passed.lost}".rstrip())
    waiting, found = list(corpus.programs), []
    while waiting:
        new = _send(make, corpus, waiting, folder, port, seconds)
        found += new
        waiting = waiting[len(new) :]
    return found


def _send(
    make: Callable[[], Client], corpus: Corpus, programs: list[Hostile], folder: Path, port: int, seconds: float
) -> list[Verdict]:
    """The verdicts up to and with the program that ended or hung the harness."""
    client = make()
    client.last(_job(corpus, programs, folder, port, seconds))
    rows, why = _follow(client)
    client.close()
    found = [_verdict(program, row) for program, row in zip(programs, rows, strict=False)]
    return found + [Verdict(item.name, item.kind, False, False, [], why) for item in programs[len(rows) :][:1]]


def _job(corpus: Corpus, programs: Sequence[Hostile], folder: Path, port: int, seconds: float) -> dict[str, Any]:
    return {
        "tasks": [asdict(corpus.task)],
        "hostile": [{"name": h.name, "source": h.source, "wait": h.wait} for h in programs],
        "harmless": corpus.harmless,
        "workers": 1,
        "seconds": seconds,
        "arena": str(folder),
        "port": port,
        "token": corpus.answers,
    }


def _follow(client: Client) -> tuple[list[dict[str, Any]], str]:
    """The rows until the runner ends or is silent for too long, and which of these it was."""
    rows, last = client.lines(), time.monotonic()
    while not client.ended():
        found = client.lines()
        if len(found) > len(rows):
            rows, last = found, time.monotonic()
        if time.monotonic() - last > _SILENT_SECONDS:
            return client.lines(), "the harness hung"
        time.sleep(0.1)
    return client.lines(), "the harness was killed"


def _verdict(program: Hostile, row: Mapping[str, Any]) -> Verdict:
    lost = f"the harness raised {row['crashed']}" if "crashed" in row else ""
    return Verdict(program.name, program.kind, row.get("passed", False), row.get("next", False), row["effects"], lost)


def tasks_of(tasks: Mapping[str, Task]) -> list[dict[str, Any]]:
    """Tasks as a job holds them."""
    return [asdict(task) for task in tasks.values()]
