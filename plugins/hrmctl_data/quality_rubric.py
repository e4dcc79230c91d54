"""The rubric of `data.quality`: a document begins with 100 points, and each criterion takes away up to its weight."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from hrmctl_data import quality_text as text
from hrmctl_data.quality_code import (
    Program,
    comment_share,
    has_structure,
    holds_tests,
    idle_functions,
    program_of,
    undefined_names,
)
from hrmctl_data.quality_parts import Kind, Parts

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


class Reading:
    """A document's parts with what several criteria look at, each worked out once."""

    def __init__(self, parts: Parts, repeats: bool):
        self.parts, self.repeats = parts, repeats
        self.answer = parts.answer
        self.both = f"{parts.prompt}\n{parts.answer}"
        self.empty = not parts.answer.strip()

    @cached_property
    def words(self) -> list[str]:
        return _WORD.findall(self.answer)

    @cached_property
    def lines(self) -> list[str]:
        return [line for line in self.answer.splitlines() if line.strip()]

    @cached_property
    def program(self) -> Program:
        return program_of(self.parts)


@dataclass(frozen=True, slots=True)
class Criterion:
    """One check: `loss` says, from 0 to 1, how much of the `weight` (points) a document loses."""

    name: str
    weight: int
    loss: Callable[[Reading], float]


def ramp(value: float, good: float, bad: float) -> float:
    """0 at `good` and better, 1 at `bad` and worse, a straight line between; `bad` may lie on either side."""
    return min(1.0, max(0.0, (value - good) / (bad - good)))


def _balance(reading: Reading) -> float:
    prompt, answer = reading.parts.prompt.strip(), reading.answer.strip()
    return ramp(len(answer) / len(prompt), 1 / 50, 1 / 200) if prompt else 0.0


def _repetition(reading: Reading) -> float:
    lines = ramp(text.repeated_line_share(reading.answer), 0.3, 0.6)
    packed = ramp(text.packed_share(reading.answer), 0.2, 0.1)
    if reading.parts.kind == "code":
        return max(lines, packed)
    return max(lines, packed, ramp(text.repeated_gram_share(reading.words), 0.15, 0.5))


def _long_lines(reading: Reading) -> float:
    longest = max(map(len, reading.lines), default=0)
    mean = sum(map(len, reading.lines)) / len(reading.lines) if reading.lines else 0.0
    return max(ramp(longest, 1000, 2000), ramp(mean, 100, 200))


def _comments(reading: Reading) -> float:
    share = comment_share(reading.program)
    unexplained = reading.program.tree is not None and share < 0.01 and not reading.parts.prompt.strip()
    return max(ramp(share, 0.8, 0.95), 1 / 3 if unexplained else 0.0)


def _word_length(reading: Reading) -> float:
    mean = text.mean_length(reading.words)
    return max(ramp(mean, 3, 2), ramp(mean, 10, 12)) if reading.words else 1.0


def _few_words(reading: Reading) -> float:
    count = len(reading.words) + len(_WORD.findall(reading.parts.prompt))
    return max(ramp(count, 20, 3), ramp(count, 100_000, 200_000))


def _stop_words(reading: Reading) -> float:
    return ramp(text.stop_word_share(reading.words), 0.06, 0.02) if len(reading.words) >= 20 else 0.0


def _marks(reading: Reading) -> float:
    marks = reading.answer.count("#") + reading.answer.count("...") + reading.answer.count("…")
    return ramp(marks / max(1, len(reading.words)), 0.1, 0.3)


def _lists(reading: Reading) -> float:
    bullets = ramp(text.bullet_share(reading.lines), 0.9, 1.0) if len(reading.lines) > 2 else 0.0
    return max(bullets, ramp(text.ellipsis_share(reading.lines), 0.3, 0.6))


_ALWAYS = (
    Criterion("empty", 100, lambda r: float(r.empty)),
    Criterion("duplicate", 60, lambda r: float(r.repeats)),
    Criterion("garbage", 80, lambda r: ramp(text.garbage_share(r.both), 0.0, 0.02)),
    Criterion("repetition", 60, _repetition),
    Criterion("secrets", 60, lambda r: float(text.secrets(r.both) > 0)),
    Criterion("personal", 25, lambda r: float(text.personal(r.both) > 0)),
    Criterion("balance", 25, _balance),
)

RUBRIC: Mapping[Kind, tuple[Criterion, ...]] = {
    "code": (
        *_ALWAYS,
        Criterion("symbols", 40, lambda r: ramp(text.alphanumeric_share(r.answer), 0.35, 0.2)),
        Criterion("foreign", 30, lambda r: ramp(text.foreign_share(r.answer), 0.2, 0.6)),
        Criterion("parses", 70, lambda r: float(r.program.tree is None and not r.program.truncated)),
        Criterion("truncated", 70, lambda r: float(r.program.tree is None and r.program.truncated)),
        Criterion("names", 40, lambda r: float(bool(undefined_names(r.program, r.parts.given)))),
        Criterion("idle", 40, lambda r: float(bool(idle_functions(r.program)))),
        Criterion("structure", 10, lambda r: float(r.program.tree is not None and not has_structure(r.program))),
        Criterion("lines", 30, _long_lines),
        Criterion("comments", 15, _comments),
        Criterion("leaked_tests", 30, lambda r: float(holds_tests(r.parts))),
    ),
    "text": (
        *_ALWAYS,
        Criterion("symbols", 40, lambda r: ramp(text.alphanumeric_share(r.answer), 0.75, 0.5)),
        Criterion("words", 60, _few_words),
        Criterion("word_length", 40, _word_length),
        Criterion("letters", 40, lambda r: ramp(text.letter_share(r.words), 0.8, 0.5)),
        Criterion("stop_words", 60, _stop_words),
        Criterion("marks", 20, _marks),
        Criterion("lists", 20, _lists),
        Criterion("ending", 10, lambda r: float(not text.ends_a_sentence(r.answer))),
    ),
}


@dataclass(frozen=True, slots=True)
class Score:
    """Points kept (0-100, to one decimal) and the points that each criterion took."""

    value: float
    lost: Mapping[str, float]


def score(parts: Parts, repeats: bool) -> Score:
    """Score one document; `repeats` says that an equal one came before. An empty answer answers no other criterion."""
    reading = Reading(parts, repeats)
    lost = {
        criterion.name: round(criterion.weight * criterion.loss(reading), 1)
        if criterion.name == "empty" or not reading.empty
        else 0.0
        for criterion in RUBRIC[parts.kind]
    }
    return Score(round(max(0.0, 100.0 - sum(lost.values())), 1), lost)
