"""What a stage computes once, before its first step: in pieces, so that a later attempt goes on where one ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from hrmctl_models.journal import Journal

from hrmctl import Context
from hrmctl_training.order import lengths_of


def computed_once(
    name: str, examples: Sequence[Any], batch: int, compute: Callable[[list[int]], torch.Tensor], ctx: Context
) -> torch.Tensor:
    """What `compute` gives the examples at some places, (places, width) in float32, of all of them: (examples, width).

    Each batch is noted in the journal `name` of the scratch folder before the next one begins, and is there a point
    of cancellation. What an earlier attempt noted is read again to the last bit. Raises StageError where the disk
    refuses.
    """
    path = ctx.scratch / name
    batches = list(alike(examples, batch))
    with Journal(path) as journal:
        found = _noted(journal.rows, batches)
    if found is None:
        path.unlink()
        found = []
    with Journal(path) as journal:
        for places in batches[len(found) :]:
            ctx.check()
            values = compute(places).float().cpu().reshape(len(places), -1)
            journal.append({"places": places, "values": values.numpy().tobytes().hex()})
            found.append(values)
    order = torch.tensor([place for places in batches for place in places])
    values = torch.cat(found)
    return torch.empty_like(values).index_copy_(0, order, values)


def _noted(rows: Sequence[Mapping[str, Any]], batches: Sequence[list[int]]) -> list[torch.Tensor] | None:
    """The values of the first batches; None where the rows are not of these batches."""
    if len(rows) > len(batches):
        return None
    try:
        if any(row["places"] != places for row, places in zip(rows, batches, strict=False)):
            return None
        found = [np.frombuffer(bytes.fromhex(row["values"]), np.float32) for row in rows]
        return [torch.from_numpy(v.reshape(len(row["places"]), -1).copy()) for v, row in zip(found, rows, strict=True)]
    except (KeyError, TypeError, ValueError):
        return None


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The precision of training's forward passes, in the loop and outside of it."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype=dtype) if dtype else nullcontext()


def alike(examples: Sequence[Any], batch: int) -> Iterator[list[int]]:
    """The places of all examples once, the shortest first, in batches."""
    order = np.argsort(lengths_of(examples), kind="stable").tolist()
    for start in range(0, len(order), batch):
        yield order[start : start + batch]
