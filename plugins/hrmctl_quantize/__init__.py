"""The stage `quantize`: weight-only int8 and int4 of any causal language model."""

from __future__ import annotations

from hrmctl import InputSpec, OutputSpec, StageSpec, hookimpl
from hrmctl_quantize.params import QuantizeParams


@hookimpl
def hrmctl_stages() -> list[StageSpec]:
    return [
        StageSpec(
            name="quantize",
            summary="store a model's weights in 8 or 4 bits, and measure bytes and error",
            params=QuantizeParams,
            target="hrmctl_quantize.stage:run",
            inputs={"model": InputSpec("model", "the model to quantize")},
            outputs={"model": OutputSpec("model", "the model in hrmctl's quantized format")},
            code=("hrmctl_models",),
        )
    ]
