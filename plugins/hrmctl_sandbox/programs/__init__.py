"""From what a model wrote to the program that is judged, and how far that program came.

Standard library only, and imported only by who judges generated text: the sandboxed process never does.
"""

from __future__ import annotations

from .extract import is_complete, program_of, reasoned
from .source import parses
from .tiers import TIERS, compiled, tier

__all__ = ["TIERS", "compiled", "is_complete", "parses", "program_of", "reasoned", "tier"]
