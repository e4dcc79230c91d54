"""The measured process: answers requests about one model. Run as `python -m hrmctl_benchmark.worker`.

Requests and replies are JSON, one a line, on standard input and output; the process ends when its
input does. A reply is the request's result or `{"error": one line}`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from hrmctl import HrmctlError

Operations = Mapping[str, Callable[..., Mapping[str, Any]]]


def serve(operations: Operations, requests: TextIO, replies: TextIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        try:
            reply = operations[request.pop("op")](**request)
        except Exception as error:
            reply = {"error": _line(error)}
        print(json.dumps(reply), file=replies, flush=True)


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    return text if isinstance(error, HrmctlError) else f"{type(error).__name__}: {text}"[:300]


def main(operations: Callable[[], Operations]) -> None:
    """Serve, with standard output kept for replies: whatever a library prints goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(operations(), sys.stdin, replies)


def bench_operations() -> Operations:
    """The operations of a bench; imports torch and transformers."""
    from hrmctl_benchmark.bench import Bench

    bench = Bench()
    return {"ready": bench.ready, "load": bench.load, "decode": bench.decode}


if __name__ == "__main__":
    main(bench_operations)
