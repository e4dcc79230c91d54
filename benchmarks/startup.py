"""How fast the command answers, as a ratio to starting Typer: `python benchmarks/startup.py`.

Runs are interleaved and the medians compared, so that a busy machine slows both sides alike.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

HRMCTL = str(Path(sys.executable).with_name("hrmctl"))
COMMANDS = {
    "python -c 'import typer'": [sys.executable, "-c", "import typer"],
    "hrmctl --version": [HRMCTL, "--version"],
    "hrmctl --help": [HRMCTL, "--help"],
    "python -c 'import scipy.stats'": [sys.executable, "-c", "import scipy.stats"],
    "hrmctl contracts prove contracts": [HRMCTL, "contracts", "prove", "contracts"],
}
ROUNDS = 15


def seconds(command: list[str]) -> float:
    """Wall time of one command."""
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def imported(command: list[str]) -> list[str]:
    """Top-level packages that a command imports, without the standard library."""
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True)
    names = {line.split("|")[-1].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}
    return sorted(n for n in names if n not in sys.stdlib_module_names and not n.startswith("_"))


def main() -> None:
    """Measure all commands in turn and print medians and ratios."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    base = statistics.median(times["python -c 'import typer'"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:36} {median * 1000:7.0f} ms  {median / base:5.2f} x typer")
    print("--help imports:", ", ".join(imported([HRMCTL, "--help"])))
    print("--version imports:", ", ".join(imported([HRMCTL, "--version"])))


if __name__ == "__main__":
    main()
