"""The stage `distill`: a student learns from a teacher, by its distributions, its layers or its completions."""

from __future__ import annotations

from hrmctl_training import topics as training

from hrmctl import InputSpec, OutputSpec, StageSpec, hookimpl
from hrmctl_distill.params import DistillParams

_STUDENT = ("init", "layers", "variant", "method", "temperature", "alpha", "teacher_dtype", "progression", "phases")
_TEXT = ("samples", "sampling_temperature", "top_p", "max_new_tokens", "verify", "cpu_seconds")
TOPICS = {"Student and teacher": _STUDENT, "Completions of the teacher": _TEXT, **training.TOPICS}


@hookimpl
def hrmctl_stages() -> list[StageSpec]:
    return [
        StageSpec(
            name="distill",
            summary="train a student model on what a teacher model knows",
            params=DistillParams,
            target="hrmctl_distill.stage:run",
            check="hrmctl_distill.plan:check",
            topics=TOPICS,
            inputs={
                "teacher": InputSpec("model", "the model to learn from"),
                "data": InputSpec("dataset", "the rows to learn on; several are mixed by `mix`", many=True),
                "model": InputSpec("model", "the student, where neither `init` nor `layers` is set", required=False),
                "validation": InputSpec("dataset", "rows whose loss is only measured", required=False),
            },
            outputs={
                "model": OutputSpec("model", "the trained student with its tokenizer"),
                "generated": OutputSpec("dataset", "the teacher's completions, with `method: text`", optional=True),
            },
            code=("hrmctl_models", "hrmctl_training", "hrmctl_sandbox"),
        )
    ]
