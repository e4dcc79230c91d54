"""What can be said of a training when its plan is made; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hrmctl import Fault
from hrmctl_training.params import TrainingParams


def needs_validation(params: TrainingParams) -> Iterator[tuple[str, str]]:
    """Each parameter that waits for a validation, as its key and what it waits for."""
    for name in ("early_stopping", "eval_interval"):
        if getattr(params, name) is not None:
            yield name, name
    for number, one in enumerate(params.interventions):
        if one.when and one.when.metric.startswith("val_"):
            yield f"interventions.{number}.when.metric", one.when.metric
    if params.plateau and params.plateau.metric.startswith("val_"):
        yield "plateau.metric", params.plateau.metric


def training_faults(params: TrainingParams, inputs: Mapping[str, int]) -> Iterator[Fault]:
    """Validation rows that are waited for and not there, or there twice; weights that do not go with the data."""
    validated = "validation" in inputs
    if not validated and not params.validation_split:
        for key, _ in needs_validation(params):
            yield Fault(key, "needs validation rows", "give the input validation, or set validation_split")
    if validated and params.validation_split:
        yield Fault("validation_split", "validation rows come from the input too", "give one of the two")
    if params.mix and "data" in inputs and len(params.mix) != inputs["data"]:
        yield Fault("mix", f"{len(params.mix)} weights for {inputs['data']} data sets", "give one for each")
