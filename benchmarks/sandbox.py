"""Race `hrmctl_sandbox` against other harnesses, each in its own environment: `make bench-sandbox`; see README.md.

All harnesses grade the same programs under the same limit, in turn, round after round, so that a busy machine slows all
alike. Then hostile programs are sent through each. Ends with 1 where ours passed a program that must fail.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hrmctl_data.datasets import DATASETS
from hrmctl_data.download import download
from hrmctl_sandbox import probe
from peers import workloads
from peers.clients import Client, Verdict, attack
from peers.environments import PEERS, Unavailable, frozen, python_of
from peers.hostile import corpus
from peers.race import Plan, Timing, race
from peers.workloads import Workload

from hrmctl.jsonio import write_atomic

ROOT = Path(__file__).resolve().parents[1]
OURS = "hrmctl_sandbox"
_HOSTILE_SECONDS = 1.0
_HOSTILE_SHARE = 60.0  # seconds
_FILES = {"humaneval": "HumanEval.jsonl.gz", "mbpp": "mbpp.jsonl"}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--humaneval", type=Path, help="HumanEval.jsonl.gz; else of $HRMCTL_TEST_DATA, else downloaded")
    parser.add_argument("--mbpp", type=Path, help="mbpp.jsonl; likewise")
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", help="where environments and downloads are kept")
    parser.add_argument("--bwrap", default=shutil.which("bwrap"), help="the bubblewrap program")
    parser.add_argument("--rounds", type=int, default=3, help="how often all harnesses take turns (default 3)")
    parser.add_argument("--minutes", type=float, default=6.0, help="what rounds are planned for (6)")
    parser.add_argument("--seconds", type=float, default=1.5, help="about how long one call of a harness lasts (1.5)")
    parser.add_argument("--humaneval-every", type=int, default=2, help="use every so many-th problem (default 2)")
    parser.add_argument("--mbpp-every", type=int, default=24, help="likewise (default 24)")
    parser.add_argument("--peers", nargs="*", help="only these peers")
    parser.add_argument("--quick", action="store_true", help="one round, half of the problems")
    parser.add_argument("--part", choices=("race", "hostile"), help="only the race, or only the hostile programs")
    parser.add_argument("--out", type=Path, help="write all figures as JSON to this file")
    return parser.parse_args()


def data_file(name: str, given: Path | None, cache: Path) -> Path:
    """The published file of a benchmark: given, of the folder that the tests use, or downloaded and checked."""
    folder = os.environ.get("HRMCTL_TEST_DATA")
    path = given or (Path(folder) / _FILES[name] if folder else None)
    if path is None:
        spec = next(spec for spec in DATASETS if spec.name == name)
        return download(spec.url, cache / _FILES[name], spec.sha256, lambda done, total: None)
    if not path.is_file():
        raise SystemExit(f"no file {path}; give the published one with --{name}")
    return path


def loads(options: argparse.Namespace) -> list[Workload]:
    """The four workloads."""
    few = 2 if options.quick else 1
    human = workloads.human_eval(data_file("humaneval", options.humaneval, options.cache))
    mbpp = workloads.mbpp(data_file("mbpp", options.mbpp, options.cache))
    print(f"{len(human)} problems of HumanEval; {len(mbpp)} of MBPP are of the shape that evalplus takes")
    human, mbpp = human[:: options.humaneval_every * few], mbpp[:: options.mbpp_every * few]
    return [
        workloads.references("HumanEval", human, 3.0),
        workloads.references("MBPP", mbpp, 3.0),
        workloads.with_loops("2 % endless loops", human, 1.0),
        workloads.half_wrong("half wrong", human[::2], 3.0),
    ]


def environments(options: argparse.Namespace) -> dict[str, Path]:
    """The interpreter of each harness that can be had here, ours first; says why where one cannot."""
    found = {OURS: Path(sys.executable)}
    for peer in PEERS:
        if options.peers is not None and peer.name not in options.peers:
            continue
        try:
            python = python_of(peer, options.cache)
            Client(peer.name, python, options.cache, options.bwrap).close()
            found[peer.name] = python
        except Unavailable as error:
            print(f"{peer.name} is left out: {error}")
    return found


def hostile(pythons: dict[str, Path], options: argparse.Namespace) -> dict[str, list[Verdict]]:
    """Every hostile program through every harness; peers inside an outer container, ours as it is."""

    def one(name: str) -> list[Verdict]:
        folder = options.cache / "arena" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]

        programs = corpus(str(folder), port)

        def make() -> Client:
            inside = None if name == OURS else folder
            return Client(name, pythons[name], options.cache, options.bwrap, inside, programs.answers)

        try:
            return attack(make, programs, folder, port, _HOSTILE_SECONDS)
        except Unavailable as error:
            print(f"no hostile programs for {name}: {error}")
            return []

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(pythons, pool.map(one, pythons), strict=True))
    return {name: verdicts for name, verdicts in found.items() if verdicts}


def print_race(timings: list[Timing]) -> None:
    """Medians, spread, how much faster ours is, and verdicts that differ from a plain interpreter's."""
    for load, cores in dict.fromkeys((timing.workload, timing.cores) for timing in timings):
        rows = [timing for timing in timings if (timing.workload, timing.cores) == (load, cores)]
        ours = next((row for row in rows if row.harness == OURS), None)
        print(f"\n{load}, {cores} core{'s' * (cores > 1)}, {len(rows[0].rates)} rounds: programs/s")
        print(f"  {'harness':16} {'median':>8} {'min':>8} {'max':>8} {'ours is':>8} {'one copy':>9} {'programs':>9}"
              "  wrong passes, wrong fails")  # fmt: skip
        for row in rows:
            ratio = f"{ours.median / row.median:.1f}x" if ours else "?"
            print(
                f"  {row.harness:16} {row.median:8.1f} {min(row.rates):8.1f} {max(row.rates):8.1f} {ratio:>8}"
                f" {row.first:9.1f} {row.programs:9}  {len(row.wrong_passes)}, {len(row.wrong_fails)}"
            )


