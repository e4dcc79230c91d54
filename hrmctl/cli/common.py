"""Options and output shared by the commands. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="HRMCTL_STORE", help="Where artifacts, runs and the ledger are kept.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RunArgument = Annotated[str | None, typer.Argument(help="A run's id; the latest when absent.")]
DEFAULT_STORE = Path(".hrmctl")


def say(text: str = "") -> None:
    """A line for people, or several, on standard error."""
    from hrmctl.errors import one_line

    print("\n".join(map(one_line, text.split("\n"))), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """The result as JSON, on standard output."""
    from hrmctl.jsonio import canonical

    print(json.dumps(json.loads(canonical(value)), indent=2, ensure_ascii=False))


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    """Left-aligned columns, on standard output."""
    from hrmctl.errors import one_line

    lines = [[one_line(str(cell)) for cell in row] for row in [header, *rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for row in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_differences(differences: Sequence[Any]) -> None:
    """What two runs are not made of alike (`hrmctl.run.summary.Difference`), on standard output."""
    rows = [(one.stage or "recipe", one.what, _short(one.a), _short(one.b)) for one in differences]
    print_table(rows, ("", "differs", "A", "B"))


def _short(value: Any) -> str:
    """A value in a column: digests by their beginning."""
    if isinstance(value, (list, tuple)):
        return ", ".join(_short(item) for item in value) or "-"
    text = "-" if value is None else str(value)
    return text[:12] if len(text) == 64 and text.isalnum() else text[:60]


_SECONDS = ((7200.0, 3600.0, "h"), (120.0, 60.0, "min"))
_SCALES: Mapping[str, Sequence[tuple[float, float, str]]] = {
    "bytes": ((1e12, 1e12, "TB"), (1e9, 1e9, "GB"), (1e6, 1e6, "MB"), (1e3, 1e3, "kB")),
    "FLOPs": ((1e15, 1e15, "PFLOPs"), (1e12, 1e12, "TFLOPs"), (1e9, 1e9, "GFLOPs"), (1e6, 1e6, "MFLOPs")),
    "seconds": _SECONDS,
    "s": _SECONDS,
}


def human(value: float, unit: str) -> str:
    """A value as people read it: 12.3 MB, 4.2 min, 1,234,567 tokens."""
    for least, size, name in _SCALES.get(unit, ()):
        if abs(value) >= least:
            return f"{value / size:.3g} {name}"
    number = f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    return f"{number} {unit}".rstrip()


def measured(evidence: Any) -> str:
    """The value of a measurement, or how samples ended; empty for other evidence."""
    payload = evidence.payload
    if evidence.type == "measurement/v1":
        return human(payload["value"], payload["unit"])
    if evidence.type != "samples/v1":
        return ""
    outcomes = Counter(outcome for problem in payload["problems"] for outcome in problem.get("outcomes", ()))
    passed, total = (sum(problem[count] for problem in payload["problems"]) for count in ("c", "n"))
    rest = "".join(f", {count} {name}" for name, count in outcomes.most_common() if name != "passed")
    return f"{passed} of {total} samples of {len(payload['problems'])} problems passed{rest}"


def whose(evidence: Any) -> str:
    """The labels of what evidence is about."""
    return " ".join(evidence.provenance.labels.values()) if evidence.provenance else ""


def pick_run(store: Any, run: str | None) -> str:
    """The run asked for, or the latest. Raises StoreError when there is none."""
    from hrmctl.errors import StoreError

    chosen = run or store.latest_run()
    if chosen is None:
        raise StoreError(f"{store.root} holds no run; make one with: hrmctl pipeline RECIPE")
    store.run_folder(chosen)
    return str(chosen)
