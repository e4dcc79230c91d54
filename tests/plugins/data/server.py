"""A loopback file server that can truncate, refuse ranges, fail and drip."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class FakeHub:
    """What is served and how; `ranges` keeps the Range header of every request (None without one)."""

    body: bytes
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    always_cut: int | None = None
    knows_ranges: bool = True
    drip: float = 0.0
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve `hub` on a free port until the block ends."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}/file"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: FakeHub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            hub.ranges.append(wanted)
            status = hub.statuses.pop(0) if hub.statuses else 200
            if status != 200:
                self.send_error(status)
                return
            start = int(wanted.split("=")[1].rstrip("-")) if wanted and hub.knows_ranges else 0
            if start >= len(hub.body) and start:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(hub.body)}")
                self.end_headers()
                return
            self.send_body(hub.body[start:], start, partial=bool(wanted) and hub.knows_ranges)

        def send_body(self, rest: bytes, start: int, partial: bool) -> None:
            self.send_response(206 if partial else 200)
            self.send_header("Content-Length", str(len(rest)))
            if partial:
                self.send_header("Content-Range", f"bytes {start}-{len(hub.body) - 1}/{len(hub.body)}")
            self.end_headers()
            cut = hub.cuts.pop(0) if hub.cuts else hub.always_cut
            for place in range(0, len(rest[:cut]), 1000):
                try:
                    self.wfile.write(rest[:cut][place : place + 1000])
                except OSError:
                    return
                time.sleep(hub.drip)

    return Handler
