"""`HrmActForCausalLM`: segments of two recurrent stacks, a language-model head, and a Q-head that says when to halt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep

from hrmctl import InputError
from hrmctl_models.hrm_act.configuration import HrmActConfig
from hrmctl_models.hrm_act.layers import Sight, Stack, rope_table
from hrmctl_models.hrm_act.losses import IGNORED, token_losses
from hrmctl_models.hrm_act.states import States

# A normal distribution cut at two standard deviations has this one.
_TRUNCATED_STD = 0.8796256610342398
_HALT, _CONTINUE = 0, 1


@dataclass(frozen=True, slots=True)
class Segment:
    """The end of one segment: its states (with their graph, if any), logits and Q-values (rows,) in float32.

    `halts` are the rows (rows,) that the Q-head would stop now.
    """

    states: States
    logits: torch.Tensor
    q_halt: torch.Tensor
    q_continue: torch.Tensor
    halts: torch.Tensor


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer `tokens` (rows, length), and the segment (from 1) and Q-value at which each row halted."""

    tokens: torch.Tensor
    steps: torch.Tensor
    q_halt: torch.Tensor


class QHead(nn.Linear):
    """Two logits: the reward expected of halting, and of going on."""


class HrmActPreTrainedModel(PreTrainedModel):
    """What transformers wants to know."""

    config: HrmActConfig
    config_class = HrmActConfig
    base_model_prefix = "model"
    _no_split_modules: ClassVar[list[str]] = ["Layer"]
    _supports_sdpa = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Truncated normal: LeCun's for matrices, 1/sqrt(width) for embeddings, 1 for the initial states."""
        if isinstance(module, QHead):
            # Almost no reward is expected of either choice until the Q-head has learned.
            init.zeros_(module.weight)
            init.constant_(module.bias, -5.0)
        elif isinstance(module, nn.Linear):
            _truncated_normal(module.weight, module.in_features**-0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            _truncated_normal(module.weight, module.embedding_dim**-0.5)
        elif isinstance(module, HrmActModel):
            _truncated_normal(module.H_init, 1.0)
            _truncated_normal(module.L_init, 1.0)


def _truncated_normal(tensor: torch.Tensor, std: float) -> None:
    wide = std / _TRUNCATED_STD
    init.trunc_normal_(tensor, std=wide, a=-2 * wide, b=2 * wide)


class HrmActModel(HrmActPreTrainedModel):
    """The embeddings and the two stacks."""

    H_init: torch.Tensor
    L_init: torch.Tensor

    def __init__(self, config: HrmActConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.positions == "learned":
            self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.H_level = Stack(config, config.H_layers)
        self.L_level = Stack(config, config.L_layers)
        self.register_buffer("H_init", torch.zeros(config.hidden_size))
        self.register_buffer("L_init", torch.zeros(config.hidden_size))
        self.post_init()

    def embed(self, input_ids: torch.Tensor, positions: torch.Tensor | slice) -> torch.Tensor:
        """What every pass of L is given, (rows, length, width)."""
        return self.placed(self.embed_tokens(input_ids), positions)

    def placed(self, embeddings: torch.Tensor, positions: torch.Tensor | slice) -> torch.Tensor:
        """Token embeddings at their positions, scaled to the size of the states."""
        if self.config.positions == "learned":
            # Over sqrt(2), so that the sum has the variance of either.
            embeddings = (embeddings + self.embed_positions.weight[positions]) * math.sqrt(0.5)
        return embeddings * math.sqrt(self.config.hidden_size)

    def rope(
        self, length: int, positions: torch.Tensor | slice, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Factors of rotary positions, shaped for queries and keys; None with learned positions."""
        if self.config.positions == "learned":
            return None
        config = self.config
        length = max(length, config.max_position_embeddings)
        table = rope_table(length, config.head_dim, config.rope_theta, like.device, like.dtype, config.grid_width)
        cos, sin = (part[positions][..., :, None, None, :] for part in table)
        return cos, sin

    def initial(self, embeddings: torch.Tensor) -> States:
        """The states before the first segment."""
        return States(*(x.to(embeddings.dtype).expand_as(embeddings) for x in (self.H_init, self.L_init)))

    def segment(self, states: States, embeddings: torch.Tensor, sight: Sight, number: int = 0) -> States:
        """`H_cycles` times `L_cycles` passes of L and one of H; from the last `grad_cycles` of L on with a graph.

        `number` counts the segments of a row from 0: each has its own places in a cache.
        """
        config = self.config
        z_H, z_L = states.z_H, states.z_L
        place = number * config.passes_per_segment
        without = config.H_cycles * config.L_cycles - config.grad_cycles
        tracked = torch.is_grad_enabled()
        for cycle in range(config.H_cycles):
            for step in range(config.L_cycles):
                with torch.set_grad_enabled(tracked and cycle * config.L_cycles + step >= without):
                    z_L = self.L_level(z_L, z_H + embeddings, sight, place)
                place += config.L_layers
            with torch.set_grad_enabled(tracked and (cycle + 1) * config.L_cycles > without):
                z_H = self.H_level(z_H, z_L, sight, place)
            place += config.H_layers
        return States(z_H, z_L)


class HrmActForCausalLM(HrmActPreTrainedModel, GenerationMixin):
    """The Hierarchical Reasoning Model with adaptive computation.

    With `config.causal` a language model for `generate`; without it a solver that writes its answer in the
    place of the question (`solve`).
    """

    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: HrmActConfig) -> None:
        super().__init__(config)
        self.model = HrmActModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.q_head = QHead(config.hidden_size, 2)
        self.post_init()

    def sight(self, embeddings: torch.Tensor, attention_mask: torch.Tensor | None) -> Sight:
        """What a forward pass without a cache sees; `attention_mask` (rows, length) is false at padding."""
        length = embeddings.shape[1]
        mask = None
        if attention_mask is not None:
            mask = attention_mask.bool()[:, None, None, :]
            if self.config.causal:
                mask = mask & mask.new_ones(length, length).tril()
        return Sight(self.model.rope(length, slice(0, length), embeddings), mask)

    def segment(
        self, states: States, embeddings: torch.Tensor, sight: Sight, last: torch.Tensor | None = None
    ) -> Segment:
        """One segment from `states` on; `last` (rows,) as in `read`."""
        return self.read(self.model.segment(states, embeddings, sight), last)

    def read(self, states: States, last: torch.Tensor | None = None) -> Segment:
        """The answer and the Q-values of these states."""
        q_halt, q_continue = self.q_values(states, last)
        halts = q_halt.detach() > (q_continue.detach() if self.config.q_continue else 0)
        return Segment(states, self.lm_head(states.z_H), q_halt, q_continue, halts)

    def q_values(self, states: States, last: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Expected reward of halting and of going on, as logits (rows,) in float32.

        In place, the Q-head reads position 0, which has seen all, as in the reference. In a causal model position 0
        has seen itself alone, so there it reads `last` (rows,), the last position of the row; unset: the last column.
        """
        if not self.config.causal:
            seen = states.z_H[:, 0]
        elif last is None:
            seen = states.z_H[:, -1]
        else:
            seen = states.z_H[torch.arange(len(last), device=last.device), last]
        q = self.q_head(seen).float()
        return q[:, _HALT], q[:, _CONTINUE]

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """`halt_max_steps` segments for every row, as the reference evaluates; the logits are those of the last.

        Gradients, where wanted, come from the last segment alone. `labels` (rows, length) are shifted here
        if the model is causal, and stand where their answer stands if it is not. Raises
        InputError where an in-place model is asked for a cache.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("give exactly one of input_ids and inputs_embeds")
        tokens = self.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if not self.config.causal and (use_cache or past_key_values is not None):
            raise InputError(
                "this hrm_act model answers in place: it has no next token and no cache; call solve, or train "
                "one with causal: true"
            )
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        end = past + tokens.shape[1]
        positions = slice(past, end) if position_ids is None else position_ids
        embeddings = self.model.placed(tokens, positions)
        mask = self._mask(embeddings, attention_mask, position_ids, past_key_values)
        sight = Sight(self.model.rope(end, positions, embeddings), mask, past_key_values)
        states = self.model.initial(embeddings)
        segments = self.config.halt_max_steps
        for number in range(segments):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number == segments - 1):
                states = self.model.segment(states, embeddings, sight, number)
        logits = self.lm_head(slice_logits_to_keep(states.z_H, logits_to_keep))
        loss = None if labels is None else self._mean_loss(logits, labels)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)

    def _mask(
        self,
        embeddings: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        cache: Cache | None,
    ) -> torch.Tensor | None:
        if not self.config.causal:
            return None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        mask: torch.Tensor | None = create_causal_mask(
            config=self.config,
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            past_key_values=cache,
            position_ids=position_ids,
        )
        return mask

    def _mean_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.config.causal:
            logits, labels = logits[:, :-1], labels[:, 1:]
        learned = (labels != IGNORED).sum().clamp(min=1)
        return token_losses(logits, labels, self.config.loss_type).sum() / learned

    @torch.no_grad()
    def solve(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Solution:
        """Answers in place; each row stops at the segment where its Q-head says so, and keeps the answer of then.

        `attention_mask` (rows, length) is false at padding on the right. Raises InputError for a causal model.
        """
        if self.config.causal:
            raise InputError("a causal hrm_act model writes token after token; call generate")
        embeddings = self.model.embed(input_ids, slice(0, input_ids.shape[1]))
        states = self.model.initial(embeddings)
        tokens, active = torch.empty_like(input_ids), torch.arange(len(input_ids), device=input_ids.device)
        steps, q_halt = torch.zeros_like(active), torch.zeros(len(active), device=input_ids.device)
        for step in range(1, self.config.halt_max_steps + 1):
            found = self.segment(states, embeddings, self.sight(embeddings, attention_mask))
            ends = found.halts | (step == self.config.halt_max_steps)
            ended = active[ends]
            tokens[ended], steps[ended], q_halt[ended] = found.logits[ends].argmax(-1), step, found.q_halt[ends]
            left = ~ends
            if not left.any():
                break
            active, embeddings, states = active[left], embeddings[left], found.states.rows(left)
            attention_mask = None if attention_mask is None else attention_mask[left]
        return Solution(tokens, steps, q_halt)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """transformers' generation. Raises InputError for a model that answers in place."""
        if not self.config.causal:
            raise InputError("this hrm_act model answers in place and cannot continue a text; call solve")
        return super().generate(*args, **kwargs)  # type: ignore[misc]
