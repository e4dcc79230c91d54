"""Generation of many completions of many prompts: one engine for every causal language model.

The prompt of a problem is computed once and shared by its n samples. Prompts are taken longest first;
a row that ends makes room at once for the next sample, so batches stay full until the work runs out.
Every sample has random numbers of its own, so results depend neither on batch size nor on order (up to
rounding: a token whose draw falls within float rounding of a boundary may differ).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hrmctl import InputError, StageError
from hrmctl_models.decoding import Prefilled, decoder_for, rows_within
from hrmctl_models.endings import Complete, Completion, Endings, end_tokens
from hrmctl_models.loading import LoadedModel
from hrmctl_models.sampling import Sampling, choose, noise_of

Progress = Callable[[int, int, int], None]
_PREFILL_TOKENS = 16_384


def generate(
    loaded: LoadedModel,
    prompts: Sequence[str],
    *,
    n: int = 1,
    max_new_tokens: int = 256,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    stop: Sequence[str] = (),
    batch_size: int = 64,
    both_ways: bool | None = None,
    complete: Complete | None = None,
    on_progress: Progress | None = None,
) -> list[list[Completion]]:
    """`n` completions of each prompt, in the order of `prompts`.

    `on_progress(prompts done, prompts, tokens generated so far)` is called as prompts finish. The
    other parameters and the errors are those of `iter_generate`.
    """
    results: list[list[Completion]] = [[] for _ in prompts]
    tokens = 0
    finished = iter_generate(
        loaded,
        prompts,
        n=n,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
        batch_size=batch_size,
        both_ways=both_ways,
        complete=complete,
    )
    for done, (index, completions) in enumerate(finished, start=1):
        results[index] = completions
        tokens += sum(len(c.tokens) for c in completions)
        if on_progress:
            on_progress(done, len(prompts), tokens)
    return results


def iter_generate(
    loaded: LoadedModel,
    prompts: Sequence[str],
    *,
    n: int = 1,
    max_new_tokens: int = 256,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    stop: Sequence[str] = (),
    batch_size: int = 64,
    both_ways: bool | None = None,
    complete: Complete | None = None,
    on_step: Callable[[int], None] | None = None,
    anew: bool = False,
) -> Iterator[tuple[int, list[Completion]]]:
    """Yield `(index of the prompt, its n completions)` as prompts finish, in no fixed order.

    A temperature of 0 is greedy: generated once and returned n times, or generated n times with `anew`.
    `batch_size` is the number of sequences decoded together, 0 for as many as keep their cache within 1 GiB
    and at most 256. A sample ends at the model's end token, at the first occurrence of a `stop` sequence, where
    `complete(index of the prompt, text so far)` is true (asked after each token with a line break in
    it), after `max_new_tokens`, or where prompt and completion fill the context window;
    a prompt that leaves no room for one token is not shortened (that would be another problem): its
    samples are `refused`. `both_ways` has the prompt read bidirectionally by a prefix language model
    (None: where the configuration says `prefix_lm` and the tokenizer marks prompts with token type 1,
    which is what `model.generate(**tokenizer(prompt))` does). `on_step(tokens chosen)` is called after
    each step of the batch, also for progress and cancellation: what it raises passes through.

    Raises InputError on parameters out of range and StageError where the model cannot generate: logits
    that are not finite, no cache, no memory, a prompt without tokens.
    """
    check_limits(n, max_new_tokens, batch_size, stop)
    settings = Sampling(temperature, top_k, top_p, repetition_penalty, seed)
    limits = _Limits(max_new_tokens, batch_size, tuple(stop), complete)
    distinct = 1 if settings.greedy and not anew else n
    return _generate(loaded, prompts, n, distinct, settings, limits, both_ways, on_step)


def check_limits(n: int, max_new_tokens: int, batch_size: int, stop: Sequence[str]) -> None:
    """Raise InputError where these parameters of `iter_generate` are out of range."""
    for name, value, least in (("n", n, 1), ("max_new_tokens", max_new_tokens, 1), ("batch_size", batch_size, 0)):
        if value < least:
            raise InputError(f"{name} {value} is not at least {least}")
    if any(not text for text in stop):
        raise InputError("an empty stop sequence would end every sample; leave it out")


def _generate(
    loaded: LoadedModel,
    prompts: Sequence[str],
    n: int,
    distinct: int,
    settings: Sampling,
    limits: _Limits,
    both_ways: bool | None,
    on_step: Callable[[int], None] | None,
) -> Iterator[tuple[int, list[Completion]]]:
    if not prompts:
        return
    encoded = encode_prompts(loaded.tokenizer, prompts)
    both = reads_both_ways(loaded) if both_ways is None else both_ways
    training = loaded.model.training
    loaded.model.train(False)
    try:
        for index, completions in _Engine(loaded, encoded, distinct, settings, limits, both).run(on_step):
            yield index, completions * (n // distinct)
    except torch.OutOfMemoryError as error:
        raise StageError(f"no memory for batches of {limits.batch_size}; lower batch_size") from error
    finally:
        loaded.model.train(training)


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts as the tokenizer encodes them by default, without an end token it may add.

    An empty prompt is the begin token, or the end token where there is none. Raises StageError where
    there is neither.
    """
    ends = {tokenizer.eos_token_id, tokenizer.sep_token_id} - {tokenizer.bos_token_id}
    start = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
    encoded = []
    for ids in tokenizer(list(prompts), return_attention_mask=False)["input_ids"]:
        ids = list(ids)
        if ids and ids[-1] in ends and ids != [start]:
            ids.pop()
        if not ids and start is None:
            raise StageError("a prompt without a token cannot be continued; the tokenizer has no begin token")
        encoded.append(ids or [start])
    return encoded


