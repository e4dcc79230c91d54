"""What hostile programs may try to touch, and what of it they touched: files, a TCP port and an abstract socket."""

from __future__ import annotations

import shutil
import socket
import threading
from pathlib import Path

_UNTOUCHED = "untouched"


class Arena:
    """A folder with a secret, a victim and a place for markers; a TCP port and an abstract socket that listen."""

    def __init__(self, folder: Path, port: int, token: str) -> None:
        self._victim, self._out = folder / "victim", folder / "out"
        (folder / "answers").write_text(token)
        self._connections: list[str] = []
        self._listen(socket.AF_INET, ("127.0.0.1", port), "TCP connection")
        self._listen(socket.AF_UNIX, f"\0hrmctl-bench-{port}", "abstract socket")

    def _listen(self, family: int, address: tuple[str, int] | str, name: str) -> None:
        server = socket.socket(family)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen()

        def serve() -> None:
            while True:
                server.accept()[0].close()
                self._connections.append(name)

        threading.Thread(target=serve, daemon=True).start()

    def reset(self) -> None:
        """Make everything as new."""
        shutil.rmtree(self._out, ignore_errors=True)
        self._out.mkdir(mode=0o777)
        self._out.chmod(0o777)
        self._victim.unlink(missing_ok=True)
        self._victim.write_text(_UNTOUCHED)
        self._victim.chmod(0o666)
        self._connections.clear()

    def effects(self) -> list[str]:
        """What was touched since the last reset."""
        found = sorted({f"wrote {item.name}" for item in self._out.iterdir()} | set(self._connections))
        if not self._victim.is_file():
            return [*found, "deleted the victim"]
        changed = self._victim.read_text() != _UNTOUCHED or self._victim.stat().st_mode & 0o777 != 0o666
        return [*found, "changed the victim"] if changed else found
