"""DPO and ORPO of hrmctl against those of trl, step by step: `python benchmarks/trl_parity.py`.

Both train the same model on the same token ids in the same order with the same AdamW, learning rates and
clipping; compared are the loss, the rewards and the log-probabilities of every step, and the weights at the
end. trl gets a virtual environment of its own under `.bench/`, which sees the packages of this one.
`--golden FILE` keeps trl's numbers and the token ids for the tests. Ends with 1 where they differ by more than
`--tolerance`, relative to the size of the numbers of a curve.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

TRL = (
    *("trl==1.16.0", "datasets==5.2.0", "dill==0.4.1", "multiprocess==0.70.19", "pandas==3.1.1"),
    *("pyarrow==26.0.1", "python-dateutil==4.0.0", "tzdata==2026.6", "xxhash==4.1.0"),
)
MODEL, SEED, VOCABULARY = "gpt2-micro", 3, 300
SETTINGS = {"beta": 0.1, "orpo_weight": 0.1, "lr": 2e-3, "batch": 4, "steps": 12, "weight_decay": 0.01}
# What the two call the same.
NAMES = {
    "loss": "loss",
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "reward_margin": "rewards/margins",
    "reward_accuracy": "rewards/accuracies",
    "logp_chosen": "logps/chosen",
    "logp_rejected": "logps/rejected",
    "nll_loss": "nll_loss",
    "log_odds_ratio": "log_odds_chosen",
    "grad_norm": "grad_norm",
}


def built_in() -> list[dict[str, str]]:
    """Forty-eight pairs: the right line of a small function, and that of another sign."""
    signs = {"add": "+", "subtract": "-", "multiply by": "*"}
    rows = []
    for k in range(2, 18):
        for verb, sign in signs.items():
            wrong = {"+": "-", "-": "*", "*": "+"}[sign]
            # The seam lies where no token straddles it: trl leaves such a prompt's end out of the row.
            prompt = f"# {verb} {k}\ndef f(n):"
            rows.append({"prompt": prompt, "chosen": f"\n    return n {sign} {k}", "rejected": f"\n    n {wrong} {k}"})
    return rows


def mbpp(path: Path) -> list[dict[str, str]]:
    """Short training problems of MBPP: chosen is the reference, rejected the reference of the next problem."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [row for row in rows if row["task_id"] > 600 and len(row["code"]) < 200][:48]
    after = rows[1:] + rows[:1]
    return [
        {"prompt": row["text"], "chosen": "\n" + row["code"], "rejected": "\n" + other["code"]}
        for row, other in zip(rows, after, strict=True)
    ]


def peers(folder: Path, rows: list[dict[str, str]]) -> dict[str, Any]:
    """trl's figures of both methods, and the ids that it trained on."""
    import hrmctl_models
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    tokenizer = hrmctl_models.train_tokenizer([r["prompt"] + r["chosen"] + r["rejected"] for r in rows], VOCABULARY)
    hrmctl_models.save(start(len(tokenizer)), tokenizer, folder / "model")
    common: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": SETTINGS["batch"],
        "max_steps": SETTINGS["steps"],
        "learning_rate": SETTINGS["lr"],
        "weight_decay": SETTINGS["weight_decay"],
        "adam_beta2": 0.95,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "save_strategy": "no",
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "train_sampling_strategy": "sequential",
        "disable_tqdm": True,
        "max_length": 512,
    }
    found: dict[str, Any] = {"vocabulary": len(tokenizer)}
    for name, trainer_type, config in (
        ("dpo", DPOTrainer, DPOConfig(beta=SETTINGS["beta"], **common)),
        ("orpo", ORPOTrainer, ORPOConfig(beta=SETTINGS["orpo_weight"], **common)),
    ):
        model = start(len(tokenizer))
        given: dict[str, Any] = {"train_dataset": Dataset.from_list(rows), "processing_class": tokenizer}
        if name == "dpo":
            given["ref_model"] = start(len(tokenizer))
        trainer = trainer_type(model, args=config, **given)
        trainer.train()
        log = [entry for entry in trainer.state.log_history if "loss" in entry]
        curves = {ours: [entry[theirs] for entry in log] for ours, theirs in NAMES.items() if theirs in log[0]}
        pairs = [pair(row) for row in trainer.train_dataset]
        found[name] = {"pairs": pairs, "curves": curves, "weights": weight_norms(trainer.model)}
    return found


def pair(row: dict[str, Any]) -> list[list[int]]:
    """Prompt, chosen and rejected as trl made tokens of them: its ORPO puts a begin token before the prompt."""
    if "chosen_ids" in row:
        return [list(row[column]) for column in ("prompt_ids", "chosen_ids", "rejected_ids")]
    prompt = row["chosen_labels"].count(-100)
    whole = row["chosen_input_ids"]
    return [whole[:prompt], whole[prompt:], row["rejected_input_ids"][prompt:]]


def start(vocabulary: int) -> Any:
    """The model that both start from."""
    import hrmctl_models

    return hrmctl_models.build(MODEL, vocabulary, {"bos": 1, "eos": 2, "pad": 0}, SEED)


