"""Models from a Hugging Face config.json: released ones read as the presets, tiny ones of every kind have the weights of their class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chipassay.results.errors import FileError, InputError
from chipassay.scaling.errors import NotModelled
from chipassay.scaling.hugging_face import from_hugging_face
from chipassay.scaling.hugging_face_kinds import KINDS, REFUSED
from chipassay.scaling.models import Transformer, load_model

Config = dict[str, Any]


def _read(tmp_path: Path, config: Mapping[str, Any]) -> Transformer:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return load_model(str(tmp_path))


LLAMA3_8B: Config = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192, "tie_word_embeddings": False,
}  # fmt: skip
DEEPSEEK: Config = {
    "first_k_dense_replace": 1, "kv_lora_rank": 512, "max_position_embeddings": 163840, "moe_layer_freq": 1, "n_shared_experts": 2,
    "num_experts_per_tok": 6, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 102400,
    "tie_word_embeddings": False,
}  # fmt: skip
RELEASED: dict[str, Config] = {  # what matters of the config.json beside each checkpoint on huggingface.co
    "llama3-8b": LLAMA3_8B,
    "gpt2": {
        "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257, "resid_pdrop": 0.1,
    },
    "mistral-7b": {
        "model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 14336, "vocab_size": 32000, "max_position_embeddings": 32768, "sliding_window": 4096,
        "tie_word_embeddings": False,
    },
    "mixtral-8x7b": {
        "model_type": "mixtral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 14336, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000,
        "max_position_embeddings": 32768, "sliding_window": None, "tie_word_embeddings": False,
    },
    "qwen2.5-72b": {
        "model_type": "qwen2", "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
        "intermediate_size": 29568, "vocab_size": 152064, "max_position_embeddings": 131072, "sliding_window": 131072,
        "max_window_layers": 80, "use_sliding_window": False, "tie_word_embeddings": False,
    },
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
        "head_dim": 128, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "vocab_size": 151936, "max_position_embeddings": 40960,
        "sliding_window": None, "use_sliding_window": False, "tie_word_embeddings": False,
    },
    "deepseek-v2-lite": DEEPSEEK | {
        "model_type": "deepseek_v2", "hidden_size": 2048, "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
        "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_routed_experts": 64, "q_lora_rank": None,
    },
    "deepseek-v3": DEEPSEEK | {
        "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
        "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1,
        "num_experts_per_tok": 8, "first_k_dense_replace": 3, "q_lora_rank": 1536, "num_nextn_predict_layers": 1, "vocab_size": 129280,
    },
    "gpt-oss-120b": {
        "model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 36, "num_attention_heads": 64, "num_key_value_heads": 8,
        "head_dim": 64, "intermediate_size": 2880, "num_local_experts": 128, "experts_per_token": 4, "vocab_size": 201088,
        "max_position_embeddings": 131072, "sliding_window": 128, "attention_bias": True, "tie_word_embeddings": False,
        "layer_types": ["sliding_attention", "full_attention"] * 18,
    },
    "falcon-7b": {
        "model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71, "multi_query": True,
        "parallel_attn": True, "bias": False, "alibi": False, "new_decoder_architecture": False, "vocab_size": 65024,
    },
    "falcon-40b": {
        "model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128, "num_kv_heads": 8,
        "parallel_attn": True, "bias": False, "alibi": False, "new_decoder_architecture": True, "vocab_size": 65024,
    },
    "mpt-7b": {
        "model_type": "mpt", "d_model": 4096, "n_layers": 32, "n_heads": 32, "expansion_ratio": 4, "max_seq_len": 2048,
        "vocab_size": 50432, "no_bias": True, "attn_config": {"alibi": True},
    },
    "bloom-176b": {
        "model_type": "bloom", "n_embed": 14336, "n_layer": 70, "num_attention_heads": 112, "vocab_size": 250880, "hidden_dropout": 0.0,
    },
    "opt-13b": {
        "model_type": "opt", "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "ffn_dim": 20480,
        "word_embed_proj_dim": 5120, "vocab_size": 50272, "max_position_embeddings": 2048, "dropout": 0.1,
    },
    "gpt-neox-20b": {
        "model_type": "gpt_neox", "hidden_size": 6144, "num_hidden_layers": 44, "num_attention_heads": 64, "intermediate_size": 24576,
        "vocab_size": 50432, "max_position_embeddings": 2048, "tie_word_embeddings": False,
    },
    "gpt-j-6b": {"model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "n_positions": 2048, "vocab_size": 50400,
                 "tie_word_embeddings": False},
    "bert-large": {
        "model_type": "bert", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "vocab_size": 30522, "max_position_embeddings": 512, "hidden_dropout_prob": 0.1, "type_vocab_size": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize("preset", RELEASED)
def test_a_released_config_reads_as_the_preset(preset: str, tmp_path: Path) -> None:
    """The name and source apart, the length (a config gives the longest), and the width of dense layers where there are none."""
    read, shipped = _read(tmp_path, RELEASED[preset]), load_model(preset)
    alike: Config = {"name": shipped.name, "source": shipped.source, "seq_len": shipped.seq_len}
    if shipped.experts and shipped.experts.first_dense == 0:
        alike["ffn_hidden"] = shipped.ffn_hidden
    assert replace(read, **alike) == shipped


TINY: Config = {
    "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 160,
    "vocab_size": 512, "max_position_embeddings": 64,
}  # fmt: skip
TINY_GPT: Config = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64, "vocab_size": 512}
TINY_LATENT: Config = TINY | {
    "num_key_value_heads": 4, "kv_lora_rank": 32, "q_lora_rank": 48, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 24,
    "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "moe_intermediate_size": 40,
}  # fmt: skip
TINY_KINDS: list[tuple[str, Config, int, int, str]] = [
    # model_type, config, weights of the class of transformers 4.57.1 made of it, of these left out here, and which
    ("llama", TINY, 238_144, 0, ""),
    ("mistral", TINY, 238_144, 0, ""),
    ("qwen2", TINY, 238_656, 0, ""),
    ("qwen3", TINY, 583_232, 0, ""),
    ("phi3", TINY, 238_144, 0, ""),
    ("gemma", TINY, 942_656, 0, ""),
    ("olmo2", TINY, 238_528, 4 * (64 + 32 - 2 * 16), "norms of queries and keys over all heads"),
    ("glm", TINY, 586_304, 0, ""),
    ("glm4", TINY, 586_816, 0, ""),
    ("gemma2", TINY | {"head_dim": 16}, 205_888, 0, ""),
    ("gemma3_text", TINY | {"head_dim": 16}, 206_016, 0, ""),
    ("olmoe", TINY | {"num_experts": 8, "num_experts_per_tok": 2}, 1_100_736, 4 * (64 + 32 - 2 * 16), "norms over all heads"),
    ("phi", TINY | {"num_key_value_heads": 4}, 216_064, 512, "biases of the head"),
    ("starcoder2", TINY, 166_656, 0, ""),
    ("gpt_bigcode", TINY_GPT, 168_224, 0, ""),
    ("roberta", TINY, 192_320, 2 * 64 + 2 * 64 + 512, "segments, the transform's norm, biases of the logits"),
    ("mixtral", TINY | {"num_local_experts": 8, "num_experts_per_tok": 2}, 1_100_352, 0, ""),
    (
        "qwen3_moe",
        TINY | {
            "num_hidden_layers": 5, "head_dim": 32, "num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 48,
            "decoder_sparse_step": 2,
        },
        578_560, 0, "",
    ),
    (
        "qwen2_moe",
        TINY | {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 48, "shared_expert_intermediate_size": 96},
        783_680, 4 * 64, "gates of the shared experts",
    ),
    ("deepseek_v3", TINY_LATENT, 415_104, 0, ""),
    ("deepseek_v2", TINY_LATENT | {"q_lora_rank": None}, 408_768, 0, ""),
    ("gpt_oss", TINY | {"num_local_experts": 8, "num_experts_per_tok": 2, "head_dim": 16, "sliding_window": 16}, 1_113_456, 16, "sinks"),
    ("gpt2", TINY_GPT, 186_944, 0, ""),
    ("gptj", TINY_GPT, 214_976, 3 * (256 + 64) + 512, "biases of the MLP and of the head"),
    ("gpt_neox", TINY, 216_064, 0, ""),
    (
        "opt",
        TINY | {"num_hidden_layers": 3, "ffn_dim": 256, "word_embed_proj_dim": 64, "intermediate_size": None},
        187_072, 2 * 64, "two positions in front",
    ),
    (
        "bloom",
        {"hidden_size": 64, "n_layer": 3, "n_head": 4, "vocab_size": 512},
        182_976, 2 * 64, "the norm of the embeddings",
    ),
    (
        "falcon",
        {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 512, "new_decoder_architecture": True,
         "num_kv_heads": 2},
        168_832, 0, "",
    ),
    ("mpt", {"d_model": 64, "n_layers": 3, "n_heads": 4, "max_seq_len": 64, "vocab_size": 512, "no_bias": True}, 180_672, 0, ""),
    ("bert", TINY, 196_610, 2 * 64 + 2 * 64 + 512 + 2 * 65, "segments, the transform's norm, biases of the logits, next sentence"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "config", "counted", "left_out", "what"), TINY_KINDS, ids=[row[0] for row in TINY_KINDS])
def test_a_tiny_model_has_the_weights_of_its_class(
    kind: str, config: Config, counted: int, left_out: int, what: str, tmp_path: Path
) -> None:
    assert _read(tmp_path, config | {"model_type": kind}).parameters == counted - left_out, what


def test_gemma_3_of_several_inputs_is_read_as_its_text_part(tmp_path: Path) -> None:
    """gemma-3-27b: 27.0B in its text part (transformers 4.57.1); one layer in six sees everything."""
    text = {"hidden_size": 5376, "intermediate_size": 21504, "num_hidden_layers": 62, "num_attention_heads": 32, "num_key_value_heads": 16,
            "head_dim": 128, "sliding_window": 1024, "model_type": "gemma3_text"}  # fmt: skip
    model = _read(tmp_path, {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 1152}})
    assert model.parameters == 27_009_346_304
    assert [(block.count, block.windowed) for block in model.blocks] == [(52, True), (10, False)]


def test_gemma_2_sees_everything_in_every_other_layer(tmp_path: Path) -> None:
    config = {"model_type": "gemma2", "hidden_size": 3584, "num_hidden_layers": 42, "num_attention_heads": 16, "num_key_value_heads": 8,
              "head_dim": 256, "intermediate_size": 14336, "vocab_size": 256000, "max_position_embeddings": 8192,
              "sliding_window": 4096}  # fmt: skip
    model = _read(tmp_path, config)
    assert (model.window, model.full_every, model.parameters) == (4096, 2, 9_241_705_984)


def test_kimi_k2_is_of_the_kind_of_deepseek_v3(tmp_path: Path) -> None:
    """Kimi K2 (arXiv 2507.20534), table 2: 1.04T weights (1.026T by its config and class), 32.6B active."""
    config = RELEASED["deepseek-v3"] | {
        "model_type": "kimi_k2", "n_routed_experts": 384, "num_attention_heads": 64, "first_k_dense_replace": 1, "vocab_size": 163840,
        "num_nextn_predict_layers": 0,
    }  # fmt: skip
    model = _read(tmp_path, config)
    assert model.parameters == 1_026_408_209_408
    assert model.active_parameters / 1e9 == pytest.approx(32.6, rel=0.01)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"num_local_experts": 8}, r"llama with experts \(num_local_experts = 8\) is not modelled"),
        ({"kv_lora_rank": 512}, r"llama with latent attention \(kv_lora_rank = 512\)"),
        ({"model_type": "mamba"}, "'mamba' has state-space layers"),
        ({"model_type": "t5"}, "'t5' has an encoder with a decoder"),
        ({"model_type": "qwen4"}, "'qwen4' is not modelled; the nearest known are qwen"),
        ({"model_type": "opt", "word_embed_proj_dim": 512}, "opt with embeddings of width 512"),
        ({"model_type": "bert", "position_embedding_type": "relative_key"}, "relative_key positions"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "layers of linear_attention"),
        ({"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]}, "layer_types that do not repeat"),
        ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 8}, "the last 24 of 32 layers"),
        ({"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": [3]}, "between those with experts"),
    ],
)
def test_what_is_not_modelled_is_refused_and_not_approximated(extra: Config, reason: str, tmp_path: Path) -> None:
    with pytest.raises(NotModelled, match=reason) as caught:
        _read(tmp_path, LLAMA3_8B | extra)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"vocab_size": None}, "vocab_size is not given; add it"),
        ({"hidden_size": "4096"}, "hidden_size is '4096'; give a whole number"),
        ({"num_key_value_heads": 5}, "32 heads do not divide into 5 kv_heads"),
        ({"num_hidden_layers": -1}, "layers is -1"),
        ({"num_attention_heads": 0}, "heads is 0"),
        ({"model_type": None}, "no model_type"),
        ({"model_type": 7}, "no model_type"),
        ({"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 9}, "active is 9 of 8 experts"),
        ({"model_type": "mixtral", "num_experts_per_tok": 2}, "num_local_experts or num_experts or n_routed_experts is not given"),
        ({"model_type": "deepseek_v3", "n_routed_experts": 8, "num_experts_per_tok": 2}, "kv_lora_rank is not given"),
        ({"head_dims": 64}, "unknown field 'head_dims'; did you mean head_dim?"),
        ({"model_type": "mistral", "sliding_windows": 1024}, "unknown field 'sliding_windows'; did you mean sliding_window?"),
    ],
)
def test_a_mistake_in_a_config_names_the_file_and_the_field(change: Config, told: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=told) as caught:
        _read(tmp_path, LLAMA3_8B | change)
    assert "config.json" in str(caught.value)


def test_a_misspelt_field_is_not_taken_for_its_default(tmp_path: Path) -> None:
    """Without its number of key heads a Llama would have one for each head."""
    misspelt = {("num_key_value_head" if key == "num_key_value_heads" else key): value for key, value in LLAMA3_8B.items()}
    with pytest.raises(FileError, match=r"config\.json: unknown field 'num_key_value_head'; did you mean num_key_value_heads\?"):
        _read(tmp_path, misspelt)


@pytest.mark.parametrize(
    ("text", "told"), [("[]", "no model_type"), ("{", "line 1: not JSON"), ('{"a": ' + "[" * 99999, "nested too deeply")]
)
def test_what_is_no_config_is_told_apart(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(FileError, match=told):
        load_model(str(path))


def test_a_file_that_is_not_text_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="not text in UTF-8"):
        load_model(str(path))


def _told(config: Config) -> str:
    """What the reader says to a config; nothing where it reads it."""
    try:
        from_hugging_face(Path("config.json"), json.dumps(config))
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("preset", RELEASED)
def test_nonsense_in_any_field_is_told_with_the_file(preset: str) -> None:
    """A field that only has to be true or false, or is not read, may hold anything."""
    for key in RELEASED[preset]:
        for nonsense in ("x", -1, 1.5, [1], {"a": 1}):
            told = _told(RELEASED[preset] | {key: nonsense})
            assert not told or "config.json" in told


def test_a_kind_is_either_read_or_refused() -> None:
    assert not set(KINDS) & set(REFUSED)
