"""Models: weights of the presets with known answers, and models of one's own in TOML."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chipassay.results.errors import FileError, InputError, UnknownName
from chipassay.scaling.models import Block, Experts, Latent, Transformer, load_model, preset_names

COUNTED = {  # the classes of Hugging Face transformers 4.57.1, made of the released configs without data, counted
    "bloom-176b": 176_247_271_424,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v3": 671_026_404_352,
    "falcon-7b": 6_921_720_704,
    "falcon-40b": 41_303_293_952,
    "falcon-180b": 178_557_088_768,
    "gpt-j-6b": 6_050_882_784,
    "gpt-neox-20b": 20_554_567_680,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "gpt2": 124_439_808,
    "gpt2-xl": 1_557_611_200,
    "llama2-7b": 6_738_415_616,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3-405b": 405_853_388_800,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "mpt-7b": 6_649_286_656,
    "mpt-30b": 29_957_200_896,
    "opt-125m": 125_239_296,
    "qwen2-7b": 7_615_616_512,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "bert-base": 110_106_428,
    "bert-large": 336_226_108,
}
LEFT_OUT = {  # what the presets leave out of these, in weights
    "bloom-176b": 2 * 14336,  # the norm of the embeddings
    "gpt-j-6b": 28 * (16384 + 4096) + 50400,  # biases of the MLP and of the head
    "gpt-oss-20b": 24 * 64,  # sinks of the attention, one a head
    "gpt-oss-120b": 36 * 64,
    "opt-125m": 2 * 768,  # two positions in front
    "bert-base": 2 * 768 + 2 * 768 + 30522 + 2 * 769,  # two segments, the transform's norm, biases of the logits, next sentence
    "bert-large": 2 * 1024 + 2 * 1024 + 30522 + 2 * 1025,
}
PUBLISHED_BILLIONS = {
    "gpt3-175b": 174.6,  # Brown et al. 2020, table 2.1: 175.0
    "llama1-7b": 6.7,  # Touvron et al. 2023 (arXiv 2302.13971), table 2
    "llama1-13b": 13.0,
    "llama1-33b": 32.5,
    "llama1-65b": 65.2,
    "llama3-70b": 70.6,  # model card
    "llama3.2-1b": 1.23,  # model card
    "llama3.2-3b": 3.21,
    "megatron-1.7b": 1.7,  # Narayanan et al. 2021 (arXiv 2104.04473), table 1
    "megatron-3.6b": 3.6,
    "megatron-7.5b": 7.5,
    "megatron-18b": 18.4,
    "megatron-39b": 39.1,
    "megatron-76b": 76.1,
    "megatron-145b": 145.6,
    "megatron-310b": 310.1,
    "megatron-530b": 529.6,
    "megatron-1t": 1008.0,
    "megatron-22b": 22.0,  # Korthikanti et al. 2022 (arXiv 2205.05198), table 3
    "mt-nlg-530b": 530.0,  # Smith et al. 2022 (arXiv 2201.11990)
    "qwen2.5-0.5b": 0.49,  # model cards
    "qwen2.5-1.5b": 1.54,
    "qwen2.5-3b": 3.09,
    "qwen2.5-14b": 14.7,
    "qwen2.5-32b": 32.5,  # 32.76 counted; the card says 32.5
    "qwen3-4b": 4.0,
    "qwen3-14b": 14.8,
}
ROUGHLY = {"qwen2.5-0.5b": 0.01, "qwen2.5-32b": 0.01, "qwen2.5-3b": 0.005}
"""Where the published figure has two digits, or is off from the checkpoint's own count."""


@pytest.mark.parametrize("name", COUNTED)
def test_a_preset_has_the_weights_of_the_released_model(name: str) -> None:
    model = load_model(name)
    assert model.parameters + LEFT_OUT.get(name, 0) == COUNTED[name]
    assert LEFT_OUT.get(name, 0) < 4e-4 * model.parameters


@pytest.mark.parametrize("name", PUBLISHED_BILLIONS)
def test_a_preset_has_the_weights_that_its_paper_says(name: str) -> None:
    figure = PUBLISHED_BILLIONS[name]
    half_a_digit = 0.05 if figure >= 1.6 else 0.006
    assert load_model(name).parameters / 1e9 == pytest.approx(figure, rel=ROUGHLY.get(name, 0.005), abs=half_a_digit)


