"""Distillation in phases: layer by layer, or from rows that the teacher finds easy to those it finds hard."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from hrmctl_training.causal import only_positions
from hrmctl_training.distillation import DistillObjective
from hrmctl_training.examples import IGNORED, Batch, Example
from hrmctl_training.objective import Loss
from hrmctl_training.order import Order, derived_seed, lengths_of
from hrmctl_training.outputs import inputs_of
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from hrmctl import InputError

PROJECTIONS = "distill_projections"


def evenly(count: int, total: int) -> list[int]:
    """`count` of the numbers 1 to `total`, evenly spaced, the last always among them."""
    return [max(1, round(i * total / count)) for i in range(1, count + 1)]


def shortened(teacher: Any, layers: int) -> Any:
    """The teacher with only `layers` of its layers, evenly spaced, and all the rest of its weights, float32.

    Raises InputError where its layers are no plain stack, or are fewer.
    """
    total = teacher.config.num_hidden_layers
    stacks = [n for n, m in teacher.named_modules() if isinstance(m, nn.ModuleList) and len(m) == total]
    if len(stacks) != 1:
        kind = teacher.config.model_type
        raise InputError(f"{kind} has no one stack of layers to take some of; give the student by init or model")
    if layers > total:
        raise InputError(f"layers {layers} is over the teacher's {total}")
    kept = [layer - 1 for layer in evenly(layers, total)]
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in kept]
    with torch.random.fork_rng(devices=[]):
        student: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    weights = {}
    for name, tensor in teacher.state_dict().items():
        place = name.removeprefix(stacks[0] + ".")
        number = place.partition(".")[0]
        if place == name or not number.isdigit():
            weights[name] = tensor
        elif int(number) in kept:
            weights[f"{stacks[0]}.{kept.index(int(number))}.{place.partition('.')[2]}"] = tensor
    student.load_state_dict(weights)
    return student.eval()


class Chosen(Sequence[Any]):
    """Some of the examples, by their places."""

    def __init__(self, examples: Sequence[Any], places: np.ndarray) -> None:
        self.examples = examples
        self.places = places
        self.lengths = lengths_of(examples)[places]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]
        return self.examples[int(self.places[index])]


class Curriculum(Order):
    """A curriculum (Bengio et al. 2009): phase k of n draws from the easiest k/n of the examples, the last from all.

    `losses` (examples,) say how hard each is. Phases are equally long; each shows its pool in shuffled
    epochs of its own. Like every order, it is a function of seed and position.
    """

    def __init__(
        self, examples: Sequence[Any], losses: torch.Tensor, batch: int, seed: int, phases: int, passes: int
    ) -> None:
        super().__init__(examples, batch, seed)
        self.phases = phases
        self.passes = passes
        self._easiest = np.argsort(losses.numpy(), kind="stable")
        self._pool: tuple[int, np.ndarray, Order] | None = None

    def phase_at(self, position: int) -> int:
        """The phase that forward pass `position` belongs to, from 0."""
        return min(self.phases - 1, position * self.phases // self.passes)

    def indices(self, position: int) -> list[int]:
        """Which of the examples make up forward pass `position`."""
        phase = self.phase_at(position)
        if self._pool is None or self._pool[0] != phase:
            places = self._easiest[: math.ceil(len(self._easiest) * (phase + 1) / self.phases)]
            order = Order(Chosen(self.examples, places), self.batch, derived_seed(self.seed, "curriculum", phase))
            self._pool = (phase, places, order)
        _, places, order = self._pool
        start = -(-phase * self.passes // self.phases)
        return [int(places[i]) for i in order.indices(position - start)]


class LayerwiseObjective:
    """Hidden states first, then logits: all phases but the last match layers, the lowest first, the last distils.

    In phase k of n the lower k/(n-1) of the student's layers are matched, each to the teacher's layer at
    the same relative depth (FitNets, Romero et al. 2015; the mapping of TinyBERT, Jiao et al. 2020). The loss is the
    squared distance of the two states, each brought to length 1 (Patient KD, Sun et al. 2019, eq. 7), in the mean over
    the learned positions and the layers matched: 0 where they point the same way, 2 at right angles. Where the widths
    differ a linear projection of the student's states is trained along; it is part of the student until `detach`.
    Of a recurrent model every pass through a layer that gradients reach counts as a layer.
    """

    def __init__(self, distill: DistillObjective, phases: int, passes: int, seed: int) -> None:
        self.distill = distill
        self.phases = phases
        self.total = passes
        self.passes = 0
        self.student: Any = distill.student.model
        self.teacher: Any = distill.teacher.model
        own, taught = self._probed()
        self.pairs = list(zip(own, evenly(len(own), taught), strict=True))
        widths = [m.get_input_embeddings().weight.shape[1] for m in (self.student, self.teacher)]
        self._projected = widths[0] != widths[1]
        if self._projected:
            self.student.add_module(PROJECTIONS, _projections(len(own), widths[0], widths[1], self._device, seed))

    @property
    def _device(self) -> torch.device:
        return torch.device(next(self.student.parameters()).device)

    def _probed(self) -> tuple[list[int], int]:
        """Which hidden states of the student gradients reach, and the number of the teacher's."""
        ids = torch.zeros(1, 3, dtype=torch.long, device=self._device)
        batch = Batch(ids, ids, (1,), 3)
        with torch.enable_grad():
            states = _states(self.student, batch)
        with torch.no_grad():
            taught = len(_states(self.teacher, batch)) - 1
        own = [i for i, state in enumerate(states) if i > 0 and state.requires_grad]
        if not own or taught < 1:
            raise InputError("a model gives no hidden states of its layers to match; set progression to difficulty")
        return own, taught

    def detach(self) -> None:
        """Take the projections out of the student."""
        if self._projected:
            delattr(self.student, PROJECTIONS)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Right-padded rows, (rows, length)."""
        return self.distill.collate(examples)

    def units(self, batch: Batch) -> int:
        """The learned tokens of the batch."""
        return self.distill.units(batch)

    def at(self, position: int) -> None:
        """The next pass is that forward pass of the run."""
        self.passes = position

    @property
    def phase(self) -> int:
        """The phase that the next pass belongs to, from 0."""
        return min(self.phases - 1, self.passes * self.phases // self.total)

    def loss(self, batch: Batch) -> Loss:
        """The loss of the phase that this pass belongs to, with `hidden_loss` apart while layers are matched."""
        phase = self.phase
        self.passes += 1
        units = self.units(batch)
        where = {"phase": (float((phase + 1) * units), units)}
        if phase == self.phases - 1:
            found = self.distill.loss(batch)
            return Loss(found.total, {**found.sums, **where})
        reach = math.ceil(len(self.pairs) * (phase + 1) / (self.phases - 1))
        hidden = self._hidden_loss(batch, reach) * units
        return Loss(hidden, {"hidden_loss": (hidden.detach(), units), **where})

    def _hidden_loss(self, batch: Batch, reach: int) -> torch.Tensor:
        wanted = batch.labels[:, 1:] != IGNORED
        with torch.no_grad():
            taught = _states(self.teacher, batch)
        own = _states(self.student, batch)
        losses = []
        for i, (lower, upper) in enumerate(self.pairs[:reach]):
            state = own[lower][wanted]
            if self._projected:
                state = getattr(self.student, PROJECTIONS)[i](state)
            target = functional.normalize(taught[upper][wanted].float(), dim=-1)
            losses.append((functional.normalize(state.float(), dim=-1) - target).square().sum(-1).mean())
        return torch.stack(losses).mean()

    def evaluate(self, batch: Batch) -> Loss:
        """As logits distillation does, in every phase."""
        return self.distill.evaluate(batch)

    def state(self) -> Mapping[str, Any]:
        """Nothing is carried from step to step: the phase is that of the position."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is carried from step to step."""


def _states(model: Any, batch: Batch) -> Sequence[torch.Tensor]:
    """Hidden states (rows, length - 1, width) of the embeddings and of each layer; no logits are computed."""
    inputs = inputs_of(batch)
    with only_positions(model, torch.zeros_like(inputs["input_ids"], dtype=torch.bool)):
        found: Sequence[torch.Tensor] | None = model(**inputs, use_cache=False, output_hidden_states=True).hidden_states
    return found or ()


def _projections(count: int, own: int, taught: int, device: torch.device, seed: int) -> nn.ModuleList:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "projections"))
        return nn.ModuleList(nn.Linear(own, taught, bias=False) for _ in range(count)).to(device)
