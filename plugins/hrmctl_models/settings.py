"""The settings of each family of architectures that a recipe may change, so that a plan knows them without torch."""

from __future__ import annotations

HRM_TEXT = (
    "H_cycles L_bp_cycles L_cycles _name_or_path attention_bias attention_dropout chunk_size_feed_forward "
    "embedding_scale head_dim hidden_act hidden_size id2label initializer_range intermediate_size is_encoder_decoder "
    "label2id max_position_embeddings mlp_bias num_attention_heads num_hidden_layers output_attentions "
    "output_hidden_states prefix_lm problem_type return_dict rms_norm_eps rope_parameters tie_word_embeddings "
    "use_cache"
)
HRM_ACT = (
    "H_cycles H_layers L_cycles L_layers _name_or_path causal chunk_size_feed_forward expansion grad_cycles "
    "grid_width halt_exploration_prob halt_max_steps hidden_size id2label intermediate_multiple intermediate_size "
    "is_encoder_decoder label2id loss_type max_position_embeddings norm num_attention_heads num_hidden_layers "
    "output_attentions output_hidden_states positions problem_type q_continue return_dict rms_norm_eps rope_theta "
    "tie_word_embeddings use_cache"
)
GPT2 = (
    "_name_or_path activation_function add_cross_attention attn_pdrop chunk_size_feed_forward embd_pdrop id2label "
    "initializer_range is_encoder_decoder label2id layer_norm_epsilon n_embd n_head n_inner n_layer n_positions "
    "output_attentions output_hidden_states problem_type reorder_and_upcast_attn resid_pdrop return_dict "
    "scale_attn_by_inverse_layer_idx scale_attn_weights summary_activation summary_first_dropout "
    "summary_proj_to_labels summary_type summary_use_proj tie_word_embeddings use_cache"
)
QWEN2 = (
    "_name_or_path attention_dropout chunk_size_feed_forward hidden_act hidden_size id2label initializer_range "
    "intermediate_size is_encoder_decoder label2id layer_types max_position_embeddings max_window_layers "
    "num_attention_heads num_hidden_layers num_key_value_heads output_attentions output_hidden_states problem_type "
    "return_dict rms_norm_eps rope_parameters sliding_window tie_word_embeddings use_cache use_sliding_window"
)
LLAMA = (
    "_name_or_path attention_bias attention_dropout chunk_size_feed_forward head_dim hidden_act hidden_size id2label "
    "initializer_range intermediate_size is_encoder_decoder label2id max_position_embeddings mlp_bias "
    "num_attention_heads num_hidden_layers num_key_value_heads output_attentions output_hidden_states pretraining_tp "
    "problem_type return_dict rms_norm_eps rope_parameters tie_word_embeddings use_cache"
)

_FAMILIES = {"hrm-act": HRM_ACT, "hrm": HRM_TEXT, "gpt2": GPT2, "qwen2": QWEN2, "llama": LLAMA}


def settings_of(architecture: str) -> tuple[str, ...]:
    """The names of a built-in architecture's settings, by the beginning of its name."""
    return tuple(next(names for family, names in _FAMILIES.items() if architecture.startswith(family)).split())
