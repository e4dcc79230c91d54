"""What an `hrm_act` model hands from segment to segment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch


@dataclass(frozen=True, slots=True)
class States:
    """The slow state `z_H` and the fast state `z_L`, each (rows, length, width)."""

    z_H: torch.Tensor
    z_L: torch.Tensor

    def detached(self) -> States:
        """The same values without their graph."""
        return States(self.z_H.detach(), self.z_L.detach())

    def where(self, rows: torch.Tensor, other: States) -> States:
        """`other` in the rows (rows,) that are true, these states in the rest."""
        chosen = rows.view(-1, 1, 1)
        return States(torch.where(chosen, other.z_H, self.z_H), torch.where(chosen, other.z_L, self.z_L))

    def rows(self, rows: torch.Tensor) -> States:
        """The states of these rows alone."""
        return States(self.z_H[rows], self.z_L[rows])


@dataclass(frozen=True, slots=True)
class Carry:
    """The slots of a training run between two segments.

    Each slot works on a row of its own: `inputs` and `labels` (slots, length), the states that its last segment
    ended with, how many segments it has had (`steps`, int32), and whether it is `halted`, so that the next segment
    begins with a new row.
    """

    z_H: torch.Tensor
    z_L: torch.Tensor
    steps: torch.Tensor
    halted: torch.Tensor
    inputs: torch.Tensor
    labels: torch.Tensor

    @property
    def states(self) -> States:
        """Slow and fast state."""
        return States(self.z_H, self.z_L)

    def as_dict(self) -> dict[str, torch.Tensor]:
        """The tensors by name, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Carry:
        """What `as_dict` gave, on `device`."""
        return cls(**{name: tensor.to(device) for name, tensor in tensors.items()})
