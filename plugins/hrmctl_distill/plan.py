"""What is wrong with a distillation before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hrmctl_models.plan import architecture_faults
from hrmctl_training.plan import training_faults

from hrmctl import Fault
from hrmctl.plugins import Catalog
from hrmctl_distill.params import DistillParams


def check(params: DistillParams, inputs: Mapping[str, int], catalog: Catalog) -> Iterator[Fault]:
    """The start of the student, and what training needs of its inputs."""
    starts = {"init": params.init, "layers": params.layers, "model": inputs.get("model")}
    given = [name for name, start in starts.items() if start is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        yield Fault("init", f"the student starts from init, layers or a model, and {found} given", "give one")
    yield from architecture_faults(params.init, {}, catalog)
    # The completions that the teacher writes are one data set.
    yield from training_faults(params, {**inputs, "data": 1} if params.method == "text" else inputs)
