"""The stage `audit.gaps`: is every gap of other tools closed by code that is there, or documented as a boundary?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from hrmctl import Artifact, Context, HrmctlError, Observation, Output, StageError, StageInputs, StageResult
from hrmctl.jsonio import canonical, write_atomic
from hrmctl.plugins import COMMANDS, Catalog, catalog
from hrmctl.registry import resolve
from hrmctl.schema import decode_or_raise, doc
from hrmctl.yamlio import parse, read_text
from hrmctl_audit.params import GapsParams

Name = Annotated[str, MinLen(1)]


@dataclass(frozen=True)
class Gap:
    """One gap and what closes it: a stage, a measure, a command, or a page that explains the boundary."""

    gap: Annotated[Name, doc("what the field's tools leave open")]
    stage: Annotated[str, doc("name of the stage that closes it")] = ""
    measure: Annotated[str, doc("name of the measure that closes it")] = ""
    command: Annotated[str, doc("name of the command that closes it")] = ""
    boundary: Annotated[str, doc("PAGE.md#ANCHOR of the documentation that says why it stays outside")] = ""

    def __post_init__(self) -> None:
        if len(self.answers) != 1:
            raise ValueError(f"a gap has one of {', '.join(_ANSWERS)}; this has {len(self.answers)} of them")

    @property
    def answers(self) -> list[tuple[str, str]]:
        """Kind and name of what is said to close the gap."""
        return [(kind, getattr(self, kind)) for kind in _ANSWERS if getattr(self, kind)]


@dataclass(frozen=True)
class Register:
    """The register of gaps."""

    kind: Annotated[Literal["gaps"], doc("what this file is")]
    gaps: Annotated[tuple[Gap, ...], MinLen(1), doc("one row a gap")]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one gap; `fault` is empty where it is closed."""

    gap: str
    kind: str
    name: str
    fault: str


_ANSWERS = ("stage", "measure", "command", "boundary")


def run(params: GapsParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Look up what every row of the input `register` names, in the catalog of plugins or in the input `docs`.

    A stage, measure or command counts when its function can be imported. Raises InputError with the line of each
    row that cannot be read, and StageError where a gap is there twice.
    """
    register: Artifact = inputs["register"]
    docs: Artifact = inputs["docs"]
    node = parse(read_text(register.path), register.label)
    rows = decode_or_raise(node, Register).gaps
    names = [row.gap for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StageError(f"{register.label} has the gap '{twice[0]}' twice; keep one row of it")
    found = [_closed(row, catalog(), docs.path) for row in rows]
    ctx.progress(len(found), len(found), open=sum(bool(f.fault) for f in found))
    output = Output(ctx.scratch / "gaps.jsonl", f"{register.label}/gaps")
    write_atomic(output.path, "".join(canonical(asdict(f)) + "\n" for f in found))
    about = {"register": register, "docs": docs}
    counted = {
        "gaps_closed": [f for f in found if not f.fault],
        "gaps_wired": [f for f in found if not f.fault and f.kind != "boundary"],
        "gaps_outside": [f for f in found if not f.fault and f.kind == "boundary"],
    }
    seen = [
        Observation(name, "measurement/v1", {"value": len(some), "unit": "count", "n": len(found)}, about)
        for name, some in counted.items()
    ]
    return StageResult({"gaps": output}, seen)


def _closed(row: Gap, known: Catalog, docs: Path) -> Finding:
    [(kind, name)] = row.answers
    fault = _boundary_fault(docs, name) if kind == "boundary" else _wiring_fault(kind, name, known)
    return Finding(row.gap, kind, name, fault)


def _wiring_fault(kind: str, name: str, known: Catalog) -> str:
    if kind == "command" and name in COMMANDS:
        return ""
    tables: Mapping[str, Mapping[str, Any]] = {
        "stage": known.stages,
        "measure": known.measures,
        "command": known.commands,
    }
    table = tables[kind]
    if name not in table:
        return f"there is no {kind} '{name}'"
    try:
        resolve(table[name].target)
    except HrmctlError as error:
        return f"the {kind} '{name}' cannot be used: {error}"
    return ""


def _boundary_fault(docs: Path, place: str) -> str:
    page, _, anchor = place.partition("#")
    path = docs / page
    if not anchor or path.suffix != ".md" or not path.is_file() or not path.resolve().is_relative_to(docs.resolve()):
        return f"{place} is no PAGE.md#ANCHOR of the documentation"
    return "" if anchor in set(anchors(path.read_text(encoding="utf-8"))) else f"{page} has no heading #{anchor}"


def anchors(text: str) -> Iterator[str]:
    """The anchors of a Markdown page's headings, as GitHub makes them, without those of code blocks."""
    fenced = False
    seen: dict[str, int] = {}
    for line in text.splitlines():
        fenced ^= line.startswith(("```", "~~~"))
        heading = None if fenced else re.match(r"#{1,6} +(.+?) *#*$", line)
        if heading:
            slug = re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-")
            number = seen.setdefault(slug, 0)
            seen[slug] += 1
            yield f"{slug}-{number}" if number else slug
