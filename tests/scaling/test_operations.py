"""One layer as operations: their FLOPs are the model's closed form however the layer is cut, and their bytes are those counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.scaling.cut import Cut
from chipassay.scaling.models import Transformer, load_model
from chipassay.scaling.operations import Operations, Pass, layer_operations
from chipassay.scaling.plan import Plan
from chipassay.scaling.plans import Plans

from .toy_models import DENSE, GPT, MODELS, ROUTED

BYTES = 2
"""Of one element."""


def cut_of(model: Transformer, plan: Plan) -> Cut:
    return Cut.of(model, Plans.of([plan]), BYTES)


def number(value: Any) -> float:
    """The one value of an array of one plan."""
    return float(np.asarray(value).item())


def blocks(model: Transformer, plan: Plan) -> list[tuple[int, Operations]]:
    return [(block.count, layer_operations(cut_of(model, plan), block)) for block in model.blocks]


def product_flops(ops: Operations) -> float:
    return sum(number(2.0 * p.m * p.n * p.k * p.groups) for p in (*ops.products, *ops.score_products))


def core_flops(model: Transformer, plan: Plan, ops: Operations) -> float:
    """Two products over all positions seen, both as long as the core's head (of latent attention their mean)."""
    (core,) = ops.cores
    seen = min(core.window, model.seq_len) if core.window else model.seq_len
    return float(4.0 * plan.microbatch * number(core.heads) * model.seq_len * seen * core.head_dim / plan.cp)


def whole_flops(model: Transformer, plan: Plan) -> float:
    """FLOPs of all layers' forward pass of one microbatch, over all ranks of one replica."""
    of_one = sum(count * (product_flops(ops) + core_flops(model, plan, ops)) for count, ops in blocks(model, plan))
    return of_one * plan.tp * plan.cp


def closed_form(model: Transformer, plan: Plan) -> float:
    layers = model.forward_flops_per_token(causal=False) - model.head_flops_per_token
    return layers * plan.microbatch * model.seq_len


def named(passes: Sequence[Pass], name: str) -> Pass:
    (found,) = [p for p in passes if p.name == name]
    return found


def bytes_of(model: Transformer, plan: Plan, name: str) -> tuple[float, float]:
    """(forward, backward) bytes of one operation of the last kind of layer."""
    ops = blocks(model, plan)[-1][1]
    found = named((*ops.passes, *ops.scores), name)
    return number(found.forward_bytes), number(found.backward_bytes)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(
    "plan",
    [
        Plan(global_batch=8, microbatch=4),
        Plan(global_batch=8, microbatch=2, tp=8, sequence_parallel=True),
        Plan(global_batch=8, cp=4),
        Plan(global_batch=8, tp=2, cp=2, dp=2, microbatch=2, sequence_parallel=True),
    ],
    ids=["one rank", "tensors cut", "sequences cut", "both cut"],
)
def test_the_operations_of_all_layers_have_the_flops_of_the_closed_form(model: Transformer, plan: Plan) -> None:
    assert whole_flops(model, plan) == pytest.approx(closed_form(model, plan), rel=1e-12)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    tp=st.sampled_from([1, 2, 4, 8]),
    cp=st.sampled_from([1, 2, 4]),
    expert_tp=st.sampled_from([1, 2, 4, 8]),
    ep=st.sampled_from([1, 2, 4, 8]),
    microbatch=st.integers(1, 4),
)
def test_no_way_of_spreading_experts_loses_or_adds_flops(tp: int, cp: int, expert_tp: int, ep: int, microbatch: int) -> None:
    degrees: dict[str, Any] = {"tp": tp, "cp": cp, "ep": ep, "expert_tp": min(tp, expert_tp)}
    plan = Plan(global_batch=64, dp=8, microbatch=microbatch, sequence_parallel=True, **degrees)
    model = MODELS["experts and shared ones"]
    assert whole_flops(model, plan) == pytest.approx(closed_form(model, plan), rel=1e-12)


