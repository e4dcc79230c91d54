"""Stages that audit what others say: a report against its evidence, contracts, a source tree, a register of gaps.

An audit trusts no program that wrote what it reads: it recomputes, and it reports what it found as measurements that
contracts judge.
"""

from __future__ import annotations

from hrmctl import StageSpec, hookimpl
from hrmctl_audit.stages import STAGES


@hookimpl
def hrmctl_stages() -> tuple[StageSpec, ...]:
    """Every stage of this package."""
    return STAGES
