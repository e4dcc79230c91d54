"""What a training run writes down, and how it goes on from that; of several processes, what each alone knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
import transformers

from hrmctl import Context, InputError, StageError
from hrmctl_training.checkpoint import Progress, load_trained_state, sum_of_bits, trained_state

if TYPE_CHECKING:
    from hrmctl_training.loop import Training


def save(training: Training) -> None:
    """Write a checkpoint of the present state, the same for any number of processes."""
    parts = gathered(training, "save")
    average, scaler = training.average, training.scaler
    state = {
        "model": trained_state(training.model),
        "optimizers": [optimizer.state_dict() for optimizer in training.optimizers],
        "objective": _joined(training, [part["objective"] for part in parts]),
        "watchers": [dict(watcher.state()) for watcher in training.watchers],
        "average": average.average if average else None,
        "scaler": scaler.state_dict() if scaler else None,
        "meter": dict(training.meter.state()),
        "progress": asdict(training.progress),
        "made_with": _made_with(training),
    }
    training.checkpoints.write(state)


def resume(training: Training, ctx: Context) -> None:
    """Go on from the newest readable checkpoint, if there is one."""
    state = next(training.checkpoints.read(ctx.log), None)
    if state is None:
        if training.checkpoints.path.is_file():
            ctx.log.warning("no checkpoint can be read; training starts again from the beginning")
        return
    made_with = _made_with(training)
    if state["made_with"] != made_with:
        ctx.log.warning("the checkpoint was made with %s, not %s: bits may differ", state["made_with"], made_with)
    load_trained_state(training.model, state["model"])
    for optimizer, saved in zip(training.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    training.objective.load_state(state["objective"])
    for watcher, saved in zip(training.watchers, state["watchers"], strict=True):
        watcher.load_state(saved)
    if training.average:
        training.average.load(state["average"])
    if training.scaler:
        training.scaler.load_state_dict(state["scaler"])
    training.meter.load_state(state["meter"])
    done = training.progress = Progress(**state["progress"])
    training.told = done.cpu_seconds
    # Of several processes the greatest figure may be another one's.
    training.memory.include(done.peak_memory if training.group.size == 1 else 0, done.memory_samples)
    ctx.log.info("continuing after step %d", done.step)


def beginning(training: Training) -> dict[str, Any]:
    """What all processes must agree on before the first step.

    Raises InputError where the objective carries something that cannot be shared out.
    """
    if training.group.size == 1:
        return {}
    if training.objective.state() and not hasattr(training.objective, "joined"):
        raise InputError("what this objective carries from step to step cannot be shared out; set processes to 1")
    weights = sum_of_bits(trained_state(training.model))
    return {"step": training.progress.step, "steps": training.steps, "weights": weights}


def own(training: Training) -> dict[str, Any]:
    """What this process alone knows."""
    told, training.told = training.told, training.progress.cpu_seconds
    several, device = training.group.size > 1, training.device
    return {
        "objective": dict(training.objective.state()),
        "memory": training.memory.peak,
        "device_memory": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
        "cpu_seconds": training.progress.cpu_seconds - told,
        "weights": sum_of_bits(trained_state(training.model)) if several else 0,
    }


def gathered(training: Training, why: str) -> list[Mapping[str, Any]]:
    """What each process alone knows, by rank. Raises StageError where their weights are not the same."""
    training.group.tell(why)
    parts = training.group.collected(own(training))
    done, others = training.progress, parts[1:]
    if any(part["weights"] != parts[0]["weights"] for part in others):
        raise StageError(f"after step {done.step} the processes no longer hold the same weights; set processes to 1")
    training.memory_of_others = sum(part["memory"] for part in others)
    done.cpu_seconds += sum(part["cpu_seconds"] for part in others)
    done.memory_samples = training.memory.samples
    memory, device_memory = ([part[name] for part in parts] for name in ("memory", "device_memory"))
    done.peak_memory = max(done.peak_memory, *memory)
    done.memory_of_all = max(done.memory_of_all, sum(memory))
    done.peak_device_memory = max(done.peak_device_memory, *device_memory)
    done.device_memory_of_all = max(done.device_memory_of_all, sum(device_memory))
    return parts


def _joined(training: Training, states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The objective's state as one process would have it."""
    size, passes = training.group.size, training.params.accumulation
    if size == 1 or not states[0]:
        return dict(states[0])
    return dict(training.objective.joined(states, [i * size // passes for i in range(passes)]))  # type: ignore[attr-defined]


def _made_with(training: Training) -> dict[str, Any]:
    """What the bits of a step depend on besides the stage's own key."""
    several = {"processes": training.group.size} if training.group.size > 1 else {}
    versions = {"torch": str(torch.__version__), "transformers": transformers.__version__}
    return {**versions, "threads": torch.get_num_threads(), **several}
