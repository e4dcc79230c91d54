"""Groupwise round-to-nearest with a search for the scale that loses least.

Each row of a weight (out, in) is cut into groups along `in`. For a group, several shares of its range
are tried: weights beyond it are clipped, so that the rest gets finer steps. With codes c given, the
scale (and zero) of least squared error is that of linear regression of the weights w on c, and the
error it leaves is `var(w) - cov(w, c)**2 / var(c)`, or `sum(w**2) - sum(w * c)**2 / sum(c**2)` without
a zero: the share with the greatest second term wins (llama.cpp's quantizers choose scales in this
way). Its codes are rounded again for the scale and zero as the file holds them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Small enough that the passes over a chunk stay within the processor's cache.
_CHUNK_WEIGHTS = 1 << 17
_SHARES = {4: torch.linspace(0.6, 1.15, 12).tolist(), 8: torch.linspace(0.96, 1.01, 6).tolist()}
# Codes and scale are fitted to each other in turn this often; more changes the error by less than 1 %.
_ROUNDS = 4
# Below this a subnormal float16 has fewer than 7 bits for a scale.
_SMALLEST = 2.0**-18
_LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True, slots=True)
class Rounded:
    """Codes (out, groups * group_size) as uint8; scale and zero (out, groups), zero is None if symmetric."""

    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor | None


def round_matrix(weight: torch.Tensor, bits: int, group_size: int, symmetric: bool) -> Rounded:
    """Round a finite weight (out, in) to codes of `bits` bits, a few rows at a time."""
    step = max(1, _CHUNK_WEIGHTS // weight.shape[1])
    dtype = _scale_dtype(weight, bits, group_size)
    parts = [
        _round_rows(_grouped(weight[start : start + step].float(), group_size), bits, symmetric, dtype)
        for start in range(0, weight.shape[0], step)
    ]
    codes, scale, zero = (torch.cat(column) for column in zip(*parts, strict=True))
    return Rounded(codes.flatten(1).to(torch.uint8), scale, None if symmetric else zero)


def _grouped(rows: torch.Tensor, group_size: int) -> torch.Tensor:
    """Rows (n, in) as (n, groups, group_size); the last weight is repeated to fill the last group."""
    missing = -rows.shape[1] % group_size
    return torch.cat([rows, rows[:, -1:].expand(-1, missing)], dim=1).reshape(len(rows), -1, group_size)


def _scale_dtype(weight: torch.Tensor, bits: int, group_size: int) -> torch.dtype:
    """float16, or float32 where a scale would be too small to be exact in float16, or infinite."""
    largest = _grouped(weight.abs(), group_size).amax(-1).float()
    smallest_scale = largest[largest > 0] / 2**bits
    fits = bool((smallest_scale >= _SMALLEST).all()) and bool((largest <= _LARGEST).all())
    return torch.float16 if fits else torch.float32


def _round_rows(
    groups: torch.Tensor, bits: int, symmetric: bool, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes (n, groups, size), scales and zeros (n, groups) of the best share of each group's range."""
    scale, zero = _best_start(groups, bits, symmetric)
    for _ in range(_ROUNDS):
        scale, zero = _refit(groups, _codes(groups, scale, zero, bits), scale, zero, bits, symmetric)
    scale, zero = scale.to(dtype), zero.to(dtype)
    read_zero = scale.float() * -(2 ** (bits - 1)) if symmetric else zero.float()
    codes = _codes(groups, scale.float(), read_zero, bits)
    return codes.to(torch.uint8), scale[..., 0], zero[..., 0]


def _best_start(groups: torch.Tensor, bits: int, symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and zero (n, groups, 1) of the share of the range whose codes explain most of the weights."""
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    around = groups if symmetric else groups - groups.mean(-1, keepdim=True)
    best = _start(low, high, bits, symmetric, 1.0)
    best_gain = torch.full_like(low, -1.0)
    for share in _SHARES[bits]:
        scale, zero = _start(low, high, bits, symmetric, share)
        gain = _gain(around, _codes(groups, scale, zero, bits), bits, symmetric)
        better = gain > best_gain
        best_gain = torch.where(better, gain, best_gain)
        best = (torch.where(better, scale, best[0]), torch.where(better, zero, best[1]))
    return best


def _start(
    low: torch.Tensor, high: torch.Tensor, bits: int, symmetric: bool, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and zero that spread the codes over `share` of the range from `low` to `high`."""
    if symmetric:
        # The lowest code reaches one step further than the highest: it gets the largest weight, whatever its sign.
        half = 2 ** (bits - 1)
        scale = torch.where(-low > high, low, high) / -half * share
        return scale, -half * scale
    width = (high - low) * share
    return width / (2**bits - 1), (high + low - width) / 2


def _codes(groups: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, bits: int) -> torch.Tensor:
    """The nearest codes, as floats; 0 where the scale is."""
    factor = torch.where(scale == 0, 0.0, 1 / scale)
    return ((groups - zero) * factor).round_().clamp_(0, 2**bits - 1)


def _gain(around: torch.Tensor, codes: torch.Tensor, bits: int, symmetric: bool) -> torch.Tensor:
    """The share of the weights' power that a regression on the codes explains, times that power."""
    if symmetric:
        levels = codes.sub_(2 ** (bits - 1))
        return (around * levels).sum(-1, keepdim=True).square_() / levels.square_().sum(-1, keepdim=True).clamp_min_(1)
    product = (around * codes).sum(-1, keepdim=True)
    total = codes.sum(-1, keepdim=True)
    spread = codes.square_().sum(-1, keepdim=True) - total.square_() / codes.shape[-1]
    return product.square_() / spread.clamp_min_(1e-3)


def _refit(
    groups: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, bits: int, symmetric: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and zero of least squared error for these codes; as they were where all codes are equal."""
    mean_code = torch.tensor(2.0 ** (bits - 1)) if symmetric else codes.mean(-1, keepdim=True)
    mean_weight = torch.tensor(0.0) if symmetric else groups.mean(-1, keepdim=True)
    spread = codes - mean_code
    power = spread.square().sum(-1, keepdim=True)
    flat = power < 1e-3
    fitted = ((groups - mean_weight) * spread).sum(-1, keepdim=True) / power.clamp_min(1e-3)
    return torch.where(flat, scale, fitted), torch.where(flat, zero, mean_weight - fitted * mean_code)
