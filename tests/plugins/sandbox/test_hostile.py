"""Every hostile program is contained, is not passed, and leaves the next program unharmed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hrmctl_sandbox
import pytest
from hrmctl_sandbox import ErrorClass, Limits, Outcome, Problem, Sample, pool
from sandbox_hostile import PROGRAMS, SLOW
from sandbox_machine import offers

LIMITS = Limits(cpu_seconds=0.2, wall_seconds=1.5, memory_bytes=512 << 20, output_bytes=1 << 20)
PROBLEM = Problem("target", ("assert solve(7) == 1729", "assert solve('x') == [['a', 1.5]]"))
HONEST = "def solve(x):\n    import math\n    return [1729, [['a', math.sqrt(2.25)]]][x == 'x']  # {}\n"
TOKEN = "token-of-the-secret-file"


@dataclass
class Outside:
    """What the programs attack, and what was seen of them."""

    folder: Path
    tcp: socket.socket
    udp: socket.socket
    abstract: socket.socket
    unix: socket.socket

    def aim(self, source: str) -> str:
        """The program with its targets filled in."""
        targets = {
            "SECRET": str(self.folder / "secret"),
            "VICTIM": str(self.folder / "victim"),
            "FOLDER": str(self.folder),
            "PORT": str(self.tcp.getsockname()[1]),
            "UDP": str(self.udp.getsockname()[1]),
            "ABSTRACT": self.folder.name,
            "UNIX": str(self.folder / "unix"),
            "HARNESS": str(Path(hrmctl_sandbox.__file__).parent),
        }
        for name, value in targets.items():
            source = source.replace(f"@{name}@", value)
        return source

    def damage(self) -> list[str]:
        """What the programs did out here."""
        found = sorted(set(os.listdir(self.folder)) - {"secret", "victim", "planted.py", "link", "unix"})
        if (self.folder / "victim").read_text() != "precious":
            found.append("victim changed")
        for name, listener in (("tcp", self.tcp), ("abstract", self.abstract), ("unix", self.unix)):
            found += [name] if _accepts(listener) else []
        return found + (["udp"] if _hears(self.udp) else [])


def _accepts(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _hears(receiver: socket.socket) -> bool:
    try:
        return bool(receiver.recv(10))
    except BlockingIOError:
        return False


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o777)
    (tmp_path / "secret").write_text(TOKEN)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "victim").chmod(0o666)
    (tmp_path / "planted.py").write_text(f"TOKEN = {TOKEN!r}\n")
    (tmp_path / "link").symlink_to(TOKEN)
    tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    abstract, unix = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0{tmp_path.name}")
    unix.bind(str(tmp_path / "unix"))
    (tmp_path / "unix").chmod(0o777)
    found = Outside(tmp_path, tcp, udp, abstract, unix)
    for listener in (tcp, udp, abstract, unix):
        listener.setblocking(False)
        if listener is not udp:
            listener.listen()
    yield found
    for listener in (tcp, udp, abstract, unix):
        listener.close()


def judge_corpus(outside: Outside, without: frozenset[str], programs: dict[str, str]) -> dict[str, list[Outcome]]:
    """Each hostile program and after it an honest one, through one worker."""
    samples = []
    for number, source in enumerate(programs.values()):
        samples.append(Sample("target", 2 * number, outside.aim(source)))
        samples.append(Sample("target", 2 * number + 1, HONEST.format(number)))
    options = pool.Options(LIMITS, workers=1, without=without)
    outcomes = sorted(pool.run([PROBLEM], samples, options), key=lambda outcome: outcome.index)
    assert len(outcomes) == len(samples)
    return {name: outcomes[2 * number : 2 * number + 2] for number, name in enumerate(programs)}


def shortcomings(graded: dict[str, list[Outcome]], mode: str) -> list[str]:
    """What went wrong, one line for each program."""
    wrong = []
    for name, (hostile, honest) in graded.items():
        if hostile.passed or (hostile.error is ErrorClass.REFUSED and "two objects" not in hostile.detail):
            wrong.append(f"{name}: {hostile}")
        if TOKEN in hostile.detail or "LEAK" in hostile.detail:
            wrong.append(f"{name} leaked: {hostile.detail}")
        if not honest.passed:
            wrong.append(f"the program after {name}: {honest}")
        if {hostile.mode, honest.mode} - {mode, ""}:
            wrong.append(f"{name}: mode {hostile.mode}")
    return wrong


QUICK = {name: source for name, source in PROGRAMS.items() if name not in SLOW}
LONG = {name: PROGRAMS[name] for name in PROGRAMS if name in SLOW}
MODES = [
    pytest.param(frozenset[str](), "sealed", PROGRAMS, id="sealed"),
    pytest.param(frozenset({"namespaces"}), "confined", QUICK, id="no-namespaces"),
    pytest.param(frozenset({"namespaces"}), "confined", LONG, id="no-namespaces-slow", marks=pytest.mark.slow),
    pytest.param(frozenset({"landlock"}), "confined", PROGRAMS, id="no-landlock-all", marks=pytest.mark.slow),
]


@pytest.mark.filterwarnings("ignore:sandbox mode confined")
@pytest.mark.parametrize(("without", "mode", "programs"), MODES)
def test_corpus(outside: Outside, without: frozenset[str], mode: str, programs: dict[str, str]) -> None:
    if not {"seccomp", "namespaces", "landlock"} - without <= offers():
        pytest.skip(f"this kernel offers only {offers()}")
    assert pool.isolation(without).mode == mode
    assert shortcomings(judge_corpus(outside, without, programs), mode) == []
    time.sleep(0.2)
    assert outside.damage() == []


def test_corpus_is_large() -> None:
    assert len(PROGRAMS) >= 60
