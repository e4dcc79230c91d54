"""Cross-entropy of single tokens, over softmax or stablemax."""

from __future__ import annotations

import torch
from torch.nn import functional

IGNORED = -100


def token_losses(logits: torch.Tensor, labels: torch.Tensor, loss_type: str) -> torch.Tensor:
    """Natural-logarithm losses (rows, length) of `labels`, zero where they are ignored.

    `stablemax` (Prieto et al. 2025, arXiv 2501.04697) replaces exp(x) by x + 1 above zero and 1 / (1 - x)
    below, in float64 where the device has it; `softmax` is taken in float32.
    """
    if loss_type == "softmax":
        losses = functional.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return losses.view(labels.shape)
    # MPS has no float64.
    scores = stable_scores(logits.to(torch.float32 if logits.device.type == "mps" else torch.float64))
    learned = labels != IGNORED
    chosen = scores.gather(-1, torch.where(learned, labels, 0)[..., None])[..., 0]
    return torch.where(learned, scores.sum(-1).log() - chosen.log(), 0)


def stable_scores(x: torch.Tensor) -> torch.Tensor:
    """Scores above zero in place of exp(x): x + 1 from zero on, 1 / (1 - x) below it."""
    # Not torch.where, whose unused branch divides by zero at x = 1 and makes the gradient NaN.
    return functional.relu(x) + 1 / (1 - x.clamp(max=0))
