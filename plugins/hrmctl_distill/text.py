"""Distillation by text: the teacher answers the prompts of the data, and its answers become the data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrmctl_models.generate import iter_generate
from hrmctl_models.journal import Journal
from hrmctl_models.loading import LoadedModel
from hrmctl_sandbox import Limits, Sample, SandboxUnavailable, judge
from hrmctl_sandbox.formats import BadFile, CodeTask, read_tasks
from hrmctl_training.formats import Chat, Row
from hrmctl_training.rows import Reader
from hrmctl_training.sources import is_held

from hrmctl import Artifact, Context, Problem, StageError
from hrmctl.jsonio import canonical, write_atomic
from hrmctl_distill.params import DistillParams

_ROWS = "generated.jsonl"
_HELD = "held.jsonl"
_COUNTS = "generated.json"


@dataclass(frozen=True)
class Asked:
    """One prompt for the teacher; `task` has the tests where completions are verified."""

    prompt: str
    task: CodeTask | None = None


@dataclass(frozen=True)
class Generated:
    """The rows that the teacher wrote, and what became of its completions: their numbers by name.

    `held` are the rows of the data that `validation_split` holds out, with their own answers; the teacher was not
    asked for them.
    """

    path: Path
    counts: Mapping[str, int]
    held: Path | None = None


def generated(teacher: LoadedModel, data: Sequence[Artifact], params: DistillParams, ctx: Context) -> Generated:
    """A file of prompts and the teacher's completions of them, in the order of the data.

    Continues a killed attempt from its journals; a finished file is used as it is. Left out and counted
    are completions that came to no end, repeat another of their prompt, or, where `verify` is set, fail
    the tests. Raises StageError where the data cannot be read, nothing is left, or programs cannot be contained.
    """
    path, held, notes = ctx.scratch / _ROWS, ctx.scratch / _HELD, ctx.scratch / _COUNTS
    if not notes.is_file():
        if params.validation_split:
            _write(held, (row for artifact in data for row in _held(artifact, teacher, params)))
        asked = [item for artifact in data for item in _asked(artifact, teacher, params)]
        if not asked:
            raise StageError("every row of the data is held out; lower validation_split")
        texts, counts = _distinct(_completions(teacher, asked, params, ctx), params.samples)
        if params.verify:
            texts = _verified(asked, texts, params, ctx)
        counts["kept"] = sum(map(len, texts))
        if not counts["kept"]:
            raise StageError(f"none of the teacher's completions can be used ({counts}); {_remedy(params)}")
        _write(path, ((a.prompt, text) for a, found in zip(asked, texts, strict=True) for text in found))
        # Last: where the counts are, the rows are whole.
        write_atomic(notes, canonical(counts))
    return Generated(path, json.loads(notes.read_bytes()), held if params.validation_split else None)


def _write(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    lines = (canonical({"prompt": prompt, "completion": text}) + "\n" for prompt, text in rows)
    write_atomic(path, "".join(lines))


def _remedy(params: DistillParams) -> str:
    return f"raise max_new_tokens {params.max_new_tokens}, or take a better teacher"


def _asked(artifact: Artifact, teacher: LoadedModel, params: DistillParams) -> Iterator[Asked]:
    if params.verify:
        held = {prompt for prompt, _ in _held(artifact, teacher, params)} if params.validation_split else ()
        yield from (asked for asked in _tasks(artifact.path) if asked.prompt not in held)
        return
    reader = _reader(artifact, teacher, params)
    seen = set()
    for row in reader:
        prompt = _prompt(row)
        if prompt not in seen and not is_held(row, params.validation_split):
            seen.add(prompt)
            yield Asked(prompt)
    if params.bad_rows == "stop":
        reader.faults.refuse("bad rows", "mend them, or set bad_rows to skip")


def _held(artifact: Artifact, teacher: LoadedModel, params: DistillParams) -> Iterator[tuple[str, str]]:
    """Prompts and answers of the rows that are held out, as the teacher would be asked. Raises StageError for none."""
    found = 0
    for row in _reader(artifact, teacher, params):
        if is_held(row, params.validation_split):
            found += 1
            answer = row.pairs[-1][1]
            yield _prompt(row), answer.removesuffix(str(teacher.tokenizer.eos_token)) if row.ended else answer
    if not found:
        raise StageError(
            f"validation_split {params.validation_split} holds out no row of {artifact.label}; "
            "change it, or give a validation input"
        )


def _reader(artifact: Artifact, teacher: LoadedModel, params: DistillParams) -> Reader:
    return Reader(artifact.path, params.format, Chat(teacher.tokenizer, params.chat_template))


def _prompt(row: Row) -> str:
    """A conversation is asked for its last answer."""
    return "".join(text for pair in row.pairs[:-1] for text in pair) + row.pairs[-1][0]


def _tasks(path: Path) -> Iterator[Asked]:
    try:
        tasks = read_tasks(path)
    except BadFile as error:
        raise StageError(*(Problem(f.message, str(path), f.line, 1, f.remedy) for f in error.faults)) from error
    bare = next((task.task_id for task in tasks if not task.tests and not task.cases), None)
    if bare is not None:
        raise StageError(Problem(f"{bare} has no tests to verify completions with", str(path), remedy="unset verify"))
    yield from (Asked(task.prompt, task) for task in tasks)


def _completions(
    teacher: LoadedModel, asked: Sequence[Asked], params: DistillParams, ctx: Context
) -> list[list[tuple[str, str]]]:
    """Text and reason of the `samples` completions of each prompt."""
    found: dict[int, list[tuple[str, str]]] = {}
    tokens = 0
    with Journal(ctx.scratch / "completions.jsonl") as journal:
        for row in journal.rows:
            found[row["place"]] = [(text, reason) for text, reason in row["completions"]]
        rest = [place for place in range(len(asked)) if place not in found]

        def on_step(chosen: int) -> None:
            nonlocal tokens
            tokens += chosen
            ctx.check()

        finished = iter_generate(
            teacher,
            [asked[place].prompt for place in rest],
            n=params.samples,
            max_new_tokens=params.max_new_tokens,
            temperature=params.sampling_temperature,
            top_p=params.top_p,
            seed=ctx.seed,
            batch_size=0,
            on_step=on_step,
        )
        for index, completions in finished:
            place = rest[index]
            found[place] = [(completion.text, completion.reason) for completion in completions]
            journal.append({"place": place, "completions": found[place]})
            ctx.progress(len(found), len(asked), teacher_tokens=tokens)
    return [found[place] for place in range(len(asked))]


def _distinct(completions: Sequence[Sequence[tuple[str, str]]], samples: int) -> tuple[list[list[str]], dict[str, int]]:
    """The different finished completions of each prompt, and how many there were of which kind."""
    ended = [[text for text, reason in found if reason == "end" and text] for found in completions]
    texts = [list(dict.fromkeys(found)) for found in ended]
    whole = sum(map(len, ended))
    return texts, {
        "completions": len(completions) * samples,
        "finished": whole,
        "different": sum(map(len, texts)),
    }


def _verified(
    asked: Sequence[Asked], texts: Sequence[Sequence[str]], params: DistillParams, ctx: Context
) -> list[list[str]]:
    """The completions that pass the tests of their tasks."""
    tasks = [item.task for item in asked if item.task is not None]
    ids = {task.task_id: place for place, task in enumerate(tasks)}
    limits = Limits(params.cpu_seconds, 4 * params.cpu_seconds)
    total = sum(map(len, texts))
    with Journal(ctx.scratch / "verified.jsonl") as journal:
        judged = {(row["place"], row["index"]): row["passed"] for row in journal.rows}
        samples = (
            Sample(task.task_id, index, task.program(text))
            for place, (task, found) in enumerate(zip(tasks, texts, strict=True))
            for index, text in enumerate(found)
            if (place, index) not in judged
        )
        try:
            for outcome in judge([task.problem() for task in tasks], samples, limits=limits, workers=ctx.threads):
                place = ids[outcome.problem_id]
                judged[place, outcome.index] = outcome.passed
                journal.append({"place": place, "index": outcome.index, "passed": outcome.passed})
                ctx.progress(len(judged), total, passed=sum(judged.values()))
        except SandboxUnavailable as error:
            raise StageError(f"{error}; or unset verify") from error
    return [[text for i, text in enumerate(found) if judged.get((place, i))] for place, found in enumerate(texts)]


def payload(counts: Mapping[str, int]) -> dict[str, Any]:
    """The measurement/v1 of the share of completions that became rows."""
    return {"value": counts["kept"] / counts["completions"], "unit": "share", "n": counts["completions"]} | {
        "context": dict(counts)
    }
