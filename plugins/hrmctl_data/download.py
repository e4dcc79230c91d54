"""Downloads that resume where they stopped, also after `kill -9`, and are what their checksum says or nothing."""

from __future__ import annotations

import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from hrmctl import StageError
from hrmctl.jsonio import file_digest

ATTEMPTS = 5
_TIMEOUT = 30.0
_CHUNK = 1 << 18
_AGAIN = (408, 425, 429, 500, 502, 503, 504)

Progress = Callable[[int, int], None]


class _Interrupted(Exception):
    """The transfer broke off; what has come is kept and the next attempt continues there."""


class _Failed(Exception):
    """The transfer cannot succeed."""


def download(url: str, path: Path, sha256: str, progress: Progress, pause: float = 1.0) -> Path:
    """The file at `url` as `path`, checked against its sha256 (hex) before it gets that name.

    What a broken or killed transfer left in `path`.part is continued with a Range request; broken ones are taken
    up again up to five times, after `pause`, twice that, and so on (seconds). A file that does not match
    after being continued is fetched once more from its start. `progress(done, total)` is in bytes.
    Raises StageError in one line that says what to do instead.
    """
    if path.is_file() and file_digest(path) == sha256:
        return path
    part = path.with_name(f"{path.name}.part")
    continued = part.exists()
    _transfer(url, part, progress, pause)
    if continued and file_digest(part) != sha256:
        part.unlink()
        _transfer(url, part, progress, pause)
    found = file_digest(part)
    if found != sha256:
        part.unlink()
        raise StageError(f"{url} now serves a file of sha256 {found}, not {sha256}; {_REMEDY}")
    os.replace(part, path)
    return path


_REMEDY = "get the published file elsewhere and give it as the input: `with: {file: PATH}` (--file PATH)"


def _transfer(url: str, part: Path, progress: Progress, pause: float) -> None:
    reason: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _continue(url, part, progress)
            return
        except _Interrupted as error:
            reason = error
        except _Failed as error:
            reason = error
            break
    raise StageError(f"cannot download {url}: {reason}; {_REMEDY}") from reason


def _continue(url: str, part: Path, progress: Progress) -> None:
    """One request for what is missing of `part`. Raises _Interrupted or _Failed."""
    if not url.startswith(("https://", "http://")):
        raise _Failed("only http and https are fetched")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            _receive(response, part, have, progress)
    except urllib.error.HTTPError as error:
        # A part that lacks nothing: the checksum tells whether it is the file.
        if error.code == 416 and have:
            return
        said = f"the server says {error.code} {error.reason}"
        raise (_Interrupted if error.code in _AGAIN else _Failed)(said) from error
    except urllib.error.URLError as error:
        raise _unreachable(error) from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Interrupted(str(error) or type(error).__name__) from error
    except OSError as error:
        raise _Failed(f"{error.strerror or error} ({part.parent})") from error


def _unreachable(error: urllib.error.URLError) -> Exception:
    reason = error.reason
    if isinstance(reason, socket.gaierror):
        return _Failed("its host cannot be found (is this machine offline?)")
    if isinstance(reason, TimeoutError):
        return _Interrupted("no answer in time")
    if isinstance(reason, ConnectionResetError):
        return _Interrupted("the connection was reset")
    return _Failed(str(reason))


def _receive(response: http.client.HTTPResponse, part: Path, have: int, progress: Progress) -> None:
    start = _start_of(response) if response.status == 206 else 0
    if start not in (0, have):
        raise _Failed(f"asked for bytes from {have}, got them from {start}")
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else 0
    with part.open("ab" if start else "wb") as stream:
        while chunk := response.read(_CHUNK):
            stream.write(chunk)
            progress(stream.tell(), max(total, stream.tell()))
        stream.flush()
        os.fsync(stream.fileno())
        size = stream.tell()
    if total and size < total:
        raise _Interrupted(f"it ended after {size} of {total} bytes")


def _start_of(response: http.client.HTTPResponse) -> int:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else 0
