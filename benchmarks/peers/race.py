"""The race: all harnesses grade the same programs in turn, round after round."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peers.clients import Client, tasks_of
from peers.environments import Unavailable
from peers.workloads import Workload

_MOST_COPIES = 16


@dataclass
class Timing:
    """What one harness did with one workload: programs per second of each round, and its errors.

    `first` is the rate of the first call, with one copy of each program, cold; `programs` are those of a later call.
    A wrong pass or fail is a verdict that differs from a plain interpreter's, by problem.
    """

    harness: str
    workload: str
    cores: int
    programs: int
    first: float
    rates: list[float] = field(default_factory=list)
    wrong_passes: set[str] = field(default_factory=set)
    wrong_fails: set[str] = field(default_factory=set)

    @property
    def median(self) -> float:
        """Programs per second."""
        return statistics.median(self.rates)


@dataclass(frozen=True)
class Plan:
    """At most `rounds` rounds after the first calls, none begun after `deadline`; about `seconds` for each call.

    A call lasts about so long because a fast harness is given more copies of the programs, each made unique.
    """

    rounds: int
    seconds: float
    deadline: float


def race(clients: dict[str, Client], loads: list[Workload], plan: Plan, cpus: list[int]) -> list[Timing]:
    """All harnesses grade all workloads in turn, on `cpus` with as many workers. A harness that breaks leaves.

    Where time allows no round, the first calls stand for one.
    """
    table: dict[tuple[str, str], Timing] = {}
    for load in loads:
        _say(f"{load.name}: first calls, {len(cpus)} workers")
        for name in list(clients):
            _grade(clients, name, load, cpus, table, 0, 1)
    for number in range(1, plan.rounds + 1):
        if time.monotonic() > plan.deadline:
            break
        for load in loads:
            _say(f"{load.name}: round {number}, {len(cpus)} workers")
            for name in list(clients):
                timing = table[load.name, name]
                copies = max(1, min(_MOST_COPIES, round(plan.seconds * timing.first / len(load.programs))))
                seconds = _grade(clients, name, load, cpus, table, number, copies)
                if seconds is not None:
                    timing.programs = copies * len(load.programs)
                    timing.rates.append(timing.programs / seconds)
    for timing in table.values():
        timing.rates = timing.rates or [timing.first]
    return [timing for timing in table.values() if timing.harness in clients]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _grade(
    clients: dict[str, Client],
    name: str,
    load: Workload,
    cpus: list[int],
    table: dict[tuple[str, str], Timing],
    number: int,
    copies: int,
) -> float | None:
    """One call: its seconds; its errors go to the table. None where the harness broke and left."""
    programs = load.round(number, copies)
    job: Mapping[str, Any] = {
        "tasks": tasks_of(load.tasks),
        "programs": programs,
        "workers": len(cpus),
        "cpus": cpus,
        "seconds": load.seconds,
    }
    try:
        answer = clients[name].race(job)
    except Unavailable as error:
        print(f"{name} is left out from here on: {error}", flush=True)
        del clients[name]
        return None
    seconds = float(answer["seconds"])
    fresh = Timing(name, load.name, len(cpus), len(load.programs), len(programs) / seconds)
    timing = table.setdefault((load.name, name), fresh)
    for (task, _), passed, right in zip(programs, answer["passed"], load.expected * copies, strict=True):
        if passed != right:
            (timing.wrong_passes if passed else timing.wrong_fails).add(task)
    return seconds
