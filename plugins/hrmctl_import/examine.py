"""All checks of a model folder in one call: they decide on an import, and on the corruptions that test them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrmctl import StageError
from hrmctl_import.checks import Probe, check_forward, check_layout, nonfinite_values, read_config
from hrmctl_import.files import tensors_of
from hrmctl_import.params import ImportParams


@dataclass(frozen=True, slots=True)
class Examined:
    """Names of the tensors that were verified, of all `tensors` of the files; those of them that are `nonfinite`."""

    verified: frozenset[str]
    tensors: int
    nonfinite: int
    probe: Probe


def examine(folder: Path, weights: Sequence[str], params: ImportParams, advance: Callable[[int], None]) -> Examined:
    """Structure, layout, values and a forward pass; `advance` hears of the bytes scanned.

    Raises StageError naming the first fault.
    """
    tensors = tensors_of(folder, weights)
    compared = check_layout(read_config(folder), tensors, params.mixed_dtypes)
    broken = nonfinite_values(folder, tensors, advance)
    if broken:
        name, count = next(iter(broken.items()))
        others = f"{len(broken)} such tensors"
        raise StageError(f"{name} holds {count} NaN or infinite values ({others}); import another model")
    probe = check_forward(folder, params.probe, params.ignore_extra)
    verified = frozenset(compared | (tensors.keys() & probe.loaded))
    return Examined(verified, len(tensors), len(broken), probe)
