"""The work of `init`: a model that nobody trained, to measure what depends on the size alone."""

from __future__ import annotations

import torch
from hrmctl_models.loading import count_parameters, save
from hrmctl_training.fit import measured_value

from hrmctl import Context, Observation, Output, StageInputs, StageResult
from hrmctl_finetune.init_params import InitParams
from hrmctl_finetune.params import FinetuneParams
from hrmctl_finetune.start import fresh, label_of

# In the label, so that no claim about a trained model binds what was measured of this one.
UNTRAINED = "init"


def run(params: InitParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Write fresh weights of an architecture, with a tokenizer trained on the data.

    They are those that `finetune` with this `init`, `vocab_size`, `config` and seed starts from, rounded to `dtype`.
    Raises InputError for an unknown architecture or setting, StageError for unusable rows.
    """
    start = FinetuneParams(init=params.architecture, vocab_size=params.vocab_size, config=params.config)
    model, tokenizer = fresh(start, inputs["data"], ctx)
    model = model.to(getattr(torch, params.dtype))
    output = Output(ctx.scratch / "model", f"{label_of(start)}@{UNTRAINED}")
    save(model, tokenizer, output.path)
    counted = measured_value(count_parameters(model), "parameters")
    return StageResult({"model": output}, [Observation("parameters", "measurement/v1", counted, {"model": output})])
