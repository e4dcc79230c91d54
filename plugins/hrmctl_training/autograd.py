"""Calling functions with a backward pass of their own."""

from __future__ import annotations

from typing import Any

import torch


def applied(function: type[torch.autograd.Function], *arguments: Any) -> torch.Tensor:
    """What `function` makes of `arguments`, with its own backward pass in the graph."""
    made: torch.Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return made
