"""The stages whose names begin with `eval`, as the plugin declares them."""

from __future__ import annotations

from hrmctl import InputSpec, OutputSpec, StageSpec
from hrmctl_eval.params import EvalParams, TransformersParams
from hrmctl_eval.perplexity_params import PerplexityParams
from hrmctl_eval.puzzle_params import PuzzleParams

STAGES = (
    StageSpec(
        name="eval",
        summary="generate completions of coding problems and judge them by running their tests in the sandbox",
        params=EvalParams,
        target="hrmctl_eval.stage:run",
        check="hrmctl_eval.plan:check",
        inputs={
            "tasks": InputSpec("dataset", "the problem sets to evaluate on", many=True),
            "exemplars": InputSpec("dataset", "solved problems for few-shot, none of them evaluated", required=False),
            "model": InputSpec("model", "the model; not given where source is references", required=False),
        },
        outputs={"samples": OutputSpec("samples", "every sample with its completion and outcome, one a line")},
        code=("hrmctl_models", "hrmctl_sandbox"),
    ),
    StageSpec(
        name="eval-puzzles",
        summary="answer puzzles and judge the answers by the puzzles' rules",
        params=PuzzleParams,
        target="hrmctl_eval.puzzles:run",
        inputs={
            "tasks": InputSpec("dataset", "the sets of puzzles to evaluate on", many=True),
            "model": InputSpec("model", "a model that answers in place, or a causal language model"),
        },
        outputs={"samples": OutputSpec("samples", "every answer with its outcome, one a line")},
        code=("hrmctl_models",),
    ),
    StageSpec(
        name="eval-perplexity",
        summary="measure a model's perplexity on text, and compare it with what transformers alone computes",
        params=PerplexityParams,
        target="hrmctl_eval.perplexity:run",
        inputs={
            "data": InputSpec("dataset", "JSONL with prompt and completion, or with text; or a file of plain text"),
            "model": InputSpec("model", "a causal language model in any form that hrmctl loads"),
        },
        code=("hrmctl_models",),
    ),
    StageSpec(
        name="eval-transformers",
        summary="evaluate with transformers' own greedy generation, to compare with",
        params=TransformersParams,
        target="hrmctl_eval.stage:run_transformers",
        inputs={
            "tasks": InputSpec("dataset", "the problem sets to evaluate on", many=True),
            "model": InputSpec("model", "the model"),
        },
        outputs={"samples": OutputSpec("samples", "every sample with its completion and outcome, one a line")},
        code=("hrmctl_models", "hrmctl_sandbox"),
    ),
)
