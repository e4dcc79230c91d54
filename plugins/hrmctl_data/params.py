"""Parameters of the data stages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from hrmctl.schema import doc

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_FIELDS = "for rows of any other shape: which of their fields is which of ours (task_id: id, prompt: question, ...)"
Shape = Literal[
    "auto",
    "hrmctl",
    "mbpp",
    "humaneval",
    "evalplus",
    "livecodebench",
    "bigcodebench",
    "bigcodebench-instruct",
]
_PAIRS = "pairs over training problems: the reference, and another problem's that really fails its tests"
_OTHER = "take a given file that is not the published one, and label it NAME-custom"


@dataclass(frozen=True)
class GenerateParams:
    """What `data.generate` makes."""

    family: Annotated[Literal["microcode"], doc("family of problems to generate")] = "microcode"
    train: Annotated[int, Ge(64), Le(200_000), doc("training problems; enough to hold each operation once")] = 20_000
    test: Annotated[int, Ge(1), Le(10_000), doc("test problems, of held-out compositions")] = 200
    validation: Annotated[int, Ge(0), Le(5_000), doc("validation problems, of other held-out compositions")] = 0
    preferences: Annotated[int, Ge(0), Le(20_000), doc(_PAIRS)] = 0


@dataclass(frozen=True)
class GetParams:
    """Which declared data set `data.get` fetches."""

    name: Annotated[str, doc("name of the data set, as `hrmctl plugins list` shows it")]
    allow_other_checksum: Annotated[bool, doc(_OTHER)] = False


@dataclass(frozen=True)
class MbppParams:
    """Which MBPP `data.mbpp` fetches."""

    sanitized: Annotated[bool, doc("the hand-verified subset of 427 problems instead of all 974")] = False
    allow_other_checksum: Annotated[bool, doc(_OTHER)] = False


@dataclass(frozen=True)
class HumanEvalParams:
    """How `data.humaneval` fetches HumanEval."""

    allow_other_checksum: Annotated[bool, doc(_OTHER)] = False


@dataclass(frozen=True)
class PlusParams:
    """How `data.humaneval-plus` and `data.mbpp-plus` fetch what evalplus releases."""

    allow_other_checksum: Annotated[bool, doc(_OTHER)] = False


@dataclass(frozen=True)
class JsonlParams:
    """How `data.jsonl` reads a local file."""

    name: Annotated[str, doc("name of the data set, the part of its label before the @")] = "local"
    split: Annotated[Literal["train", "test", "validation", "prompt"], doc("split that the file is")] = "test"
    shape: Annotated[Shape, doc("shape of the rows; auto tells by the fields of each row")] = "auto"
    fields: Annotated[Mapping[str, str], doc(_FIELDS)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"'{self.name}' cannot be the name of a data set; write it like my-set.v2")


@dataclass(frozen=True)
class ToolUseParams:
    """`data.tooluse` takes no parameters: the tasks are written by hand."""
