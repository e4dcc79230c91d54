"""How fast the command answers, as a ratio to starting Typer: `python benchmarks/startup.py`.

Runs are interleaved and the medians compared, so that a busy machine slows both sides alike.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
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
MANY = "hrmctl check, 100 contracts"
ROUNDS = 15


def seconds(command: list[str]) -> float:
    """Wall time of one command."""
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 3):  # 3: the contracts of a store without a run are UNTESTED
        raise SystemExit(f"{command} ended with {done.returncode}")
    return time.perf_counter() - begun


def imported(command: list[str]) -> list[str]:
    """Top-level packages that a command imports, without the standard library."""
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True)
    names = {line.split("|")[-1].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}
    return sorted(n for n in names if n not in sys.stdlib_module_names and not n.startswith("_"))


def many_contracts(folder: Path) -> list[str]:
    """A command that checks (and proves) a hundred contracts made from those of the quickstart."""
    texts = [p.read_text() for p in sorted(Path("contracts/quickstart").glob("*.yaml")) if p.stem != "gate"]
    for number in range(100):
        text = texts[number % len(texts)]
        (folder / f"{number}.yaml").write_text(re.sub(r"(?m)^id: .*$", f"id: N{number}", text))
    return [HRMCTL, "check", str(folder), "--store", str(folder / ".store")]


def main() -> None:
    """Measure all commands in turn and print medians and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        measure({**COMMANDS, MANY: many_contracts(Path(folder))})


def measure(commands: dict[str, list[str]]) -> None:
    """Run all commands in turn, several times, and print medians and ratios."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    base = statistics.median(times["python -c 'import typer'"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:36} {median * 1000:7.0f} ms  {median / base:5.2f} x typer")
    heavy = statistics.median(times["python -c 'import scipy.stats'"])
    print(f"{MANY}: {statistics.median(times[MANY]) / heavy:.2f} x importing scipy.stats")
    print("--help imports:", ", ".join(imported([HRMCTL, "--help"])))
    print("--version imports:", ", ".join(imported([HRMCTL, "--version"])))


if __name__ == "__main__":
    main()
