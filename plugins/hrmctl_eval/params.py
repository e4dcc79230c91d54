"""Parameters of the stage `eval`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from hrmctl.schema import doc

_SOURCE = "who writes the completions: the model, or the data set itself (its references, as they are)"
_LIMIT = "only the first N problems of each task, 0 for all; recorded, and n counts those evaluated"
_BATCH = "completions generated together; 0 for as many as keep the cache within 1 GiB, at most 256"
_UNSAFE = "run programs although the sandbox cannot contain them here; its mode is recorded either way"
_FORGEABLE = "let a program's own operators take part in a verdict where a test needs them; such samples are counted"
_STRATEGY = "how a problem becomes a prompt; standard is the problem's own text, continued (docs/eval.md)"
_SHOTS = "solved problems that few-shot puts before each problem"
_EXEMPLAR_IDS = "task_ids of the exemplars to show, in this order; empty for the first of the set"
_CHAT = "put the prompt into the tokenizer's chat template; auto does where the strategy asks and there is one"
_ENGINE = "what generates: hrmctl in its own process, a vLLM server that is started for it, or transformers, greedily"
_PACKAGES = "third-party packages that programs may import, besides the standard library; recorded"
_SCORED = "also measure perplexity, token and exact accuracy of the reference completions given their prompts"
_ANEW = "greedy: generate each sample anew, to see that they are alike, where else the one is handed out n times"
_STOP = "further texts that end a completion, besides the model's end token and leaving the function"
Strategy = Literal["standard", "few-shot", "chain-of-thought", "code-oriented"]


@dataclass(frozen=True)
class EvalParams:
    """How completions are generated and judged. Raises ValueError where samples cannot give the asked-for k."""

    source: Annotated[Literal["model", "references"], doc(_SOURCE)] = "model"
    strategy: Annotated[Strategy, doc(_STRATEGY)] = "standard"
    shots: Annotated[int, Ge(1), Le(100), doc(_SHOTS)] = 3
    exemplar_ids: Annotated[tuple[str, ...], doc(_EXEMPLAR_IDS)] = ()
    chat: Annotated[Literal["auto", "yes", "no"], doc(_CHAT)] = "auto"
    engine: Annotated[Literal["hrmctl", "vllm", "transformers"], doc(_ENGINE)] = "hrmctl"
    samples: Annotated[int, Ge(1), Le(10_000), doc("completions of each problem, n of pass@k")] = 1
    k: Annotated[tuple[int, ...], MinLen(1), doc("k of pass@k that is to be computable; none over samples")] = (1,)
    temperature: Annotated[float, Ge(0), Le(100), doc("divides the logits; 0 is greedy")] = 0.8
    greedy_anew: Annotated[bool, doc(_ANEW)] = False
    top_p: Annotated[float, Gt(0), Le(1), doc("sample from the most probable tokens of this total mass")] = 1.0
    top_k: Annotated[int, Ge(0), doc("sample from so many most probable tokens, 0 for all")] = 0
    repetition_penalty: Annotated[float, Gt(0), Le(100), doc("divides the logits of tokens seen, 1 for none")] = 1.0
    max_new_tokens: Annotated[int, Ge(1), doc("tokens of a completion at most")] = 256
    stop: Annotated[tuple[str, ...], doc(_STOP)] = ()
    batch_size: Annotated[int, Ge(0), doc(_BATCH)] = 0
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], doc("of the weights, auto as stored")] = "auto"
    limit: Annotated[int, Ge(0), doc(_LIMIT)] = 0
    perplexity: Annotated[bool, doc(_SCORED)] = True
    workers: Annotated[int, Ge(0), doc("sandbox processes, 0 for as many as the stage has threads")] = 0
    cpu_seconds: Annotated[float, Gt(0), doc("processor time of one program, seconds")] = 10.0
    wall_seconds: Annotated[float, Gt(0), doc("wall time of one program, seconds; looser than cpu_seconds")] = 40.0
    memory_mb: Annotated[int, Ge(64), doc("address space of one program, MiB")] = 1024
    packages: Annotated[tuple[str, ...], doc(_PACKAGES)] = ()
    allow_unsafe: Annotated[bool, doc(_UNSAFE)] = False
    allow_forgeable: Annotated[bool, doc(_FORGEABLE)] = False

    def __post_init__(self) -> None:
        if min(self.k, default=1) < 1:
            raise ValueError(f"k holds {min(self.k)}; each k is at least 1")
        if max(self.k, default=1) > self.samples:
            raise ValueError(f"pass@{max(self.k)} needs {max(self.k)} samples a problem, samples is {self.samples}")
        if self.source == "references" and self.samples != 1:
            raise ValueError(f"a reference is one sample a problem, samples is {self.samples}; set it to 1")
        if self.source == "references" and (self.strategy, self.chat) not in (("standard", "auto"), ("standard", "no")):
            raise ValueError("references are given no prompt; leave strategy and chat out, or source")
        if self.exemplar_ids and (self.strategy != "few-shot" or len(self.exemplar_ids) != self.shots):
            raise ValueError(f"{len(self.exemplar_ids)} exemplar_ids; they are for few-shot, and as many as shots")
        if len(set(self.exemplar_ids)) < len(self.exemplar_ids):
            raise ValueError("exemplar_ids names a problem twice; show each once")
        if self.engine == "transformers" and (self.temperature, self.samples, self.repetition_penalty) != (0, 1, 1):
            raise ValueError("the engine transformers is for comparison: one greedy sample; set temperature to 0")
        if self.greedy_anew and (self.temperature or self.engine != "hrmctl"):
            raise ValueError("greedy_anew is for temperature 0 of the engine hrmctl; leave it out")
        if any(not text for text in self.stop):
            raise ValueError("an empty stop text would end every completion; leave it out")


@dataclass(frozen=True)
class TransformersParams:
    """What `eval-transformers` leaves open of `eval`: one greedy sample of each problem by transformers' generation."""

    max_new_tokens: Annotated[int, Ge(1), doc("tokens of a completion at most")] = 256
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], doc("of the weights, auto as stored")] = "auto"
    chat: Annotated[Literal["auto", "yes", "no"], doc(_CHAT)] = "auto"
    strategy: Annotated[Literal["standard", "chain-of-thought", "code-oriented"], doc(_STRATEGY)] = "standard"
    limit: Annotated[int, Ge(0), doc(_LIMIT)] = 0

    @property
    def whole(self) -> EvalParams:
        """The parameters of `eval`."""
        own = {name: getattr(self, name) for name in ("max_new_tokens", "dtype", "chat", "strategy", "limit")}
        return EvalParams(engine="transformers", temperature=0.0, perplexity=False, **own)
