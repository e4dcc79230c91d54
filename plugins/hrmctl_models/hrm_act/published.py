"""Weights of the published reference (github.com/sapientinc/HRM) under the names of `HrmActForCausalLM`."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from hrmctl import StageError

# What the reference's compiler and its loss head put in front of a name.
_WRAPPERS = re.compile(r"^(_orig_mod\.|module\.|model\.)*inner\.")
_RENAMED = {
    "embed_tokens.embedding_weight": "embed_tokens.weight",
    "embed_pos.embedding_weight": "embed_positions.weight",
}
_HEADS = ("lm_head.", "q_head.")


def from_published(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict of the reference with the names of ours; the tensors need no change.

    `inner.` becomes `model.`, except for `lm_head` and `q_head`, which lose it; `embedding_weight` becomes
    `weight` and `embed_pos` `embed_positions`. Raises StageError for puzzle embeddings, which this model has not.
    """
    renamed = {}
    for name, tensor in weights.items():
        own = _WRAPPERS.sub("", name)
        if own.startswith("puzzle_emb"):
            raise StageError("the reference's puzzle embeddings have no place in hrm_act; choose a model without them")
        renamed[own if own.startswith(_HEADS) else f"model.{_RENAMED.get(own, own)}"] = tensor
    return renamed
