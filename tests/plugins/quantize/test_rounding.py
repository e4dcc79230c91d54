"""The arithmetic: groupwise rounding with its search, and the packing of codes."""

from __future__ import annotations

import pytest
import torch
from hrmctl_models.quantized import QuantizedWeight, pack, unpack
from hrmctl_quantize.rounding import Rounded, round_matrix


def read_back(rounded: Rounded, bits: int, group_size: int, columns: int) -> torch.Tensor:
    shape = (rounded.codes.shape[0], columns)
    packed = pack(rounded.codes, bits)
    return QuantizedWeight(bits, group_size, shape, packed, rounded.scale, rounded.zero).dense(torch.float32)


def error(weight: torch.Tensor, bits: int, group_size: int, symmetric: bool) -> float:
    read = read_back(round_matrix(weight, bits, group_size, symmetric), bits, group_size, weight.shape[1])
    return float((read - weight).norm() / weight.norm())


def nearest(weight: torch.Tensor, bits: int, group_size: int, symmetric: bool) -> float:
    """Relative error of plain round-to-nearest over each group's range, computed on its own."""
    groups = weight.unflatten(1, (-1, group_size))
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    if symmetric:
        low, high = -groups.abs().amax(-1, keepdim=True), groups.abs().amax(-1, keepdim=True)
    step = (high - low) / (2**bits - 1 - symmetric)
    read = ((groups - low) / step).round() * step + low
    return float((read - groups).norm() / groups.norm())


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.02


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "gain"), [(4, 0.92), (8, 0.98)])
def test_the_search_beats_plain_rounding(bits: int, gain: float, symmetric: bool) -> None:
    weight = normal(256, 256)
    assert error(weight, bits, 32, symmetric) < gain * nearest(weight, bits, 32, symmetric)


def test_an_outlier_is_clipped_where_that_pays() -> None:
    weight = normal(64, 128)
    weight[:, ::128] = 0.12
    assert error(weight, 4, 128, False) < 0.95 * nearest(weight, 4, 128, False)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_weights_on_a_grid_are_exact(bits: int, symmetric: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, 2**bits, (40, 96), generator=generator).float()
    codes[:, ::16], codes[:, 1::16] = 0, 2**bits - 1
    weight = (codes - 2 ** (bits - 1)) * 2.0**-6
    read = read_back(round_matrix(weight, bits, 16, symmetric), bits, 16, 96)
    assert torch.equal(read, weight)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.25, -0.25])
def test_constant_groups_are_exact(value: float, symmetric: bool) -> None:
    weight = torch.full((3, 64), value)
    assert torch.equal(read_back(round_matrix(weight, 4, 32, symmetric), 4, 32, 64), weight)


@pytest.mark.parametrize("columns", [1, 33, 100, 127])
@pytest.mark.parametrize("group_size", [9, 32, 200])
@pytest.mark.parametrize("bits", [4, 8])
def test_groups_need_not_divide_the_row(columns: int, group_size: int, bits: int) -> None:
    weight = normal(20, columns, seed=columns)
    read = read_back(round_matrix(weight, bits, group_size, False), bits, group_size, columns)
    assert read.shape == weight.shape
    assert float((read - weight).norm() / weight.norm()) < (0.15 if bits == 4 else 0.01)


@pytest.mark.parametrize("scale", [1e-9, 1e5])
@pytest.mark.parametrize("symmetric", [True, False])
def test_scales_beyond_half_precision_are_kept_in_single(scale: float, symmetric: bool) -> None:
    weight = normal(16, 64) / 0.02
    assert round_matrix(weight, 4, 32, symmetric).scale.dtype == torch.float16
    assert round_matrix(weight * scale, 4, 32, symmetric).scale.dtype == torch.float32
    expected = error(weight, 4, 32, symmetric)
    assert error(weight * scale, 4, 32, symmetric) == pytest.approx(expected, rel=0.01)


def test_rows_are_independent_of_the_chunk_they_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = normal(50, 64)
    whole = round_matrix(weight, 4, 32, False)
    monkeypatch.setattr("hrmctl_quantize.rounding._CHUNK_WEIGHTS", 7 * 64)
    parts = round_matrix(weight, 4, 32, False)
    assert torch.equal(whole.codes, parts.codes)
    assert torch.equal(whole.scale, parts.scale)


@pytest.mark.parametrize("columns", [2, 7, 64])
@pytest.mark.parametrize("bits", [4, 8])
def test_codes_survive_packing(columns: int, bits: int) -> None:
    codes = torch.randint(0, 2**bits, (5, columns), generator=torch.Generator().manual_seed(2))
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert packed.numel() == 5 * (columns if bits == 8 else -(-columns // 2))
    assert torch.equal(unpack(packed, bits)[:, :columns].long(), codes)


def test_rows_by_index_are_those_of_the_dense_weight() -> None:
    weight = normal(30, 40)
    rounded = round_matrix(weight, 4, 16, False)
    stored = QuantizedWeight(4, 16, (30, 40), pack(rounded.codes, 4), rounded.scale, rounded.zero)
    ids = torch.tensor([[3, 29], [0, 3]])
    assert torch.equal(stored.dense(torch.float32, ids), stored.dense(torch.float32)[ids])
