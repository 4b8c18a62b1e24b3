"""What the code of each ``model_type`` of Hugging Face transformers fixes, whatever its config says; and the kinds that are refused.

Facts of the modelling files of transformers 4.57 (of baichuan and kimi_k2: of the files beside their checkpoints). Each kind's weights
were counted from these files without data; the counts are in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LLAMA = {"gated": True, "rms_norm": True, "tied_embeddings": False}
_GPT = {"gated": False, "biases": True, "tied_embeddings": False}
_BERT = _GPT | {"tied_embeddings": True, "learned_positions": True, "causal": False, "head_layers": 2}

KINDS: Mapping[str, Mapping[str, Any]] = {
    "baichuan": _LLAMA,
    "bert": _BERT,
    "bloom": _GPT | {"tied_embeddings": True, "alibi": True},
    "deepseek_v2": _LLAMA,
    "deepseek_v3": _LLAMA,
    "falcon": _GPT | {"tied_embeddings": True},
    "gemma": _LLAMA | {"tied_embeddings": True},
    "gemma2": _LLAMA | {"tied_embeddings": True, "norms": 4},
    "gemma3_text": _LLAMA | {"tied_embeddings": True, "norms": 4, "qk_norm": True},
    "glm": _LLAMA | {"qkv_biases": True},
    "glm4": _LLAMA | {"qkv_biases": True, "norms": 4},
    "gpt2": _GPT | {"tied_embeddings": True, "learned_positions": True},
    "gpt_bigcode": _GPT | {"tied_embeddings": True, "learned_positions": True},
    "gpt_neox": _GPT | {"parallel": True},
    "gpt_oss": _LLAMA | {"biases": True},
    "gptj": {"gated": False, "norm_biases": True, "tied_embeddings": False, "parallel": True, "norms": 1},
    "kimi_k2": _LLAMA,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _LLAMA,
    "mpt": _GPT | {"tied_embeddings": True},
    "olmo2": _LLAMA | {"qk_norm": True},
    "olmoe": _LLAMA | {"qk_norm": True},
    "opt": _GPT | {"tied_embeddings": True, "learned_positions": True},
    "phi": _GPT | {"parallel": True, "norms": 1},
    "phi3": _LLAMA,
    "qwen2": _LLAMA | {"qkv_biases": True},
    "qwen2_moe": _LLAMA | {"qkv_biases": True},
    "qwen3": _LLAMA | {"qk_norm": True},
    "qwen3_moe": _LLAMA | {"qk_norm": True},
    "roberta": _BERT,
    "starcoder2": _GPT | {"tied_embeddings": True},
}
"""``model_type`` -> fields of a Transformer. ``tied_embeddings`` holds where the config does not say."""

WITH_EXPERTS = frozenset({"deepseek_v2", "deepseek_v3", "gpt_oss", "kimi_k2", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe"})
WITH_LATENT = frozenset({"deepseek_v2", "deepseek_v3", "kimi_k2"})
ONE_KEY_HEAD_EACH = frozenset({"bert", "bloom", "gpt2", "gpt_neox", "gptj", "opt", "roberta"})
"""Kinds that know no groups of heads, whatever their config says."""
FOUR_TIMES = frozenset({"bloom", "falcon", "gpt2", "gpt_bigcode", "gptj", "gpt_neox"})
"""Kinds whose MLP is four times as wide as the model where no width is given."""

WINDOW_IN_ALL_LAYERS = frozenset({"mistral", "mixtral", "phi3", "starcoder2"})
WINDOW_BUT_EVERY: Mapping[str, int] = {"gemma2": 2, "gemma3_text": 6, "gpt_oss": 2}
"""Kinds with a window in all layers but one in so many."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "bloom": {"seq_length": 2048},  # the length of all BLOOM runs (arXiv 2211.05100, table 3)
    "falcon": {"max_position_embeddings": 2048},
    "gemma3_text": {
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
    },
    "gemma": {"head_dim": 256},
    "gemma2": {"head_dim": 256},
    "glm": {"head_dim": 128},
    "glm4": {"head_dim": 128},
    "gpt_oss": {"head_dim": 64},
    "qwen3": {"head_dim": 128},
    "mpt": {"max_seq_len": 2048, "expansion_ratio": 4},
}
"""What a config of a kind may leave out, by the defaults of its config class."""

REFUSED: Mapping[str, str] = {
    "bart": "an encoder with a decoder",
    "bamba": "state-space layers",
    "deepseek_v32": "sparse attention",
    "falcon_h1": "state-space layers",
    "falcon_mamba": "state-space layers",
    "glm4_moe": "a router whose dense layers and norms differ by size",
    "jamba": "state-space layers",
    "llama4": "attention in chunks and layers of two kinds",
    "mamba": "state-space layers",
    "mamba2": "state-space layers",
    "nemotron_h": "state-space layers",
    "qwen3_next": "linear attention",
    "rwkv": "recurrent layers",
    "t5": "an encoder with a decoder",
}
"""``model_type`` -> what it has that is not modelled."""
