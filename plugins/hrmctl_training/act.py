"""The objective of `hrm_act`: deep supervision of segments, and Q-learning of when to halt.

After Wang et al. 2025 (arXiv 2506.21734). A step is one segment of every slot. A slot that halted takes the row of the
new batch that has its number; the rows of the new batch at slots that still run are not trained this time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from hrmctl_models.hrm_act import Carry, HrmActForCausalLM, Segment, States
from hrmctl_models.hrm_act.layers import Sight
from hrmctl_models.hrm_act.losses import token_losses
from torch.nn import functional

from hrmctl import InputError
from hrmctl_training.examples import IGNORED, Batch, collate
from hrmctl_training.in_place import collate_in_place
from hrmctl_training.objective import Loss
from hrmctl_training.order import lengths_of

_Q_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Rows:
    """How each row of a segment did: all (rows,).

    `loss` is the mean over the row's labels, `accuracy` the share of them that is right, `exact` whether all are;
    `counted` leaves out rows without a label.
    """

    loss: torch.Tensor
    accuracy: torch.Tensor
    exact: torch.Tensor
    counted: torch.Tensor


class ActObjective:
    """Deep supervision of an `hrm_act` model; the loss is summed over slots.

    The continuing value is learned, and the second forward pass made for it, only where the model
    halts by it (`q_continue`).

    `slots` rows of `width` tokens are worked on at a time, whatever the batches bring. `masked` says that
    rows differ in length, so that an in-place model must not see the padding `pad`. With accumulation there are
    `passes` forward passes a step, each with slots of its own.
    """

    def __init__(
        self, model: HrmActForCausalLM, pad: int, slots: int, width: int, *, masked: bool = True, passes: int = 1
    ) -> None:
        self.model = model
        self.pad = pad
        self.slots = slots
        self.causal = model.config.causal
        self.width = width - 1 if self.causal else width
        self.masked = masked and not self.causal
        self._carries: list[Carry | None] = [None] * passes
        self._turn = 0

    @classmethod
    def for_examples(
        cls, model: HrmActForCausalLM, pad: int, examples: Sequence[Any], batch: int, passes: int = 1
    ) -> ActObjective:
        """The objective for these training examples in batches of `batch`.

        Raises InputError where the longest has more positions than the model.
        """
        lengths = lengths_of(examples)
        width, limit = int(lengths.max()), model.config.max_position_embeddings
        if width > limit:
            raise InputError(f"the longest row has {width} positions and the model {limit}; leave such rows out")
        alike = int(lengths.min()) == width
        return cls(model, pad, min(batch, len(examples)), width, masked=not alike, passes=passes)

    def collate(self, examples: Sequence[Any]) -> Batch:
        """Right-padded rows, (rows, length)."""
        return collate(examples, self.pad) if self.causal else collate_in_place(examples, self.pad)

    def units(self, batch: Batch) -> int:
        """The slots in training, the rows of the batch in validation."""
        return self.slots if self.model.training else len(batch.lines)

    def at(self, position: int) -> None:
        """The next pass is that forward pass of the run."""
        self._turn = position % len(self._carries)

    def loss(self, batch: Batch) -> Loss:
        """One segment of every slot: L + (H + C) / 2 summed over the slots.

        L is the cross-entropy, a mean over the row's labels; H that of the Q-head's halting value against
        whether the whole row is right; C that of its continuing value against the greater of the next segment's two.
        """
        carry = self._admitted(batch)
        steps = carry.steps + 1
        embeddings, sight, last = self._view(carry.inputs, carry.labels)
        segment = self.model.segment(carry.states, embeddings, sight, last)
        rows = self._judged(segment.logits, carry.labels)
        at_end = steps >= self.model.config.halt_max_steps
        states = segment.states.detached()
        exact = rows.exact.to(segment.q_halt.dtype)
        q_halt = functional.binary_cross_entropy_with_logits(segment.q_halt, exact, reduction="none")
        q_continue = self._continuing(segment, states, embeddings, sight, last, at_end)
        row_losses = rows.loss + _Q_WEIGHT * (q_halt + q_continue)
        halted = self._halted(segment, steps, at_end)
        # A slot whose states are broken would spoil every later step.
        halted = halted | ~row_losses.detach().isfinite()
        self._carries[self._turn] = replace(carry, z_H=states.z_H, z_L=states.z_L, steps=steps, halted=halted)
        self._turn = (self._turn + 1) % len(self._carries)
        sums: dict[str, tuple[torch.Tensor | float, float]] = {
            "lm_loss": (rows.loss.detach().sum(), self.slots),
            "q_halt_loss": (q_halt.detach().sum(), self.slots),
            "q_continue_loss": (q_continue.detach().sum(), self.slots),
            "halting_rate": (halted.sum(), self.slots),
        }
        return Loss(row_losses.sum(), sums | _of_halted(segment, rows, steps, halted & rows.counted))

    def _admitted(self, batch: Batch) -> Carry:
        """The slots, those that halted with new rows and initial states."""
        inputs, labels = self._data(batch, self.width)
        turn = torch.arange(self.slots, device=inputs.device) % len(inputs)
        inputs, labels = inputs[turn], labels[turn]
        weights = self.model.model
        fresh = weights.initial(weights.H_init.new_empty(*inputs.shape, self.model.config.hidden_size))
        carry = self._carries[self._turn]
        if carry is None:
            none = torch.zeros(self.slots, dtype=torch.int32, device=inputs.device)
            return Carry(fresh.z_H, fresh.z_L, none, none.bool(), inputs, labels)
        states, new = carry.states.where(carry.halted, fresh), carry.halted[:, None]
        return Carry(
            states.z_H,
            states.z_L,
            torch.where(carry.halted, 0, carry.steps),
            torch.zeros_like(carry.halted),
            torch.where(new, inputs, carry.inputs),
            torch.where(new, labels, carry.labels),
        )

    def _data(self, batch: Batch, width: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and the labels of their positions, right-padded to `width`."""
        inputs, labels = batch.input_ids, batch.labels
        if self.causal:
            inputs, labels = inputs[:, :-1], labels[:, 1:]
        missing = 0 if width is None else width - inputs.shape[1]
        if missing:
            inputs = functional.pad(inputs, (0, missing), value=self.pad)
            labels = functional.pad(labels, (0, missing), value=IGNORED)
        return inputs, labels

    def _view(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, Sight, torch.Tensor | None]:
        """Embeddings, what may be seen, and where the Q-head reads a causal row: its last learned position."""
        embeddings = self.model.model.embed(inputs, slice(0, inputs.shape[1]))
        sight = self.model.sight(embeddings, inputs != self.pad if self.masked else None)
        if not self.causal:
            return embeddings, sight, None
        places = torch.arange(labels.shape[1], device=labels.device)
        return embeddings, sight, ((labels != IGNORED) * places).argmax(1)

    def _judged(self, logits: torch.Tensor, labels: torch.Tensor) -> Rows:
        learned = labels != IGNORED
        count = learned.sum(-1)
        divisor = count.clamp(min=1)
        losses = token_losses(logits, labels, self.model.config.loss_type).sum(-1) / divisor
        right = (learned & (logits.detach().argmax(-1) == labels)).sum(-1)
        return Rows(losses, right / divisor, right == count, count > 0)

    def _continuing(
        self,
        segment: Segment,
        states: States,
        embeddings: torch.Tensor,
        sight: Sight,
        last: torch.Tensor | None,
        at_end: torch.Tensor,
    ) -> torch.Tensor:
        """The loss (rows,) of the continuing value, against the present weights' own view of the next segment."""
        if self.model.config.halt_max_steps == 1 or not self.model.config.q_continue:
            return torch.zeros_like(segment.q_continue)
        with torch.no_grad():
            following = self.model.model.segment(states, embeddings, sight)
            q_halt, q_continue = self.model.q_values(following, last)
            target = torch.where(at_end, q_halt, torch.maximum(q_halt, q_continue)).sigmoid()
        return functional.binary_cross_entropy_with_logits(segment.q_continue, target, reduction="none")

    def _halted(self, segment: Segment, steps: torch.Tensor, at_end: torch.Tensor) -> torch.Tensor:
        """Which rows stop: at the end of their steps or by the Q-head, the explored ones not before their lot."""
        config = self.model.config
        if config.halt_max_steps == 1:
            return at_end
        device = steps.device
        explored = torch.rand(self.slots, device=device) < config.halt_exploration_prob
        lot = torch.randint(2, config.halt_max_steps + 1, (self.slots,), dtype=torch.int32, device=device)
        return (at_end | segment.halts) & (steps >= explored * lot)

    def evaluate(self, batch: Batch) -> Loss:
        """`halt_max_steps` segments of every row: L + H / 2 of the last, and what the Q-head's halting would give."""
        inputs, labels = self._data(batch)
        embeddings, sight, last = self._view(inputs, labels)
        states = self.model.model.initial(embeddings)
        running = torch.ones(len(inputs), dtype=torch.bool, device=inputs.device)
        steps, halted_exact = running.int(), running.new_zeros(len(inputs))
        for step in range(1, self.model.config.halt_max_steps + 1):
            segment = self.model.segment(states, embeddings, sight, last)
            states, rows = segment.states, self._judged(segment.logits, labels)
            ends = running & (segment.halts | (step == self.model.config.halt_max_steps))
            steps, halted_exact = torch.where(ends, step, steps), torch.where(ends, rows.exact, halted_exact)
            running = running & ~ends
        exact = rows.exact.to(segment.q_halt.dtype)
        q_halt = functional.binary_cross_entropy_with_logits(segment.q_halt, exact, reduction="sum")
        everything = _of_halted(segment, rows, steps, rows.counted)
        sums: dict[str, tuple[torch.Tensor | float, float]] = {
            "lm_loss": (rows.loss.sum(), len(inputs)),
            "q_halt_loss": (q_halt, len(inputs)),
            "halted_exact_accuracy": ((halted_exact & rows.counted).sum(), int(rows.counted.sum())),
        }
        return Loss(rows.loss.sum() + _Q_WEIGHT * q_halt, sums | everything)

    def state(self) -> Mapping[str, Any]:
        """The slots of each forward pass of a step, and whose turn it is."""
        carries = [None if carry is None else carry.as_dict() for carry in self._carries]
        return {"carries": carries, "turn": self._turn}

    @staticmethod
    def joined(states: Sequence[Mapping[str, Any]], owners: Sequence[int]) -> Mapping[str, Any]:
        """The slots of each pass, from the process that makes it."""
        return {"carries": [states[owner]["carries"][i] for i, owner in enumerate(owners)], "turn": 0}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on with these slots."""
        device = self.model.model.H_init.device
        self._carries = [None if c is None else Carry.from_dict(c, device) for c in state["carries"]]
        self._turn = state["turn"]


def _of_halted(
    segment: Segment, rows: Rows, steps: torch.Tensor, chosen: torch.Tensor
) -> dict[str, tuple[torch.Tensor | float, float]]:
    """Metrics over the chosen rows alone."""
    count = int(chosen.sum())
    expected = (segment.q_halt.detach() >= 0) == rows.exact
    return {
        "token_accuracy": (torch.where(chosen, rows.accuracy, 0).sum(), count),
        "exact_accuracy": ((chosen & rows.exact).sum(), count),
        "q_halt_accuracy": ((chosen & expected).sum(), count),
        "halt_steps": (torch.where(chosen, steps, 0).sum(), count),
    }
