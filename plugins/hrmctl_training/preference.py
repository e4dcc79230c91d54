"""Preference training: DPO against the starting weights, and ORPO, which needs no reference.

Both see a chosen and a rejected completion of one prompt. The log-probability of a completion is taken
over its own tokens and the end token, never over the prompt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hrmctl import Context
from hrmctl_training.examples import IGNORED, Batch, Preference, collate
from hrmctl_training.objective import Loss
from hrmctl_training.once import autocast, computed_once
from hrmctl_training.outputs import Output, log_probs

Sums = dict[str, tuple[torch.Tensor | float, float]]


@dataclass(frozen=True, slots=True)
class Referenced:
    """A preference with the log-probabilities of its two completions under the reference."""

    pair: Preference
    chosen: float
    rejected: float

    @property
    def line(self) -> int:
        """The line of the pair."""
        return self.pair.line

    def __len__(self) -> int:
        return len(self.pair)


@dataclass(frozen=True)
class ReferencedPairs(Sequence[Referenced]):
    """Pairs with their reference log-probabilities (pairs, 2), read and drawn as the pairs themselves are."""

    pairs: Sequence[Preference]
    log_probs: torch.Tensor

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Referenced:  # type: ignore[override]
        return Referenced(self.pairs[index], *self.log_probs[index].tolist())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pairs, name)


@dataclass(frozen=True, slots=True)
class PairBatch(Batch):
    """A batch of n pairs as 2n rows: the chosen completions, then the rejected in the same order.

    `reference` (2n,) are the log-probabilities of the rows under the reference; `learned` (n, length) are
    the labels of the chosen rows for the likelihood that ORPO adds.
    """

    reference: torch.Tensor = field(kw_only=True)
    learned: torch.Tensor = field(kw_only=True)

    def to(self, device: torch.device) -> PairBatch:
        """The same batch on another device."""
        tensors = ("input_ids", "labels", "reference", "learned")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})


def pair_batch(pairs: Sequence[Preference | Referenced], pad: int, loss_on: str = "completion") -> PairBatch:
    """Chosen and rejected in one right-padded batch; `loss_on` says which tokens of the chosen are `learned`."""
    plain = [pair.pair if isinstance(pair, Referenced) else pair for pair in pairs]
    rows = [pair.chosen for pair in plain] + [pair.rejected for pair in plain]
    batch = collate(rows, pad)
    learned = batch.labels[: len(pairs)]
    if loss_on == "all":
        learned = learned.clone()
        for row, pair in enumerate(plain):
            learned[row, : len(pair.chosen.ids)] = batch.input_ids[row, : len(pair.chosen.ids)]
    scored = [pair for pair in pairs if isinstance(pair, Referenced)]
    reference = torch.tensor([pair.chosen for pair in scored] + [pair.rejected for pair in scored])
    lines = tuple(pair.line for pair in plain)
    return PairBatch(batch.input_ids, batch.labels, lines, batch.tokens, reference=reference, learned=learned)


class _PairObjective(ABC):
    """What DPO and ORPO share: batches of pairs, whose mean is the loss."""

    def __init__(self, model: nn.Module, pad: int, loss_on: str = "completion") -> None:
        self.output = Output(model)
        self.pad = pad
        self.loss_on = loss_on

    def collate(self, examples: Sequence[Preference | Referenced]) -> PairBatch:
        """2n rows of n pairs."""
        return pair_batch(examples, self.pad, self.loss_on)

    def units(self, batch: Batch) -> int:
        """The pairs of the batch."""
        return len(batch.lines)

    @abstractmethod
    def loss(self, batch: Any) -> Loss:
        """The loss of a PairBatch, summed over the pairs."""

    def evaluate(self, batch: Any) -> Loss:
        """The same without gradients."""
        return self.loss(batch)

    def state(self) -> Mapping[str, Any]:
        """Nothing is carried from step to step."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is carried from step to step."""
        assert not state


class DpoObjective(_PairObjective):
    """Direct Preference Optimization (Rafailov et al. 2023, eq. 7), in the mean over the pairs:

    -log sigma(beta * ((log p(chosen) - log r(chosen)) - (log p(rejected) - log r(rejected))))

    p is the model and r the reference, whose log-probabilities the examples bring (`referenced`).
    `label_smoothing` e takes that share of the pairs to be labelled the wrong way round: (1 - e) of the
    loss above and e of that with the pair turned round (conservative DPO, Mitchell 2023).
    """

    def __init__(self, model: nn.Module, pad: int, beta: float, label_smoothing: float = 0.0) -> None:
        super().__init__(model, pad)
        self.beta = beta
        self.label_smoothing = label_smoothing

    def loss(self, batch: Any) -> Loss:
        """The loss and, as the paper defines them, the implicit rewards beta * (log p - log r)."""
        policy = log_probs(self.output, batch).sum(1)
        rewards = self.beta * (policy - batch.reference)
        chosen, rejected = rewards.chunk(2)
        margin = chosen - rejected
        e = self.label_smoothing
        losses = -(1 - e) * functional.logsigmoid(margin) - e * functional.logsigmoid(-margin)
        return Loss(losses.sum(), _pair_sums(rewards, policy))