def test_without_sequence_parallelism_every_rank_repeats_the_router() -> None:
    plan = Plan(global_batch=8, tp=4)
    model = MODELS["experts"]
    router = 2.0 * model.seq_len * model.hidden * 8
    assert whole_flops(model, plan) == pytest.approx(closed_form(model, plan) + model.layers * 3 * router, rel=1e-12)


def test_ranks_beyond_the_key_heads_repeat_them() -> None:
    """Eight ranks share two key and value heads of 64: each projects one of them, four times as many as there are."""
    model = replace(DENSE, kv_heads=2)
    plan = Plan(global_batch=8, tp=8, sequence_parallel=True)
    repeated = 2.0 * model.seq_len * model.hidden * (8 - 2) * 2 * 64
    assert whole_flops(model, plan) == pytest.approx(closed_form(model, plan) + model.layers * repeated, rel=1e-12)


def test_a_capacity_bounds_what_experts_take_and_imbalance_adds_to_it() -> None:
    base = MODELS["experts"]
    assert base.experts is not None
    plan = Plan(global_batch=8)
    plain = whole_flops(base, plan)
    routed = base.layers * 2.0 * base.seq_len * 2 * 3 * base.hidden * 512
    dropping = replace(base, experts=replace(base.experts, capacity_factor=1.25))
    uneven = replace(base, experts=replace(base.experts, imbalance=1.5))
    assert whole_flops(dropping, plan) - plain == pytest.approx(0.25 * routed)
    assert whole_flops(uneven, plan) - plain == pytest.approx(0.5 * routed)


@pytest.mark.parametrize("name", ["dense", "grouped queries", "two plain matrices", "bidirectional", "latent"])
def test_unfused_attention_multiplies_all_scores_in_two_batched_products(name: str) -> None:
    """A causal mask drops half of the scores after they were computed."""
    model = MODELS[name]
    plan = Plan(global_batch=8, microbatch=2, tp=4, attention="unfused", sequence_parallel=True)
    of_one = sum(count * product_flops(ops) for count, ops in blocks(model, plan))
    assert all(not ops.cores for _, ops in blocks(model, plan))
    assert of_one * plan.tp == pytest.approx(closed_form(model, plan), rel=1e-12)


def test_a_window_reaches_the_core_of_windowed_layers_only() -> None:
    model = MODELS["windows in most layers"]
    windows = [(count, ops.cores[0].window) for count, ops in blocks(model, Plan(global_batch=8))]
    assert windows == [(6, 256), (2, 0)]


# Bytes, by hand: 2048 tokens of 1024, 2 bytes an element.

ROW = 2048 * 1024 * BYTES
"""One activation of the model's width."""


def test_norms_read_and_write_their_rows() -> None:
    """Two a layer; backward each reads the gradient and the input and writes the gradient."""
    assert bytes_of(DENSE, Plan(global_batch=8), "norms") == (2 * 2 * ROW, 2 * 3 * ROW)


def test_residuals_with_dropout_read_two_and_write_one_and_a_mask() -> None:
    """Fused: two activations read, one written, and a mask of one byte each; backward the gradient passes through the mask."""
    forward, backward = bytes_of(GPT, Plan(global_batch=8), "residuals")
    assert forward == 2 * (3 * ROW + ROW / 2)
    assert backward == 2 * (3 * ROW + 2 * ROW + ROW / 2)


def test_kernels_that_are_not_fused_pass_over_memory_more_often() -> None:
    fused, eager = (Plan(global_batch=8, fused=how) for how in (True, False))
    for name in ("residuals", "norms"):
        assert bytes_of(GPT, eager, name) >= bytes_of(GPT, fused, name)
    assert bytes_of(DENSE, eager, "activation") == (5 * 2048 * 2816 * BYTES, 9 * 2048 * 2816 * BYTES)


def test_activations_pass_over_the_width_of_the_mlp() -> None:
    """GELU reads and writes; backward reads input and gradient and writes one. SwiGLU reads two and writes one; backward 3 and 2."""
    assert bytes_of(GPT, Plan(global_batch=8), "activation") == (2 * 2048 * 4096 * BYTES, 3 * 2048 * 4096 * BYTES)
    assert bytes_of(DENSE, Plan(global_batch=8), "activation") == (3 * 2048 * 2816 * BYTES, 5 * 2048 * 2816 * BYTES)


