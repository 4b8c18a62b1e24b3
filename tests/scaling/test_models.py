"""Models: parameter counts with known answers, FLOPs by the stated definitions, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chipassay.results.errors import FileError, UnknownName
from chipassay.scaling.errors import NotModelled
from chipassay.scaling.models import load_model, preset_names

LLAMA3_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257, "resid_pdrop": 0.1}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama3-8b", 8_030_261_248),  # the checkpoint
        ("llama2-7b", 6_738_415_616),
        ("llama2-70b", 68_976_648_192),
        ("gpt2", 124_439_808),
        ("gpt2-xl", 1_557_611_200),
        ("mistral-7b", 7_241_732_096),
        ("qwen2-7b", 7_615_616_512),
    ],
)
def test_a_model_has_the_parameters_of_its_checkpoint(name: str, parameters: int) -> None:
    assert load_model(name).parameters == parameters


@pytest.mark.parametrize(("name", "billions"), [("gpt3-175b", 174.6), ("llama3-405b", 405.9), ("llama3-70b", 70.6), ("bloom-176b", 176.2)])
def test_a_large_model_has_the_parameters_its_paper_says(name: str, billions: float) -> None:
    assert load_model(name).parameters / 1e9 == pytest.approx(billions, abs=0.06)


def test_training_takes_six_flops_per_weight_and_the_attention() -> None:
    model = load_model("llama3-8b")
    weights = model.parameters - model.vocab * model.hidden  # the look-up multiplies nothing
    assert model.training_flops_per_token(causal=False) == pytest.approx(6 * weights + 12 * 32 * 8192 * 4096, rel=1e-3)


def test_causal_counting_halves_the_attention_and_nothing_else() -> None:
    model = load_model("gpt3-175b")
    full, causal = model.training_flops_per_token(causal=False), model.training_flops_per_token(causal=True)
    assert full - causal == pytest.approx(6 * model.layers * model.seq_len * model.hidden)


def test_the_narayanan_formula_gives_the_same_flops() -> None:
    """Narayanan et al. 2021 (arXiv 2104.04473), eq. 3, without its recomputation: 72 B s l h^2 (1 + s/6h + V/12lh)."""
    m = load_model("gpt3-175b")
    formula = 72 * m.layers * m.hidden**2 * (1 + m.seq_len / (6 * m.hidden) + m.vocab / (12 * m.layers * m.hidden))
    assert m.training_flops_per_token(causal=False) == pytest.approx(formula, rel=1e-9)


@pytest.mark.parametrize(("config", "preset"), [(LLAMA3_8B, "llama3-8b"), (GPT2, "gpt2")])
def test_a_hugging_face_config_is_the_same_model_as_the_preset(config: dict[str, object], preset: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    read, shipped = load_model(str(tmp_path)), load_model(preset)
    assert read.parameters == shipped.parameters
    assert read.training_flops_per_token(causal=True) == shipped.training_flops_per_token(causal=True)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"num_local_experts": 8}, "experts"),
        ({"n_routed_experts": 256}, "experts"),
        ({"kv_lora_rank": 512}, "latent attention"),
        ({"model_type": "mamba"}, "not modelled"),
    ],
)
def test_what_is_not_modelled_is_refused_and_not_approximated(extra: dict[str, object], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA3_8B | extra))
    with pytest.raises(NotModelled, match=reason):
        load_model(str(path))


def test_a_missing_size_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({key: value for key, value in LLAMA3_8B.items() if key != "vocab_size"}))
    with pytest.raises(FileError, match="vocab_size"):
        load_model(str(path))


def test_an_unknown_field_of_a_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("layers = 2\nwidth = 8\n")
    with pytest.raises(FileError, match="width"):
        load_model(str(path))


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="llama3-8b"):
        load_model("llama3-8")


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_says_where_it_is_from(name: str) -> None:
    model = load_model(name)
    assert model.source
    assert model.name == name
