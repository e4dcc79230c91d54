"""One harness in its own environment: `python runner.py HARNESS` takes jobs as JSON lines and writes answers to files.

A job is `{"answer": PATH, "tasks": […], "programs": […], "workers": N, "seconds": S, "cpus": […]}`; with `"hostile"` it
is a list of programs to be attacked with, one by one (see attack). After each job one byte goes to standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from arena import Arena
from harnesses import LOADERS, Harness, Task, Work


def _work(job: dict[str, Any]) -> Work:
    tasks = {row["id"]: Task(**row) for row in job["tasks"]}
    return Work(tasks, [(name, program) for name, program in job["programs"]], job["workers"], job["seconds"])


def race(harness: Harness, job: dict[str, Any]) -> None:
    """Grade all programs of a job on its processors and write verdicts and seconds."""
    os.sched_setaffinity(0, job["cpus"])
    work = _work(job)
    begun = time.perf_counter()
    passed = harness(work)
    _write(job, {"passed": passed, "seconds": time.perf_counter() - begun})


def attack(harness: Harness, job: dict[str, Any]) -> None:
    """Grade each hostile program and after it a harmless one; append verdicts and seen effects, a line for each."""
    arena = Arena(Path(job["arena"]), job["port"], job["token"])
    for entry in job["hostile"]:
        arena.reset()
        task = job["tasks"][0]["id"]
        work = _work(job | {"programs": [(task, entry["source"]), (task, job["harmless"])]})
        row: dict[str, Any] = {"name": entry["name"]}
        try:
            row["passed"], row["next"] = harness(work)
        except BaseException as error:
            row["crashed"] = type(error).__name__
        time.sleep(entry["wait"])
        row["effects"] = arena.effects()
        with open(job["answer"], "a") as stream:
            stream.write(json.dumps(row) + "\n")


def _write(job: dict[str, Any], answer: dict[str, Any]) -> None:
    Path(job["answer"]).write_text(json.dumps(answer))


def main() -> None:
    """Load the harness and serve jobs. A harness that cannot be loaded says why and ends the process with 3."""
    jobs, done = os.fdopen(os.dup(0), "r"), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    try:
        harness = LOADERS[sys.argv[1]]()
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        raise SystemExit(3) from None
    os.write(done, b"r")
    for line in jobs:
        job = json.loads(line)
        (attack if "hostile" in job else race)(harness, job)
        os.write(done, b".")


if __name__ == "__main__":
    main()
