"""The stage `benchmark`: speed and memory of a model and of a baseline, measured in turn on the same machine."""

from __future__ import annotations

from hrmctl import InputSpec, StageSpec, hookimpl
from hrmctl_benchmark.params import BenchmarkParams


@hookimpl
def hrmctl_stages() -> list[StageSpec]:
    return [
        StageSpec(
            name="benchmark",
            summary="measure tokens/s, latency and peak memory of a model against a baseline in the same run",
            params=BenchmarkParams,
            target="hrmctl_benchmark.stage:run",
            inputs={
                "model": InputSpec("model", "the model to measure"),
                "baseline": InputSpec("model", "the model that is measured in turn with it"),
            },
            exclusive=True,
            code=("hrmctl_models",),
        )
    ]