def test_the_scores_of_unfused_attention_pass_memory() -> None:
    """16 heads of 2048 x 2048: softmax reads and writes them, dropout too with a mask of a byte; backward softmax reads two, writes one."""
    plan = Plan(global_batch=8, attention="unfused")
    scores = 16 * 2048 * 2048
    assert bytes_of(GPT, plan, "softmax") == (2 * BYTES * scores, 3 * BYTES * scores)
    assert bytes_of(GPT, plan, "dropout of scores") == (5 * scores, 5 * scores)


def test_tokens_are_copied_to_the_experts_order_once_for_each_expert() -> None:
    """Two experts a token: read and written on the way there and back."""
    forward, _ = bytes_of(MODELS["experts"], Plan(global_batch=8), "permute")
    assert forward == 2 * 2 * ROW


def test_fp8_casts_each_input_of_a_linear_layer_to_a_row_and_a_column_copy() -> None:
    """2 bytes read, 1 and 1 written: of the inputs of qkv and out (1024), up (1024) and down (2816)."""
    forward, backward = bytes_of(DENSE, Plan(global_batch=8, dtype="fp8"), "casts to fp8")
    assert forward == 4 * 2048 * (1024 + 1024 + 1024 + 2816)
    assert backward == 4 * 2048 * (3 * 1024 + 1024 + 2 * 2816 + 1024)


def test_only_fp8_casts() -> None:
    assert all(p.name != "casts to fp8" for p in blocks(DENSE, Plan(global_batch=8, dtype="bf16"))[0][1].passes)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_sequence_parallelism_spreads_the_norms_and_adds_no_memory_traffic(model: Transformer) -> None:
    """Korthikanti et al. 2022, section 4.2.2: what TP leaves whole is split along the sequence."""
    whole, spread = (Plan(global_batch=8, tp=4, sequence_parallel=how) for how in (False, True))
    for (_, a), (_, b) in zip(blocks(model, whole), blocks(model, spread), strict=True):
        assert named(b.passes, "norms").forward_bytes == named(a.passes, "norms").forward_bytes / 4
        pairs = list(zip(a.passes, b.passes, strict=True))
        assert all(y.forward_bytes <= x.forward_bytes and y.backward_bytes <= x.backward_bytes for x, y in pairs)


