"""FLOPs of a model: published formulas and figures, and counts of PyTorch's own counter on tiny models."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.scaling.models import Block, Experts, Transformer, load_model


@pytest.mark.parametrize("name", ["gpt3-175b", "megatron-1.7b", "megatron-1t"])
def test_with_full_recomputation_the_formula_of_sc21_gives_the_same_flops(name: str) -> None:
    """Narayanan et al. 2021 (arXiv 2104.04473), eq. 3: 96 B s l h^2 (1 + s/6h + V/16lh): the layers run forward twice, the logits once."""
    m = load_model(name)
    formula = 96 * m.layers * m.hidden**2 * (1 + m.seq_len / (6 * m.hidden) + m.vocab / (16 * m.layers * m.hidden))
    layers_again = m.forward_flops_per_token(causal=False) - m.head_flops_per_token
    assert m.training_flops_per_token(causal=False) + layers_again == pytest.approx(formula, rel=1e-12)


def test_training_takes_six_flops_per_weight_and_the_attention() -> None:
    """PaLM (arXiv 2204.02311), appendix B: 6 N + 12 L H Q T per token."""
    model = load_model("llama3-8b")
    weights = model.parameters - model.vocab * model.hidden  # the look-up multiplies nothing
    assert model.training_flops_per_token(causal=False) == pytest.approx(6 * weights + 12 * 32 * 8192 * 4096, rel=1e-3)


def test_causal_counting_halves_the_attention_and_nothing_else() -> None:
    model = load_model("gpt3-175b")
    full, causal = model.training_flops_per_token(causal=False), model.training_flops_per_token(causal=True)
    assert full - causal == pytest.approx(6 * model.layers * model.seq_len * model.hidden)


@pytest.mark.parametrize(("name", "gigaflops"), [("deepseek-v3", 250), ("deepseek-v2", 155)])
def test_a_token_of_deepseek_takes_the_flops_that_its_makers_print(name: str, gigaflops: float) -> None:
    """Zhao et al. 2025 (arXiv 2505.09343), table 2: sequences of 4096, causal, without the layer for further tokens."""
    model = replace(load_model(name), seq_len=4096, mtp_depth=0)
    assert model.training_flops_per_token(causal=True) / 1e9 == pytest.approx(gigaflops, abs=0.5)


def test_a_layer_for_further_tokens_costs_a_layer_a_projection_and_the_logits() -> None:
    """DeepSeek-V3 (arXiv 2412.19437), section 2.2: one more layer with experts, 2h to h, and the shared head."""
    with_it = load_model("deepseek-v3")
    without = replace(with_it, mtp_depth=0)
    layer = with_it.block_flops_per_token(Block(1, has_experts=True), causal=True)
    extra = with_it.forward_flops_per_token(causal=True) - without.forward_flops_per_token(causal=True)
    assert extra == pytest.approx(layer + 2 * 2 * 7168 * 7168 + 2 * 7168 * 129280)


# Tiny models of Hugging Face transformers 4.57.1 run on 64 tokens under torch.utils.flop_counter.FlopCounterMode, attention in full
# ("eager"); FLOPs of one token. The counter also sees the table of rotary angles, one product of as many FLOPs as the rotary width.
DENSE = Transformer(
    name="tiny", layers=4, hidden=64, heads=4, kv_heads=2, head_dim=16, ffn_hidden=160, gated=True, vocab=512, seq_len=64,
    tied_embeddings=False, rms_norm=True,
)  # fmt: skip
GPT = replace(DENSE, layers=3, kv_heads=4, ffn_hidden=256, gated=False, biases=True, rms_norm=False, tied_embeddings=True)


@pytest.mark.parametrize(
    ("what", "model", "counted", "rotary"),
    [
        ("llama", DENSE, 475_152, 16),
        ("qwen3", replace(DENSE, head_dim=128, qk_norm=True), 1_622_144, 128),
        ("gemma", replace(DENSE, head_dim=256), 2_932_992, 256),
        ("mixtral", replace(DENSE, experts=Experts(count=8, active=2, ffn_hidden=160)), 725_008, 16),
        (
            "qwen3_moe",
            replace(DENSE, layers=5, head_dim=32, qk_norm=True, experts=Experts(count=16, active=4, ffn_hidden=48, every=2)),
            811_040,
            32,
        ),
        ("gpt2", GPT, 409_600, 0),
        ("bloom", replace(GPT, alibi=True), 409_600, 0),
        ("falcon", replace(GPT, kv_heads=2, parallel=True), 385_040, 16),
    ],
)
def test_a_tiny_model_takes_the_flops_that_pytorch_counts(what: str, model: Transformer, counted: int, rotary: int) -> None:
    assert model.forward_flops_per_token(causal=False) + rotary == counted, what


def test_an_encoder_forms_all_scores_however_it_is_counted() -> None:
    bert = load_model("bert-base")
    assert bert.training_flops_per_token(causal=True) == bert.training_flops_per_token(causal=False)


def test_bert_forms_the_logits_of_the_predicted_positions_alone() -> None:
    bert = load_model("bert-large")
    assert bert.head_flops_per_token == 2 * 1024 * 30522 * 80 / 512


def test_a_window_bounds_what_a_token_sees() -> None:
    """Counted one by one for 8 tokens and a window of 4: 1, 2, 3, then 4 each, less the half of itself that each of the first 4 sees."""
    model = replace(DENSE, seq_len=8, window=4)
    assert model.positions_seen(Block(1, windowed=True), causal=True) == (1 + 2 + 3 + 5 * 4 - 4 * 0.5) / 8
    assert model.positions_seen(Block(1, windowed=True), causal=False) == 4
    assert model.positions_seen(Block(1, windowed=False), causal=True) == 4


def test_a_window_as_long_as_the_sequence_is_none() -> None:
    model = load_model("llama3-8b")
    assert replace(model, window=8192).training_flops_per_token(causal=True) == model.training_flops_per_token(causal=True)


def test_half_the_layers_windowed_is_half_the_saving() -> None:
    full = replace(DENSE, seq_len=4096)
    all_windowed, half = replace(full, window=128), replace(full, window=128, full_every=2)
    flops = [m.forward_flops_per_token(causal=True) for m in (full, half, all_windowed)]
    assert flops[0] - flops[1] == pytest.approx(flops[1] - flops[2])


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    layers=st.integers(1, 12),
    first_dense=st.integers(0, 3),
    every=st.integers(1, 3),
    active=st.integers(1, 4),
    full_every=st.sampled_from([None, 2, 3]),
)
def test_flops_and_weights_of_the_blocks_are_those_of_the_layers_one_by_one(
    layers: int, first_dense: int, every: int, active: int, full_every: int | None
) -> None:
    experts = Experts(count=4, active=active, ffn_hidden=32, shared_ffn_hidden=16, first_dense=first_dense, every=every)
    model = replace(DENSE, layers=layers + first_dense + every, window=16, full_every=full_every, experts=experts, seq_len=48)
    kinds = [Block(1, model.has_experts(layer), model.windowed(layer)) for layer in range(model.layers)]
    by_layer = sum(model.block_flops_per_token(kind, causal=True) for kind in kinds)
    assert model.forward_flops_per_token(causal=True) == pytest.approx(by_layer + 2 * 64 * 512, rel=1e-12)
    assert sum(model.block_parameters(kind) for kind in kinds) == pytest.approx(model.layer_parameters * model.layers, rel=1e-12)
    idle = sum(model.expert_parameters(kind) * (4 - active) // 4 for kind in kinds)
    assert model.parameters - model.active_parameters == idle