@pytest.mark.parametrize(
    ("layers", "hidden", "heads", "billions"),
    [(24, 2048, 16, 1.316), (32, 2560, 20, 2.652), (32, 4096, 32, 6.659), (40, 5120, 40, 12.854), (48, 7168, 56, 29.975)],
)
def test_models_of_the_mpt_kind_have_the_weights_that_their_benchmarks_print(layers: int, hidden: int, heads: int, billions: float) -> None:
    """llm-foundry, scripts/train/benchmarking/README.md: sequences of 2048, learned positions, biases."""
    mpt = Transformer(
        name="mpt", layers=layers, hidden=hidden, heads=heads, kv_heads=heads, head_dim=128, ffn_hidden=4 * hidden, gated=False,
        vocab=50368, seq_len=2048, tied_embeddings=True, learned_positions=True, biases=True,
    )  # fmt: skip
    assert mpt.parameters / 1e9 == pytest.approx(billions, abs=0.0006)


@pytest.mark.parametrize(
    ("name", "billions", "with_table"),
    [
        ("mixtral-8x7b", 12.9, True),  # Mixtral of Experts, abstract: 13B; blog: 12.9B
        ("mixtral-8x22b", 39, True),  # Mistral AI, announcement
        ("qwen3-30b-a3b", 3.3, True),  # model cards
        ("qwen3-235b-a22b", 22, True),
        ("deepseek-v2", 21, True),  # arXiv 2405.04434, abstract
        ("deepseek-v2-lite", 2.4, False),  # arXiv 2405.04434, appendix B
        ("deepseek-v3", 36.6, False),  # README_WEIGHTS of the checkpoint: with the output head
        ("gpt-oss-20b", 3.61, False),  # model card (arXiv 2508.10925), table 1
        ("gpt-oss-120b", 5.13, False),
    ],
)
def test_a_mixture_of_experts_uses_the_weights_per_token_that_are_published(name: str, billions: float, with_table: bool) -> None:
    """Some count the look-up in the token table as using it, some do not."""
    model = load_model(name)
    active = model.active_parameters - (0 if with_table else model.vocab * model.hidden)
    assert active / 1e9 == pytest.approx(billions, rel=0.022)


def test_the_further_token_layer_of_deepseek_v3_makes_its_checkpoint_685_billion() -> None:
    """Its card: 671B and 14B of the layer for further tokens, with copies of the table and the head; 11.5B are its own."""
    model = load_model("deepseek-v3")
    assert model.mtp_parameters / 1e9 == pytest.approx(11.5, rel=0.01)
    assert (model.parameters + model.mtp_parameters + 2 * model.vocab * model.hidden) / 1e9 == pytest.approx(685, rel=0.002)


def test_a_layer_of_mixtral_worked_by_hand() -> None:
    """Attention 4096 (4096 + 2 x 1024) + 4096^2, router 4096 x 8, eight experts of 3 x 4096 x 14336, two norms."""
    model = load_model("mixtral-8x7b")
    (block,) = model.blocks
    assert model.expert_parameters(block) == 8 * 176_160_768
    assert model.block_parameters(block) == 41_943_040 + 32_768 + 8 * 176_160_768 + 8_192
    assert model.matmul_parameters(block) == 41_943_040 + 32_768 + 2 * 176_160_768


def test_a_latent_attention_worked_by_hand() -> None:
    """DeepSeek-V3: queries 7168 x 1536 + 1536 x 24576, down 7168 x 576, up 512 x 32768, output 16384 x 7168."""
    assert load_model("deepseek-v3").attention_parameters == 11_010_048 + 37_748_736 + 4_128_768 + 16_777_216 + 117_440_512


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_says_where_it_is_from_and_has_all_its_layers_in_blocks(name: str) -> None:
    model = load_model(name)
    assert model.source
    assert model.name == name
    assert sum(block.count for block in model.blocks) == model.layers
    assert model.active_parameters <= model.parameters
    assert hash(model) == hash(replace(model))


def test_layers_are_grouped_by_what_they_hold() -> None:
    assert load_model("deepseek-v3").blocks == (Block(3, has_experts=False), Block(58, has_experts=True))
    assert load_model("gpt-oss-20b").blocks == (Block(12, True, windowed=True), Block(12, True, windowed=False))
    assert load_model("mistral-7b").blocks == (Block(32, windowed=True),)
    assert load_model("llama3-8b").blocks == (Block(32),)


def test_the_last_of_every_so_many_layers_has_experts_beyond_the_first_dense_ones() -> None:
    model = replace(load_model("mixtral-8x7b"), layers=8, experts=Experts(count=8, active=2, ffn_hidden=64, first_dense=1, every=3))
    assert [model.has_experts(layer) for layer in range(8)] == [False, False, False, True, False, False, True, False]
    assert model.layer_parameters * 8 == sum(block.count * model.block_parameters(block) for block in model.blocks)


