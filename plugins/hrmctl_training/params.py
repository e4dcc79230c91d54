"""Parameters that every training stage takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from hrmctl.schema import doc


@dataclass(frozen=True)
class TrainingParams:
    """How long, how fast and how safely a model is trained, whatever the objective."""

    steps: Annotated[int | None, Ge(1), doc("optimizer steps; unset: as many as `epochs` takes")] = None
    epochs: Annotated[float, Gt(0), doc("passes over the data where `steps` is unset")] = 1.0
    batch: Annotated[int, Ge(1), doc("rows of one forward pass")] = 32
    accumulation: Annotated[int, Ge(1), doc("forward passes of one optimizer step")] = 1
    lr: Annotated[float, Gt(0), Le(10), doc("peak learning rate")] = 1e-3
    optimizer: Annotated[
        Literal["muon", "adamw"],
        doc("muon: Muon for hidden matrices, its step scaled to AdamW's, and AdamW for the rest; adamw: AdamW for all"),
    ] = "muon"
    schedule: Annotated[Literal["linear", "cosine", "constant"], doc("course of the rate after the warm-up")] = "linear"
    warmup: Annotated[float, Ge(0), Lt(1), doc("share of the steps in which the rate rises to `lr`")] = 0.05
    final_lr: Annotated[float, Ge(0), Le(1), doc("rate at the end, as a share of `lr`")] = 0.0
    weight_decay: Annotated[float, Ge(0), Le(10), doc("decoupled decay of matrices and embeddings")] = 0.01
    grad_clip: Annotated[float | None, Gt(0), doc("greatest gradient norm; unset: no clipping")] = 1.0
    max_length: Annotated[int, Ge(2), doc("longest row in tokens; longer rows are left out and counted")] = 512
    loss_on: Annotated[Literal["completion", "all"], doc("tokens that the loss is taken over")] = "completion"
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"],
        doc("fp32, or autocast over fp32 weights: bf16, or fp16 with a scaled loss"),
    ] = "fp32"
    ema: Annotated[
        float | None,
        Gt(0),
        Lt(1),
        doc("decay of an exponential moving average of the weights, which is validated and saved in their place"),
    ] = None
    on_nonfinite: Annotated[
        Literal["stop", "skip"],
        doc(
            "what a NaN or infinite loss or gradient does: stop the run with the batch saved, "
            "or leave that step's update out and count it"
        ),
    ] = "stop"
    checkpoint_interval: Annotated[int, Ge(1), doc("steps between checkpoints")] = 100
    checkpoint_limit: Annotated[
        int, Ge(1), doc("checkpoints kept; a damaged newest one gives way to the one before")
    ] = 1
    eval_interval: Annotated[int | None, Ge(1), doc("steps between validation losses; unset: at the end only")] = None
    early_stopping: Annotated[
        int | None,
        Ge(1),
        doc("stop after so many validations without a better loss, and keep the best weights; needs `eval_interval`"),
    ] = None
    early_stopping_delta: Annotated[
        float, Ge(0), doc("a validation loss is better if it is lower by more than this")
    ] = 0.0

    def __post_init__(self) -> None:
        if self.early_stopping is not None and self.eval_interval is None:
            raise ValueError("early_stopping counts validations; set eval_interval too")
