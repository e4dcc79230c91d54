"""Configurations of the built-in architectures, one function each: `f(vocab_size, **token_ids)`.

`token_ids` are `bos_token_id`, `eos_token_id` and `pad_token_id`. HRM is the hierarchical reasoning
model of transformers' `hrm_text`: a fast stack L and a slow stack H of the same weights are run
`H_cycles` times, with `L_cycles` passes of L before each pass of H, so that a model does the work of
`num_hidden_layers * H_cycles * (L_cycles + 1)` layers with the weights of `2 * num_hidden_layers`. `hrm_act`
is the model with adaptive computation of `hrmctl_models.hrm_act`.
"""

from __future__ import annotations

from typing import Any

from transformers import GPT2Config, HrmTextConfig, LlamaConfig, Qwen2Config

from hrmctl_models.hrm_act.configuration import HrmActConfig


def _hrm(
    vocab_size: int, token_ids: dict[str, Any], *, width: int, mlp: int, layers: int, heads: int, low_cycles: int
) -> HrmTextConfig:
    # prefix_lm off: prompts are read causally in training as in generation, which lets right-padded
    # batches do without a mask (the fast path of scaled dot-product attention). Every pass of L gets a
    # gradient: the models are small enough to keep all activations.
    return HrmTextConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        head_dim=width // heads,
        H_cycles=2,
        L_cycles=low_cycles,
        L_bp_cycles=[low_cycles, low_cycles],
        max_position_embeddings=2048,
        prefix_lm=False,
        dtype="float32",
        **token_ids,
    )


def hrm_tiny(vocab_size: int, **token_ids: Any) -> HrmTextConfig:
    """0.5M parameters at 512 tokens."""
    return _hrm(vocab_size, token_ids, width=128, mlp=256, layers=1, heads=4, low_cycles=1)


def hrm_small(vocab_size: int, **token_ids: Any) -> HrmTextConfig:
    """4M parameters at 1,024 tokens."""
    return _hrm(vocab_size, token_ids, width=256, mlp=768, layers=2, heads=4, low_cycles=2)


def hrm_27m(vocab_size: int, **token_ids: Any) -> HrmTextConfig:
    """27M parameters at 8,192 tokens."""
    return _hrm(vocab_size, token_ids, width=512, mlp=1152, layers=3, heads=8, low_cycles=2)


def _hrm_act_small(vocab_size: int, **options: Any) -> HrmActConfig:
    return HrmActConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_multiple=32,
        num_attention_heads=4,
        H_layers=1,
        L_layers=1,
        dtype="float32",
        **options,
    )


def hrm_act_tiny(vocab_size: int, **token_ids: Any) -> HrmActConfig:
    """0.4M parameters and 128 for each of 512 positions; answers in place."""
    # Learned, because a grid's rows and columns are absolute places, and rotary positions know distances alone.
    # The rest was chosen on validation puzzles of size 4 for what a minute of a CPU can learn.
    return _hrm_act_small(
        vocab_size,
        positions="learned",
        max_position_embeddings=512,
        norm="pre",
        L_cycles=1,
        grad_cycles=2,
        loss_type="softmax",
        halt_max_steps=8,
        q_continue=False,
        **token_ids,
    )


def hrm_act_text_tiny(vocab_size: int, **token_ids: Any) -> HrmActConfig:
    """0.5M parameters at 512 tokens; a causal language model of at most 4 segments."""
    return _hrm_act_small(vocab_size, causal=True, halt_max_steps=4, loss_type="softmax", **token_ids)


def hrm_act_27m(vocab_size: int, **token_ids: Any) -> HrmActConfig:
    """The size of Wang et al. 2025 (arXiv 2506.21734): 27.3M parameters and the embeddings; answers in place."""
    return HrmActConfig(vocab_size=vocab_size, dtype="float32", **token_ids)


def _gpt2(
    vocab_size: int, token_ids: dict[str, Any], *, width: int, layers: int, heads: int, positions: int
) -> GPT2Config:
    # The published defaults drop 10 % of everything, which a model this small and briefly trained cannot afford.
    return GPT2Config(
        vocab_size=vocab_size,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        n_positions=positions,
        # The same function as the published gelu_new, in one kernel.
        activation_function="gelu_pytorch_tanh",
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
        dtype="float32",
        **token_ids,
    )


def gpt2_micro(vocab_size: int, **token_ids: Any) -> GPT2Config:
    """0.5M parameters at 512 tokens."""
    return _gpt2(vocab_size, token_ids, width=128, layers=2, heads=4, positions=512)


def gpt2_tiny(vocab_size: int, **token_ids: Any) -> GPT2Config:
    """2M parameters at 512 tokens."""
    return _gpt2(vocab_size, token_ids, width=192, layers=4, heads=6, positions=512)


def gpt2_small(vocab_size: int, **token_ids: Any) -> GPT2Config:
    """11M parameters at 1,024 tokens."""
    return _gpt2(vocab_size, token_ids, width=384, layers=6, heads=6, positions=1024)


def gpt2_117m(vocab_size: int, **token_ids: Any) -> GPT2Config:
    """GPT-2 small of Radford et al. 2019: 124M parameters at 50,257 tokens."""
    return _gpt2(vocab_size, token_ids, width=768, layers=12, heads=12, positions=1024)


def qwen2_tiny(vocab_size: int, **token_ids: Any) -> Qwen2Config:
    """0.5M parameters at 512 tokens."""
    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        dtype="float32",
        **token_ids,
    )


def _llama(
    vocab_size: int, token_ids: dict[str, Any], *, width: int, mlp: int, layers: int, heads: int, shared: int = 1
) -> LlamaConfig:
    """`shared` is the number of query heads to a head of keys and values."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // shared,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        dtype="float32",
        **token_ids,
    )


def llama_tiny(vocab_size: int, **token_ids: Any) -> LlamaConfig:
    """0.5M parameters at 512 tokens."""
    return _llama(vocab_size, token_ids, width=128, mlp=352, layers=2, heads=4)


def llama_160m(vocab_size: int, **token_ids: Any) -> LlamaConfig:
    """155M parameters at 512 tokens: wide enough that weights, not the process, are most of the memory."""
    return _llama(vocab_size, token_ids, width=1024, mlp=2816, layers=12, heads=16)


def llama_1b(vocab_size: int, **token_ids: Any) -> LlamaConfig:
    """970M parameters at 512 tokens: the shape of TinyLlama 1.1B (arXiv 2401.02385), embeddings tied."""
    return _llama(vocab_size, token_ids, width=2048, mlp=5632, layers=22, heads=32, shared=8)
