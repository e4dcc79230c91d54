"""The measuring side: a worker process, its replies, and the anonymous memory it had while it worked."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from hrmctl import StageError

POLL_SECONDS = 0.005
_RSS = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)
_GRACE_SECONDS = 5.0


def anonymous_rss(pid: int) -> int | None:
    """Anonymous resident bytes of a process now; None where the system does not tell (no Linux, or it ended)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = _RSS.search(status)
    return int(found[1]) * 1024 if found else None


class Worker:
    """One worker process; use it as a context manager, so that it ends with the stage.

    `name` is what errors call it. `log` receives what it writes to standard error.
    """

    def __init__(self, name: str, threads: int, log: Path):
        self.name = name
        self._log = log
        self._replies: queue.Queue[str | None] = queue.Queue()
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hrmctl_benchmark.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(threads),
                text=True,
                encoding="utf-8",
            )
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An idle worker ends by itself when its input does; one that is gone already cannot be told.
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(0.0 if kind else _GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, op: str, timeout: float, **arguments: Any) -> tuple[dict[str, Any], int | None]:
        """The reply to a request, and the peak anonymous memory in bytes until it came.

        Raises StageError with the worker's own words, or with what ended it.
        """
        stream: IO[str] | None = self._process.stdin
        assert stream is not None
        try:
            stream.write(json.dumps({"op": op, **arguments}) + "\n")
            stream.flush()
        except BrokenPipeError:
            raise StageError(self._epitaph()) from None
        line, peak = self._wait(time.monotonic() + timeout)
        if line is None:
            raise StageError(self._epitaph())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise StageError(f"{self.name}: {reply['error']}")
        return reply, peak

    def _wait(self, deadline: float) -> tuple[str | None, int | None]:
        peak: int | None = None
        while True:
            now = anonymous_rss(self._process.pid)
            peak = max((value for value in (peak, now) if value is not None), default=None)
            try:
                return self._replies.get(timeout=POLL_SECONDS), peak
            except queue.Empty:
                if time.monotonic() > deadline:
                    raise StageError(f"{self.name}: no answer in time; raise timeout or ask for less") from None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._replies.put(line)
        self._replies.put(None)

    def _epitaph(self) -> str:
        code = self._process.wait()
        if code == -9:
            return f"{self.name}: its process was killed, most likely for lack of memory; ask for a smaller batch"
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1][:300] if lines else f"exit code {code}"
        return f"{self.name}: its process ended ({reason}); see {self._log}"


def _environment(threads: int) -> dict[str, str]:
    """The caller's environment, with its import path and a fixed number of threads that do not spin when idle."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    counts = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    # A spinning thread of the one worker would slow the trial of the other.
    quiet = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
    return {**os.environ, **counts, **quiet, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
