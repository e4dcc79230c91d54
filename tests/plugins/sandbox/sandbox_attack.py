"""The register of hostile programs: each defines `solve`, and none knows what it must return."""

from __future__ import annotations

PROGRAMS: dict[str, str] = {}


def add(name: str, source: str) -> None:
    assert name not in PROGRAMS, name
    PROGRAMS[name] = source.strip("\n") + "\n"


def inside(name: str, body: str) -> None:
    """A program whose `solve` runs `body`."""
    lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
    add(name, f"def solve(x):\n{lines}\n")


def leak(name: str, expression: str) -> None:
    """A program that shows what it read in an exception's message."""
    inside(name, f"raise ValueError({expression})")
