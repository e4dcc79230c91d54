"""Parameters of preference training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt
from hrmctl_training.params import TrainingParams

from hrmctl.schema import doc

_OBJECTIVE = "what is learned: sft, the completions; dpo or orpo, preferences; auto: dpo where the data are preferences"
_LAMBDA = "orpo: weight of the odds ratio beside the likelihood of the chosen completion"


@dataclass(frozen=True)
class PreferenceParams(TrainingParams):
    """Which objective, and the strength of its preference."""

    objective: Annotated[Literal["auto", "sft", "dpo", "orpo"], doc(_OBJECTIVE)] = "auto"
    beta: Annotated[float, Gt(0), doc("dpo: how closely the model is held to where it started; lower is looser")] = 0.1
    label_smoothing: Annotated[
        float, Ge(0), Lt(0.5), doc("dpo: share of the preferences taken to be labelled the wrong way round")
    ] = 0.0
    orpo_lambda: Annotated[float, Gt(0), doc(_LAMBDA)] = 0.1
