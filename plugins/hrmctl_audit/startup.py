"""The stage `audit.startup`: how long `hrmctl --help` takes against starting Typer."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from hrmctl import Context, Observation, Output, StageError, StageInputs, StageResult
from hrmctl.jsonio import canonical, write_atomic
from hrmctl_audit.params import StartupParams


def run(params: StartupParams, inputs: StageInputs, ctx: Context) -> StageResult:
    """Start both in turn, so that a busy machine slows both alike; the value of each is the median of its trials.

    Raises StageError where one of them does not end well.
    """
    commands = {
        "help_seconds": [str(Path(sys.executable).with_name("hrmctl")), "--help"],
        "typer_seconds": [sys.executable, "-c", "import typer"],
    }
    for command in commands.values():
        _seconds(command)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for trial in range(params.trials):
        for name, command in commands.items():
            times[name].append(_seconds(command))
        ctx.progress(trial + 1, params.trials)
    output = Output(ctx.scratch / "startup.json", "hrmctl")
    write_atomic(output.path, canonical({name: {"command": commands[name], "seconds": t} for name, t in times.items()}))
    seen = [
        Observation(
            name, "measurement/v1", {"value": median(t), "unit": "s", "n": len(t), "trials": t}, {"project": output}
        )
        for name, t in times.items()
    ]
    return StageResult({"times": output}, seen)


def _seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return time.perf_counter() - begun
