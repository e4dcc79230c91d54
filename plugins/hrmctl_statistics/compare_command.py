"""The command `hrmctl compare`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from hrmctl.cli.common import (
    DEFAULT_STORE,
    JsonOption,
    StoreOption,
    human,
    print_differences,
    print_json,
    print_table,
    say,
)

_NOTHING = 3
_SIDE = "RUN or RUN:STAGE; :STAGE is one of the latest run."
_WORDS = {
    "better": "A is better than B",
    "worse": "A is worse than B",
    "undecided": "undecided: these problems do not tell A and B apart",
}


def compare(
    a: Annotated[str, typer.Argument(metavar="RUN_A", help=_SIDE)],
    b: Annotated[str, typer.Argument(metavar="RUN_B", help=_SIDE)],
    k: Annotated[list[int] | None, typer.Option("--k", min=1, help="pass@k; repeatable.", show_default="1")] = None,
    everything: Annotated[bool, typer.Option("--all", help="List all problems, not only those that differ.")] = False,
    level: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Confidence of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Resamples of the bootstrap.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 0,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Which of two runs, or stages, is better: problem by problem, with intervals and exact tests (docs/statistics.md).

    What two runs were made of, all they measured and their verdicts: hrmctl runs diff.

    Exit code: 0 compared, whatever came of it; 2 bad input; 3 nothing comparable.
    """
    from hrmctl.store import Store
    from hrmctl_statistics import compare as work

    opened = Store(store)
    left, right = work.sides_of(opened, a, b)
    settings = work.Settings(list(dict.fromkeys([1, *(k or [])])), resamples, seed, level)
    pairs = [pair for pair in work.sample_pairs(left, right) if not _shared(*pair)]
    comparisons = _compared(pairs, settings)
    if pairs and not comparisons:
        return _NOTHING
    measured = work.measurements(left, right)
    if not comparisons and not measured:
        say(f"hrmctl: {left.text} and {right.text} have nothing comparable: no samples or measurements of one name")
        return _NOTHING
    result = {
        "a": {"run": left.run, "stage": left.stage or None},
        "b": {"run": right.run, "stage": right.stage or None},
        "level": level,
        "resamples": resamples,
        "seed": seed,
        "comparisons": [_without_alike(one, everything) for one in comparisons],
        "measurements": measured,
        "differences": work.differs(left, right),
    }
    print_json(result) if as_json else _show(result, left.text, right.text)
    return 0


def _shared(name: str, ours: Any, theirs: Any) -> bool:
    """Whether both sides took the same evidence, from the cache; a line says so."""
    if ours.digest == theirs.digest:
        say(f"hrmctl: {name}: both sides hold the same evidence {ours.digest[:12]}")
    return bool(ours.digest == theirs.digest)


def _compared(pairs: Sequence[Any], settings: Any) -> list[dict[str, Any]]:
    """Every pair of samples compared; a line on standard error for each that cannot be."""
    from hrmctl import MeasureError
    from hrmctl_statistics import compare as work

    found = []
    for name, ours, theirs in pairs:
        try:
            found.append(work.compared(name, ours, theirs, settings))
        except MeasureError as error:
            say(f"hrmctl: {name}: {error}")
    return found


def _without_alike(one: dict[str, Any], everything: bool) -> dict[str, Any]:
    rows = [row for row in one["rows"] if everything or row["discordant"]]
    return {**one, "discordant": sum(row["discordant"] for row in one["rows"]), "rows": rows}


def _show(result: dict[str, Any], a: str, b: str) -> None:
    say(f"A {a}")
    say(f"B {b}")
    for one in result["comparisons"]:
        _show_samples(one, result["level"])
    if result["measurements"]:
        rows = [_measured(row) for row in result["measurements"]]
        print_table(rows, ("measurement", "A", "B", "A / B", "interval"))
    if result["differences"]:
        print()
        print_differences(result["differences"])


def _show_samples(one: dict[str, Any], level: float) -> None:
    samples = " and ".join(str(n) for n in dict.fromkeys(one["samples"]))
    print(f"{one['name']}: {one['problems']} problems, {samples} samples each, {one['discordant']} differ")
    for row in one["pass"]:
        interval = "no interval" if row["lo"] is None else f"[{row['lo']:+.4f}, {row['hi']:+.4f}] at {100 * level:g} %"
        print(f"pass@{row['k']}: A {row['a']:.4f}, B {row['b']:.4f}, A - B {row['delta']:+.4f} {interval}")
    if one["table"]:
        counts = "{both} both, {only_a} only A, {only_b} only B, {neither} neither".format(**one["table"])
        p = "no test: none differ" if one["mcnemar_p"] is None else f"exact McNemar p {one['mcnemar_p']:.2g}"
        print(f"first samples passed: {counts}; {p}")
    for row in one["pass"]:
        print(f"pass@{row['k']}: {_WORDS[row['verdict']]}")
    table = one["table"]
    if table and table["discordant"] and any(row["verdict"] == "undecided" for row in one["pass"]):
        share = table["discordant"] / one["problems"]
        say(f"what so many problems show: hrmctl power --n {one['problems']} --discordant {share:.3g}")
    print()
    if one["rows"]:
        print_table([_problem(row) for row in one["rows"]], ("problem", "A", "B", "first of A", "first of B"))
        print()


def _problem(row: dict[str, Any]) -> Sequence[str]:
    sides = [row["a"], row["b"]]
    passed = [f"{side['passed']}/{side['samples']}" for side in sides]
    return (row["id"], *passed, *(side["first"] or "" for side in sides))


def _measured(row: dict[str, Any]) -> Sequence[str]:
    values = [human(row[side], row[unit]) for side, unit in (("a", "unit"), ("b", "unit_b"))]
    interval = "" if row["lo"] is None else f"[{row['lo']:.4g}, {row['hi']:.4g}]"
    return (row["name"], *values, "" if row["ratio"] is None else f"{row['ratio']:.4g}", interval)
