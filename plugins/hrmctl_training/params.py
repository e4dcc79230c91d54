"""Parameters that every training stage takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from hrmctl.schema import doc
from hrmctl_training.interventions import Intervention, check_measured
from hrmctl_training.plateau import Plateau

Format = Literal["auto", "prompt-completion", "instruction", "qa", "mbpp", "humaneval", "chat", "text", "preference"]

_VARIANT = "added to the label of the model, LABEL@VARIANT, where a recipe trains one model in several ways"
_VARIANT_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True)
class TrainingParams:
    """How long, how fast and how safely a model is trained, whatever the objective."""

    steps: Annotated[int | None, Ge(1), doc("optimizer steps; unset: as many as `epochs` takes")] = None
    epochs: Annotated[float, Gt(0), doc("passes over the data where `steps` is unset")] = 1.0
    flops: Annotated[
        float | None, Gt(0), doc("compute to spend, in FLOPs; the number of steps is derived from it; not with `steps`")
    ] = None
    batch: Annotated[int, Ge(1), doc("rows of one forward pass")] = 32
    accumulation: Annotated[int, Ge(1), doc("forward passes of one optimizer step")] = 1
    processes: Annotated[
        int,
        Ge(0),
        doc(
            "processes of this machine that share out the forward passes of a step, so `accumulation` is a multiple; "
            "each has a CUDA device of its own, or its share of the threads; 0: one for each visible CUDA device"
        ),
    ] = 1
    lr: Annotated[float, Gt(0), Le(10), doc("peak learning rate")] = 1e-3
    optimizer: Annotated[
        Literal["auto", "muon", "adamw"],
        doc(
            "muon: Muon for hidden matrices, its step scaled to AdamW's, and AdamW for the rest; adamw: AdamW for all; "
            "auto: adamw where weights are frozen (adapters), else muon"
        ),
    ] = "auto"
    schedule: Annotated[Literal["linear", "cosine", "constant"], doc("course of the rate after the warm-up")] = "linear"
    warmup: Annotated[float, Ge(0), Lt(1), doc("share of the steps in which the rate rises to `lr`")] = 0.05
    final_lr: Annotated[float, Ge(0), Le(1), doc("rate at the end, as a share of `lr`")] = 0.0
    weight_decay: Annotated[float, Ge(0), Le(10), doc("decoupled decay of matrices and embeddings")] = 0.01
    grad_clip: Annotated[float | None, Gt(0), doc("greatest gradient norm; unset: no clipping")] = 1.0
    max_length: Annotated[int, Ge(2), doc("longest row in tokens; see `too_long`")] = 512
    loss_on: Annotated[Literal["completion", "all"], doc("tokens that the loss is taken over")] = "completion"
    format: Annotated[Format, doc("shape of the data's rows; auto: that of the first usable row of each file")] = "auto"
    chat_template: Annotated[
        Literal["auto", "plain"],
        doc("what writes conversations and instructions: the tokenizer's template if it has one, or the plain one"),
    ] = "auto"
    bad_rows: Annotated[
        Literal["stop", "skip"], doc("rows that cannot be used: stop the stage, or are left out, counted and reported")
    ] = "stop"
    too_long: Annotated[
        Literal["drop", "truncate", "stop"],
        doc("rows over `max_length`: left out and counted, cut at the end and counted, or stop the stage"),
    ] = "drop"
    packing: Annotated[
        Literal["none", "pack"],
        doc("pack: several rows in one of `max_length` tokens without seeing each other; plain text is cut to blocks"),
    ] = "none"
    mix: Annotated[
        tuple[float, ...],
        doc("share of each data set among the examples, in any unit; empty: every row once an epoch"),
    ] = ()
    validation_split: Annotated[
        float, Ge(0), Le(0.5), doc("share of the prompts held out for validation, where no `validation` is given")
    ] = 0.0
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
    plateau: Annotated[Plateau | None, doc("when to warn that the loss stands still; null: never")] = field(
        default_factory=Plateau
    )
    interventions: Annotated[
        tuple[Intervention, ...], doc("what is to happen at a step or epoch, and on which condition")
    ] = ()
    sample_interval: Annotated[
        int | None, Ge(1), doc("steps between probes that answer validation rows and check the answers; unset: never")
    ] = None
    sample_problems: Annotated[int, Ge(1), Le(10_000), doc("validation rows that a probe answers, the first ones")] = 16
    variant: Annotated[str, doc(_VARIANT)] = ""

    def __post_init__(self) -> None:
        if self.variant and not _VARIANT_NAME.fullmatch(self.variant):
            raise ValueError(f"'{self.variant}' cannot be a variant; write it like equal-compute")
        if self.flops is not None and self.steps is not None:
            raise ValueError("steps and flops both say how long to train; give one")
        if self.processes and self.accumulation % self.processes:
            raise ValueError(
                f"accumulation {self.accumulation} cannot be shared out among {self.processes} processes; "
                "set it to a multiple"
            )
        if any(weight <= 0 for weight in self.mix):
            raise ValueError(f"mix holds {min(self.mix)}; every weight is over 0")
        if self.early_stopping is not None and self.eval_interval is None:
            raise ValueError("early_stopping counts validations; set eval_interval too")
        check_measured(self.interventions, self.eval_interval, self.sample_interval)

    def labelled(self, label: str) -> str:
        """The label of a model that was trained so, from what it was trained from."""
        return f"{label}@{self.variant}" if self.variant else label
