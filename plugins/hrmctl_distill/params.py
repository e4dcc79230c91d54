"""Parameters of the stage `distill`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from hrmctl_training.params import TrainingParams

from hrmctl.schema import doc

_METHOD = (
    "logits: the teacher's distribution of each token; progressive: that, in phases; "
    "text: completions that the teacher writes, across tokenizers too"
)
_PROGRESSION = (
    "layers: hidden states first, from the lowest layer up, then logits; "
    "difficulty: logits, on rows that the teacher finds easy first"
)
_ALPHA = "share of the teacher in the loss; the rest is that of the data's own tokens; 0 trains without a teacher"
_VERIFY = "keep only completions that pass their row's tests in the sandbox"


@dataclass(frozen=True)
class DistillParams(TrainingParams):
    """Training of a student by a teacher; one of `init`, `layers` and the input `model` says where it starts."""

    init: Annotated[str | None, doc("architecture of a student with fresh weights and the teacher's tokenizer")] = None
    layers: Annotated[
        int | None, Ge(1), doc("start from the teacher with only so many of its layers, evenly spaced")
    ] = None
    method: Annotated[Literal["logits", "progressive", "text"], doc(_METHOD)] = "logits"
    temperature: Annotated[float, Gt(0), Le(100), doc("divides both models' logits before they are compared")] = 2.0
    alpha: Annotated[float, Ge(0), Le(1), doc(_ALPHA)] = 0.5
    teacher_dtype: Annotated[Literal["float32", "bfloat16"], doc("of the teacher's weights")] = "float32"
    progression: Annotated[Literal["layers", "difficulty"], doc(_PROGRESSION)] = "difficulty"
    phases: Annotated[int, Ge(2), Le(100), doc("phases of equal length, where method is progressive")] = 4
    samples: Annotated[int, Ge(1), Le(1000), doc("completions of each prompt, where method is text")] = 1
    sampling_temperature: Annotated[float, Ge(0), Le(100), doc("of those completions; 0 is greedy")] = 0.8
    top_p: Annotated[float, Gt(0), Le(1), doc("sample from the most probable tokens of this total mass")] = 1.0
    max_new_tokens: Annotated[int, Ge(1), doc("tokens of such a completion at most; unfinished ones are left out")] = (
        256
    )
    verify: Annotated[bool, doc(_VERIFY)] = False
    cpu_seconds: Annotated[float, Gt(0), doc("processor time of one program where `verify` runs it, seconds")] = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "progressive" and self.flops is not None:
            raise ValueError("phases divide a number of steps that is known before; give steps or epochs, not flops")
        if self.method == "progressive" and self.progression == "difficulty" and self.mix:
            raise ValueError("difficulty decides which rows are shown, and so does mix; leave one out")
        if self.method == "progressive" and self.progression == "layers" and self.early_stopping is not None:
            raise ValueError(
                "val_loss is of logits, which phases of layers do not lower, so early_stopping would end the run "
                "before the last phase trains them; leave it out, or set progression to difficulty"
            )
        if self.verify and self.method != "text":
            raise ValueError(f"verify is about completions, and method {self.method} writes none; set method to text")
