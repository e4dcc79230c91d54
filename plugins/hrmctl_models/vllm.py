"""Generation by vLLM, for those who have a GPU: `iter_generate` with the meaning of `hrmctl_models.generate`.

    with Server(folder, dtype=dtype_of(folder, "auto"), log=...) as server:      # once for all tasks
        for index, completions in iter_generate(server, prompts, n=10, seed=7, complete=..., on_step=...):
            ...
    iter_generate(folder, prompts, ...)                                          # a server of its own

The server is given token ids and gives token ids back, so both engines read the same prompts, and when a
sample has ended and what its text is, is decided by the same code (`hrmctl_models.endings`).
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from safetensors import safe_open
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig

from hrmctl import StageError
from hrmctl_models.endings import Complete, Completion, Endings, end_tokens
from hrmctl_models.generate import check_limits, encode_prompts, window_of
from hrmctl_models.loading import ADAPTER_MARK, QUANTIZED_MARK, load_tokenizer
from hrmctl_models.sampling import Sampling, sample_digest
from hrmctl_models.vllm_server import Server

__all__ = ["Server", "dtype_of", "iter_generate"]

_REQUESTS = 64
_MOST_REQUESTS = 256
_STALL_SECONDS = 600.0
_POLL_SECONDS = 0.25
_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def dtype_of(folder: Path, dtype: str = "auto") -> str:
    """The `dtype` to start a server with: `auto` is as stored, where vLLM's own `auto` would halve float32.

    Raises StageError where the folder does not say, or is none that vLLM can read.
    """
    config, _ = _configs(folder)
    if dtype != "auto":
        return dtype
    stored = str(config.dtype or "").removeprefix("torch.")
    if stored:
        return stored
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            kinds = [weights.get_slice(name).get_dtype() for name in weights.keys()]  # noqa: SIM118
        for kind in kinds:
            if kind in _DTYPES:
                return _DTYPES[kind]
    raise StageError(f"{folder}: neither config.json nor the weights tell the dtype; set dtype")


def iter_generate(
    source: Server | Path,
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
    batch_size: int = 0,
    complete: Complete | None = None,
    on_step: Callable[[int], None] | None = None,
    stall_seconds: float = _STALL_SECONDS,
) -> Iterator[tuple[int, list[Completion]]]:
    """Yield `(index of the prompt, its n completions)` as prompts finish, in no fixed order.

    Parameters, results and errors are those of `hrmctl_models.generate.iter_generate`, but:

    * `source` is a running server, or a model folder, which then gets a server of its own.
    * `batch_size` is how many requests are under way at once, 0 for 64 and at most 256; vLLM makes its batches of
      them. The seconds of a sample are those of its request.
    * Each sample is a request with a seed from (seed, prompt, sample): neither order nor `batch_size` chooses its
      random numbers, which are not those of the other engine.
    * `on_step` is also called, with 0, a few times a second while there is nothing to report.
    * A request without a token for `stall_seconds`, a refused one, and the end of the server are StageErrors.
    """
    check_limits(n, max_new_tokens, batch_size, stop)
    settings = Sampling(temperature, top_k, top_p, repetition_penalty, seed)
    folder = source.folder if isinstance(source, Server) else Path(source)
    config, generation = _configs(folder)
    tokenizer = load_tokenizer(folder)
    ends = end_tokens(generation, config, tokenizer)
    engine = _Engine(
        encode_prompts(tokenizer, prompts) if prompts else [],
        1 if settings.greedy else n,
        settings,
        max_new_tokens,
        window_of(config),
        Endings(tokenizer, ends, tuple(stop), complete),
        min(batch_size or _REQUESTS, _MOST_REQUESTS),
        stall_seconds,
        on_step or (lambda tokens: None),
    )
    return _generate(engine, source, n)


def _generate(engine: _Engine, source: Server | Path, n: int) -> Iterator[tuple[int, list[Completion]]]:
    if not engine.prompts:
        return
    with ExitStack() as stack:
        server = source
        if not isinstance(server, Server):
            own = Server(server, dtype=dtype_of(server), seed=engine.settings.seed, on_wait=lambda: engine.on_step(0))
            server = stack.enter_context(own)
        for index, completions in engine.run(server):
            yield index, completions * (n // engine.n)


def _configs(folder: Path) -> tuple[PreTrainedConfig, GenerationConfig | None]:
    """Configuration and, where there is one, generation configuration of a folder that vLLM can read right."""
    if (Path(folder) / QUANTIZED_MARK).is_file():
        raise StageError(f"{folder}: vLLM cannot read hrmctl's own quantized format; use the engine hrmctl")
    if (Path(folder) / ADAPTER_MARK).is_file():
        raise StageError(f"{folder}: vLLM is given plain models only; finetune with merge: true, or use hrmctl")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        named = (Path(folder) / "generation_config.json").is_file()
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True) if named else None
    except Exception as error:
        raise StageError(f"{folder}: its configuration cannot be read ({error}); import the model again") from error
    if getattr(config, "prefix_lm", False):
        raise StageError(f"{folder}: a prefix language model, whose prompts vLLM would read causally; use hrmctl")
    return config, generation


@dataclass(eq=False, slots=True)
class _Row:
    """One sample: a request under way, whose `channel` is its socket."""

    prompt: int
    sample: int
    budget: int
    tokens: list[int] = field(default_factory=list)
    channel: socket.socket | None = None
    closed: bool = False
    asked: float = field(default_factory=time.monotonic)

    def close(self) -> None:
        """End the request from this side; its reader, wherever it is, returns."""
        self.closed = True
        if self.channel is not None:
            with suppress(OSError):
                self.channel.shutdown(socket.SHUT_RDWR)


# What a reader tells the loop: tokens, that the server said no more, or what went wrong.
_News = tuple[_Row, list[int] | Exception | None]


@dataclass(frozen=True)
class _Engine:
    """The loop: keep requests under way, look at each token as it comes, close what has ended."""

    prompts: list[list[int]]
    n: int
    settings: Sampling
    max_new_tokens: int
    window: int | None
    endings: Endings
    requests: int
    stall_seconds: float
    on_step: Callable[[int], None]

    def run(self, server: Server) -> Iterator[tuple[int, list[Completion]]]:
        """Yield prompts with their samples as they finish."""
        for index in range(len(self.prompts)):
            if self._budget(index) <= 0:
                yield index, [Completion("", (), "refused")] * self.n
        done: dict[int, dict[int, Completion]] = {}
        for row, completion in self._samples(server):
            samples = done.setdefault(row.prompt, {})
            samples[row.sample] = completion
            if len(samples) == self.n:
                yield row.prompt, [samples[i] for i in range(self.n)]
                del done[row.prompt]

    def _budget(self, prompt: int) -> int:
        room = self.max_new_tokens
        return room if self.window is None else min(room, self.window - len(self.prompts[prompt]))

    def _rows(self) -> Iterator[_Row]:
        """Samples still to be asked for: longest prompts first, those of a prompt together (vLLM keeps prefixes)."""
        for index in sorted(range(len(self.prompts)), key=lambda i: -len(self.prompts[i])):
            if (budget := self._budget(index)) > 0:
                yield from (_Row(index, sample, budget) for sample in range(self.n))

    def _samples(self, server: Server) -> Iterator[tuple[_Row, Completion]]:
        news: SimpleQueue[_News] = SimpleQueue()
        waiting, live = self._rows(), set[_Row]()
        with self._readers(live) as pool:
            while True:
                for row in islice(waiting, self.requests - len(live)):
                    live.add(row)
                    pool.submit(self._read, server, row, news.put)
                if not live:
                    return
                row, latest = self._next(news)
                if row in live and (completion := self._advance(server, row, latest)):
                    live.remove(row)
                    row.close()
                    yield row, replace(completion, seconds=time.monotonic() - row.asked)

    @contextmanager
    def _readers(self, live: set[_Row]) -> Iterator[ThreadPoolExecutor]:
        """Threads that read answers; whatever happens, their sockets are closed and they are joined."""
        # Readers whose request was closed may still be returning while the next one is submitted.
        pool = ThreadPoolExecutor(self.requests, thread_name_prefix="vllm")
        try:
            yield pool
        finally:
            for row in live:
                row.close()
            pool.shutdown(cancel_futures=True)

    def _next(self, news: SimpleQueue[_News]) -> _News:
        while True:
            try:
                return news.get(timeout=_POLL_SECONDS)
            except Empty:
                self.on_step(0)

    def _advance(self, server: Server, row: _Row, latest: list[int] | Exception | None) -> Completion | None:
        """Take note of what came; the completion if that ends the sample."""
        if isinstance(latest, Exception):
            raise server.failure(latest) from latest
        if latest is None:
            raise server.failure(HTTPException(f"a sample ended after {len(row.tokens)} of {row.budget} tokens"))
        for count, token in enumerate(latest, start=1):
            row.tokens.append(token)
            completion = self.endings.completion(row.prompt, self.prompts[row.prompt], row.tokens, row.budget)
            if completion is not None:
                self.on_step(count)
                return completion
        self.on_step(len(latest))
        return None

    def _read(self, server: Server, row: _Row, tell: Callable[[_News], None]) -> None:
        """Send one request and tell what comes back; runs in a thread."""
        try:
            for tokens in self._answer(server, row):
                tell((row, tokens))
            tell((row, None))
        except Exception as error:
            tell((row, error))

    def _answer(self, server: Server, row: _Row) -> Iterator[list[int]]:
        connection = server.connection(self.stall_seconds)
        try:
            connection.connect()
            row.channel = connection.sock
            if row.closed:
                return
            connection.request("POST", "/v1/completions", json.dumps(self._body(server, row)), server.headers())
            answer = connection.getresponse()
            if answer.status != 200:
                raise HTTPException(f"status {answer.status}, {answer.read(300).decode(errors='replace')}")
            yield from filter(None, map(_tokens, answer))
        except TimeoutError:
            raise HTTPException(f"no token for {self.stall_seconds:g} s") from None
        finally:
            connection.close()

    def _body(self, server: Server, row: _Row) -> dict[str, Any]:
        prompt, settings = self.prompts[row.prompt], self.settings
        digest = sample_digest(settings.seed, prompt, row.sample)
        body = {
            "model": server.name,
            "prompt": prompt,
            "max_tokens": row.budget,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "repetition_penalty": settings.repetition_penalty,
            "seed": int.from_bytes(digest[:8], "little") >> 1,
            "stop_token_ids": sorted(self.endings.ends),
            "stream": True,
            "return_token_ids": True,
        }
        return body | ({"top_k": settings.top_k} if settings.top_k else {})


def _tokens(line: bytes) -> list[int]:
    """The token ids of one line of a stream of server-sent events; none in lines of other kinds."""
    content = line.strip().removeprefix(b"data:").strip()
    if not content or content == b"[DONE]":
        return []
    event = json.loads(content)
    if "error" in event:
        raise HTTPException(str(event["error"])[:300])
    tokens: list[int] = []
    for choice in event.get("choices", ()):
        if choice.get("token_ids") is None:
            raise HTTPException("this version gives no token ids (return_token_ids); install a newer vLLM")
        tokens += choice["token_ids"]
    return tokens
