"""The stage `eval`: completions of coding problems, judged by running them; pass@k evidence and perplexity."""

from __future__ import annotations

from hrmctl import DiagnosticSpec, InputSpec, OutputSpec, StageSpec, hookimpl
from hrmctl_eval.params import EvalParams


@hookimpl
def hrmctl_stages() -> list[StageSpec]:
    return [
        StageSpec(
            name="eval",
            summary="generate completions of coding problems and judge them by running their tests in the sandbox",
            params=EvalParams,
            target="hrmctl_eval.stage:run",
            inputs={
                "tasks": InputSpec("dataset", "the problem sets to evaluate on", many=True),
                "exemplars": InputSpec(
                    "dataset", "solved problems for few-shot, none of them evaluated", required=False
                ),
                "model": InputSpec("model", "the model; not given where source is references", required=False),
            },
            outputs={"samples": OutputSpec("samples", "every sample with its completion and outcome, one a line")},
            code=("hrmctl_models", "hrmctl_sandbox"),
        )
    ]


@hookimpl
def hrmctl_diagnostics() -> list[DiagnosticSpec]:
    return [DiagnosticSpec("sandbox", "what contains generated programs on this machine", "hrmctl_eval.doctor:sandbox")]
