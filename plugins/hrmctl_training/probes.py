"""What the model writes while it trains: validation rows answered greedily, and the answers checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hrmctl_models.generate import generate
from hrmctl_models.loading import LoadedModel, count_parameters
from hrmctl_sandbox import Case, ErrorClass, Limits, Outcome, Problem, Sample, SandboxUnavailable, judge, probe
from hrmctl_sandbox.programs import TIERS, compiled, parses, program_of, tier
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hrmctl import Artifact, Context, InputError
from hrmctl_training.params import TrainingParams
from hrmctl_training.questions import Question, questions_of
from hrmctl_training.watch import Advice, Watcher

# A model that has learned little writes endless loops: each costs this much processor time.
_LIMITS = Limits(cpu_seconds=2.0, wall_seconds=20.0)
# Room beyond the longest reference, so that an answer of another length can end.
_ROOM = 2
_LEAST_ROOM = 16


def probes_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Sequence[Artifact],
    validation: Artifact | None,
    params: TrainingParams,
    ctx: Context,
) -> list[Watcher]:
    """The probe that `sample_interval` asks for, and none where it is not set or the model cannot continue a text.

    Raises InputError where there are no validation rows.
    """
    if params.sample_interval is None:
        return []
    if not getattr(model.config, "causal", True):
        ctx.log.warning("this model answers in place and writes no text: sample_* is not measured, val_* is")
        return []
    questions = questions_of(validation, data, tokenizer, params)
    if not questions:
        remedy = "give a validation input, set validation_split, or leave sample_interval out"
        raise InputError(f"sample_interval probes validation rows, and there are none that fit; {remedy}")
    return [Probe(model, tokenizer, questions, params.sample_interval, ctx)]


class Probe(Watcher):
    """Every so many steps: the share of answers that are right, parse, compile and pass their tests.

    `sample_exact` is measured of any text. `sample_syntax` and `sample_compile` are measured where all references
    are Python, `sample_pass` and `sample_tiered` over the rows with tests (definitions: docs/monitoring.md).
    Programs are compiled and run in the sandbox alone; where it cannot contain them, those metrics are left out.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        questions: Sequence[Question],
        interval: int,
        ctx: Context,
    ) -> None:
        # Adapters are layers of the model that they wrap; generation asks that one.
        wrapper: Any = model
        base: PreTrainedModel = wrapper.get_base_model() if hasattr(model, "get_base_model") else model
        device = next(base.parameters()).device
        self.loaded = LoadedModel(base, tokenizer, device, count_parameters(base))
        self.questions = questions
        self.interval = interval
        self.prefixes = [question.prefix for question in questions]
        self.code = None not in self.prefixes
        self.runs = self.code and _contained(ctx)
        longest = max(len(tokenizer(question.reference)["input_ids"]) for question in questions)
        self.room = max(_LEAST_ROOM, _ROOM * longest)
        tested = sum(question.task is not None for question in questions)
        if self.code:
            ctx.log.info("probes: %d validation rows of code, %d of them with tests", len(questions), tested)
        else:
            ctx.log.info("probes: the validation rows are not all code; of samples only sample_exact is measured")

    def reads_weights(self, step: int) -> bool:
        """At the steps of a probe."""
        return step % self.interval == 0

    def after_step(self, step: int, epoch: float, metrics: Mapping[str, float], ctx: Context) -> Advice:
        """The measurements of a probe, after every so many steps."""
        if step % self.interval:
            return Advice()
        found = generate(
            self.loaded,
            [question.prompt for question in self.questions],
            temperature=0,
            max_new_tokens=self.room,
            batch_size=0,
        )
        answers = [samples[0].text for samples in found]
        right = [answer == q.reference for answer, q in zip(answers, self.questions, strict=True)]
        measured = {"sample_exact": _share(right)}
        return Advice(measured | self._of_code(answers, ctx) if self.code else measured)

    def _of_code(self, answers: Sequence[str], ctx: Context) -> dict[str, float]:
        programs = [
            _program(answer, question, prefix or "")
            for answer, question, prefix in zip(answers, self.questions, self.prefixes, strict=True)
        ]
        whole = [parses(program) for program in programs]
        measured = {"sample_syntax": _share(whole)}
        if not self.runs:
            return measured
        try:
            outcomes = self._judged(programs, ctx.threads)
        except SandboxUnavailable as error:
            ctx.log.warning("%s; samples are no longer compiled nor run", error)
            self.runs = False
            return measured
        measured["sample_compile"] = _share([compiled(outcome) for outcome in outcomes])
        tested = [i for i, question in enumerate(self.questions) if question.task is not None]
        if tested:
            measured["sample_pass"] = _share([outcomes[i] == ErrorClass.PASSED for i in tested])
            measured["sample_tiered"] = sum(tier(outcomes[i], whole[i]) for i in tested) / (TIERS * len(tested))
        return measured

    def _judged(self, programs: Sequence[str], workers: int) -> list[str]:
        """The outcome of each program. One without tests is run as a script; only whether it compiled is asked."""
        problems = [_problem(question, str(i)) for i, question in enumerate(self.questions)]
        samples = [Sample(str(i), 0, program) for i, program in enumerate(programs)]
        found: dict[str, Outcome] = {}
        for outcome in judge(problems, samples, limits=_LIMITS, workers=workers):
            found[outcome.problem_id] = outcome
        return [found[str(i)].error for i in range(len(programs))]

    def state(self) -> Mapping[str, Any]:
        """Nothing is carried from step to step."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is carried from step to step."""


def _program(answer: str, question: Question, prefix: str) -> str:
    task = question.task
    if task is None:
        return program_of(answer, prefix)
    return program_of(answer, prefix, task.entry_point, script=bool(task.cases))


def _problem(question: Question, name: str) -> Problem:
    if question.task is None:
        return Problem(name, cases=(Case("", ""),))
    return replace(question.task.problem(), id=name)


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found)


def _contained(ctx: Context) -> bool:
    """Whether the sandbox contains programs here; says so where it does not."""
    isolation = probe()
    if not isolation.acceptable:
        ctx.log.warning(
            "the sandbox cannot contain programs here (%s; %s): samples are neither compiled nor run",
            *(isolation.mode, isolation.remedy),
        )
    return isolation.acceptable
