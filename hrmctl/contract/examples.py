"""The shorthand of control data, expanded into payloads as stages report them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, repeat
from typing import Any

MOST_SAMPLES = 1_000_000


def expand(kind: str, data: Any) -> Mapping[str, Any]:
    """A whole payload of evidence type `kind`; one that is whole already comes back as it is.

    Shorthands that read the same give one and the same payload, which nobody may change: controls repeat
    their examples, and those of samples are large.
    Values pass through unchecked, so that a control can show NaN, a placeholder or an empty
    series being refused. Raises ValueError on a shorthand that says nothing.
    """
    if not isinstance(data, Mapping):
        raise ValueError("expected a mapping of example evidence")
    return data if kind in _WHOLE and _WHOLE[kind] in data else _expanded(kind, _Written(repr(data), data))


@dataclass(frozen=True, slots=True)
class _Written:
    """A shorthand as a key: two are the same where they read the same, so that 1, 1.0 and true are not."""

    text: str
    data: Mapping[str, Any] = field(compare=False)


@lru_cache(maxsize=256)
def _expanded(kind: str, written: _Written) -> Mapping[str, Any]:
    return _SHORTHANDS[kind](deepcopy(written.data))


def pieces_of(data: Any) -> list[Any]:
    """The examples of evidence that is one piece for each seed: a list, or `seeds: 5` beside what all five are.

    Raises ValueError on anything else.
    """
    if isinstance(data, Mapping) and "seeds" in data:
        return [{key: value for key, value in data.items() if key != "seeds"}] * _whole(data, "seeds", 1)
    if not isinstance(data, list) or not data:
        raise ValueError("expected one for each seed: a list, or what all are with `seeds`, their number")
    return data


def _known(data: Mapping[str, Any], *keys: str) -> None:
    extra = sorted(set(data) - set(keys))
    if extra:
        raise ValueError(f"'{extra[0]}' is no part of this shorthand ({', '.join(keys)})")


def _whole(data: Mapping[str, Any], key: str, least: int = 0) -> int:
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{key} must be a whole number of at least {least}")
    return value


def _samples(data: Mapping[str, Any]) -> Mapping[str, Any]:
    _known(data, "passed", "n", "runs", "samples", "mode", "distinct")
    data = {"samples": 1, **data}
    samples, runs = _whole(data, "samples", 1), data.get("runs")
    if runs is None:
        passed, n = _whole(data, "passed"), _whole(data, "n")
        if passed > n:
            raise ValueError(f"passed is {passed} of n = {n}")
        runs = [[passed, samples], [n - passed, 0]]
    counts = list(islice(_run_lengths(runs), MOST_SAMPLES // samples + 1))
    if len(counts) * samples > MOST_SAMPLES:
        raise ValueError(f"an example has at most {MOST_SAMPLES:,} samples")
    distinct = data.get("distinct", True)
    different = {True: samples, False: 1}[distinct] if isinstance(distinct, bool) else _whole(data, "distinct", 1)
    problems = [_problem(index, c, samples, different) for index, c in enumerate(counts)]
    return {"n": samples, "mode": data.get("mode", "sealed"), "problems": problems}


def _run_lengths(runs: Any) -> Iterator[int]:
    for run in runs if isinstance(runs, (list, tuple)) else [None]:
        if not isinstance(run, (list, tuple)) or len(run) != 2 or not all(type(n) is int and n >= 0 for n in run):
            raise ValueError("runs must be a list of [number of problems, passes of each]")
        yield from repeat(run[1], run[0])


def _problem(index: int, c: int, samples: int, different: int) -> dict[str, Any]:
    outcomes = ["passed"] * c + ["wrong_answer"] * (samples - c)
    completions = [f"{index * samples + sample % different:064x}" for sample in range(samples)]
    return {"id": f"example/{index:06}", "n": samples, "c": c, "outcomes": outcomes, "completions": completions}


def _series(data: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"series": {name: _curve(values) for name, values in data.items()}}


def _curve(values: Any) -> Any:
    return {"steps": list(range(1, len(values) + 1)), "values": values} if isinstance(values, list) else values


def _measurement(data: Mapping[str, Any]) -> Mapping[str, Any]:
    _known(data, "value", "unit", "n", "trials", "context")
    return {"unit": "", "n": 1, **data}


def _files(data: Mapping[str, Any]) -> Mapping[str, Any]:
    _known(data, "bytes", "paths")
    sizes = data.get("bytes")
    if not isinstance(sizes, list):
        raise ValueError("bytes must be a list of sizes")
    paths = data.get("paths", [f"file-{index:03}" for index in range(len(sizes))])
    if not isinstance(paths, list) or len(paths) != len(sizes):
        raise ValueError("paths must be a list as long as bytes")
    files = [{"path": p, "bytes": b, "sha256": f"{i:064x}"} for i, (p, b) in enumerate(zip(paths, sizes, strict=True))]
    return {"files": files}


_SHORTHANDS: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    "samples/v1": _samples,
    "series/v1": _series,
    "measurement/v1": _measurement,
    "files/v1": _files,
    "text/v1": lambda data: data,
}
# The key that only a whole payload has.
_WHOLE = {"samples/v1": "problems", "series/v1": "series", "files/v1": "files"}
