"""Parameters of the stage `quantize`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from hrmctl.schema import doc


@dataclass(frozen=True)
class QuantizeParams:
    """How the weights are rounded. Activations keep their precision."""

    scheme: Annotated[Literal["int8", "int4"], doc("bits of a weight")] = "int4"
    group_size: Annotated[int, Ge(8), Le(4096), doc("weights of a row that share a scale")] = 32
    symmetric: Annotated[bool, doc("a scale alone for each group (smaller), without a zero (more exact)")] = False
    embeddings: Annotated[bool, doc("quantize the token embeddings and the output layer too")] = True
