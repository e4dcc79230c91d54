"""The headings under which the help of a training command shows its parameters."""

from __future__ import annotations

TOPICS = {
    "Length and optimisation": (
        *("steps", "epochs", "flops", "batch", "accumulation", "processes", "lr", "optimizer"),
        *("schedule", "warmup", "final_lr", "weight_decay", "grad_clip", "precision", "ema", "on_nonfinite"),
    ),
    "Data": (
        *("format", "chat_template", "max_length", "too_long", "bad_rows", "loss_on", "packing", "mix"),
        *("validation_split",),
    ),
    "Validation and stopping": (
        *("eval_interval", "early_stopping", "early_stopping_delta", "sample_interval", "sample_problems", "plateau"),
        *("interventions",),
    ),
    "Checkpoints": ("checkpoint_interval", "checkpoint_limit"),
}
