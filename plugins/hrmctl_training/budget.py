"""How many steps a run can take for a given number of FLOPs: found before the first one."""

from __future__ import annotations

import copy
from bisect import bisect_left

import numpy as np
import torch

from hrmctl import Context, InputError
from hrmctl_training.checkpoint import Checkpoints
from hrmctl_training.flops import Phase, Shape, shape_of
from hrmctl_training.loop import Training

BUDGET = "budget.pt"
# Batches that are counted, out of so many at the beginning of the first epoch, which stand for the others too.
_COUNTED = 8
_LOOKED_AT = 1000
_MOST_STEPS = 10**7


def steps_within(budget: float, training: Training, ctx: Context) -> int:
    """The number of steps whose FLOPs come nearest to `budget`; a later attempt reads it from the scratch folder.

    Raises InputError where the budget is less than half a step, or more than ten million.
    """
    kept = Checkpoints(training.folder / BUDGET)
    found = next(kept.read(ctx.log), None)
    if found is not None and found["flops"] == budget:
        return int(found["steps"])
    steps = _nearest(budget, _costs(training, ctx), training)
    ctx.log.info("%g FLOPs are %d steps", budget, steps)
    kept.write({"flops": budget, "steps": steps})
    return steps


def _nearest(budget: float, costs: np.ndarray, training: Training) -> int:
    """The step after which passes that cost `costs`, again and again, have spent nearest to the budget."""
    sums = np.concatenate([[0.0], np.cumsum(costs)])

    def spent(step: int) -> float:
        rounds, rest = divmod(step * training.params.accumulation, len(costs))
        return float(rounds * sums[-1] + sums[rest]) + step * training.meter.per_update

    if spent(_MOST_STEPS) < budget:
        raise InputError(f"flops {budget:g} is more than {_MOST_STEPS:,} steps, which take {spent(_MOST_STEPS):g}")
    after = bisect_left(range(_MOST_STEPS), budget, key=spent)
    step = after if after == 0 or spent(after) - budget < budget - spent(after - 1) else after - 1
    if step == 0:
        raise InputError(f"flops {budget:g} is less than half of the first step, which takes {spent(1):g}; raise flops")
    return step


def _costs(training: Training, ctx: Context) -> np.ndarray:
    """FLOPs of the first passes, at most an epoch; weights, objective and random state stay as they are."""
    objective, order = training.objective, training.order
    shapes: list[Shape] = []
    for position in range(min(_LOOKED_AT, order.batches_per_epoch)):
        ctx.check()
        shapes.append(shape_of(objective.collate(order.at(position))))
    before, phase = copy.deepcopy(dict(objective.state())), Phase()
    training.model.train()
    with torch.random.fork_rng():
        for position in _spread(shapes):
            ctx.check()
            with phase.counting(shapes[position]):
                _pass(training, position)
    objective.load_state(before)
    training.model.zero_grad(set_to_none=True)
    costs: np.ndarray = np.maximum(phase.of(shapes), 0)
    return costs


def _spread(shapes: list[Shape]) -> list[int]:
    """Positions of passes whose widths are spread evenly over those of all."""
    by_width = sorted(range(len(shapes)), key=lambda i: (shapes[i][2] / shapes[i][1], i))
    chosen = np.linspace(0, len(shapes) - 1, _COUNTED).round().astype(int)
    return [by_width[i] for i in sorted(set(chosen.tolist()))]


def _pass(training: Training, position: int) -> None:
    batch = training.objective.collate(training.order.at(position)).to(training.device)
    with training.autocast():
        loss = training.objective.loss(batch)
    loss.total.backward()
