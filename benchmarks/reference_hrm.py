"""The published HRM beside ours: `python benchmarks/reference_hrm.py --reference FOLDER (--golden FILE | --race)`.

FOLDER is a clone of github.com/sapientinc/HRM (docs/hrm.md names the commit). Of it `models/hrm/hrm_act_v1.py`,
`models/layers.py`, `models/losses.py` and `models/common.py` are run as they are, on the CPU in float32. For
FlashAttention, which they import, stands torch's scaled_dot_product_attention.

`--golden` trains a tiny reference for some steps and writes its initial weights, its data and what came out at
each step; tests/plugins/models/test_hrm_act_parity.py repeats them with our model. `--race` times training steps
of the reference, of ours, and of ours with `q_continue: false`, in turn, on rows of 81 tokens.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from hrmctl_models.hrm_act import HrmActConfig, HrmActForCausalLM
from hrmctl_models.hrm_act.published import from_published
from hrmctl_training.act import ActObjective
from hrmctl_training.examples import Batch
from safetensors.torch import save_file
from torch.nn import functional

FILES = ("models/hrm/hrm_act_v1.py", "models/layers.py", "models/losses.py", "models/common.py")
IGNORED = -100
# Tiny, so that weights in half precision fit into a test's file; two layers, so that their order counts.
GOLDEN = {
    "vocab_size": 6,
    "hidden_size": 32,
    "num_heads": 2,
    "H_layers": 2,
    "L_layers": 2,
    "H_cycles": 2,
    "L_cycles": 2,
    "expansion": 4.0,
    "halt_max_steps": 6,
    "halt_exploration_prob": 0.3,
}
STEPS, BATCH, SEED, RATE, DECAY, BETAS = 80, 32, 1000, 1e-3, 0.1, (0.9, 0.95)
RACES = {
    "tiny": {"hidden_size": 128, "num_heads": 4, "H_layers": 1, "L_layers": 1},
    "27m": {"hidden_size": 512, "num_heads": 8, "H_layers": 4, "L_layers": 4},
}


def flash_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool = False, **_: Any) -> torch.Tensor:
    """FlashAttention's interface, (rows, length, heads, head), over torch's own attention."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).contiguous()


def reference_classes(folder: Path) -> tuple[type, type]:
    """The reference's model and its loss head."""
    shim = ModuleType("flash_attn")
    shim.flash_attn_func = flash_attention  # type: ignore[attr-defined]
    sys.modules["flash_attn"] = shim
    sys.path.insert(0, str(folder))
    from models.hrm.hrm_act_v1 import HierarchicalReasoningModel_ACTV1
    from models.losses import ACTLossHead

    return HierarchicalReasoningModel_ACTV1, ACTLossHead


def reference_model(folder: Path, sizes: dict[str, Any], batch: int, length: int) -> torch.nn.Module:
    """A reference in training mode with its own initial weights."""
    model, head = reference_classes(folder)
    fixed = {
        "batch_size": batch,
        "seq_len": length,
        "num_puzzle_identifiers": 1,
        "pos_encodings": "rope",
        "forward_dtype": "float32",
    }
    made: torch.nn.Module = head(model({**sizes, **fixed}), "stablemax_cross_entropy")
    return made.train()


def our_model(sizes: dict[str, Any], weights: dict[str, torch.Tensor], **options: Any) -> HrmActForCausalLM:
    """Ours of the same sizes with the reference's weights, in training mode."""
    own = {**sizes, **options, "num_attention_heads": sizes["num_heads"]}
    own.pop("num_heads")
    model = HrmActForCausalLM(HrmActConfig(**own))
    model.load_state_dict(from_published(weights))
    return model.train()


def optimizer_of(model: torch.nn.Module) -> torch.optim.Optimizer:
    """The same AdamW for both."""
    return torch.optim.AdamW(model.parameters(), lr=RATE, betas=BETAS, weight_decay=DECAY)


