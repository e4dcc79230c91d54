"""Parameters of the stage and of the measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, MinLen

from hrmctl.schema import doc


@dataclass(frozen=True)
class WordcountParams:
    """Count the words of a data set."""

    field: Annotated[str, MinLen(1), doc("field of a row that holds its text")] = "text"
    shortest: Annotated[int, Ge(1), doc("length of the shortest word that counts, characters")] = 1


@dataclass(frozen=True)
class AtLeastParams:
    """Ask for a number of words."""

    words: Annotated[int, Ge(1), doc("how many there must be")]