def weight_norms(model: Any) -> dict[str, float]:
    """The norm of each weight."""
    return {name: float(p.detach().double().norm()) for name, p in model.named_parameters()}


def ours(folder: Path, method: str, pairs: list[list[list[int]]], vocabulary: int) -> dict[str, Any]:
    """hrmctl's figures of a method on these ids."""
    from hrmctl_training.examples import Example, Preference
    from hrmctl_training.loop import Training
    from hrmctl_training.memory import PeakMemory
    from hrmctl_training.optimizers import make_optimizers
    from hrmctl_training.params import TrainingParams
    from hrmctl_training.preference import DpoObjective, OrpoObjective, referenced

    from hrmctl.testing import make_context

    context = make_context(folder / method)
    examples: Any = [
        Preference(line, Example(line, prompt + chosen, len(prompt)), Example(line, prompt + rejected, len(prompt)))
        for line, (prompt, chosen, rejected) in enumerate(pairs, start=1)
    ]
    params = TrainingParams(
        steps=int(SETTINGS["steps"]),
        batch=int(SETTINGS["batch"]),
        lr=SETTINGS["lr"],
        optimizer="adamw",
        weight_decay=SETTINGS["weight_decay"],
        warmup=0,
    )
    model = start(vocabulary)
    if method == "dpo":
        examples = referenced(model, examples, 1, params.batch, params.precision, "reference.pt", context)
        objective: Any = DpoObjective(model, 1, SETTINGS["beta"])
    else:
        # trl takes the likelihood over the prompt too.
        objective = OrpoObjective(model, 1, SETTINGS["orpo_weight"], "all")
    order: Any = Sequential(examples, params.batch)
    training = Training(
        model=model,
        objective=objective,
        optimizers=make_optimizers(model, params),
        order=order,
        validation=(),
        params=params,
        steps=int(SETTINGS["steps"]),
        device=next(model.parameters()).device,
        folder=context.scratch,
        memory=PeakMemory(),
    )
    training.run(context)
    series = training.progress.series
    return {"curves": {k: v["values"] for k, v in series.items() if k in NAMES}, "weights": weight_norms(model)}


class Sequential:
    """The examples as they come."""

    def __init__(self, examples: Any, batch: int) -> None:
        self.examples, self.batch = examples, batch
        self.batches_per_epoch = len(examples) // batch

    def at(self, position: int) -> list[Any]:
        """The examples of forward pass `position`."""
        first = position % self.batches_per_epoch * self.batch
        return [self.examples[i] for i in range(first, first + self.batch)]


def difference(a: list[float], b: list[float]) -> float:
    """The greatest difference, relative to the greatest of the numbers."""
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) / max(1e-12, *map(abs, a), *map(abs, b))


def compare(found: dict[str, Any], folder: Path) -> float:
    """Print how far the two are apart, and return the most."""
    worst = 0.0
    for method in ("dpo", "orpo"):
        their = found[method]
        own = ours(folder, method, their["pairs"], found["vocabulary"])
        losses = own["curves"]["loss"]
        print(f"{method}: {SETTINGS['steps']} steps, loss {losses[0]:.6f} to {losses[-1]:.6f}")
        for name in (name for name in own["curves"] if name in their["curves"]):
            apart = difference(own["curves"][name], their["curves"][name])
            worst = max(worst, apart)
            print(f"  {name:16} {apart:.2e}")
        names = sorted(own["weights"])
        apart = difference([own["weights"][n] for n in names], [their["weights"][n] for n in names])
        worst = max(worst, apart)
        print(f"  {'norms of weights':16} {apart:.2e}")
    return worst


def environment(cache: Path) -> Path:
    """An interpreter that sees trl and the packages of this environment; made where it is not there."""
    folder = cache / f"trl-{TRL[0].partition('==')[2]}"
    python = folder / "bin" / "python"
    if not (folder / ".ready").is_file():
        subprocess.run([os.path.realpath(sys.executable), "-m", "venv", str(folder)], check=True)
        libraries = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        # Not a mere path: an editable install is a file of that folder which must be read too.
        line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        Path(libraries, "hrmctl_parity.pth").write_text(line)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *TRL], check=True)
        (folder / ".ready").touch()
    return python


def main() -> None:
    """Make the environment, run there, and say how far the two are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mbpp", type=Path, help="mbpp.jsonl: compare on its problems instead of the built-in pairs")
    parser.add_argument("--golden", type=Path, help="where to keep trl's numbers")
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="where environments are kept")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        python = environment(arguments.cache.resolve())
        command = [str(python), __file__, "--inside", *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False).returncode)
    import torch

    torch.set_num_threads(1)
    rows = mbpp(arguments.mbpp) if arguments.mbpp else built_in()
    with tempfile.TemporaryDirectory() as folder:
        found = peers(Path(folder), rows)
        worst = compare(found, Path(folder))
    print(f"greatest difference {worst:.2e}, allowed {arguments.tolerance:.0e}")
    if arguments.golden:
        arguments.golden.write_text(json.dumps({"model": MODEL, "seed": SEED, "settings": SETTINGS, **found}) + "\n")
    raise SystemExit(worst > arguments.tolerance)


if __name__ == "__main__":
    main()
