"""The register of attacks: each names the tests that it faces and the verdicts that are right."""

from __future__ import annotations

from dataclasses import dataclass

TARGET = ("assert solve(7) == 1729", "assert solve('x') == [['a', 1.5]]")
ONE = ("assert solve(7) == 1729",)
SHOWN = ("found = solve(7)\nassert found == 1729, found",)
FAILED = frozenset({"syntax", "compile", "runtime", "wrong_answer", "timeout", "memory", "killed"})
REFUSED = FAILED | {"refused"}
# What the tests ask for is done, by means that change nothing: a plain interpreter passes it and so must the judge.
HONEST = frozenset({"passed"})


@dataclass(frozen=True)
class Attack:
    """A program, the tests it faces, and the verdicts that are right. `owned` lets it pass if marked forgeable."""

    program: str
    tests: tuple[str, ...] = TARGET
    ends: frozenset[str] = FAILED
    owned: bool = False
    slow: bool = False


ATTACKS: dict[str, Attack] = {}


def attack(
    name: str, program: str, *tests: str, ends: frozenset[str] = FAILED, owned: bool = False, slow: bool = False
) -> None:
    """Register a whole program."""
    assert name not in ATTACKS, name
    ATTACKS[name] = Attack(program.strip("\n") + "\n", tests or TARGET, ends, owned, slow)


def inside(
    name: str, body: str, *tests: str, ends: frozenset[str] = FAILED, owned: bool = False, slow: bool = False
) -> None:
    """Register a program whose `solve` runs `body`."""
    lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
    attack(name, f"def solve(x):\n{lines}\n", *tests, ends=ends, owned=owned, slow=slow)


# A program that sends any tree for a value: the encoder lets Raw through as it is.
RAW = """
import sys
_codec = sys.modules['hrmctl_sandbox.codec']
class Raw:
    def __init__(self, tree): self.tree = tree
_encode = _codec.Encoder.encode
_codec.Encoder.encode = lambda self, v: v.tree if type(v) is Raw else _encode(self, v)
"""
# A program that knows its process's server and writes frames of its own.
WIRE = """
import json, os, struct, sys
def frame(tree):
    body = json.dumps(tree).encode()
    return struct.pack('>I', len(body)) + body
def server():
    f = sys._getframe()
    while f:
        for v in list(f.f_locals.values()):
            if type(v).__name__ == 'Server': return v
        f = f.f_back
"""
# A program that calls the kernel by number: (x86-64, arm64).
KERNEL = """
import ctypes, os, platform
_libc = ctypes.CDLL(None, use_errno=True)
def kernel(numbers, *arguments):
    done = _libc.syscall(numbers[platform.machine() != 'x86_64'], *arguments)
    if done == -1: raise OSError(ctypes.get_errno(), 'denied')
    raise ValueError('LEAK: allowed')
"""


def tree(name: str, text: str, *tests: str, ends: frozenset[str] = FAILED, slow: bool = False) -> None:
    """Register a program that answers with a raw tree, given as an expression."""
    attack(f"tree: {name}", RAW + f"def solve(x): return Raw({text})\n", *(tests or ONE), ends=ends, slow=slow)
