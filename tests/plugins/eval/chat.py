"""Tokenizers with chat templates in the manner of Qwen2.5 (ChatML) and of Llama-2, which writes the begin token."""

from __future__ import annotations

from typing import Any

import hrmctl_models
from tokenizers.processors import TemplateProcessing

CHATML = (
    "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\nYou answer briefly.<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
INST = "{{ bos_token }}{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}"


def chatml(texts: list[str]) -> Any:
    """A tokenizer whose template is ChatML with a system message of its own."""
    tokenizer = hrmctl_models.train_tokenizer(texts, 290)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    return tokenizer


def inst(texts: list[str]) -> Any:
    """A tokenizer that begins every text with `<bos>`, and whose template does, too."""
    tokenizer = hrmctl_models.train_tokenizer(texts, 290)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    tokenizer.chat_template = INST
    return tokenizer
