"""The Hierarchical Reasoning Model with adaptive computation (Wang et al. 2025, arXiv 2506.21734).

Importing this package makes `hrm_act` known to transformers' Auto classes, so that folders of it load
like any other model and without code of their own.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForCausalLM

from hrmctl_models.hrm_act.configuration import HrmActConfig
from hrmctl_models.hrm_act.modeling import HrmActForCausalLM, Segment, Solution
from hrmctl_models.hrm_act.states import Carry, States

AutoConfig.register(HrmActConfig.model_type, HrmActConfig, exist_ok=True)
AutoModelForCausalLM.register(HrmActConfig, HrmActForCausalLM, exist_ok=True)

__all__ = ["Carry", "HrmActConfig", "HrmActForCausalLM", "Segment", "Solution", "States"]
