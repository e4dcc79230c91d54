"""What is wrong with an evaluation before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hrmctl import Fault
from hrmctl.plugins import Catalog
from hrmctl_eval.params import EvalParams


def check(params: EvalParams, inputs: Mapping[str, int], catalog: Catalog) -> Iterator[Fault]:
    """A model or references, and exemplars for few-shot alone."""
    if params.source == "model" and "model" not in inputs:
        yield Fault("model", "eval has no model", "give one, or set source to references")
    if params.source == "references" and "model" in inputs:
        yield Fault("model", "references are the data set's own, not a model's", "leave model out, or source")
    if params.strategy == "few-shot" and "exemplars" not in inputs:
        remedy = "give a problem set other than the evaluated one under exemplars"
        yield Fault("strategy", "few-shot has no exemplars", remedy)
    if params.strategy != "few-shot" and "exemplars" in inputs:
        yield Fault("exemplars", f"{params.strategy} shows none", "leave them out, or set strategy to few-shot")
