"""Sizes and rules of an `hrm_act` model."""

from __future__ import annotations

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

_CHOICES = {"norm": ("post", "pre"), "positions": ("rope", "learned"), "loss_type": ("stablemax", "softmax")}


@strict
class HrmActConfig(PreTrainedConfig):
    """Configuration of `HrmActForCausalLM`. Raises ValueError for sizes and choices that do not fit together.

    `H_layers` and `L_layers` are layers of the slow and the fast stack, `H_cycles` and `L_cycles` how often
    each runs in a segment: every pass of H follows `L_cycles` passes of L. `intermediate_size` is unset for the
    published rule, two thirds of `expansion * hidden_size` rounded up to `intermediate_multiple`.

    `causal` false: every position sees all, and the answer stands where the question stood (puzzles). True: an
    autoregressive language model.

    A row runs at most `halt_max_steps` segments. In training, a share `halt_exploration_prob` of the rows
    gets a least number of segments by lot. With `q_continue`, as published, a row halts when halting is worth
    more than going on, which takes a second forward pass of each training step to learn; without it, when its
    answer is likelier right than not (Jolicoeur-Martineau 2025, arXiv 2510.04871, 4.6).

    The last `grad_cycles` passes of L of a segment, and the passes of H that follow them, have a gradient: 1 is
    the one-step gradient of the paper. `loss_type` is the cross-entropy over stablemax (Prieto et al. 2025)
    or softmax.

    `grid_width` says that a row of the data is a grid read row by row, so many cells wide: half of each head is
    then turned by the cell's row and half by its column (axial rotary positions, Heo et al. 2024, arXiv 2403.13298),
    at rates evenly spaced up to pi in place of those of `rope_theta`. Two cells see each other by their offset in both
    directions. Unset: positions are those in the text.

    `num_hidden_layers` is computed: all passes of a layer over all segments, each of which has a place of its
    own in a key-value cache.
    """

    model_type = "hrm_act"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]

    vocab_size: int = 16
    hidden_size: int = 512
    intermediate_size: int | None = None
    intermediate_multiple: int = 256
    expansion: float = 4.0
    num_attention_heads: int = 8
    num_hidden_layers: int = 0
    H_layers: int = 4
    L_layers: int = 4
    H_cycles: int = 2
    L_cycles: int = 2
    norm: str = "post"
    positions: str = "rope"
    rope_theta: float = 10000.0
    grid_width: int | None = None
    max_position_embeddings: int = 1024
    rms_norm_eps: float = 1e-5
    causal: bool = False
    halt_max_steps: int = 16
    halt_exploration_prob: float = 0.1
    q_continue: bool = True
    grad_cycles: int = 1
    loss_type: str = "stablemax"
    use_cache: bool = True
    tie_word_embeddings: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.intermediate_size is None:
            wanted = round(self.expansion * self.hidden_size * 2 / 3)
            self.intermediate_size = -(-wanted // self.intermediate_multiple) * self.intermediate_multiple
        # The places of an answer fill all at once: there is nothing that a later call could use again.
        self.use_cache = self.use_cache and self.causal
        self.num_hidden_layers = self.halt_max_steps * self.passes_per_segment
        super().__post_init__(**kwargs)

    @property
    def passes_per_segment(self) -> int:
        """How often a layer runs in one segment, over all layers."""
        return self.H_cycles * (self.L_cycles * self.L_layers + self.H_layers)

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.hidden_size // self.num_attention_heads

    def validate_architecture(self) -> None:
        """Called by the `strict` decorator."""
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} does not divide into {self.num_attention_heads} heads of even width"
            )
        if self.grid_width is not None:
            self._validate_grid(self.grid_width)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not one of {', '.join(choices)}")
        least = ("H_layers", "L_layers", "H_cycles", "L_cycles", "halt_max_steps", "grad_cycles")
        small = [name for name in least if getattr(self, name) < 1]
        if small:
            raise ValueError(f"{small[0]} is {getattr(self, small[0])}; it must be at least 1")
        if not 0 <= self.halt_exploration_prob <= 1:
            raise ValueError(f"halt_exploration_prob is {self.halt_exploration_prob}, not between 0 and 1")

    def _validate_grid(self, width: int) -> None:
        if width < 1:
            raise ValueError(f"grid_width is {width}; it must be at least 1")
        if self.positions != "rope" or self.causal:
            raise ValueError("grid_width is for positions: rope and causal: false")
        if self.head_dim % 4:
            raise ValueError(f"grid_width takes heads of a width that 4 divides; these have {self.head_dim}")
