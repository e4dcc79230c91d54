"""The stage `benchmark`: two workers, one for the model and one for the baseline, driven in turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from hrmctl import Artifact, Context, InputError, Observation, StageError, StageInputs, StageResult
from hrmctl_benchmark.driver import POLL_SECONDS, Worker
from hrmctl_benchmark.params import BenchmarkParams

ROLES = ("model", "baseline")
_METHOD = f"greatest RssAnon of /proc, polled every {POLL_SECONDS * 1000:g} ms, weights in private memory"


@dataclass
class Side:
    """What was measured of one model, one value a trial."""

    artifact: Artifact
    facts: Mapping[str, Any] = field(default_factory=dict)
    before_load: int | None = None
    load_peak: int | None = None
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **measured: float | None) -> None:
        """Record one trial; what the machine could not tell is left out."""
        for name, value in measured.items():
            if value is not None:
                self.values.setdefault(name, []).append(value)


_UNITS = {
    "tokens_per_second": "tokens/s",
    "latency_seconds": "s",
    "first_token_seconds": "s",
    "completion_tokens": "tokens",
    "peak_rss": "bytes",
    "peak_device_memory": "bytes",
}


def run(params: BenchmarkParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Measure model and baseline in turn: A B A B. A resumed attempt measures anew, since times do not mix.

    Raises InputError where both are the same model, StageError where one cannot be loaded or run.
    """
    sides = {role: Side(inputs[role]) for role in ROLES}
    if sides["model"].artifact.digest == sides["baseline"].artifact.digest:
        raise InputError("model and baseline are the same model; give another baseline")
    threads = params.threads or ctx.threads
    names = {role: f"{role} {side.artifact.label}" for role, side in sides.items()}
    with (
        Worker(names["model"], threads, ctx.scratch / "model.log") as first,
        Worker(names["baseline"], threads, ctx.scratch / "baseline.log") as second,
    ):
        workers = {"model": first, "baseline": second}
        for role, side in sides.items():
            _load(workers[role], side, params, threads, ctx.device)
        _alternate(workers, sides, params, ctx)
    evidence = [o for role, side in sides.items() for o in _evidence(side, role, params, threads, ctx.seed)]
    return StageResult({}, evidence)


def _load(worker: Worker, side: Side, params: BenchmarkParams, threads: int, device: str) -> None:
    _, side.before_load = worker.ask("ready", params.timeout)
    path = str(side.artifact.path)
    facts, side.load_peak = worker.ask(
        "load", params.timeout, path=path, device=device, dtype=params.dtype, threads=threads
    )
    side.facts = facts
    wanted = params.prompt_tokens + params.new_tokens
    if facts["positions"] is not None and wanted > facts["positions"]:
        reason = f"{worker.name} has {facts['positions']} positions, {wanted} are asked for"
        raise StageError(f"{reason}; lower prompt_tokens or new_tokens")


def _alternate(workers: Mapping[str, Worker], sides: Mapping[str, Side], params: BenchmarkParams, ctx: Context) -> None:
    rounds = params.warmup + params.trials
    done = 0
    for number in range(rounds):
        for role, side in sides.items():
            measured = _trial(workers[role], side, params, ctx.seed)
            if number >= params.warmup:
                side.add(**measured)
            done += 1
            speed = measured["tokens_per_second"]
            assert speed is not None
            ctx.progress(done, rounds * len(sides), **{f"{role}_tokens_per_second": speed})


def _trial(worker: Worker, side: Side, params: BenchmarkParams, seed: int) -> dict[str, float | None]:
    """One trial: a completion of one sequence, and where the batch is larger, one of the batch for the throughput."""
    workload = {"prompt_tokens": params.prompt_tokens, "new_tokens": params.new_tokens, "seed": seed}
    single, peak = worker.ask("decode", params.timeout, batch=1, **workload)
    many, batch_peak = single, peak
    if params.batch > 1:
        many, batch_peak = worker.ask("decode", params.timeout, batch=params.batch, **workload)
    replies = (single, many)
    return {
        "tokens_per_second": params.batch * (params.new_tokens - 1) / many["others"],
        "latency_seconds": single["first"] + single["others"],
        "first_token_seconds": single["first"],
        "completion_tokens": len(single["tokens"][0]),
        "peak_rss": max((p for p in (side.load_peak, peak, batch_peak) if p is not None), default=None),
        "peak_device_memory": max((r["device_peak"] for r in replies if r["device_peak"] is not None), default=None),
    }


def _evidence(side: Side, role: str, params: BenchmarkParams, threads: int, seed: int) -> list[Observation]:
    context = {
        "role": role,
        "prompt_tokens": params.prompt_tokens,
        "new_tokens": params.new_tokens,
        "batch": params.batch,
        "threads": threads,
        "prompt": f"random tokens, seed {seed}",
        **{name: side.facts[name] for name in ("device", "dtype", "weights", "parameters")},
    }
    particular: dict[str, dict[str, Any]] = {
        "latency_seconds": {"batch": 1},
        "first_token_seconds": {"batch": 1},
        "completion_tokens": {"batch": 1},
        "peak_rss": {"method": _METHOD, "before_load": side.before_load},
    }
    return [
        Observation(
            name,
            "measurement/v1",
            {
                "value": median(values),
                "unit": _UNITS[name],
                "n": len(values),
                "trials": values,
                "context": context | particular.get(name, {}),
            },
            {"model": side.artifact},
        )
        for name, values in side.values.items()
    ]
