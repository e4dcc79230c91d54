"""The cross-entropy in chunks against torch's own: values, gradients, and what it never holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hrmctl_training import fused_loss
from hrmctl_training.fused_loss import chunk_rows, evaluation, linear_cross_entropy, summed_cross_entropy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_loss, "_CHUNK", (1, 4))


def _layer(rows: int, width: int, vocabulary: int, seed: int = 0) -> tuple[torch.Tensor, nn.Linear, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(width, vocabulary)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    hidden = torch.randn(rows, width, generator=generator).requires_grad_()
    return hidden, head, torch.randint(vocabulary, (rows,), generator=generator)


def _plain(hidden: torch.Tensor, head: nn.Linear, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(head(hidden).float(), targets, reduction="sum")


def _gradients(loss: torch.Tensor, hidden: torch.Tensor, head: nn.Linear) -> tuple[torch.Tensor, ...]:
    # A factor, as the loop has one: the gradients are made before it is known.
    return torch.autograd.grad(loss * 0.37, (hidden, *head.parameters()))


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 19), width=st.integers(1, 9), vocabulary=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_value_and_gradients_are_those_of_cross_entropy(rows: int, width: int, vocabulary: int, seed: int) -> None:
    hidden, head, targets = _layer(rows, width, vocabulary, seed)
    expected, found = _plain(hidden, head, targets), summed_cross_entropy(hidden, head, targets)
    torch.testing.assert_close(found, expected)
    for a, b in zip(_gradients(found, hidden, head), _gradients(expected, hidden, head), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_under_autocast_it_is_as_near_to_float32_as_the_layer_is() -> None:
    hidden, head, targets = _layer(64, 32, 100)
    exact = _gradients(_plain(hidden, head, targets), hidden, head)
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = _plain(hidden, head, targets), summed_cross_entropy(hidden, head, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)
    both = zip(exact, _gradients(found, hidden, head), _gradients(expected, hidden, head), strict=True)
    for true, ours, theirs in both:
        assert ours.dtype == torch.float32
        assert (ours - true).norm() <= 1.3 * (theirs - true).norm() + 1e-6
        assert (ours - true).norm() < 0.05 * true.norm()


def test_frozen_weights_get_no_gradient_and_hidden_states_do() -> None:
    hidden, head, targets = _layer(9, 5, 12)
    head.requires_grad_(False)
    loss = summed_cross_entropy(hidden, head, targets)
    expected = torch.autograd.grad(_plain(hidden, head, targets), hidden)[0]
    torch.testing.assert_close(torch.autograd.grad(loss, hidden)[0], expected)
    assert head.weight.grad is None


class _Largest(TorchDispatchMode):
    """The number of values of the largest tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.values = max([self.values, *(x.numel() for x in tree_leaves(made) if isinstance(x, torch.Tensor))])
        return made


def test_no_tensor_has_the_size_of_all_logits() -> None:
    hidden, head, targets = _layer(64, 4, 50)
    with _Largest() as ours:
        _gradients(summed_cross_entropy(hidden, head, targets), hidden, head)
    with _Largest() as theirs:
        _gradients(_plain(hidden, head, targets), hidden, head)
    with _Largest() as evaluated:
        evaluation(hidden, head, targets)
    assert theirs.values == 64 * 50
    assert ours.values == 64 * 4
    assert evaluated.values == 4 * 50


@pytest.mark.parametrize("rows", [0, 3, 11])
def test_evaluation_gives_the_loss_and_what_is_right(rows: int) -> None:
    hidden, head, targets = _layer(rows, 6, 5)
    total, right = evaluation(hidden, head, targets)
    torch.testing.assert_close(total, _plain(hidden, head, targets).detach())
    assert right.tolist() == (head(hidden).argmax(-1) == targets).tolist()
    assert not total.requires_grad


class _Capped(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(super().forward(x) / 3)


def test_an_output_layer_that_is_more_than_linear_is_called() -> None:
    hidden, _, targets = _layer(7, 5, 12)
    head = _Capped(5, 12)
    torch.testing.assert_close(summed_cross_entropy(hidden, head, targets), _plain(hidden, head, targets))
    hooked = nn.Linear(5, 12)
    hooked.register_forward_hook(lambda _, inputs, output: output * 2)
    torch.testing.assert_close(summed_cross_entropy(hidden, hooked, targets), _plain(hidden, hooked, targets))


def test_fp16_takes_the_layer_itself_so_that_its_gradients_are_scaled() -> None:
    hidden, head, targets = _layer(7, 5, 12)
    with torch.autocast("cpu", torch.float16):
        assert "LinearCrossEntropy" not in type(summed_cross_entropy(hidden, head, targets).grad_fn).__name__
    assert "LinearCrossEntropy" in type(summed_cross_entropy(hidden, head, targets).grad_fn).__name__


def test_without_gradients_the_value_is_the_same() -> None:
    hidden, head, targets = _layer(7, 5, 12)
    with torch.no_grad():
        found = linear_cross_entropy(hidden, head.weight, head.bias, targets)
    torch.testing.assert_close(found, _plain(hidden, head, targets).detach())


def test_a_wide_vocabulary_gets_fewer_rows_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_loss, "_CHUNK", (1000, 2))
    assert [chunk_rows(n, torch.device("cpu")) for n in (10, 100, 5000)] == [100, 10, 2]
