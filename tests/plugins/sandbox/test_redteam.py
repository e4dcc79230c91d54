"""Every attack of the second corpus ends as it should, under a judge that lives on and with nothing left behind."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hrmctl_sandbox import Limits, Outcome, Problem, Sample, pool
from hrmctl_sandbox.channel import Channel, Stop
from sandbox_machine import offers
from sandbox_redteam import ATTACKS, Attack

HONEST = Problem("honest", ("assert solve(7) == 1729",))
TOKEN = "token-of-the-secret-file"
# Processes that carry this number in their arguments are those of this test.
MEMORY_BYTES = (512 << 20) + os.getpid()
LIMITS = Limits(cpu_seconds=0.4, wall_seconds=1.5, memory_bytes=MEMORY_BYTES, output_bytes=4 << 20)


@dataclass
class Outside:
    """What the attacks may reach for, and what was seen of them."""

    folder: Path

    def aim(self, source: str) -> str:
        """The program with its targets filled in."""
        targets = {"SECRET": self.folder / "secret", "VICTIM": self.folder / "victim", "FOLDER": self.folder}
        for name, path in targets.items():
            source = source.replace(f"@{name}@", str(path))
        return source

    def damage(self) -> list[str]:
        """What was done out here."""
        found = sorted(set(os.listdir(self.folder)) - {"secret", "victim"})
        victim = self.folder / "victim"
        return found + ([] if (victim.read_text(), int(victim.stat().st_mtime)) == ("precious", 1) else ["victim"])


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o777)
    (tmp_path / "secret").write_text(TOKEN)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "victim").chmod(0o666)
    os.utime(tmp_path / "victim", (1, 1))
    return Outside(tmp_path)


def judged(outside: Outside, attacks: dict[str, Attack], without: frozenset[str]) -> dict[str, dict[str, Outcome]]:
    """The outcomes of each attack and of the honest program after it, all through one worker."""
    problems = [HONEST, *(Problem(name, item.tests) for name, item in attacks.items())]
    found: dict[str, dict[str, Outcome]] = {name: {} for name in attacks}
    names = list(attacks)

    def samples() -> Iterator[Sample]:
        for number, (name, item) in enumerate(attacks.items()):
            yield Sample(name, number, outside.aim(item.program))
            yield Sample("honest", number, f"def solve(x): return 1729  # {number}")

    for outcome in pool.run(problems, samples(), pool.Options(LIMITS, workers=1, without=without)):
        found[names[outcome.index]]["next" if outcome.problem_id == "honest" else "attack"] = outcome
    return found


def shortcomings(attack: Attack, outcomes: dict[str, Outcome]) -> list[str]:
    """What went wrong with one attack."""
    if set(outcomes) != {"attack", "next"}:
        return [f"outcomes of {sorted(outcomes)} only"]
    hostile, honest = outcomes["attack"], outcomes["next"]
    wrong = []
    marked = attack.owned and hostile.forgeable
    if hostile.error.value not in attack.ends and not (hostile.passed and marked):
        wrong.append(f"ended as {hostile.error.value}: {hostile.detail}")
    if TOKEN in hostile.detail or "LEAK" in hostile.detail:
        wrong.append(f"leaked: {hostile.detail}")
    if "died" in hostile.detail:
        wrong.append(hostile.detail)
    return wrong + ([] if honest.passed else [f"the next program: {honest}"])


def left_behind() -> list[str]:
    """The processes of this test's judges that still live."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            arguments = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if str(MEMORY_BYTES).encode() in arguments:
            found.append(arguments.decode(errors="replace"))
    return found


QUICK = {name: item for name, item in ATTACKS.items() if not item.slow}
SLOW = {name: item for name, item in ATTACKS.items() if item.slow}
MODES = [
    pytest.param(frozenset[str](), QUICK, id="sealed"),
    pytest.param(frozenset[str](), SLOW, id="sealed-slow", marks=pytest.mark.slow),
    pytest.param(frozenset({"namespaces"}), ATTACKS, id="no-namespaces-all", marks=pytest.mark.slow),
    pytest.param(frozenset({"landlock"}), ATTACKS, id="no-landlock-all", marks=pytest.mark.slow),
]


@pytest.mark.filterwarnings("ignore:sandbox mode confined")
@pytest.mark.parametrize(("without", "attacks"), MODES)
def test_attacks(outside: Outside, without: frozenset[str], attacks: dict[str, Attack]) -> None:
    if not {"seccomp", "namespaces", "landlock"} - without <= offers():
        pytest.skip(f"this kernel offers only {offers()}")
    found = judged(outside, attacks, without)
    assert {name: bad for name, item in attacks.items() if (bad := shortcomings(item, found[name]))} == {}
    time.sleep(0.2)
    assert (outside.damage(), left_behind()) == ([], [])


def test_corpus_is_large() -> None:
    assert len(ATTACKS) >= 400


class _Idle:
    """The clocks of a process that uses no processor and waits for none."""

    def cpu_seconds(self) -> float:
        return 0.0

    def queued_seconds(self) -> float:
        return 0.0


class _Dripping:
    """A poll that never waits in vain: the other end has always just sent one more byte."""

    other: socket.socket

    def register(self, *_: object) -> None:
        """Nothing to do."""

    def poll(self, _: float) -> list[tuple[int, int]]:
        time.sleep(0.001)
        self.other.send(b" ")
        return [(0, select.POLLIN)]


def test_an_answer_that_never_pauses_is_timed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = socket.socketpair()
    monkeypatch.setattr(_Dripping, "other", other, raising=False)
    monkeypatch.setattr(select, "poll", _Dripping)
    other.send(b"\0\0\4\0")
    with mine, other, pytest.raises(Stop) as caught:
        Channel(mine, Limits(cpu_seconds=0.1, wall_seconds=0.2), _Idle()).receive()
    assert caught.value.detail == "over 0.2 s"


def test_time_that_one_program_leaves_is_not_counted_against_the_next() -> None:
    """The tests stand for answers that use up nearly all of the judge's own time."""
    nearly = "import signal\nassert solve(7) == 1729\nsignal.setitimer(signal.ITIMER_PROF, 0.001)"
    samples = [
        Sample("honest", 0, "def solve(x): return 1729"),
        Sample("nearly", 1, "def solve(x): return 1729"),
        Sample("honest", 2, "def solve(x): return 1729  # " + "x" * (10 << 20)),
    ]
    problems = [Problem("nearly", (nearly,)), HONEST]
    limits = Limits(cpu_seconds=5, wall_seconds=20)
    found = list(pool.run(problems, samples, pool.Options(limits, workers=1)))
    assert {outcome.index: outcome.error.value for outcome in found} == dict.fromkeys(range(3), "passed")


def test_a_large_program_behind_a_slow_one_holds_up_no_other() -> None:
    slow = Sample("honest", 0, "import time\ndef solve(x): time.sleep(100)")
    large = [Sample("honest", number, f"def solve(x): return 1729  # {number}" + "x" * 3_000_000) for number in (2, 3)]
    samples = [slow, Sample("honest", 1, "def solve(x): return 1729"), *large]
    options = pool.Options(Limits(cpu_seconds=1, wall_seconds=2), workers=2)
    order = [outcome.index for outcome in pool.run([HONEST], samples, options)]
    assert order.index(1) < order.index(0)
