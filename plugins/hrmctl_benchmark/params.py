"""Parameters of the stage `benchmark`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from hrmctl.schema import doc


@dataclass(frozen=True)
class BenchmarkParams:
    """The workload, the same for the model and its baseline."""

    prompt_tokens: Annotated[int, Ge(1), doc("length of the prompt in tokens")] = 64
    new_tokens: Annotated[int, Ge(2), doc("tokens generated after the prompt, whatever they are")] = 64
    batch: Annotated[int, Ge(1), doc("sequences decoded together for tokens/s; latency is always of one")] = 1
    trials: Annotated[int, Ge(1), doc("measured trials of each model, taken in turn")] = 5
    warmup: Annotated[int, Ge(0), doc("unmeasured trials of each model before them")] = 1
    threads: Annotated[int | None, Ge(1), doc("processor threads; unset: what the run gives the stage")] = None
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], doc("precision of both models; auto: as each is stored")
    ] = "auto"
    timeout: Annotated[float, Gt(0), doc("seconds after which a load or a trial is given up")] = 600.0
