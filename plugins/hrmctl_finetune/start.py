"""What a training without a model starts from: fresh weights, and a tokenizer trained on its rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hrmctl_models.loading import answers_in_place, build, configure, load_tokenizer, put_folder
from hrmctl_models.tokenizers import character_tokenizer, train_tokenizer
from hrmctl_training.sources import training_texts
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hrmctl import Artifact, Context
from hrmctl_finetune.params import FinetuneParams


def fresh(
    params: FinetuneParams, data: Sequence[Artifact], ctx: Context
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Weights of the architecture `init` in float32 by the seed alone, and its tokenizer.

    Raises InputError for an unknown architecture or setting, StageError for unusable rows.
    """
    tokenizer = _trained_tokenizer(params, data, ctx.scratch / "tokenizer")
    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    return build(str(params.init), len(tokenizer), ids, ctx.seed, params.config), tokenizer


def label_of(params: FinetuneParams) -> str:
    """The architecture, and the settings that make it another one: a changed model never stands for the named one."""
    changed = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(params.config.items()))
    return f"{params.init}[{changed}]" if changed else str(params.init)


def _trained_tokenizer(params: FinetuneParams, data: Sequence[Artifact], folder: Path) -> PreTrainedTokenizerBase:
    """Trained once an attempt's scratch folder: a resumed run reads the tokens that its checkpoint was made with."""
    if not folder.is_dir():
        draft = folder.with_name(".tokenizer.draft")
        texts = training_texts(data, params)
        in_place = answers_in_place(configure(str(params.init), params.vocab_size, {}, params.config))
        tokenizer = character_tokenizer(texts) if in_place else train_tokenizer(texts, params.vocab_size)
        tokenizer.save_pretrained(draft)
        put_folder(draft, folder)
    return load_tokenizer(folder)
