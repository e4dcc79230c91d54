"""Running a causal language model forward on many sequences at once, each with a prompt computed once.

`SlotDecoder` batches sequences of any lengths over the shared slots of `hrmctl_models.slots`.
`SerialDecoder` runs one row at a time with the model's own cache, for models that the slots do not
describe (recurrent states, position biases, chunked attention). `decoder_for` tries the first on the
model at hand and takes it only where it gives the model's own logits.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count as counter
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from hrmctl import StageError
from hrmctl_models.slots import ACTIVE, ATTENTION, SlotCache

log = logging.getLogger(__name__)
_CACHE_BYTES = 1 << 30
_MOST_ROWS = 256
_TRUSTED: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, eq=False)
class Prefilled:
    """A prompt whose keys and values are computed: row `row` of `cache`, `length` tokens, the next token's logits."""

    cache: Any
    row: int
    length: int
    logits: torch.Tensor


class Decoder(Protocol):
    """Rows 0 to `rows - 1` are the sequences being continued."""

    rows: int

    def prefill(self, prompts: Sequence[Sequence[int]]) -> list[Prefilled]:
        """Compute prompts of at least one token each."""
        ...

    def append(self, prompt: Prefilled, count: int) -> None:
        """Add `count` rows that continue `prompt`."""
        ...

    def move(self, sources: Sequence[int], targets: Sequence[int], rows: int) -> None:
        """Copy rows `sources` over rows `targets`, then keep the first `rows`."""
        ...

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Feed one token to each row; logits of the next, shape (rows, vocabulary)."""
        ...


@dataclass(slots=True)
class _Sequence:
    """A row: its prompt and how many tokens were fed after it."""

    prompt: Prefilled
    age: int = 0


class SlotDecoder:
    """Batched decoding of attention models: prompts up to `prompt_tokens`, then up to `new_tokens`.

    `both_ways` reads prompts bidirectionally (HRM's prefix language model).
    """

    def __init__(self, model: PreTrainedModel, prompt_tokens: int, new_tokens: int, *, both_ways: bool = False):
        self.model = model
        self.rows = 0
        self._windows = attention_windows(model) or {}
        self._both_ways = both_ways
        self._cache = SlotCache(prompt_tokens, new_tokens)
        self._sequences: list[_Sequence] = []
        self._slots: dict[Prefilled, int] = {}
        self._ages = self._lengths = torch.empty(0, dtype=torch.long)
        self._stale = True
        self._picks_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> list[Prefilled]:
        longest = max(map(len, prompts))
        # Padding on the right is out of sight of every real token under a causal mask. A token of the
        # prompt pads it: a padding token would make some models warn about a missing mask.
        ids = self._tensor([[*p, *[p[-1]] * (longest - len(p))] for p in prompts])
        ends, which = torch.unique(torch.tensor([len(p) - 1 for p in prompts]), return_inverse=True)
        cache = DynamicCache()
        extra: dict[str, Any] = {"logits_to_keep": ends.to(ids.device)} if self._picks_logits else {}
        if self._both_ways:
            lengths = self._tensor([len(p) for p in prompts])
            extra["token_type_ids"] = (self._tensor(range(longest)) < lengths[:, None]).long()
        logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, **extra).logits
        columns = which if self._picks_logits else ends[which]
        return [
            Prefilled(cache, row, len(p), logits[row, column])
            for row, (p, column) in enumerate(zip(prompts, columns.tolist(), strict=True))
        ]

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.tensor(list(values), dtype=torch.long, device=self.model.device)

    @torch.inference_mode()
    def append(self, prompt: Prefilled, count: int) -> None:
        if prompt not in self._slots:
            self._store(prompt)
        self._sequences += [_Sequence(prompt) for _ in range(count)]
        self.rows += count
        self._cache.tails.reserve(self.rows, self._cache.prompts.layers)
        self._stale = True

    def _store(self, prompt: Prefilled) -> None:
        """Copy a prompt's keys and values into the first free slot of the bank."""
        states = [(layer.keys, layer.values) for layer in prompt.cache.layers]
        bank, slot = self._cache.prompts, len(self._slots)
        bank.reserve(slot + 1, states)
        for kept, new in zip(bank.layers, states, strict=True):
            for target, source in zip(kept, new, strict=True):
                target[slot, :, : prompt.length] = source[prompt.row, :, : prompt.length]
        self._slots[prompt] = slot

    @torch.inference_mode()
    def move(self, sources: Sequence[int], targets: Sequence[int], rows: int) -> None:
        if sources:
            reach = max(self._sequences[source].age for source in sources)
            self._cache.tails.move(self._tensor(sources), self._tensor(targets), reach)
        for source, target in zip(sources, targets, strict=True):
            self._sequences[target] = self._sequences[source]
        del self._sequences[rows:]
        self.rows = rows
        self._drop_prompts()
        self._stale = True

    def _drop_prompts(self) -> None:
        """Free the slots of prompts without rows: the last slots move into the gaps."""
        live = {sequence.prompt for sequence in self._sequences}
        gone = [prompt for prompt in self._slots if prompt not in live]
        if not gone:
            return
        gaps = sorted(slot for slot in (self._slots.pop(prompt) for prompt in gone) if slot < len(live))
        movers = [prompt for prompt, slot in self._slots.items() if slot >= len(live)]
        if movers:
            reach = max(prompt.length for prompt in movers)
            self._cache.prompts.move(self._tensor(self._slots[p] for p in movers), self._tensor(gaps), reach)
            self._slots.update(zip(movers, gaps, strict=True))

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        if self._stale:
            self._arrange()
        cache = self._cache
        cache.ages = self._ages
        cache.tail_reach = max(sequence.age for sequence in self._sequences) + 1
        positions = self._lengths + self._ages
        with _attending(self.model, cache):
            logits: torch.Tensor = self.model(
                input_ids=self._tensor(tokens)[:, None],
                position_ids=positions[:, None],
                attention_mask=self._masks(positions),
                past_key_values=cache,
                use_cache=True,
            ).logits
        self._ages = self._ages + 1
        for sequence in self._sequences:
            sequence.age += 1
        return logits[:, -1]

    def _arrange(self) -> None:
        """Tensors that say which row belongs to which prompt; needed after rows came or went."""
        sequences, cache = self._sequences, self._cache
        ranks = {prompt: counter() for prompt in self._slots}
        places = [(self._slots[s.prompt], next(ranks[s.prompt])) for s in sequences]
        most = max(rank for _, rank in places) + 1
        cache.groups = (len(self._slots), most)
        cache.places = self._tensor(slot * most + rank for slot, rank in places)
        cache.rows = self._tensor(range(len(sequences)))
        cache.prompt_reach = max(s.prompt.length for s in sequences)
        self._lengths = self._tensor(s.prompt.length for s in sequences)
        self._ages = self._tensor(s.age for s in sequences)
        self._stale = False

    def _masks(self, positions: torch.Tensor) -> Any:
        """What each row sees of prompt and tail columns: a mask, or one for each kind of attention layer."""
        prompt, tail = self._tensor(range(self._cache.prompt_reach)), self._tensor(range(self._cache.tail_reach))
        lengths = self._lengths[:, None]
        hidden = torch.cat([prompt >= lengths, tail > self._ages[:, None]], dim=1)
        places = torch.cat([prompt.expand(len(lengths), -1), lengths + tail], dim=1)
        masks = {
            kind: self._additive(hidden if window is None else hidden | (places <= positions[:, None] - window))
            for kind, window in self._windows.items()
        }
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _additive(self, hidden: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(hidden.shape, dtype=self.model.dtype, device=hidden.device)
        return mask.masked_fill_(hidden, torch.finfo(mask.dtype).min)[:, None, None]


@contextmanager
def _attending(model: PreTrainedModel, cache: SlotCache) -> Iterator[None]:
    """Have the model attend over `cache` meanwhile."""
    config = model.config.get_text_config(decoder=True)
    usual = config._attn_implementation
    token = ACTIVE.set(cache)
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = usual
        ACTIVE.reset(token)


class SerialDecoder:
    """One row at a time with the model's own cache: slow, and right for any causal model that has one."""

    def __init__(self, model: PreTrainedModel, *, both_ways: bool = False):
        self.model = model
        self.rows = 0
        self._both_ways = both_ways
        self._caches: list[Any] = []

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> list[Prefilled]:
        return [self._prefill(prompt) for prompt in prompts]

    def _prefill(self, prompt: Sequence[int]) -> Prefilled:
        ids = torch.tensor([list(prompt)], device=self.model.device)
        extra = {"token_type_ids": torch.ones_like(ids)} if self._both_ways else {}
        output = self.model(input_ids=ids, use_cache=True, **extra)
        cache = getattr(output, "past_key_values", None)
        if cache is None:
            raise StageError(
                f"{type(self.model).__name__} keeps no key-value cache, so it cannot generate here; "
                "choose an attention model"
            )
        return Prefilled(cache, 0, len(prompt), output.logits[0, -1])

    def append(self, prompt: Prefilled, count: int) -> None:
        self._caches += [copy.deepcopy(prompt.cache) for _ in range(count)]
        self.rows += count

    def move(self, sources: Sequence[int], targets: Sequence[int], rows: int) -> None:
        for source, target in zip(sources, targets, strict=True):
            self._caches[target] = self._caches[source]
        del self._caches[rows:]
        self.rows = rows

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        return torch.cat([self._one(token, row) for row, token in enumerate(tokens)])

    def _one(self, token: int, row: int) -> torch.Tensor:
        ids = torch.tensor([[token]], device=self.model.device)
        output = self.model(input_ids=ids, past_key_values=self._caches[row], use_cache=True)
        self._caches[row] = output.past_key_values
        logits: torch.Tensor = output.logits[:, -1]
        return logits


def decoder_for(model: PreTrainedModel, prompt_tokens: int, new_tokens: int, *, both_ways: bool = False) -> Decoder:
    """The batched decoder where it reproduces the model's logits, else the serial one, with a warning."""
    if model not in _TRUSTED:
        _TRUSTED[model] = batches_exactly(model)
        if not _TRUSTED[model]:
            log.warning("%s cannot share a batch here: generating one sequence at a time", type(model).__name__)
    if _TRUSTED[model]:
        return SlotDecoder(model, prompt_tokens, new_tokens, both_ways=both_ways)
    return SerialDecoder(model, both_ways=both_ways)


def rows_within(model: PreTrainedModel, tokens: int) -> int:
    """How many sequences of `tokens` tokens keep their keys and values within 1 GiB, between 1 and 256."""
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token: int = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
    return max(1, min(_MOST_ROWS, _CACHE_BYTES // (token * tokens)))


@torch.inference_mode()
def batches_exactly(model: PreTrainedModel) -> bool:
    """Whether sequences of different lengths, decoded together, get the logits of plain forward passes."""
    if attention_windows(model) is None:
        return False
    sequences = _probe(model)
    try:
        together = _decoded_together(model, sequences)
        alone = [_decoded_alone(model, sequence) for sequence in sequences]
    except (TypeError, ValueError, IndexError, KeyError, AttributeError, RuntimeError) as error:
        log.info("%s: batched decoding is not possible: %s", type(model).__name__, error)
        return False
    expected = torch.stack(alone).float()
    # A wrong mask or position is off by the size of the logits themselves; rounding is not.
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    return bool((together.float() - expected).abs().max() <= tolerance * expected.abs().max())


def vocabulary_of(model: PreTrainedModel) -> int:
    """Number of tokens that the model has embeddings for."""
    embeddings: Any = model.get_input_embeddings()
    return int(embeddings.num_embeddings)


def _probe(model: PreTrainedModel) -> list[list[int]]:
    """Three sequences, two of one prompt."""
    vocabulary = vocabulary_of(model)
    long = [(7 + 13 * i * i) % vocabulary for i in range(9)]
    return [long, [*long[:-2], vocabulary - 1, 1 % vocabulary], long[2:7]]


def _decoded_alone(model: PreTrainedModel, sequence: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.tensor([sequence], device=model.device), use_cache=False).logits
    return logits[0, -1]


def _decoded_together(model: PreTrainedModel, sequences: list[list[int]]) -> torch.Tensor:
    decoder = SlotDecoder(model, prompt_tokens=7, new_tokens=2)
    shared, other = decoder.prefill([sequences[0][:-2], sequences[2][:-2]])
    decoder.append(shared, 2)
    decoder.append(other, 1)
    decoder.step([s[-2] for s in sequences])
    return decoder.step([s[-1] for s in sequences])


def attention_windows(model: PreTrainedModel) -> dict[str, int | None] | None:
    """Sliding window by kind of attention layer (None sees everything); None where slots cannot describe the model."""
    config = model.config.get_text_config(decoder=True)
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    # These rotations change with the longest sequence of a batch.
    if rope in ("dynamic", "longrope") or "chunked_attention" in (getattr(config, "layer_types", None) or ()):
        return None
    windows: dict[str, int | None] = {}
    for layer in DynamicCache(config=config).layers:
        if type(layer) is DynamicLayer:
            windows["full_attention"] = None
        elif type(layer) is DynamicSlidingWindowLayer:
            windows["sliding_attention"] = layer.sliding_window
        else:
            return None
    return windows or {"full_attention": None}