def print_hostile(found: dict[str, list[Verdict]]) -> None:
    """How many programs were held, how many passed without knowing the answers, and how many did what is denied."""
    if not found:
        return
    print(f"\n{len(next(iter(found.values())))} hostile programs")
    print(f"  {'harness':16} {'held':>5} {'forged':>7} {'escaped':>8} {'next harmed':>12} {'harness lost':>13}")
    for name, verdicts in found.items():
        counts = (sum(v.held for v in verdicts), sum(v.forged for v in verdicts), sum(v.escaped for v in verdicts))
        harmed, lost = sum(not v.next and not v.lost for v in verdicts), sum(bool(v.lost) for v in verdicts)
        print(f"  {name:16} {counts[0]:5} {counts[1]:7} {counts[2]:8} {harmed:12} {lost:13}")
    peers = [verdicts for name, verdicts in found.items() if name != OURS]
    if peers:
        beaten = sum(any(not v.held for v in same) for same in zip(*peers, strict=True))
        print(f"  {beaten} of them get the better of at least one of the other harnesses")


def faults(part: str | None, timings: list[Timing], found: dict[str, list[Verdict]]) -> list[str]:
    """What speaks against ours: a program that must fail and passed, harm that was not held, or a part left undone."""
    ours = [timing for timing in timings if timing.harness == OURS]
    raced = part == "hostile" or len(ours) == len({(timing.workload, timing.cores) for timing in timings}) > 0
    undone = [] if raced and (part == "race" or OURS in found) else [f"{OURS} did not finish"]
    wrong = [f"{timing.workload}: {task}" for timing in ours for task in sorted(timing.wrong_passes)]
    return undone + wrong + [f"hostile: {asdict(v)}" for v in found.get(OURS, []) if not v.held]


def main() -> None:
    """Install, race, attack, print, write."""
    options = arguments()
    options.cache.mkdir(parents=True, exist_ok=True)
    options.cache = options.cache.resolve()
    options.bwrap = options.bwrap and os.path.abspath(options.bwrap)
    begun, load_before = time.monotonic(), os.getloadavg()
    print(f"{OURS} is {probe().mode}; load average {load_before[0]:.2f} at the start", flush=True)
    pythons = environments(options)
    timings = [] if options.part == "hostile" else races(pythons, options, begun)
    print_race(timings)
    found = {} if options.part == "race" else hostile(pythons, options)
    print_hostile(found)
    print(f"\n{time.monotonic() - begun:.0f} s; load average {os.getloadavg()[0]:.2f} at the end")
    if options.out:
        write_atomic(options.out, json.dumps(report(options, pythons, timings, found, load_before), indent=1))
    wrong = faults(options.part, timings, found)
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    raise SystemExit(1 if wrong else 0)


def races(pythons: dict[str, Path], options: argparse.Namespace, begun: float) -> list[Timing]:
    """The race on one core, then on all; the last part of the minutes is kept for the hostile programs."""
    work, cpus = loads(options), sorted(os.sched_getaffinity(0))
    clients = {name: Client(name, python, options.cache, options.bwrap) for name, python in pythons.items()}
    rounds, seconds = (1, 0.5) if options.quick else (options.rounds, options.seconds)
    ready, end = time.monotonic(), begun + 60 * options.minutes - _HOSTILE_SHARE
    try:
        timings = race(clients, work, Plan(rounds, seconds, ready + 0.6 * (end - ready)), cpus[:1])
        return timings + (race(clients, work, Plan(rounds, seconds, end), cpus) if len(cpus) > 1 else [])
    finally:
        for client in clients.values():
            client.close()


def report(
    options: argparse.Namespace,
    pythons: dict[str, Path],
    timings: list[Timing],
    found: dict[str, list[Verdict]],
    load_before: tuple[float, float, float],
) -> dict[str, Any]:
    """Everything that was measured, and on what."""
    notes = {peer.name: peer.note for peer in PEERS}
    rows = [asdict(t) | {"wrong_passes": sorted(t.wrong_passes), "wrong_fails": sorted(t.wrong_fails)} for t in timings]
    return {
        "isolation": asdict(probe()),
        "machine": {"platform": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()},
        "load_average": {"start": load_before, "end": os.getloadavg()},
        "harnesses": {
            name: {"how": notes.get(name, "judge"), "packages": frozen(path)} for name, path in pythons.items()
        },
        "options": {name: str(value) for name, value in vars(options).items()},
        "race": rows,
        "hostile": {name: [asdict(v) | {"held": v.held} for v in verdicts] for name, verdicts in found.items()},
    }


if __name__ == "__main__":
    main()
