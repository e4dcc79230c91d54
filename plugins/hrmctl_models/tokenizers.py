"""Training of byte-level BPE tokenizers, and the one way in which prompt and completion become tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hrmctl import StageError

SPECIAL = ("<pad>", "<bos>", "<eos>")
SMALLEST = len(SPECIAL) + 256
_UNKNOWN = "<unk>"
# Templates of Llama 3 would write today's date: prompts must not change overnight. It is their own fallback.
_DATE = "26 Jul 2024"

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
    corpus = (text for text in texts if text)
    first = next(corpus, None)
    if first is None:
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
        chain([first], corpus),
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


def character_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """One token for each character of `texts`, after `<pad>`, `<eos>` and `<unk>` (ids 0, 1, 2) for any other.

    Encoding adds no special token, and decoding gives the text back. Raises StageError where there is no text.
    """
    characters = sorted(set(chain.from_iterable(texts)))
    if not characters:
        raise StageError("no text to take characters from; check the data set")
    vocabulary = {token: number for number, token in enumerate([SPECIAL[0], SPECIAL[2], _UNKNOWN, *characters])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    # In Oniguruma m, not s, is what lets the dot match a line break.
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"(?m)."), behavior="isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        unk_token=_UNKNOWN,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def encode_pair(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    """Token ids of `prompt` exactly as generation encodes it, and of `completion` as its continuation.

    The two are joined at the seam as the tokenizer would do it where that leaves the prompt's own
    tokens as they are; otherwise (a token would straddle the seam) the completion is encoded alone.
    """
    prompts, completions = encode_pairs(tokenizer, [prompt], [completion])
    return prompts[0], completions[0]


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, prompts: list[str], completions: list[str], *, special: bool = True
) -> tuple[list[list[int]], list[list[int]]]:
    """`encode_pair` of many pairs at once; without `special` tokens where a prompt continues a text."""
    heads = _ids(tokenizer, prompts, special=special)
    wholes = _ids(tokenizer, [p + c for p, c in zip(prompts, completions, strict=True)], special=special)
    apart = [i for i, (whole, head) in enumerate(zip(wholes, heads, strict=True)) if whole[: len(head)] != head]
    alone = dict(zip(apart, _ids(tokenizer, [completions[i] for i in apart], special=False), strict=True))
    tails = [alone[i] if i in alone else whole[len(heads[i]) :] for i, whole in enumerate(wholes)]
    return heads, tails


def chat_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]], *, answering: bool) -> str:
    """A conversation as its chat template writes it, up to where the assistant answers if it is `answering`.

    The begin token is left off where encoding adds it. Raises what the template raises.
    """
    settings = {"tokenize": False, "add_generation_prompt": answering, "date_string": _DATE}
    rendered = str(tokenizer.apply_chat_template(list(messages), **settings))  # type: ignore[arg-type]
    begin = tokenizer.bos_token
    adds = begin and tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]
    return rendered.removeprefix(str(begin)) if adds else rendered


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], *, special: bool) -> list[list[int]]:
    if not texts:
        return []
    encoded: Any = tokenizer(texts, add_special_tokens=special, return_attention_mask=False)
    return [list(ids) for ids in encoded["input_ids"]]
