"""The stages `finetune`, training of a causal language model, and `init`, what it would start from, untrained."""

from __future__ import annotations

from hrmctl_training import topics as training

from hrmctl import InputSpec, OutputSpec, StageSpec, hookimpl
from hrmctl_finetune.init_params import InitParams
from hrmctl_finetune.params import FinetuneParams

_MODEL = ("init", "vocab_size", "config", "variant", "method", "dropout", "gradient_checkpointing", "low_memory")
_ADAPTERS = ("rank", "alpha", "target_modules", "lora_dropout", "rslora", "dora", "base_dtype", "merge")
_PREFERENCES = ("objective", "beta", "label_smoothing", "orpo_lambda")
TOPICS = {"Model": _MODEL, **training.TOPICS, "Adapters": _ADAPTERS, "Preferences": _PREFERENCES}


@hookimpl
def hrmctl_stages() -> list[StageSpec]:
    return [
        StageSpec(
            name="finetune",
            summary="train a causal language model on prompts and their completions",
            params=FinetuneParams,
            target="hrmctl_finetune.stage:run",
            check="hrmctl_finetune.plan:check",
            topics=TOPICS,
            inputs={
                "data": InputSpec("dataset", "the rows to train on, of one data set or several", many=True),
                "model": InputSpec("model", "the model to start from, where `init` is not set", required=False),
                "validation": InputSpec("dataset", "problems whose loss is only measured", required=False),
            },
            outputs={
                "model": OutputSpec("model", "the trained model with its tokenizer"),
                "adapter": OutputSpec("model", "lora, qlora: the adapter alone, without its base", optional=True),
            },
            code=("hrmctl_models", "hrmctl_training", "hrmctl_sandbox"),
        ),
        StageSpec(
            name="init",
            summary="write fresh weights of an architecture, untrained, with a tokenizer trained on the data",
            params=InitParams,
            target="hrmctl_finetune.init_stage:run",
            check="hrmctl_finetune.plan:check_init",
            inputs={"data": InputSpec("dataset", "the rows whose texts the tokenizer is trained on", many=True)},
            outputs={"model": OutputSpec("model", "the untrained model with its tokenizer")},
            code=("hrmctl_models", "hrmctl_training"),
        ),
    ]
