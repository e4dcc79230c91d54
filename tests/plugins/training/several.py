"""Training stages as they run in several processes, shared by the tests; and an attempt that kills itself.

    python several.py FOLDER STEP

trains with PARAMS in two processes; at the step it prints the other process and kills itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import hrmctl_models
import torch
from hrmctl_distill.params import DistillParams
from hrmctl_distill.stage import run as distill
from hrmctl_finetune.params import FinetuneParams
from hrmctl_finetune.stage import run as finetune
from hrmctl_training.interventions import Intervention

from hrmctl import Artifact, Cancelled, StageResult
from hrmctl.testing import RecordingContext, make_artifact, make_context
from tests.plugins.finetune.helpers import ROWS, observed, write_rows

Act = Callable[[int], None]
Params = FinetuneParams | DistillParams

COMMON: dict[str, Any] = {"batch": 4, "accumulation": 2, "lr": 4e-3, "checkpoint_interval": 3, "max_length": 64}
# What each option of the loop adds to the state of a step, in one run.
PARAMS = FinetuneParams(
    init="gpt2-micro",
    **{**COMMON, "steps": 9, "vocab_size": 290, "dropout": 0.1, "optimizer": "adamw"},
    **{"precision": "fp16", "ema": 0.8, "eval_interval": 4, "early_stopping": 5},
    interventions=(Intervention(at_step=3, lr_scale=0.5),),
)
TIMED = {
    *("train_seconds", "train_cpu_seconds", "train_tokens_per_second"),
    *("peak_rss", "peak_rss_of_a_process", "peak_memory", "merge_peak_rss", "merge_seconds"),
}
TINY = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "halt_max_steps": 3}
SHORT = {**COMMON, "steps": 7, "eval_interval": 4}
TAUGHT = {**SHORT, "init": "llama-tiny"}
CASES: dict[str, Params] = {
    # Seven steps, as the first process finds and the others read.
    "hrm": FinetuneParams(**COMMON, flops=1.4e10, eval_interval=4, init="hrm-tiny", vocab_size=290),
    # Sampled halting: what is drawn in a pass must not depend on who makes it.
    "act": FinetuneParams(**SHORT, init="hrm-act-tiny", config={**TINY, "halt_exploration_prob": 0.5}),
    "dpo": FinetuneParams(**SHORT),
    "dpo-lora": FinetuneParams(**SHORT, method="lora", rank=4, lora_dropout=0.1),
    "orpo": FinetuneParams(**SHORT, objective="orpo"),
    "skip": FinetuneParams(**SHORT, on_nonfinite="skip"),
    "packed": FinetuneParams(**SHORT, init="llama-tiny", vocab_size=290, packing="pack", dropout=0.1),
    "logits": DistillParams(**TAUGHT),
    # Of 14 passes the first 5 and the next 5 are a phase: steps in which some weights have a gradient in one pass only.
    "layers": DistillParams(**{**TAUGHT, "init": "gpt2-tiny"}, method="progressive", progression="layers", phases=3),
    "difficulty": DistillParams(**TAUGHT, method="progressive", phases=3),
    "text": DistillParams(**TAUGHT, method="text", max_new_tokens=24, sampling_temperature=1.2),
}


def children() -> list[int]:
    """The training processes that this one has started and that run."""
    text = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return [pid for pid in map(int, text.split()) if trains(pid)]


def trains(pid: int) -> bool:
    """Whether this is a process beside a first one."""
    with suppress(OSError):
        return "hrmctl_training.rank" in Path(f"/proc/{pid}/cmdline").read_text()
    return False


class Acting(RecordingContext):
    """Does something when a step of the training is reported."""

    act: Act

    def progress(self, done: int, total: int, **metrics: float) -> None:
        super().progress(done, total, **metrics)
        if "epoch" in metrics:
            self.act(done)


def stage(folder: Path, params: Params = PARAMS, act: Act = lambda _: None) -> tuple[StageResult, list[Any]]:
    """The result of the stage of these parameters, and the rows that it reported, without what is measured in time."""
    folder.mkdir(exist_ok=True)
    context = Acting(make_context(folder).scratch)
    context.act = act
    inputs = inputs_of(folder, params)
    run: Any = distill if isinstance(params, DistillParams) else finetune
    result = run(params, inputs, context)
    steps = [metrics for _, _, metrics in context.rows if "epoch" in metrics]
    untimed = [{k: v for k, v in metrics.items() if k != "tokens_per_second"} for metrics in steps]
    return result, untimed


def inputs_of(folder: Path, params: Params) -> dict[str, Any]:
    """Data, and the model where the parameters do not make one."""
    rows: list[dict[str, Any]] = ROWS
    if params.init == "hrm-act-tiny":
        pairs = [(f"{a}.{b}.", f"{a}{b}{b}{a}") for a in "1234" for b in "1234"]
        rows = [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
    elif isinstance(params, FinetuneParams) and params.init is None and params.on_nonfinite == "stop":
        rows = [{"prompt": r["prompt"], "chosen": r["completion"], "rejected": r["prompt"]} for r in ROWS]
    elif params.on_nonfinite == "skip":
        rows = [*ROWS[:20], {"prompt": "~", "completion": "z"}, *ROWS[20:]]
    held = write_rows(folder / "held.jsonl", [row for row in rows if row["prompt"] != "~"][:6])
    given = {"data": (write_rows(folder / "data.jsonl", rows),), "validation": held}
    if isinstance(params, DistillParams):
        return {**given, "teacher": _model(folder / "parent")}
    if params.init:
        return given
    return {**given, "model": _model(folder / "parent", params.on_nonfinite == "skip")}


def _model(folder: Path, overflows: bool = False) -> Artifact:
    """A model with fresh weights; with one embedding so great that it overflows wherever `~` occurs."""
    if not folder.is_dir():
        tokenizer = hrmctl_models.train_tokenizer([row["prompt"] + row["completion"] for row in ROWS], 290)
        ids = {"bos": 1, "eos": 2, "pad": 0}
        model = hrmctl_models.build("hrm-tiny" if overflows else "llama-tiny", len(tokenizer), ids, seed=5)
        with torch.no_grad():
            # Its completions come to an end now and then, although it has learned nothing.
            model.get_output_embeddings().weight[tokenizer.eos_token_id] *= 8
            if overflows:
                model.get_input_embeddings().weight[tokenizer("~")["input_ids"]] = 1e38
        hrmctl_models.save(model, tokenizer, folder)
    return make_artifact(folder, "model", "parent")


def cancel_at(step: int) -> Act:
    """Ends an attempt after that step."""

    def act(done: int) -> None:
        if done == step:
            raise Cancelled

    return act


def weights(result: StageResult) -> bytes:
    """The bytes of the trained weights."""
    return (result.artifacts["model"].path / "model.safetensors").read_bytes()


def evidence(result: StageResult) -> dict[str, Any]:
    """All payloads but those of time and memory."""
    found = {name: json.loads(json.dumps(o.payload)) for name, o in observed(result).items() if name not in TIMED}
    found["training"]["series"].pop("tokens_per_second")
    return found


def main(folder: Path, step: int) -> None:
    def act(done: int) -> None:
        if done == step:
            print(json.dumps(children()), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    stage(folder, replace(PARAMS, processes=2), act)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
