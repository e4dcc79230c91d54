"""transformers' own generation, one prompt at a time: what hrmctl's engine is compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def iter_generate(
    loaded: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    stop: Sequence[str],
    on_step: Callable[[int], None],
    **_: Any,
) -> Iterator[tuple[int, list[Any]]]:
    """`(index of the prompt, [its greedy completion])` in order, by `model.generate(**tokenizer(prompt))`.

    Nothing of hrmctl's engine takes part: neither its decoder, its sampling nor its endings. Completions run on to the
    end token or the limit and are cut at the first text of `stop`; a prompt that fills the context is `refused`.
    """
    from hrmctl_models.endings import Completion
    from hrmctl_models.generate import context_window

    model, tokenizer = loaded.model.eval(), loaded.tokenizer
    window = context_window(model)
    for index, prompt in enumerate(prompts):
        begun = time.monotonic()
        read = tokenizer(prompt, return_tensors="pt").to(model.device)
        length = read["input_ids"].shape[1]
        room = max_new_tokens if window is None else min(max_new_tokens, window - length)
        if room <= 0:
            yield index, [Completion("", (), "refused")]
            continue
        ids = model.generate(**read, do_sample=False, max_new_tokens=room, pad_token_id=tokenizer.pad_token_id)
        tokens = ids[0, length:].tolist()
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        cut = min((place for place in map(text.find, stop) if place >= 0), default=len(text))
        reason = "stop" if cut < len(text) else "length" if len(tokens) >= room else "end"
        on_step(len(tokens))
        yield index, [Completion(text[:cut], tuple(tokens), reason, time.monotonic() - begun)]