@dataclass
class ReferenceRun:
    """Training steps of the reference, as its `pretrain.py` makes them."""

    model: torch.nn.Module
    carry: Any = None

    def __post_init__(self) -> None:
        self.optimizer = optimizer_of(self.model)

    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """One segment and one update; the reference's metrics and the raw Q-values."""
        batch = {"inputs": inputs, "labels": labels, "puzzle_identifiers": torch.zeros(len(inputs), dtype=torch.int32)}
        if self.carry is None:
            self.carry = self.model.initial_carry(batch)  # type: ignore[operator]
        keys = ["q_halt_logits", "q_continue_logits"]
        self.carry, loss, metrics, outputs, _ = self.model(carry=self.carry, batch=batch, return_keys=keys)
        (loss / len(inputs)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        state = {"steps": self.carry.steps.clone(), "halted": self.carry.halted.clone()}
        return {**metrics, **outputs, **state, "loss": loss.detach()}


@dataclass
class OurRun:
    """The same of ours."""

    model: HrmActForCausalLM
    slots: int
    length: int

    def __post_init__(self) -> None:
        self.optimizer = optimizer_of(self.model)
        self.objective = ActObjective(self.model, 0, self.slots, self.length, masked=False)

    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        """One segment and one update."""
        batch = Batch(inputs, labels, tuple(range(len(inputs))), inputs.numel())
        (self.objective.loss(batch).total / self.slots).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def small_sudokus(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """4x4 grids with cells blanked (token 1; 2 to 5 are the digits) and their solutions, both (count, 16).

    In every third one the given cells carry no label, so that rows differ in how many labels they have.
    """
    draw = random.Random(seed)
    inputs, labels = [], []
    for number in range(count):
        digits = draw.sample(range(2, 6), 4)
        rows, columns = (
            [2 * band + i for band in draw.sample((0, 1), 2) for i in draw.sample((0, 1), 2)] for _ in "rc"
        )
        solution = [digits[(2 * (r % 2) + r // 2 + c) % 4] for r in rows for c in columns]
        blank = set(draw.sample(range(16), draw.randint(1, 8)))
        inputs.append([1 if cell in blank else token for cell, token in enumerate(solution)])
        known = number % 3 == 0
        labels.append([IGNORED if known and cell not in blank else token for cell, token in enumerate(solution)])
    return torch.tensor(inputs), torch.tensor(labels)


def write_golden(folder: Path, target: Path) -> None:
    """Train the tiny reference and write what the test needs."""
    torch.manual_seed(SEED)
    model = reference_model(folder, GOLDEN, BATCH, 16)
    initial = {name: tensor.detach().half() for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: tensor.float() for name, tensor in initial.items()})
    inputs, labels = small_sudokus(512, SEED)
    picks = torch.stack([torch.randperm(len(inputs))[:BATCH] for _ in range(STEPS)])
    run, kept = ReferenceRun(model), []
    for step in range(STEPS):
        torch.manual_seed(SEED + step)
        kept.append(run.step(inputs[picks[step]], labels[picks[step]]))
    curves = {name: torch.stack([row[name] for row in kept]) for name in kept[0]}
    whole = {"steps": torch.int8, "halted": torch.uint8}
    tensors = {
        **{f"initial.{name}": tensor for name, tensor in initial.items()},
        **{f"curve.{name}": tensor.to(whole.get(name, torch.float32)) for name, tensor in curves.items()},
        "inputs": inputs.to(torch.int8),
        "labels": labels.to(torch.int8),
        "picks": picks.to(torch.int16),
    }
    final = {name: _summary(tensor) for name, tensor in model.state_dict().items()}
    about = {
        "sizes": GOLDEN,
        "training": {"seed": SEED, "lr": RATE, "weight_decay": DECAY, "betas": BETAS},
        "final": final,
        "reference": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES},
    }
    save_file(tensors, target, metadata={"about": json.dumps(about)})
    margin = (curves["q_halt_logits"] - curves["q_continue_logits"]).abs()[1:].min()
    halted_at = curves["steps"][curves["halted"]].bincount().tolist()
    print(
        f"{target}: {target.stat().st_size} bytes; {STEPS} steps; rows halted after each number of segments {halted_at}"
    )
    print(f"smallest difference of the two Q-values after step 1: {margin:.2e}; loss {curves['loss'].tolist()[::20]}")


def _summary(tensor: torch.Tensor) -> list[float]:
    """Norm, and the inner product with a fixed vector, which a permutation of the values would change."""
    flat = tensor.detach().double().flatten()
    return [flat.norm().item(), (flat @ torch.linspace(-1, 1, len(flat), dtype=torch.float64)).item()]


def race(folder: Path, size: str, batch: int, rounds: int, only: str | None) -> None:
    """CPU seconds of training steps, in turn; the ratio of each round and their median."""
    sizes = {**GOLDEN, **RACES[size], "vocab_size": 11, "halt_max_steps": 16, "halt_exploration_prob": 0.1}
    torch.manual_seed(0)
    reference = reference_model(folder, sizes, batch, 81)
    weights = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    inputs = torch.randint(1, 11, (batch, 81))
    labels = torch.randint(2, 11, (batch, 81))
    runs = {
        "reference": ReferenceRun(reference),
        "ours": OurRun(our_model(sizes, weights), batch, 81),
        "ours, q_continue false": OurRun(our_model(sizes, weights, q_continue=False), batch, 81),
    }
    sides: dict[str, Callable[[], Any]] = {name: partial(run.step, inputs, labels) for name, run in runs.items()}
    if only:
        _profile(sides[only])
        return
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, step in sides.items():
            began = time.process_time()
            step()
            if number:
                times[name].append(time.process_time() - began)
    load = os.getloadavg()[0]
    print(
        f"size {size}, batch {batch}, 81 tokens, {torch.get_num_threads()} thread(s), {rounds} rounds, load {load:.1f}"
    )
    for name, values in times.items():
        ratios = [r / o for r, o in zip(times["reference"], values, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"  {name}: {statistics.median(values):.3f} CPU s a step; reference / this {spread}")


def _profile(step: Callable[[], Any]) -> None:
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        step()
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=18, max_name_column_width=40))


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="clone of sapientinc/HRM")
    parser.add_argument("--golden", type=Path, help="file to write")
    parser.add_argument("--race", choices=RACES, nargs="?", const="27m", help="size to time")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profile", choices=("reference", "ours"), help="with --race: where one side's time goes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.golden:
        write_golden(options.reference, options.golden)
    if options.race:
        race(options.reference, options.race, options.batch, options.rounds, options.profile)


if __name__ == "__main__":
    main()
