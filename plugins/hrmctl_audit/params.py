"""Parameters of the audits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le, MinLen

from hrmctl.schema import doc

_TESTS = "what pytest runs, as paths in the tree; `tests` for all of them. The label of what is audited names it"


@dataclass(frozen=True)
class ReportParams:
    """`audit.report` takes no parameters: what it looks for is fixed, so that no recipe can look away."""


@dataclass(frozen=True)
class ContractsParams:
    """`audit.contracts` takes no parameters: every contract of the folder counts."""


@dataclass(frozen=True)
class GapsParams:
    """`audit.gaps` takes no parameters: every row of the register counts."""


@dataclass(frozen=True)
class ProjectParams:
    """What of the tests runs; the other gates always look at everything. Raises ValueError for an option of pytest."""

    tests: Annotated[tuple[str, ...], MinLen(1), doc(_TESTS)] = ("tests",)
    every: Annotated[bool, doc("run also what the project's own pytest options deselect by a marker")] = False

    def __post_init__(self) -> None:
        odd = [name for name in self.tests if name.startswith("-") or not name.strip()]
        if odd:
            raise ValueError(f"'{odd[0]}' is no path of tests")


@dataclass(frozen=True)
class StartupParams:
    """How often both are started."""

    trials: Annotated[int, Ge(5), Le(1000), doc("starts of each, in turn")] = 15
