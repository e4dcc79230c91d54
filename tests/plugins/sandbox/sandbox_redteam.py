"""Hostile programs beyond sandbox_hostile, each with the tests that it faces and the verdicts that are right.

@SECRET@ is a readable file outside, @VICTIM@ a writable one, @FOLDER@ a writable folder.
"""

from __future__ import annotations

import sandbox_redteam_judge
import sandbox_redteam_machine
import sandbox_redteam_wire
from sandbox_redteam_register import ATTACKS, Attack

__all__ = ["ATTACKS", "Attack", "sandbox_redteam_judge", "sandbox_redteam_machine", "sandbox_redteam_wire"]
