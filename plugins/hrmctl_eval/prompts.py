"""Prompt strategies: from a problem to the text that the model is given.

`standard` is the problem's own prompt, which the model continues. `few-shot` puts solved problems before it (Brown
et al. 2020), for problems in MBPP's shape in the form of Austin et al. 2021. `chain-of-thought` asks for structured
reasoning before the code (Li et al. 2023, SCoT: input and output, then sequence, branch and loop). `code-oriented`
asks for one block of Python. The last two give an instruction, which is the user's message where the tokenizer has a
chat template.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hrmctl_sandbox.formats import CodeTask

from hrmctl import Artifact, InputError, StageError
from hrmctl_eval.params import EvalParams
from hrmctl_eval.problems import read_problems, reads_input

DONE = "[DONE]"
_SHOWN_TESTS = 3
_STEPS = """\
Solve the task below in two parts.

First the reasoning: name the input and the output, then number the steps, built from the three structures of a program
(sequence; branch: if, else; loop: for, while), in this form:

Input: name: type
Output: name: type
1. a step
2. for each item of the input:
3.     if a condition holds:
4.         a step
5. return the output

Then the code, which follows these steps: one Markdown block of Python with {wanted}."""
_CODE_ONLY = """\
Solve the task below. Reply with one Markdown block of Python and nothing else: no explanation, no tests, no example.
The block holds {wanted}."""
_INSTRUCTIONS = {"chain-of-thought": (_STEPS, "Reasoning:\n"), "code-oriented": (_CODE_ONLY, "Answer:\n")}


@dataclass(frozen=True)
class Prompting:
    """A strategy with all it needs: `exemplars` for few-shot, `tokenizer` where its chat template is used."""

    strategy: str = "standard"
    exemplars: tuple[CodeTask, ...] = ()
    tokenizer: Any = None
    source: Artifact | None = None

    @property
    def continues(self) -> bool:
        """Whether completions continue the problem's text, rather than answer an instruction."""
        return self.strategy not in _INSTRUCTIONS and self.tokenizer is None

    def prompt(self, problem: CodeTask) -> str:
        """The whole text that the model is given. Raises StageError where the chat template fails."""
        if self.strategy == "few-shot":
            text = self._with_exemplars(problem)
        elif self.strategy in _INSTRUCTIONS:
            text = self._instructed(problem)
        else:
            text = problem.prompt
        return text if self.tokenizer is None else _as_chat(self.tokenizer, text)

    def stop(self, problems: Sequence[CodeTask]) -> tuple[str, ...]:
        """Texts that end a completion by this strategy."""
        marked = self.strategy == "few-shot" and any(self._marked(problem) for problem in problems)
        return (DONE,) if marked else ()

    def settings(self) -> dict[str, Any]:
        """What evidence says of the prompts."""
        found: dict[str, Any] = {"strategy": self.strategy, "chat": self.tokenizer is not None}
        if self.source is not None:
            ids = [exemplar.task_id for exemplar in self.exemplars]
            found["exemplars"] = {"dataset": self.source.label, "digest": self.source.digest, "task_ids": ids}
            found["shots"] = len(ids)
        return found

    def _instructed(self, problem: CodeTask) -> str:
        instruction, cue = _INSTRUCTIONS[self.strategy]
        task = f"{instruction.format(wanted=_wanted(problem))}\n\nTask:\n\n```python\n{problem.prompt.strip()}\n```\n"
        return task if self.tokenizer is not None else f"{task}\n{cue}"

    def _marked(self, problem: CodeTask) -> bool:
        """Whether problem and exemplars are all in MBPP's shape: a request in words, and asserts."""
        return all(task.text and not task.prefix and _asserts(task) for task in (problem, *self.exemplars))

    def _with_exemplars(self, problem: CodeTask) -> str:
        if not self._marked(problem):
            solved = [f"{task.prompt}{task.completion}".rstrip("\n") + "\n\n\n" for task in self.exemplars]
            return "".join([*solved, problem.prompt])
        solved = [f"{_request(task)}{task.completion.strip(chr(10))}\n{DONE}\n\n" for task in self.exemplars]
        return "".join([*solved, _request(problem)])


