"""Cross-entropy of an output layer that never holds the logits of more than a few rows at once.

With N rows, width d and a vocabulary of V, the logits and their gradient are the largest tensors of a small model's
training step. Here both are made, used and dropped chunk by chunk in the forward pass, which leaves the gradients of
the hidden states (N, d) and of the weight (V, d) behind, as in Cut Your Losses (Wijmans et al. 2024) and Liger Kernel
(Hsu et al. 2024).
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from hrmctl_training.autograd import applied
from hrmctl_training.outputs import Head

# Logits of one chunk: they stay in the cache of a CPU, and are enough to keep a GPU busy. Fewer rows than that would
# read and write the gradient of a wide output layer too often.
_CHUNK = (2**22, 256)
_CHUNK_ELSEWHERE = (2**26, 1024)


def summed_cross_entropy(hidden: torch.Tensor, head: Head, targets: torch.Tensor) -> torch.Tensor:
    """The summed cross-entropy of `head(hidden)` (N, V) against `targets` (N,), in float32.

    In chunks where the output layer is a plain linear one. Under fp16 it is computed whole: the small gradients of
    logits that have not been scaled would be lost.
    """
    if is_plain(head) and not _in_fp16(hidden):
        return linear_cross_entropy(hidden, head.weight, head.bias, targets)
    return functional.cross_entropy(head(hidden).float(), targets, reduction="sum")


@torch.no_grad()
def evaluation(hidden: torch.Tensor, head: Head, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed cross-entropy, and for each row whether its target is the likeliest token, (N,)."""
    vocabulary = len(head.weight) if is_plain(head) else hidden.shape[1]
    rows = chunk_rows(vocabulary, hidden.device)
    total, right = hidden.new_zeros((), dtype=torch.float32), [targets.new_zeros(0, dtype=torch.bool)]
    for part, target in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True):
        logits = head(part).float()
        total += functional.cross_entropy(logits, target, reduction="sum")
        right.append(logits.argmax(-1) == target)
    return total, torch.cat(right)


def is_plain(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether the layer is its weight and bias and nothing besides: no adapter, no hook."""
    return type(layer) is nn.Linear and not layer._forward_hooks and not layer._forward_pre_hooks


def _in_fp16(hidden: torch.Tensor) -> bool:
    place = hidden.device.type
    return torch.is_autocast_enabled(place) and torch.get_autocast_dtype(place) == torch.float16


def linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """The summed cross-entropy of `hidden @ weight.T + bias` (N, V) against `targets` (N,), in float32.

    Under autocast the matrix products are in its dtype, as those of the output layer would be. The gradients are
    those of that layer followed by `cross_entropy(logits.float(), targets, reduction="sum")`.
    """
    if not torch.is_grad_enabled():
        return functional.cross_entropy(functional.linear(hidden, weight, bias).float(), targets, reduction="sum")
    return applied(_LinearCrossEntropy, hidden, weight, bias, targets)


def chunk_rows(vocabulary: int, device: torch.device) -> int:
    """Rows whose logits are held at once."""
    values, least = _CHUNK if device.type == "cpu" else _CHUNK_ELSEWHERE
    return max(least, values // vocabulary)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
    ) -> torch.Tensor:
        place = hidden.device.type
        dtype = torch.get_autocast_dtype(place) if torch.is_autocast_enabled(place) else weight.dtype
        wanted = ctx.needs_input_grad
        with torch.autocast(place, enabled=False):
            total, gradients = _chunked(hidden.to(dtype), weight.to(dtype), bias, targets, wanted)
        kinds = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        kept = [None if g is None else g.to(kind) for g, kind in zip(gradients, kinds, strict=True)]
        ctx.save_for_backward(*kept)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return (*(None if g is None else g * scale.to(g.dtype) for g in ctx.saved_tensors), None)


def _chunked(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    wanted: tuple[bool, ...],
) -> tuple[torch.Tensor, tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]]:
    total = hidden.new_zeros((), dtype=torch.float32)
    to_hidden = torch.empty_like(hidden) if wanted[0] else None
    to_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
    to_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wanted[2] else None
    rows = chunk_rows(len(weight), weight.device)
    for start in range(0, len(targets), rows):
        part, target = hidden[start : start + rows], targets[start : start + rows, None]
        scores = functional.linear(part, weight, None if bias is None else bias.to(weight.dtype))
        logs = torch.log_softmax(scores, -1, dtype=torch.float32)
        total -= logs.gather(1, target).sum()
        if not any(wanted):
            continue
        # The gradient of the logits: probabilities, less one at the target.
        slope = logs.exp_().scatter_add_(1, target, logs.new_full((), -1).expand(target.shape))
        if to_bias is not None:
            to_bias += slope.sum(0)
        slope = slope.to(weight.dtype)
        if to_hidden is not None:
            torch.mm(slope, weight, out=to_hidden[start : start + rows])
        if to_weight is not None:
            _add_product(to_weight, slope.T, part)
    return total, (to_hidden, to_weight, to_bias)


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    if left.dtype == total.dtype:
        torch.addmm(total, left, right, out=total)
    else:
        total += left @ right
