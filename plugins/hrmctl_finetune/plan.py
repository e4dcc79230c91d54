"""What is wrong with a fine-tuning, or with what one would start from, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hrmctl_models.plan import architecture_faults
from hrmctl_training.plan import training_faults

from hrmctl import Fault
from hrmctl.plugins import Catalog
from hrmctl_finetune.init_params import InitParams
from hrmctl_finetune.params import FinetuneParams


def check(params: FinetuneParams, inputs: Mapping[str, int], catalog: Catalog) -> Iterator[Fault]:
    """The start (an architecture or a model), its settings, and what training needs of its inputs."""
    if (params.init is None) == ("model" not in inputs):
        found = "neither was" if params.init is None else "both were"
        yield Fault("init", f"a training starts from init or from a model, and {found} given", "give one")
    yield from architecture_faults(params.init, params.config, catalog)
    yield from training_faults(params, inputs)


def check_init(params: InitParams, inputs: Mapping[str, int], catalog: Catalog) -> Iterator[Fault]:
    """The architecture and its settings."""
    yield from architecture_faults(params.architecture, params.config, catalog, "architecture")
