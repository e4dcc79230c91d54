"""What is switched on a model or in the process before it is trained: dropout, recomputed activations, freed memory."""

from __future__ import annotations

import ctypes
import logging

from torch import nn
from transformers import PreTrainedModel

from hrmctl import InputError

# Attention of transformers' models hands its share to the kernel as a number instead of to a module.
_ATTRIBUTES = ("attention_dropout", "dropout", "activation_dropout")
_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 17


def set_dropout(model: PreTrainedModel, share: float) -> int:
    """Drop this share wherever the model has a place for it, and return the number of places.

    The configuration, which is saved, stays as it is: dropout is a setting of this training. Raises
    InputError where the architecture has no dropout.
    """
    places = 0
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
            places += 1
        for name in _ATTRIBUTES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, share)
                places += 1
    if not places:
        raise InputError(f"{model.config.model_type} has no dropout; leave `dropout` out")
    return places


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Keep only the inputs of each layer for the backward pass and compute the rest again.

    Raises InputError where the architecture cannot do that.
    """
    if not model.supports_gradient_checkpointing:
        raise InputError(f"{model.config.model_type} cannot recompute activations; leave `gradient_checkpointing` out")
    model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]


def return_freed_memory(log: logging.Logger) -> None:
    """From now on, blocks of 128 KiB or more go back to the system when they are freed, and those freed so far do.

    glibc keeps freed blocks and cuts them up, so that a process grows far beyond what it holds. Where the C
    library is another one this does nothing and says so.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        log.warning("low_memory: this system's C library cannot be told to return freed memory")