def _request(task: CodeTask) -> str:
    words = "\n".join(line for line in task.text.splitlines() if not line.startswith("assert")).strip()
    tests = "\n".join(_asserts(task))
    return (
        f"You are an expert Python programmer, and here is your task: {words} "
        f"Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
    )


def _asserts(task: CodeTask) -> list[str]:
    """The first three tests where each is one assert, as in the paper; else the asserts that the prompt shows."""
    if all(test.startswith("assert") and "\n" not in test.strip() for test in task.tests):
        return [test.strip() for test in task.tests[:_SHOWN_TESTS]]
    return [line for line in task.prompt.splitlines() if line.startswith("assert")]


def _wanted(problem: CodeTask) -> str:
    if reads_input(problem):
        return "a whole program that reads standard input and writes standard output"
    return f"the imports it needs and the whole of `{problem.entry_point}`"


def _as_chat(tokenizer: Any, text: str) -> str:
    """The text as the user's message, up to where the assistant answers; encoding adds the begin token, if any."""
    from hrmctl_models.tokenizers import chat_text

    try:
        return chat_text(tokenizer, [{"role": "user", "content": text}], answering=True)
    except Exception as error:
        raise StageError(f"the tokenizer's chat template fails ({error}); set chat to no") from error


def prompting(
    params: EvalParams, model: Artifact | None, exemplars: Artifact | None, tasks: Sequence[Sequence[CodeTask]]
) -> Prompting:
    """The strategy of the parameters. Raises InputError where exemplars or template are missing, or leak a problem."""
    shown: tuple[CodeTask, ...] = ()
    if params.strategy == "few-shot":
        shown = tuple(_chosen(params, exemplars))
        _check_apart(shown, [problem for task in tasks for problem in task])
    elif exemplars is not None:
        raise InputError(f"the strategy {params.strategy} shows no exemplars; leave them out, or set it to few-shot")
    return Prompting(params.strategy, shown, _tokenizer(params, model), exemplars)


def _chosen(params: EvalParams, exemplars: Artifact | None) -> Iterator[CodeTask]:
    if exemplars is None:
        raise InputError("few-shot has no exemplars; give a problem set other than the evaluated one under exemplars")
    known = {task.task_id: task for task in read_problems(exemplars.path)}
    names = params.exemplar_ids or tuple(known)[: params.shots]
    if len(names) < params.shots:
        raise InputError(f"{exemplars.label} holds {len(known)} problems, shots is {params.shots}; lower it")
    for name in names:
        if name not in known:
            raise InputError(f"{exemplars.label} has no problem {name}; see exemplar_ids")
        if not known[name].completion.strip():
            raise InputError(f"{name} of {exemplars.label} has no reference to show; choose others by exemplar_ids")
        yield known[name]


def _check_apart(exemplars: Sequence[CodeTask], problems: Sequence[CodeTask]) -> None:
    """Refuse to show a problem that is evaluated: by its name, its prompt or its reference, whatever the whitespace."""
    known = {mark: problem for problem in problems for mark in _marks(problem)}
    for shown in exemplars:
        same = next((known[mark] for mark in _marks(shown) if mark in known), None)
        if same is not None:
            found = f"{shown.task_id} is among the evaluated problems ({same.task_id})"
            raise InputError(f"the exemplar {found}; choose others")


def _marks(task: CodeTask) -> list[tuple[str, str]]:
    """What tells a problem from all others; an empty text tells nothing."""
    texts = {"prompt": task.prompt, "completion": task.completion}
    found = [("name", task.task_id.casefold())]
    return found + [(name, mark) for name, text in texts.items() if (mark := " ".join(text.split()))]


def _tokenizer(params: EvalParams, model: Artifact | None) -> Any:
    """The tokenizer where its chat template is to be used, else None."""
    wanted = params.chat == "yes" or (params.chat == "auto" and params.strategy in _INSTRUCTIONS)
    if model is None or not wanted:
        return None
    from hrmctl_models.loading import load_tokenizer

    tokenizer = load_tokenizer(model.path)
    if getattr(tokenizer, "chat_template", None):
        return tokenizer
    if params.chat == "yes":
        raise InputError(f"{model.label} has no chat template; set chat to auto or no")
    return None
