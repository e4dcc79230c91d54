"""Whether the reference of a preference training stayed what it was, by its weights and by what they say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from hrmctl_training.fit import measured_value
from hrmctl_training.preference import DpoObjective, ReferencedPairs, reference_log_probs
from torch import nn

from hrmctl_finetune.adapters import Adapted
from hrmctl_finetune.objectives import Feed
from hrmctl_finetune.params import FinetuneParams

_COMPARED = 64
Digests = Mapping[str, str]


def digests(model: nn.Module) -> dict[str, str]:
    """The sha256 of each weight of `model` by name: its type, shape and bytes."""
    return {name: _digest(weight.detach()) for name, weight in model.named_parameters()}


def _digest(weight: torch.Tensor) -> str:
    plain = weight.cpu().contiguous()
    found = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)}".encode())
    found.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _whole(found: Digests) -> str:
    return hashlib.sha256("".join(f"{name} {found[name]}\n" for name in sorted(found)).encode()).hexdigest()


@dataclass(frozen=True)
class Witness:
    """The weights as training found them, and the pairs with what the reference said of them then.

    The reference is the starting weights. With adapters these are the frozen ones, which stay in the model, and
    what is trained lies beside them; else they are read again from where they came, by `again`.
    """

    before: Digests
    frozen: frozenset[str]
    pairs: ReferencedPairs
    pad: int
    batch: int
    precision: str
    adapted: Adapted | None
    again: Callable[[], nn.Module]

    def measured(self, model: nn.Module) -> dict[str, dict[str, Any]]:
        """What is left of both after the training of `model`, which is on its device.

        `reference_changed` counts the weights of the reference that are others now, `policy_changed` those of the
        trained weights, and `reference_drift` is how far the log-probabilities that training used are from those
        that the reference gives now, at most, over the first pairs.
        """
        now = digests(model)
        with self._reference(model) as reference:
            after = {name: now[name] for name in self.frozen} if self.adapted else digests(reference)
            wanted = [self.pairs.pairs[place] for place in range(min(_COMPARED, len(self.pairs)))]
            parts = [wanted[first : first + self.batch] for first in range(0, len(wanted), self.batch)]
            said = torch.cat([reference_log_probs(reference, part, self.pad, self.precision) for part in parts])
        before = {name: self.before[name] for name in after}
        trained = [name for name in now if not self.adapted or name not in self.frozen]
        drift = (said.cpu() - self.pairs.log_probs[: len(wanted)].cpu()).abs().max()
        context = {"before": _whole(before), "after": _whole(after)}
        return {
            "reference_changed": measured_value(_differing(before, after), "weights", len(after), context),
            "reference_drift": measured_value(float(drift), "nats", len(wanted)),
            "policy_changed": measured_value(
                _differing(self.before, {name: now[name] for name in trained}), "weights", len(trained)
            ),
        }

    @contextmanager
    def _reference(self, model: nn.Module) -> Iterator[nn.Module]:
        device = next(model.parameters()).device
        aside: AbstractContextManager[Any] = self.adapted.wrapped.disable_adapter() if self.adapted else nullcontext()
        with aside:
            yield (model if self.adapted else self.again().to(device)).eval()


def witness(
    fed: Feed, model: nn.Module, adapted: Adapted | None, params: FinetuneParams, again: Callable[[], nn.Module]
) -> Witness | None:
    """The witness of a training that is about to begin; None where it has no reference."""
    if not isinstance(fed.objective, DpoObjective) or not isinstance(fed.examples, ReferencedPairs):
        return None
    frozen = frozenset(name for name, weight in model.named_parameters() if not weight.requires_grad)
    pad = fed.objective.pad
    return Witness(digests(model), frozen, fed.examples, pad, params.batch, params.precision, adapted, again)


def _differing(before: Digests, after: Digests) -> int:
    return sum(before[name] != digest for name, digest in after.items())
