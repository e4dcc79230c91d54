"""The engines that generate: hrmctl's own or transformers' in this process, or a vLLM server; each when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import Any

from hrmctl import Artifact, Context, StageError
from hrmctl_eval.params import EvalParams

Generated = Iterator[tuple[int, list[Any]]]


class Engine:
    """Generates for all tasks of a stage. A context: leaving it ends the server and frees its memory."""

    def __init__(self, params: EvalParams, model: Artifact | None, ctx: Context):
        self._params, self._artifact, self._ctx = params, model, ctx
        self._stack = ExitStack()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @cached_property
    def loaded(self) -> Any:
        """The model in this process. Raises StageError where it cannot be loaded."""
        import torch
        from hrmctl_models.loading import load

        torch.set_num_threads(self._ctx.threads)
        return load(self._model.path, device=self._ctx.device, dtype=self._params.dtype)

    @property
    def _model(self) -> Artifact:
        if self._artifact is None:
            raise StageError("references need no model")
        return self._artifact

    def generate(
        self,
        prompts: Sequence[str],
        stop: Sequence[str],
        complete: Callable[[int, str], bool],
        on_step: Callable[[int], None],
    ) -> Generated:
        """`(index of the prompt, its completions)` as they finish, as `hrmctl_models.generate.iter_generate`."""
        source, iter_generate = self._vllm(on_step) if self._params.engine == "vllm" else self._here()
        params = self._params
        return iter_generate(
            source,
            prompts,
            n=params.samples,
            max_new_tokens=params.max_new_tokens,
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            repetition_penalty=params.repetition_penalty,
            seed=self._ctx.seed,
            stop=(*params.stop, *stop),
            batch_size=params.batch_size,
            complete=complete,
            on_step=on_step,
            **({"anew": True} if params.greedy_anew else {}),
        )

    def _here(self) -> tuple[Any, Callable[..., Generated]]:
        if self._params.engine == "transformers":
            from hrmctl_eval.reference_engine import iter_generate as of_transformers

            return self.loaded, of_transformers
        from hrmctl_models.generate import iter_generate

        return self.loaded, iter_generate

    def _vllm(self, on_step: Callable[[int], None]) -> tuple[Any, Callable[..., Generated]]:
        from hrmctl_models.vllm import iter_generate

        self._on_wait = on_step
        return self._server, iter_generate

    @cached_property
    def _server(self) -> Any:
        from hrmctl_models.vllm import Server, dtype_of

        folder = self._model.path
        dtype = dtype_of(folder, self._params.dtype)
        log = self._ctx.scratch / "vllm.log"
        return self._stack.enter_context(
            Server(folder, dtype=dtype, seed=self._ctx.seed, log=log, on_wait=lambda: self._on_wait(0))
        )
