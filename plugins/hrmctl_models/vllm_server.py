"""A vLLM server of one model folder: a program of another environment, on the loopback alone, that ends with its user.

vLLM needs a torch and a transformers of its own, so it is never imported: its command is started. The command is
`vllm` of PATH, or what the environment variable HRMCTL_VLLM names.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

from hrmctl import StageError

VARIABLE = "HRMCTL_VLLM"
_HOST = "127.0.0.1"
_POLL_SECONDS = 0.25
_GRACE_SECONDS = 5.0
_DYING_SECONDS = 1.0
# The shell ends when the server does, and with the server's code; it kills its group when its own input
# closes, which the system does for us even when we are killed.
_GUARD = """
exec 3<&0
trap : TERM
"$@" </dev/null 3<&- &
server=$!
{ trap '' TERM; read -r _ <&3; kill -KILL 0; } &
exec 3<&-
while wait "$server"; code=$?; kill -0 "$server" 2>/dev/null; do :; done
exit $code
"""
_CAUSE = re.compile(r"\b\w*(?:Error|Exception): (?!Engine core initialization failed).*")


def executable() -> str:
    """The command that starts vLLM. Raises StageError, with the remedy, where there is none."""
    name = os.environ.get(VARIABLE) or "vllm"
    found = shutil.which(name)
    if found is None:
        raise StageError(
            f"no vLLM here ({name!r} is not an executable); install it into an environment of its own "
            f"(python -m venv ~/vllm && ~/vllm/bin/pip install vllm) and set {VARIABLE}=~/vllm/bin/vllm"
        )
    return found


class Server:
    """`vllm serve FOLDER`, ready when the context is entered and gone, with all its processes, when it is left.

    `dtype` is one of vLLM's (`float32`, `bfloat16`, `float16`). What the server prints goes to `log`, or to
    a temporary file that is kept only if something failed. `on_wait()` is called a few times a second
    while the server starts; what it raises passes through. `version` is vLLM's own, once ready. Raises
    StageError where there is no vLLM, where it ends before it is ready, or is not ready after `start_seconds`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dtype: str,
        seed: int = 0,
        log: Path | None = None,
        start_seconds: float = 1800.0,
        on_wait: Callable[[], None] | None = None,
    ):
        self.folder = Path(folder)
        self.name = f"hrmctl-{secrets.token_hex(8)}"
        self.version = ""
        self._command, self._dtype, self._seed = executable(), dtype, seed
        self._log, self._keep_log = log, log is not None
        self._start_seconds, self._on_wait = start_seconds, on_wait
        self._key = secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Server:
        try:
            self._start()
            self._wait()
        except BaseException:
            self._keep_log = True
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keep_log = self._keep_log or (kind is not None and issubclass(kind, StageError))
        self._stop()

    def connection(self, timeout: float) -> HTTPConnection:
        """A new connection, not open yet; `timeout` seconds for each of its reads."""
        return HTTPConnection(_HOST, self._port, timeout=timeout)

    def headers(self) -> dict[str, str]:
        """What a request carries: only this program knows the key."""
        return {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}

    def _check(self) -> None:
        """Raise StageError with the server's own words if it has ended."""
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            raise StageError(f"vLLM ended ({self._last_words() or f'exit code {code}'}); see {self._log}")

    def failure(self, error: Exception) -> StageError:
        """What a request that failed comes to: the server's end if it has ended, else the error itself."""
        # A server that dies closes its sockets a little before it is gone.
        with suppress(subprocess.TimeoutExpired):
            assert self._process is not None
            self._process.wait(_DYING_SECONDS)
        try:
            self._check()
        except StageError as ended:
            return ended
        return StageError(f"vLLM: {error or type(error).__name__}; see {self._log}")

    def _start(self) -> None:
        if self._log is None:
            handle, name = tempfile.mkstemp(prefix="hrmctl-vllm-", suffix=".log")
            os.close(handle)
            self._log = Path(name)
        self._port = _free_port()
        command = [
            self._command, "serve", str(self.folder.resolve()), "--host", _HOST, "--port", str(self._port),
            "--served-model-name", self.name, "--seed", str(self._seed % 2**32), "--dtype", self._dtype,
            # Not the sampling defaults of the model's makers: the parameters asked for, and nothing else.
            "--generation-config", "vllm",
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        """The caller's, without its Python's own variables; offline, without usage reports, inner sockets local."""
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VLLM_PORT")}
        quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        return {**kept, **quiet, "VLLM_HOST_IP": _HOST, "VLLM_API_KEY": self._key}

    def _wait(self) -> None:
        deadline = time.monotonic() + self._start_seconds
        while self._get("/health") is None:
            self._check()
            if time.monotonic() > deadline:
                raise StageError(f"vLLM was not ready after {self._start_seconds:g} s; see {self._log}")
            if self._on_wait:
                self._on_wait()
            time.sleep(_POLL_SECONDS)
        # The port was free a moment ago; make sure that it is our server that took it.
        models = json.loads(self._get("/v1/models") or "{}")
        if self.name not in {model.get("id") for model in models.get("data", ())}:
            raise StageError(f"another program answers on port {self._port}; run again")
        self.version = str(json.loads(self._get("/version") or "{}").get("version", ""))

    def _get(self, path: str) -> bytes | None:
        """The answer to a GET if its status is 200, else None."""
        connection = self.connection(timeout=5)
        try:
            connection.request("GET", path, headers=self.headers())
            answer = connection.getresponse()
            return answer.read() if answer.status == 200 else None
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def _last_words(self) -> str:
        assert self._log is not None
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        causes = [found[0] for found in map(_CAUSE.search, lines) if found]
        return (causes or lines or [""])[-1][:300]

    def _stop(self) -> None:
        if self._process is not None:
            _end_group(self._process)
        if self._log is not None and not self._keep_log:
            self._log.unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _end_group(process: subprocess.Popen[Any]) -> None:
    """Ask every process of the group to end; the guard kills those that have not when its input closes."""
    assert process.stdin is not None
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    with suppress(OSError):
        process.stdin.close()
    process.wait()