def reads_both_ways(loaded: LoadedModel) -> bool:
    """Whether prompts are read bidirectionally: a prefix language model whose tokenizer marks prompts so."""
    if not getattr(loaded.model.config, "prefix_lm", False):
        return False
    types = loaded.tokenizer("x").get("token_type_ids")
    return bool(types) and all(kind == 1 for kind in types)


def context_window(model: PreTrainedModel) -> int | None:
    """Greatest number of positions of the model, None where the configuration sets none."""
    return window_of(model.config)


def window_of(config: PreTrainedConfig) -> int | None:
    """`context_window` of a model of this configuration."""
    config = config.get_text_config(decoder=True)
    return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)


@dataclass(frozen=True, slots=True)
class _Limits:
    max_new_tokens: int
    batch_size: int
    stop: tuple[str, ...]
    complete: Complete | None


@dataclass(slots=True)
class _Row:
    """One sample being generated; `noise` is None for greedy."""

    prompt: int
    sample: int
    budget: int
    noise: np.ndarray | None
    tokens: list[int] = field(default_factory=list)


class _Engine:
    """The loop: admit samples, choose a token a row, take ended rows away, step the model."""

    def __init__(
        self,
        loaded: LoadedModel,
        prompts: list[list[int]],
        n: int,
        settings: Sampling,
        limits: _Limits,
        both_ways: bool,
    ):
        self.prompts, self.n, self.settings, self.limits = prompts, n, settings, limits
        self.window = context_window(loaded.model)
        fitting = [i for i in range(len(prompts)) if self._budget(i) > 0]
        self.refused = [i for i in range(len(prompts)) if self._budget(i) <= 0]
        self.queue = deque(sorted(fitting, key=lambda i: (-len(prompts[i]), i)))
        longest = max((len(prompts[i]) for i in fitting), default=1)
        room = limits.batch_size or rows_within(loaded.model, longest // n + limits.max_new_tokens)
        self.capacity = min(room, n * len(fitting))
        self.decoder = decoder_for(loaded.model, longest, limits.max_new_tokens, both_ways=both_ways)
        ends = end_tokens(getattr(loaded.model, "generation_config", None), loaded.model.config, loaded.tokenizer)
        self.endings = Endings(loaded.tokenizer, ends, limits.stop, limits.complete)
        self.ready: deque[tuple[int, Prefilled]] = deque()
        self.admitted = 0
        self.rows: list[_Row] = []
        self.seen: torch.Tensor | None = None
        self.done: dict[int, dict[int, Completion]] = {}
        self.started: dict[int, float] = {}

    def _budget(self, prompt: int) -> int:
        room = self.limits.max_new_tokens
        return room if self.window is None else min(room, self.window - len(self.prompts[prompt]))

    def run(self, on_step: Callable[[int], None] | None) -> Iterator[tuple[int, list[Completion]]]:
        for index in self.refused:
            yield index, [Completion("", (), "refused")] * self.n
        logits: torch.Tensor | None = None
        while self.queue or self.ready or self.rows:
            fresh = self._admit()
            logits = torch.cat([*([] if logits is None else [logits]), *fresh])
            chosen = self._choose(logits)
            if on_step:
                on_step(len(chosen))
            ended = self._advance(chosen)
            yield from self._finish(ended)
            self._retire(ended)
            logits = self.decoder.step([row.tokens[-1] for row in self.rows]) if self.rows else None

    def _admit(self) -> list[torch.Tensor]:
        """Fill free rows with the next samples; returns the logits of their first tokens."""
        fresh = []
        while len(self.rows) < self.capacity and (self.ready or self.queue):
            if not self.ready:
                self._prefill()
            index, prompt = self.ready[0]
            count = min(self.capacity - len(self.rows), self.n - self.admitted)
            self.decoder.append(prompt, count)
            self._add_rows(index, count)
            fresh.append(prompt.logits.expand(count, -1))
            self.admitted += count
            if self.admitted == self.n:
                self.ready.popleft()
                self.admitted = 0
        return fresh

    def _prefill(self) -> None:
        """Compute the next prompts, about as many as fill a batch with their samples."""
        wanted = max(1, -(-self.capacity // self.n))
        wanted = min(wanted, max(1, _PREFILL_TOKENS // len(self.prompts[self.queue[0]])), len(self.queue))
        indices = [self.queue.popleft() for _ in range(wanted)]
        self.started |= dict.fromkeys(indices, time.monotonic())
        self.ready.extend(zip(indices, self.decoder.prefill([self.prompts[i] for i in indices]), strict=True))

    def _add_rows(self, index: int, count: int) -> None:
        budget, prompt = self._budget(index), self.prompts[index]
        for sample in range(self.admitted, self.admitted + count):
            noise = None if self.settings.greedy else noise_of(self.settings.seed, prompt, sample, budget)
            self.rows.append(_Row(index, sample, budget, noise))

    def _choose(self, logits: torch.Tensor) -> list[int]:
        draws = None
        if not self.settings.greedy:
            draws = np.array([row.noise[len(row.tokens)] for row in self.rows])  # type: ignore[index]
        with torch.inference_mode():
            chosen = choose(logits, self.settings, draws, self._seen(logits))
        return chosen.tolist()

    def _seen(self, logits: torch.Tensor) -> torch.Tensor | None:
        """Marks of the tokens in prompt and completion of each row, kept only where a penalty needs them."""
        if self.settings.repetition_penalty == 1:
            return None
        if self.seen is None:
            self.seen = torch.zeros(self.capacity, logits.shape[-1], dtype=torch.bool, device=logits.device)
        for place, row in enumerate(self.rows):
            if not row.tokens:
                self.seen[place] = False
                self.seen[place, self.prompts[row.prompt]] = True
            else:
                self.seen[place, row.tokens[-1]] = True
        return self.seen[: len(self.rows)]

    def _advance(self, chosen: list[int]) -> dict[int, Completion]:
        """Give each row its token; the completions of the rows that ended, by place."""
        ended = {}
        for place, (row, token) in enumerate(zip(self.rows, chosen, strict=True)):
            row.tokens.append(token)
            completion = self.endings.completion(row.prompt, self.prompts[row.prompt], row.tokens, row.budget)
            if completion is not None:
                ended[place] = replace(completion, seconds=time.monotonic() - self.started[row.prompt])
        return ended

    def _finish(self, ended: dict[int, Completion]) -> Iterator[tuple[int, list[Completion]]]:
        for place, completion in ended.items():
            row = self.rows[place]
            samples = self.done.setdefault(row.prompt, {})
            samples[row.sample] = completion
            if len(samples) == self.n:
                yield row.prompt, [samples[i] for i in range(self.n)]
                del self.done[row.prompt]

    def _retire(self, ended: dict[int, Completion]) -> None:
        """Take ended rows away: the last rows move into the gaps, so the batch stays dense."""
        if not ended:
            return
        left = len(self.rows) - len(ended)
        gaps = [place for place in ended if place < left]
        movers = [place for place in range(left, len(self.rows)) if place not in ended]
        for mover, gap in zip(movers, gaps, strict=True):
            self.rows[gap] = self.rows[mover]
        if self.seen is not None and gaps:
            with torch.inference_mode():
                self.seen[gaps] = self.seen[movers]
        del self.rows[left:]
        self.decoder.move(movers, gaps, left)