@pytest.mark.parametrize("attention", ["flash", "unfused"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_twice_the_microbatch_moves_twice_the_bytes_in_as_many_kernels(model: Transformer, attention: Any, fused: bool) -> None:
    one, two = (Plan(global_batch=8, microbatch=size, attention=attention, fused=fused) for size in (1, 2))
    for (_, a), (_, b) in zip(blocks(model, one), blocks(model, two), strict=True):
        for x, y in zip((*a.passes, *a.scores), (*b.passes, *b.scores), strict=True):
            assert number(y.forward_bytes) == 2 * number(x.forward_bytes)
            assert number(y.backward_bytes) == 2 * number(x.backward_bytes)
            assert (y.forward_kernels, y.backward_kernels) == (x.forward_kernels, x.backward_kernels)


def test_a_layer_exchanges_twice_and_once_where_attention_and_mlp_are_side_by_side() -> None:
    plan = Plan(global_batch=8, tp=2)
    (_, serial), (_, parallel) = (blocks(model, plan)[0] for model in (DENSE, replace(DENSE, parallel=True, norms=1)))
    assert (serial.tp_exchanges, parallel.tp_exchanges) == (2.0, 1.0)


def test_experts_that_tensor_parallelism_leaves_whole_exchange_once() -> None:
    model = MODELS["experts"]
    (_, cut), (_, whole) = (blocks(model, Plan(global_batch=8, tp=2, expert_tp=degree))[0] for degree in (2, 1))
    assert (cut.tp_exchanges, whole.tp_exchanges) == (1.0, 1.0)
    assert (number(cut.expert_exchanges), number(whole.expert_exchanges)) == (1.0, 0.0)


def test_shared_experts_exchange_like_an_mlp_whatever_the_routed_ones_do() -> None:
    model = MODELS["experts and shared ones"]
    assert [blocks(model, Plan(global_batch=8, tp=4, expert_tp=degree))[-1][1].tp_exchanges for degree in (1, 4)] == [2.0, 2.0]


@pytest.mark.parametrize(("ep", "expert_tp", "tokens"), [(1, 4, 2048), (4, 4, 2 * 2048), (4, 2, 2 * 1024), (1, 2, 1024), (4, 1, 0)])
def test_ranks_that_share_experts_gather_what_each_of_them_was_sent(ep: int, expert_tp: int, tokens: int) -> None:
    """2,048 tokens on four ranks, each token for two of eight experts (Megatron-LM's dispatchers)."""
    plan = Plan(global_batch=8, dp=8, tp=4, ep=ep, expert_tp=expert_tp, sequence_parallel=True)
    assert number(blocks(MODELS["experts"], plan)[0][1].expert_tokens) == tokens


@pytest.mark.parametrize("expert_tp", [1, 2, 4])
def test_all_ranks_together_send_each_token_to_each_of_its_experts_once(expert_tp: int) -> None:
    plan = Plan(global_batch=8, dp=8, tp=4, ep=4, expert_tp=expert_tp)
    _, ops = blocks(MODELS["experts"], plan)[0]
    assert number(ops.dispatched_tokens) * plan.tp == 2 * 2048


def test_a_dense_layer_sends_nothing_to_experts() -> None:
    assert blocks(ROUTED, Plan(global_batch=8))[0][1].dispatched_tokens == 0


@pytest.mark.parametrize("name", ["deepseek-v3", "mixtral-8x7b", "llama3-8b", "gpt3-175b", "bert-large", "qwen3-235b-a22b"])
def test_shipped_models_have_the_flops_of_the_closed_form_too(name: str) -> None:
    model = replace(load_model(name), mtp_depth=0)
    plan = Plan(global_batch=8)
    assert whole_flops(model, plan) == pytest.approx(closed_form(model, plan), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "plan", "operation", "forward", "backward"),
    [
        # eager dropout reads and writes and keeps a mask of a byte, each addition reads two and writes one; twice a layer
        ("two plain matrices", Plan(global_batch=8, fused=False), "residuals", 2 * (3 + 2.5) * ROW, 2 * (3 + 2.5) * ROW),
        ("dense", Plan(global_batch=8, fused=False), "residuals", 2 * 3 * ROW, 2 * 3 * ROW),
        # queries (1024 wide) and keys (512) are read and written
        ("grouped queries", Plan(global_batch=8), "rotary", 2 * 1.5 * ROW, 2 * 1.5 * ROW),
        # ranks of 256 for keys and 384 for queries, read and written; backward the keys' alone reads two
        ("latent", Plan(global_batch=8), "latent norms", 2 * ROW * 640 / 1024, 3 * ROW * 256 / 1024),
        # two experts a token: read, weighed, summed and written; backward the copies are read too
        ("experts", Plan(global_batch=8), "unpermute", 2 * 2 * ROW, 3 * 2 * ROW),
        # the context of 16 heads, read and written
        ("dense", Plan(global_batch=8, attention="unfused"), "heads together", 2 * ROW, 2 * ROW),
        # scaled, then masked: each reads and writes the scores, and the mask has a byte
        (
            "dense",
            Plan(global_batch=8, attention="unfused", fused=False),
            "scale and mask",
            9 * 16 * 2048**2,
            9 * 16 * 2048**2,
        ),
    ],
)
def test_bytes_of_an_operation_are_those_counted_by_hand(name: str, plan: Plan, operation: str, forward: float, backward: float) -> None:
    assert bytes_of(MODELS[name], plan, operation) == (forward, backward)


def test_tensor_parallelism_divides_the_activation_of_shared_experts() -> None:
    whole, cut = (blocks(MODELS["experts and shared ones"], Plan(global_batch=8, tp=tp))[-1][1] for tp in (1, 4))
    sizes = [[number(p.forward_bytes) for p in ops.passes if p.name == "activation"] for ops in (whole, cut)]
    assert sizes[0] == [4 * size for size in sizes[1]]
