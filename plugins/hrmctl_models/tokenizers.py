"""Training of byte-level BPE tokenizers, and the one way in which prompt and completion become tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hrmctl import StageError

SPECIAL = ("<pad>", "<bos>", "<eos>")
SMALLEST = len(SPECIAL) + 256

# Words, numerals and signs keep one leading space, numerals stay single, and a line break takes the
# indentation that follows it, so that the layout of a program costs one token a line.
_PIECES = r" ?\p{L}+| ?\p{N}|\n *| ?[^\s\p{L}\p{N}]+| +(?! )|\s"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE (Sennrich et al. 2016) of at most `vocab_size` tokens that round-trips any UTF-8 text.

    The vocabulary holds `<pad>`, `<bos>`, `<eos>` (ids 0, 1, 2), the 256 bytes, and as many merges as
    fit and occur twice in `texts`. Encoding adds no special token. Raises StageError where
    `vocab_size` is under 259 or there is no text.
    """
    if vocab_size < SMALLEST:
        raise StageError(
            f"a vocabulary of {vocab_size} cannot hold the 256 bytes and {len(SPECIAL)} special tokens; "
            f"set vocab_size to {SMALLEST} or more"
        )
    corpus = [text for text in texts if text]
    if not corpus:
        raise StageError("no text to train a tokenizer on; check the data set")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def encode_pair(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    """Token ids of `prompt` exactly as generation encodes it, and of `completion` as its continuation.

    The two are joined at the seam as the tokenizer would do it where that leaves the prompt's own
    tokens as they are; otherwise (a token would straddle the seam) the completion is encoded alone.
    """
    prompts, completions = encode_pairs(tokenizer, [prompt], [completion])
    return prompts[0], completions[0]


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, prompts: list[str], completions: list[str]
) -> tuple[list[list[int]], list[list[int]]]:
    """`encode_pair` of many pairs at once."""
    heads = _ids(tokenizer, prompts, special=True)
    wholes = _ids(tokenizer, [p + c for p, c in zip(prompts, completions, strict=True)], special=True)
    alone = _ids(tokenizer, completions, special=False)
    tails = [
        whole[len(head) :] if whole[: len(head)] == head else tail
        for head, whole, tail in zip(heads, wholes, alone, strict=True)
    ]
    return heads, tails


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], *, special: bool) -> list[list[int]]:
    encoded: Any = tokenizer(texts, add_special_tokens=special, return_attention_mask=False)
    return [list(ids) for ids in encoded["input_ids"]]
