"""The settings that plans know are those of the configurations themselves."""

from __future__ import annotations

import pytest
from hrmctl_models import hrmctl_architectures
from hrmctl_models.loading import changeable, configure

from hrmctl import ArchitectureSpec


@pytest.mark.parametrize("spec", hrmctl_architectures(), ids=lambda spec: spec.name)
def test_a_plan_knows_every_setting_of_an_architecture(spec: ArchitectureSpec) -> None:
    assert set(spec.settings) == set(changeable(configure(spec.name, 512, {"bos": 1, "eos": 2, "pad": 0})))
