"""Readers of published benchmark formats: files become coding tasks, and tasks become problems for the judge.

Standard library only, and imported only by who reads a benchmark: the sandboxed process never does.
"""

from __future__ import annotations

from .files import BadFile, Fault
from .shapes import SHAPES, read_tasks
from .task import BadRow, CodeTask, checked

__all__ = ["SHAPES", "BadFile", "BadRow", "CodeTask", "Fault", "checked", "read_tasks"]
