"""One of several processes that sum gradients: `python summing.py RANK SIZE FOLDER`; the last one ends before a sum."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from hrmctl_training import group
from hrmctl_training.group import Broken, Several
from torch import nn

SHAPES = ((3, 5), (7,), (2, 2))


def gradients(rank: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return [torch.randn(shape, generator=generator) * 10**rank for shape in SHAPES]


def listening() -> list[str]:
    """The local addresses, in hexadecimal, that this process listens on."""
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()]
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links]


def main(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    # Two weights to a piece, so that there are several.
    group._PIECE = 22
    several = Several(rank, size, torch.device("cpu"))
    several.join(folder)
    weights = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    for weight, gradient in zip(weights, gradients(rank), strict=True):
        weight.grad = gradient.T.contiguous().T if gradient.ndim == 2 else gradient
    idle = nn.Parameter(torch.zeros(3))
    if rank == 1:
        idle.grad = torch.arange(3.0)
    several.sum_gradients([*weights, idle])
    expected = [(a + b) + c for a, b, c in zip(*(gradients(r) for r in range(size)), strict=True)]
    found = {
        "equal": all(torch.equal(w.grad, e) for w, e in zip(weights, expected, strict=True)),  # type: ignore[arg-type]
        "idle": idle.grad.tolist(),  # type: ignore[union-attr]
        "listening": listening(),
    }
    if rank == size - 1:
        os._exit(7)
    begun = time.monotonic()
    try:
        several.sum_gradients(weights)
    except Broken as error:
        found["broken"] = str(error)
    print(json.dumps({**found, "seconds": time.monotonic() - begun}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
