"""The transformer layers of `hrm_act`: attention with rotary positions, SwiGLU, RMS norm without weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn
from torch.nn import functional
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hrmctl_models.hrm_act.configuration import HrmActConfig


@dataclass(frozen=True, slots=True)
class Sight:
    """What the layers of one forward pass share.

    `rope` is a pair of (length, 1, 1, head) or (rows, length, 1, 1, head) factors, None with learned positions.
    `mask` broadcasts to (rows, heads, length, keys); None: all that `causal` lets see.
    """

    rope: tuple[torch.Tensor, torch.Tensor] | None
    mask: torch.Tensor | None = None
    cache: Cache | None = None


@lru_cache(maxsize=32)
def rope_table(
    length: int, width: int, theta: float, device: torch.device, dtype: torch.dtype, grid_width: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines (length, width) of rotary positions (Su et al. 2021), computed once.

    The two halves of a head are the two coordinates that are turned; the sines of the first half
    are negative, so that `x * cos + swapped(x) * sin` turns x. With `grid_width`, half of them turn by the row of a
    place and half by its column, at rates evenly spaced up to pi: a grid is small, and a neighbour must stand out.
    """
    # A table made while inference mode is on could not be used in training later.
    with torch.inference_mode(False), torch.no_grad():
        places = torch.arange(length, device=device)
        axes = [places] if grid_width is None else [places // grid_width, places % grid_width]
        if grid_width is None:
            rates = theta ** (-torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)
        else:
            rates = torch.arange(1, width // 4 + 1, dtype=torch.float32, device=device) * (math.pi / (width // 4))
        angles = torch.cat([torch.outer(axis.float(), rates) for axis in axes], -1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)


class Attention(nn.Module):
    """Multi-head attention; query, key and value in one product."""

    num_key_value_groups = 1

    def __init__(self, config: HrmActConfig) -> None:
        super().__init__()
        self.config = config
        self.heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.scaling = self.head_dim**-0.5
        self.is_causal = config.causal
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, hidden: torch.Tensor, sight: Sight, place: int) -> torch.Tensor:
        """`place` is this pass's own in the key-value cache."""
        rows, length, _ = hidden.shape
        qkv = self.qkv_proj(hidden).view(rows, length, 3, self.heads, self.head_dim)
        turned, value = qkv[:, :, :2], qkv[:, :, 2]
        if sight.rope is not None:
            turned = turn(turned, *sight.rope)
        query, key, value = (x.transpose(1, 2) for x in (turned[:, :, 0], turned[:, :, 1], value))
        if sight.cache is not None:
            key, value = sight.cache.update(key, value, place)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, ALL_ATTENTION_FUNCTIONS["sdpa"]
        )
        seen, _ = attend(self, query, key, value, sight.mask, dropout=0.0, scaling=self.scaling)
        return self.o_proj(seen.reshape(rows, length, -1))


def turn(pair: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Queries and keys (rows, length, 2, heads, head) at their positions."""
    half = pair.shape[-1] // 2
    return torch.addcmul(pair * cos, pair.roll(half, -1), sin)


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer 2020); gate and value in one product."""

    def __init__(self, config: HrmActConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(config.hidden_size, 2 * int(config.intermediate_size or 0), bias=False)
        self.down_proj = nn.Linear(int(config.intermediate_size or 0), config.hidden_size, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_up_proj(hidden).chunk(2, dim=-1)
        return self.down_proj(functional.silu(gate) * up)


class Layer(nn.Module):
    """Attention and feed-forward, each with its residual and norm."""

    def __init__(self, config: HrmActConfig) -> None:
        super().__init__()
        self.post = config.norm == "post"
        self.eps = config.rms_norm_eps
        self.self_attn = Attention(config)
        self.mlp = SwiGLU(config)

    def forward(self, hidden: torch.Tensor, sight: Sight, place: int) -> torch.Tensor:
        if self.post:
            hidden = rms_norm(hidden + self.self_attn(hidden, sight, place), self.eps)
            return rms_norm(hidden + self.mlp(hidden), self.eps)
        hidden = hidden + self.self_attn(rms_norm(hidden, self.eps), sight, place)
        return hidden + self.mlp(rms_norm(hidden, self.eps))


class Stack(nn.Module):
    """The layers of one level. What they are given is added to the level's state."""

    def __init__(self, config: HrmActConfig, layers: int) -> None:
        super().__init__()
        self.eps = None if config.norm == "post" else config.rms_norm_eps
        self.layers = nn.ModuleList(Layer(config) for _ in range(layers))

    def forward(self, state: torch.Tensor, given: torch.Tensor, sight: Sight, place: int) -> torch.Tensor:
        hidden = state + given
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden, sight, place + number)
        # Without it the state of pre-norm layers would grow from pass to pass.
        return hidden if self.eps is None else rms_norm(hidden, self.eps)


def rms_norm(hidden: torch.Tensor, eps: float) -> torch.Tensor:
    """Divide by the root mean square over the width (Zhang and Sennrich 2019); computed in float32."""
    return functional.rms_norm(hidden, hidden.shape[-1:], eps=eps)
