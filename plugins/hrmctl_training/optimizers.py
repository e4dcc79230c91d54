"""Optimizers by name, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from hrmctl_training.params import TrainingParams

_BETAS = (0.9, 0.95)


def rate_at(step: int, steps: int, params: TrainingParams) -> float:
    """The learning rate of step `step` (from 0) of `steps`: linear warm-up, then down by the schedule."""
    warm = round(params.warmup * steps)
    if step < warm:
        return params.lr * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    shape = {"linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done)), "constant": 1.0}[params.schedule]
    return params.lr * (params.final_lr + (1 - params.final_lr) * shape)


def make_optimizers(model: nn.Module, params: TrainingParams) -> list[Optimizer]:
    """The optimizers of all trained weights.

    `muon`: Muon (Jordan 2024) orthogonalises the update of each hidden matrix, scaled to the size of
    AdamW's (Liu et al. 2025, `match_rms_adamw`), so that one rate serves both; AdamW takes embeddings,
    output layer, norms and biases. `auto` is `muon` where every matrix is trained, and `adamw` where some are
    frozen: to orthogonalise each factor of an adapter is not to orthogonalise the update of the weight that they
    make up. Norms and biases do not decay.
    """
    # Of the matrices: a vector that never trains belongs to hrm_text itself.
    frozen = any(not parameter.requires_grad for parameter in model.parameters() if parameter.ndim >= 2)
    with_muon = params.optimizer == "muon" or (params.optimizer == "auto" and not frozen)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    outer = _outer_weights(model)
    matrices = [p for p in trained.values() if p.ndim >= 2 and id(p) in outer]
    hidden = [p for p in trained.values() if p.ndim >= 2 and id(p) not in outer]
    vectors = [p for p in trained.values() if p.ndim < 2]
    muon = [p for p in hidden if p.ndim == 2] if with_muon else []
    chosen = {id(p) for p in muon}
    decayed = matrices + [p for p in hidden if id(p) not in chosen]
    groups = [
        {"params": decayed, "weight_decay": params.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers: list[Optimizer] = [AdamW(groups, lr=params.lr, betas=_BETAS)] if groups else []
    if muon:
        optimizers.append(Muon(muon, lr=params.lr, weight_decay=params.weight_decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def _outer_weights(model: nn.Module) -> set[int]:
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return embeddings | ({id(head.weight)} if head is not None else set())


def set_rate(optimizers: Iterable[Optimizer], rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def clip(parameters: Iterable[torch.Tensor], limit: float | None) -> torch.Tensor:
    """Scale the gradients down to norm `limit` where they exceed it, and return the norm before, a scalar."""
    return nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit)