class OrpoObjective(_PairObjective):
    """Odds Ratio Preference Optimization (Hong et al. 2024, eq. 6 and 7), in the mean over the pairs:

    NLL(chosen) - weight * log sigma(log odds(chosen) - log odds(rejected)), odds(y) = P(y) / (1 - P(y))

    log P(y) is the mean log-probability of the tokens of y. The NLL is the mean over the chosen tokens of
    a batch: those of the completions, or with `loss_on` all those of the prompts too.
    """

    def __init__(self, model: nn.Module, pad: int, weight: float, loss_on: str = "completion") -> None:
        super().__init__(model, pad, loss_on)
        self.weight = weight

    def loss(self, batch: Any) -> Loss:
        """The loss; rewards are `weight` times the mean log-probabilities, and have no reference."""
        pairs = self.units(batch)
        labels = torch.cat([batch.learned, batch.labels[pairs:]])
        tokens = log_probs(self.output, replace(batch, labels=labels))
        learned = batch.learned[:, 1:] != IGNORED
        nll = -tokens[:pairs][learned].mean()
        completion = batch.labels[:, 1:] != IGNORED
        policy = (tokens * completion).sum(1) / completion.sum(1)
        chosen, rejected = (policy - _log1mexp(policy)).chunk(2)
        ratio = -functional.logsigmoid(chosen - rejected)
        sums: Sums = {
            "nll_loss": (nll.detach() * pairs, pairs),
            "odds_ratio_loss": (ratio.detach().sum(), pairs),
            "log_odds_ratio": ((chosen - rejected).detach().sum(), pairs),
        }
        return Loss(nll * pairs + self.weight * ratio.sum(), sums | _pair_sums(self.weight * policy, policy))


def _log1mexp(x: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(x)) for x < 0, by the better conditioned of two forms (Maechler 2012); 0 counts as just below."""
    x = x.clamp(max=-torch.finfo(x.dtype).eps)
    near = x > -0.6931471805599453
    # Each branch sees harmless values where the other is taken, so that neither gradient is NaN.
    small = torch.where(near, x, torch.full_like(x, -0.5))
    large = torch.where(near, torch.full_like(x, -1.0), x)
    return torch.where(near, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))


def _pair_sums(rewards: torch.Tensor, policy: torch.Tensor) -> Sums:
    chosen, rejected = rewards.detach().chunk(2)
    logp_chosen, logp_rejected = policy.detach().chunk(2)
    n = float(len(chosen))
    return {
        "reward_chosen": (chosen.sum(), n),
        "reward_rejected": (rejected.sum(), n),
        "reward_margin": ((chosen - rejected).sum(), n),
        "reward_accuracy": ((chosen > rejected).float().sum(), n),
        "logp_chosen": (logp_chosen.sum(), n),
        "logp_rejected": (logp_rejected.sum(), n),
    }


def referenced(
    model: nn.Module, pairs: Sequence[Preference], pad: int, batch: int, precision: str, name: str, ctx: Context
) -> ReferencedPairs:
    """The pairs with the log-probabilities that the model as it now stands gives them: the reference.

    They are computed once, before training, and kept in the journal `name` of the scratch folder; so the
    reference costs no second model and cannot change, and a resumed attempt reads the same numbers.
    """
    if not len(pairs):
        return ReferencedPairs(pairs, torch.empty(0, 2))
    model.eval()

    def of_places(places: list[int]) -> torch.Tensor:
        return reference_log_probs(model, [pairs[place] for place in places], pad, precision)

    return ReferencedPairs(pairs, computed_once(name, pairs, batch, of_places, ctx))


@torch.no_grad()
def reference_log_probs(model: nn.Module, pairs: Sequence[Preference], pad: int, precision: str) -> torch.Tensor:
    """Log-probabilities (pairs, 2) of the chosen and rejected completions under `model`, which is on its device."""
    device = next(model.parameters()).device
    rows = pair_batch(pairs, pad).to(device)
    # As training computes them: a reference of another precision would start away from ln 2.
    with autocast(precision, device):
        sums = log_probs(Output(model), rows).sum(1)
    return sums.view(2, -1).T
