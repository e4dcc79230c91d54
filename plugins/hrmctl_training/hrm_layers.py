"""The layers of transformers' `hrm_text` with fewer passes over memory and fewer tensors kept for the backward pass.

The functions are the published ones; weights, their names and the saved format are not touched. What is gained: a norm
keeps its output, which the projections behind it keep anyway, instead of its input; the activations of MLP and gate,
and the products that the projections behind them read, are made again in the backward pass; rotated queries and keys
are written once, in the layout that attention reads; and attention in half precision on a CPU is made of matrix
products, for the backward pass of torch's kernel there takes twice to five times as long on rows of up to 512 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.models.hrm_text.modeling_hrm_text import (
    HrmTextAttention,
    HrmTextDecoderLayer,
    HrmTextMLP,
    HrmTextStack,
)

from hrmctl_training.autograd import applied
from hrmctl_training.fused_loss import is_plain

# Scores are held whole, rows x heads x tokens x tokens; beyond this torch's kernel is faster too.
_LONGEST = 512


@contextmanager
def lean_layers(model: nn.Module) -> Iterator[int]:
    """Within this the `hrm_text` layers of `model`, if it has any, run as described above; yields how many modules do.

    Calls with a cache of keys and values (generation) and other attention than SDPA run as published.
    """
    changed = [module for part in model.modules() for module in _replace(part)]
    try:
        yield len(changed)
    finally:
        for module in changed:
            del module.forward


def _replace(part: nn.Module) -> list[nn.Module]:
    chosen: list[tuple[nn.Module, Any]] = []
    if isinstance(part, HrmTextDecoderLayer):
        chosen = [(part.input_layernorm, _narrow_norm), (part.post_attention_layernorm, _narrow_norm)]
    elif isinstance(part, HrmTextStack):
        chosen = [(part.final_norm, _norm)]
    elif isinstance(part, HrmTextAttention) and not part.attention_dropout:
        chosen = [(part, _attend)]
    elif isinstance(part, HrmTextMLP) and part.config.hidden_act == "silu":
        chosen = [(part, _mlp)]
    for module, forward in chosen:
        module.forward = MethodType(forward, module)
    return [module for module, _ in chosen]


def _norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    return applied(_RMSNorm, x, self.eps, x.dtype)


def _narrow_norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    """In the dtype of autocast, to which each projection behind it would otherwise bring it anew."""
    place = x.device.type
    return applied(
        _RMSNorm, x, self.eps, torch.get_autocast_dtype(place) if torch.is_autocast_enabled(place) else x.dtype
    )


def _mlp(self: Any, x: torch.Tensor) -> torch.Tensor:
    return _through(self.down_proj, "silu", self.gate_proj(x), self.up_proj(x))


def _attend(
    self: Any,
    hidden_states: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
    attention_mask: torch.Tensor | None = None,
    past_key_values: Any = None,
    cycle_offset: int = 0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    masked = attention_mask is not None and attention_mask.dtype != torch.bool
    if past_key_values is not None or masked or self.config._attn_implementation != "sdpa":
        return HrmTextAttention.forward(
            self, hidden_states, position_embeddings, attention_mask, past_key_values, cycle_offset, **kwargs
        )
    heads = (*hidden_states.shape[:-1], -1, self.head_dim)
    cos, sin = position_embeddings  # type: ignore[misc]
    query = applied(_Rotary, self.q_proj(hidden_states).view(heads), cos, sin)
    key = applied(_Rotary, self.k_proj(hidden_states).view(heads), cos, sin)
    value = self.v_proj(hidden_states).view(heads).transpose(1, 2)
    gate = self.gate_proj(hidden_states)
    made = _attention(query, key, value, attention_mask, self.scaling)
    return _through(self.o_proj, "sigmoid", gate, made.transpose(1, 2).reshape(gate.shape)), None


def _through(layer: nn.Module, activation: str, gate: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`layer(activation(gate) * x)`; an adapter in the layer's place is called as it is."""
    if is_plain(layer) and layer.bias is None:
        return applied(_Gated, activation, gate, x, layer.weight)
    made: torch.Tensor = layer(applied(_Gated, activation, gate, x, None))
    return made


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """All (rows, heads, tokens, width); `mask` is true where a token may look, causal where there is none."""
    by_products = query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.shape[2] <= _LONGEST
    if by_products:
        return applied(_ProductAttention, query, key, value, mask, scale)
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale
    )


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        wide = x.float()
        inverse = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        made = (wide * inverse).to(dtype)
        ctx.save_for_backward(made, inverse)
        ctx.dtype = x.dtype
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        made, inverse = ctx.saved_tensors
        made, gradient = made.float(), gradient.float()
        along = (gradient * made).mean(-1, keepdim=True)
        return torch.addcmul(gradient, made, along, value=-1).mul_(inverse).to(ctx.dtype), None, None


class _Gated(torch.autograd.Function):
    """`activation(gate) * x`, times the transpose of `weight` (out, in) where there is one; keeps what it was given."""

    @staticmethod
    def forward(
        ctx: Any, activation: str, gate: torch.Tensor, x: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(gate, x, weight)
        ctx.activation = activation
        product = _ACTIVATIONS[activation](gate).mul_(x)
        return product if weight is None else functional.linear(product, weight.to(product.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gate, x, weight = ctx.saved_tensors
        active = _ACTIVATIONS[ctx.activation](gate)
        to_weight = None
        if weight is not None:
            if ctx.needs_input_grad[3]:
                to_weight = (gradient.flatten(0, -2).T @ (active * x).flatten(0, -2)).to(weight.dtype)
            gradient = gradient @ weight.to(gradient.dtype)
        slope = gradient * x
        if ctx.activation == "silu":
            to_gate = torch.ops.aten.silu_backward(slope, gate)
        else:
            to_gate = torch.ops.aten.sigmoid_backward(slope, active)
        return None, to_gate, active.mul_(gradient), to_weight


_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"silu": functional.silu, "sigmoid": torch.sigmoid}


class _Rotary(torch.autograd.Function):
    """Rotated (rows, tokens, heads, width) as (rows, heads, tokens, width); RoFormer (Su et al. 2021), in halves."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        cos, sin = cos[:, None, :, :half], sin[:, None, :, :half]
        ctx.save_for_backward(cos, sin)
        return _rotated(x.transpose(1, 2), cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _rotated(gradient.transpose(1, 2), cos.transpose(1, 2), -sin.transpose(1, 2)), None, None


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    made = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    left, right = made.chunk(2, -1)
    left.copy_((first * cos).addcmul_(second, sin, value=-1))
    right.copy_((second * cos).addcmul_(first, sin))
    return made


class _ProductAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
    ) -> torch.Tensor:
        query, value = query * scale, value.contiguous()
        scores = query @ key.transpose(-1, -2)
        scores += _causal(query.shape[2], query.dtype) if mask is None else _additive(mask, query.dtype)
        share = torch.softmax(scores, -1)
        ctx.save_for_backward(query, key, value, share)
        ctx.scale = scale
        return share @ value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, share = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_value = share.transpose(-1, -2) @ gradient
        slope = torch.ops.aten._softmax_backward_data(gradient @ value.transpose(-1, -2), share, -1, share.dtype)
        return (slope @ key).mul_(ctx.scale), slope.transpose(-1, -2) @ query, to_value, None, None


@lru_cache(maxsize=8)
def _causal(length: int, dtype: torch.dtype) -> torch.Tensor:
    return _additive(torch.ones(length, length, dtype=torch.bool).tril(), dtype)


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, -torch.inf)