def test_the_vocabulary_is_padded_as_megatron_does() -> None:
    """Megatron-LM pads 50,257 to a multiple of 128 times TP: 50,304 on one rank, 51,200 on eight."""
    model = load_model("mt-nlg-530b")
    assert model.padded_vocab(1) == 50_304
    assert model.padded_vocab(np.array([1, 2, 8])).tolist() == [50_304, 50_432, 51_200]


TINY = "layers = 4\nhidden = 64\nheads = 4\nffn_hidden = 128\nvocab = 512\nseq_len = 32\ngated = true\ntied_embeddings = true\n"


def _mine(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_a_toml_of_ones_own_has_experts_and_latent_attention_in_tables(tmp_path: Path) -> None:
    text = "[experts]\ncount = 8\nactive = 2\nffn_hidden = 32\n[latent]\nkv_rank = 16\nnope_dim = 8\nrope_dim = 4\nvalue_dim = 8\n"
    model = load_model(str(_mine(tmp_path, TINY + text)))
    assert model.experts == Experts(count=8, active=2, ffn_hidden=32)
    assert model.latent == Latent(kv_rank=16, q_rank=None, nope_dim=8, rope_dim=4, value_dim=8)
    assert (model.head_dim, model.kv_heads, model.name) == (12, 4, "mine")


EXPERTS = "[experts]\ncount = 8\nactive = 2\nffn_hidden = 32\n"
LATENT = "[latent]\nkv_rank = 16\nnope_dim = 8\nrope_dim = 4\nvalue_dim = 8\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TINY.replace("layers", "layer"), "mine.toml: unknown field 'layer'; did you mean layers"),
        (TINY + "[experts]\ncount = 8\ntop_k = 2\nffn_hidden = 32\n", r"unknown field 'top_k' in \[experts\]"),
        (TINY + "[latent]\nkv_ranks = 16\n", r"unknown field 'kv_ranks' in \[latent\]; did you mean kv_rank"),
        (TINY.replace("vocab = 512\n", ""), "mine.toml: no vocab; add the field"),
        (TINY + "[experts]\ncount = 8\n", r"no active, ffn_hidden in \[experts\]"),
        (TINY.replace("layers = 4", "layers = -4"), "layers is -4; give a whole number of at least 1"),
        (TINY.replace("layers = 4", "layers = 4.0"), "layers is 4.0; give a whole number"),
        (TINY.replace("layers = 4", 'layers = "4"'), "layers is '4'; give a whole number"),
        (TINY.replace("gated = true", "gated = 1"), "gated is 1; give true or false"),
        (TINY.replace("heads = 4", "heads = true"), "heads is True; give a whole number"),
        (TINY.replace("heads = 4", "heads = 5"), "hidden 64 does not divide into 5 heads"),
        (TINY + "kv_heads = 3\n", "4 heads do not divide into 3 kv_heads; the nearest below is 2"),
        (TINY + "window = 0\n", "window is 0"),
        (TINY + "full_every = 2\n", "full_every is 2; give it with a window"),
        (TINY + "learned_positions = true\nalibi = true\n", "both learned_positions and alibi"),
        (TINY + "predicted_share = 1.5\n", "predicted_share is 1.5; give at most 1"),
        (TINY + "predicted_share = nan\n", "predicted_share is nan; give a number above 0"),
        (TINY + "experts = 8\n", r"experts is 8; give a table \[experts\]"),
        (TINY + EXPERTS.replace("active = 2", "active = 9"), "active is 9 of 8 experts; give at most 8"),
        (TINY + EXPERTS + "imbalance = 0.5\n", "imbalance is 0.5"),
        (TINY + EXPERTS + "capacity_factor = -1\n", "capacity_factor is -1; give a number above 0"),
        (TINY + EXPERTS + "first_dense = 4\n", "no layer has experts"),
        (TINY + LATENT.replace("rope_dim = 4", "rope_dim = 0"), "latent: rope_dim is 0"),
        (TINY + "head_dim = 16\n" + LATENT, "head_dim is 16, but a latent head has 12 dimensions"),
        (TINY + "kv_heads = 2\n" + LATENT, "kv_heads is 2, but latent attention gives each head its own"),
        (TINY + "qk_norm = true\n" + LATENT, "not modelled with latent attention"),
        ("layers = 4\nlayers = 5\n", "mine.toml: not TOML"),
    ],
)
def test_a_mistake_in_a_toml_is_told_in_one_sentence_with_the_file_and_the_field(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=told) as caught:
        load_model(str(_mine(tmp_path, text)))
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_made_in_code_is_checked_like_one_from_a_file() -> None:
    with pytest.raises(InputError, match="'gpt2': vocab is 0"):
        replace(load_model("gpt2"), vocab=0)


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="llama3-8b"):
        load_model("llama3-8")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere\.toml: cannot be read"):
        load_model(str(tmp_path / "nowhere.toml"))
