"""A program that answers as `vllm serve` does, for the tests of the engine that talks to vLLM.

    vllm_standin.py serve FOLDER --host HOST --port PORT …

With no STANDIN in the environment a real model answers, computed by transformers' own `generate`. Otherwise the
tokens of STANDIN_TOKENS are sent and STANDIN says what goes wrong. What happens is noted in STANDIN_RECORD.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODE = os.environ.get("STANDIN", "")
BEGUN = time.monotonic()
LOCK = threading.Lock()


def note(**fields: Any) -> None:
    """Append one row to the record."""
    with LOCK, open(os.environ["STANDIN_RECORD"], "a", encoding="utf-8") as record:
        record.write(json.dumps(fields) + "\n")


class Model:
    """A model folder, continued one request at a time by transformers."""

    def __init__(self, folder: str, dtype: str):
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(1)
        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    def tokens(self, body: dict[str, Any]) -> Iterator[int]:
        """The continuation that a request asks for."""
        ids = self.torch.tensor([body["prompt"]])
        sampling: dict[str, Any] = {"do_sample": False}
        if body["temperature"]:
            sampling = {
                "do_sample": True,
                "temperature": body["temperature"],
                "top_p": body["top_p"],
                "top_k": body.get("top_k", 0),
            }
        with LOCK:
            self.torch.manual_seed(body["seed"])
            output = self.model.generate(
                ids,
                attention_mask=self.torch.ones_like(ids),
                max_new_tokens=body["max_tokens"],
                repetition_penalty=body["repetition_penalty"],
                eos_token_id=body["stop_token_ids"],
                **sampling,
            )
        yield from output[0, ids.shape[1] :].tolist()


class Canned:
    """Always the same tokens, a little time apart."""

    def tokens(self, body: dict[str, Any]) -> Iterator[int]:
        """The tokens of STANDIN_TOKENS, again and again."""
        ids = json.loads(os.environ["STANDIN_TOKENS"])
        for place in range(body["max_tokens"]):
            if MODE == "dies" and place == 5:
                print("RuntimeError: CUDA error: an illegal memory access was encountered", flush=True)
                print("shutting down", flush=True)
                os._exit(3)
            if MODE == "hangs" and place == 5:
                time.sleep(3600)
            if MODE == "ends early" and place == 5:
                return
            yield ids[place % len(ids)]
            time.sleep(0.005)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Silence."""

    def do_GET(self) -> None:
        if MODE == "slow" and time.monotonic() - BEGUN < 1.5:
            self.answer(503, b"")
        elif self.path == "/health":
            self.answer(200, b"")
        elif self.headers["Authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            self.answer(401, b"{}")
        elif self.path == "/v1/models":
            name = "somebody-else" if MODE == "impostor" else self.server.name  # type: ignore[attr-defined]
            self.answer(200, json.dumps({"data": [{"id": name}]}).encode())
        else:
            self.answer(200, b'{"version": "0.0.stand-in"}')

    def answer(self, status: int, content: bytes) -> None:
        """A whole answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = body["model"] == self.server.name and body["stream"] and body["return_token_ids"]  # type: ignore[attr-defined]
        if not known or MODE == "refuses":
            self.answer(400, b'{"error": {"message": "max_model_len is 16"}}')
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        try:
            for token in self.server.model.tokens(body):  # type: ignore[attr-defined]
                self.event({"choices": [{"index": 0, "text": "", **({} if MODE == "old" else {"token_ids": [token]})}]})
                sent += 1
                if MODE == "errs" and sent == 5:
                    self.event({"error": {"message": "out of blocks"}})
            self.chunk(b"data: [DONE]\n\n")
            self.chunk(b"")
        except OSError:
            self.close_connection = True
        finally:
            note(prompt=body["prompt"], seed=body["seed"], sent=sent)

    def event(self, content: dict[str, Any]) -> None:
        """One server-sent event."""
        self.chunk(f"data: {json.dumps(content)}\n\n".encode())

    def chunk(self, content: bytes) -> None:
        """One chunk of the transfer encoding."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("folder")
    for name in ("host", "port", "served-model-name", "seed", "dtype", "generation-config"):
        parser.add_argument(f"--{name}", required=True)
    found = parser.parse_args()
    if MODE == "crashes":
        print("ValueError: Model architectures ['Strange'] are not supported", flush=True)
        print("RuntimeError: Engine core initialization failed. See root cause above.", flush=True)
        sys.exit(1)
    pids = [os.getpid()]
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pids.append(subprocess.Popen(["sleep", "3600"]).pid)
    note(pids=pids, argv=sys.argv, pythonpath=os.environ.get("PYTHONPATH"))
    ThreadingHTTPServer.request_queue_size = 2048  # as uvicorn's, which vLLM uses
    server = ThreadingHTTPServer((found.host, int(found.port)), Handler)
    server.name = found.served_model_name  # type: ignore[attr-defined]
    server.model = Canned() if MODE else Model(found.folder, found.dtype)  # type: ignore[attr-defined]
    server.serve_forever()


if __name__ == "__main__":
    main()
