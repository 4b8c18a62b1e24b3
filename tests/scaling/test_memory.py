"""Memory by kind: against the formulas of the papers it comes from, worked out by hand, and against what must hold for any plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.scaling.activations import layer_activations
from chipassay.scaling.machine import Machine, prepare
from chipassay.scaling.memory import KINDS, memory_by_kind, optimizer_bytes
from chipassay.scaling.models import Latent, Transformer, load_model
from chipassay.scaling.plan import RECOMPUTES, SCHEDULES, Plan
from chipassay.scaling.plans import Plans
from chipassay.scaling.weights import dense_parameters, expert_parameters

from . import toys
from .toy_models import ROUTED

MACHINE = prepare(toys.toy_profile())
GPT3 = replace(load_model("gpt3-175b"), dropout=True)
LLAMA = load_model("llama3-8b")
STATES = ("weights", "gradients", "optimizer")


def in_dtype(dtype: str) -> Machine:
    return replace(MACHINE, dtype=dtype)


def one(plan: Plan, model: Transformer = GPT3) -> float:
    """Activations that one dense layer keeps per token, in 16 bit."""
    return float(layer_activations(model, Plans.of([plan]), 2, 2, experts=False).kept[0])


# Activations


@pytest.mark.parametrize("tp", [1, 2, 8])
def test_a_layer_keeps_what_korthikanti_equations_2_4_and_6_say(tp: int) -> None:
    """h (10 + 24/t + 5as/ht); with sequence parallelism h (34/t + 5as/ht); with selective recomputation 34h/t; in full 2h."""
    h, scores = GPT3.hidden, 5 * GPT3.heads * GPT3.seq_len / tp
    plan = Plan(global_batch=1, tp=tp, attention="unfused")
    assert one(plan) == pytest.approx(h * (10 + 24 / tp) + scores, rel=1e-12)
    assert one(replace(plan, sequence_parallel=True)) == pytest.approx(h * 34 / tp + scores, rel=1e-12)
    assert one(replace(plan, sequence_parallel=True, recompute="selective")) == pytest.approx(34 * h / tp, rel=1e-12)
    assert one(replace(plan, recompute="full")) == 2 * h


def test_a_gated_layer_with_grouped_heads_worked_out_by_hand() -> None:
    """Llama 3 8B, no dropout, flash attention, 2 bytes: norms in and out 4 x 4096, q and output 2 x 4096, k and v 2 x 1024, gate, up and
    their product 3 x 14336; 4 bytes of statistics for each of 32 heads."""
    assert one(Plan(global_batch=1), LLAMA) == 2 * (4 * 4096 + 2 * 4096 + 2 * 1024 + 3 * 14336) + 4 * 32
    eager = one(Plan(global_batch=1, fused=False), LLAMA)
    assert eager == one(Plan(global_batch=1), LLAMA) + 2 * 14336  # the activated gate is a tensor of its own


def test_latent_attention_keeps_the_narrow_vectors_and_the_wide_heads() -> None:
    latent = Latent(kv_rank=512, q_rank=1536, nope_dim=128, rope_dim=64, value_dim=128)
    model = replace(LLAMA, heads=128, kv_heads=128, head_dim=192, latent=latent)
    narrow = 2 * (512 + 1536) + 64
    heads = 128 * (192 + 192 + 128 + 128)
    assert one(Plan(global_batch=1), model) == 2 * (4 * 4096 + narrow + heads + 3 * 14336) + 4 * 128


def test_routed_experts_keep_a_copy_of_each_token_for_each_expert_that_it_is_sent_to() -> None:
    plans = Plans.of([Plan(global_batch=8, dp=8, ep=4)])
    routed, plain = (layer_activations(ROUTED, plans, 2, 2, experts=experts).all[0] for experts in (True, False))
    shared_for_dense = 2 * 3 * (512 - 4096)
    copies = 2 * (2 * 3 * 512 + 2 * 2 * 1024)  # top 2: gate, up and their product; the token going in and coming out
    router = 2 * 4 * 8
    assert routed - plain == shared_for_dense + copies + router


def test_capacity_and_imbalance_scale_the_dispatched_tokens() -> None:
    plans = Plans.of([Plan(global_batch=8, dp=8, ep=4)])
    held = {}
    for name, change in {"even": {}, "uneven": {"imbalance": 1.5}, "capped": {"imbalance": 9.0, "capacity_factor": 1.5}}.items():
        assert ROUTED.experts is not None
        held[name] = layer_activations(replace(ROUTED, experts=replace(ROUTED.experts, **change)), plans, 2, 2, experts=True).all[0]
    assert held["uneven"] == held["capped"] == held["even"] + 0.5 * 2 * (2 * 3 * 512 + 2 * 2 * 1024)


def test_fp8_narrows_the_inputs_of_the_linear_layers() -> None:
    """Transformer Engine keeps those 4 inputs (2 norms' outputs, the core's, the MLP's inner) cast; the core's own output stays too."""
    plans = Plans.of([Plan(global_batch=1)])
    wide = layer_activations(LLAMA, plans, 2, 2, experts=False).all[0]
    narrow = layer_activations(LLAMA, plans, 2, 1, experts=False).all[0]
    assert wide - narrow == 2 * 4096 + 14336 - 4096


def test_every_second_product_is_less_than_all_and_more_than_the_input() -> None:
    kept = [one(Plan(global_batch=1, recompute=how), LLAMA) for how in ("none", "operators", "full")]
    assert kept[1] == 2 * (2 * 4096 + 4096 + 1024 + 4096 + 14336) + 4 * 32  # input, output; q, v, core; one inner product
    assert kept[0] > kept[1] > kept[2]


# States


@pytest.mark.parametrize(("zero_stage", "gigabytes"), [(0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_states_of_7_5_billion_weights_on_64_chips_are_those_of_figure_1_of_zero(zero_stage: int, gigabytes: float) -> None:
    """ZeRO (arXiv 1910.02054), figure 1: 16-bit weights and gradients, 12 bytes of Adam."""
    plan = Plan(global_batch=64, dp=64, zero_stage=zero_stage, gradient_bytes=2)
    held = memory_by_kind(LLAMA, plan, MACHINE)
    per_weight = sum(held[kind] for kind in STATES) / LLAMA.parameters
    assert per_weight * 7.5 == pytest.approx(gigabytes, abs=0.05)


@pytest.mark.parametrize(("dtype", "whole", "sharded"), [("bf16", 18, 6 + 12 / 8), ("fp32", 16, 8 + 8 / 8)])
def test_bytes_per_weight_are_those_of_megatrons_distributed_optimizer(dtype: str, whole: float, sharded: float) -> None:
    """Megatron-LM, docs of the distributed optimizer: bf16 with fp32 gradients 18 and 6 + 12/d, fp32 16 and 8 + 8/d."""
    for zero_stage, expected in ((0, whole), (1, sharded)):
        held = memory_by_kind(LLAMA, Plan(global_batch=8, dp=8, zero_stage=zero_stage), in_dtype(dtype))
        assert sum(held[kind] for kind in STATES) == pytest.approx(expected * LLAMA.parameters)


def test_experts_are_sharded_over_their_own_replicas() -> None:
    """dp 8, ep 4: an expert has 2 replicas, the rest 8."""
    plans = Plans.of([Plan(global_batch=8, dp=8, ep=4, zero_stage=1)])
    held = memory_by_kind(ROUTED, plans, MACHINE)["optimizer"][0]
    assert held == pytest.approx(12 * (dense_parameters(ROUTED, plans)[0] / 8 + expert_parameters(ROUTED, plans)[0] / 2))


def test_hybrid_sharding_shards_within_its_group_alone() -> None:
    inside, everywhere = (memory_by_kind(LLAMA, Plan(global_batch=64, dp=64, zero_stage=3, shard=shard), MACHINE) for shard in (8, 0))
    assert inside["optimizer"] == 8 * everywhere["optimizer"]


def test_optimizers_differ_by_their_moments() -> None:
    assert [optimizer_bytes(kind, "bf16") for kind in ("adam", "adam-bf16", "adam-8bit", "sgd")] == [12, 8, 6, 8]
    assert [optimizer_bytes(kind, "fp32") for kind in ("adam", "sgd")] == [8, 4]


def test_what_is_offloaded_takes_no_room() -> None:
    plan = Plan(global_batch=8, dp=8)
    assert memory_by_kind(LLAMA, replace(plan, offload="optimizer"), MACHINE)["optimizer"] == 0
    everything = memory_by_kind(LLAMA, replace(plan, offload="all"), MACHINE)
    assert [everything[kind] for kind in STATES] == [0, 0, 0]
    assert everything["gathered"] > 0


def test_fp8_keeps_bf16_weights_and_two_narrow_copies_of_those_in_products() -> None:
    bf16, fp8 = (memory_by_kind(LLAMA, Plan(global_batch=8, dp=8), in_dtype(dtype))["weights"] for dtype in ("bf16", "fp8"))
    assert fp8 - bf16 == 2 * LLAMA.layers * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096)


# Whole plans


def test_kinds_are_named_and_none_is_negative() -> None:
    held = memory_by_kind(LLAMA, Plan(global_batch=64, dp=2, tp=2, pp=2), MACHINE)
    assert tuple(held) == KINDS
    assert min(held.values()) >= 0


def test_the_logits_count_on_the_last_stage_and_a_layers_gradients_elsewhere() -> None:
    """Llama 3 8B at one token: 128,256 logits of 2 + 4 bytes; they come before any gradient, so the two never add."""
    model = LLAMA.with_seq_len(1)
    held = memory_by_kind(model, Plan(global_batch=1), MACHINE)
    assert held["logits"] == 6 * 128256
    assert held["workspace"] == held["recompute"] == 0
    torch, fused = (memory_by_kind(model, Plan(global_batch=1), MACHINE, loss=loss)["logits"] for loss in ("torch", "fused"))
    assert (torch, fused) == (14 * 128256, 4 * 128256)


def test_full_recomputation_holds_one_layer_beside_the_inputs() -> None:
    tiny = replace(LLAMA, vocab=1)
    held = memory_by_kind(tiny, Plan(global_batch=1, recompute="full"), MACHINE)
    layer = one(Plan(global_batch=1), tiny)
    assert held["recompute"] == tiny.seq_len * (layer - 2 * 4096)
    assert held["activations"] == tiny.seq_len * (32 * 2 * 4096 + 2 * 2 * 4096)  # and the head's norm


def test_half_of_the_layers_recomputed_is_halfway() -> None:
    none, half, full = (
        memory_by_kind(LLAMA, Plan(global_batch=1, recompute="full", recompute_share=share), MACHINE)["activations"]
        for share in (1e-12, 0.5, 1.0)
    )
    assert half == pytest.approx((none + full) / 2)


PLANS = st.builds(
    Plan,
    global_batch=st.just(256),
    dp=st.sampled_from([1, 2, 8]),
    tp=st.sampled_from([1, 2, 4]),
    pp=st.sampled_from([1, 2, 4]),
    cp=st.sampled_from([1, 2]),
    microbatch=st.sampled_from([1, 2, 4]),
    zero_stage=st.integers(0, 3),
    recompute=st.sampled_from(RECOMPUTES),
    sequence_parallel=st.booleans(),
    attention=st.sampled_from(["flash", "unfused"]),
    schedule=st.sampled_from(SCHEDULES),
)


@given(plan=PLANS, model=st.sampled_from([LLAMA, GPT3, ROUTED]))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_more_sharing_never_takes_more(plan: Plan, model: Transformer) -> None:
    def total(other: Plan, kinds: tuple[str, ...] = KINDS) -> float:
        held = memory_by_kind(model, other, MACHINE)
        return sum(held[kind] for kind in kinds) * (1 + 1e-12)

    activations = ("activations", "logits", "recompute", "workspace")
    assert total(replace(plan, microbatch=1), activations) <= total(plan, activations)
    assert total(replace(plan, tp=2 * plan.tp, sequence_parallel=True)) <= total(replace(plan, sequence_parallel=True)) * (1 + 1e-9)
    assert total(replace(plan, cp=2 * plan.cp)) <= total(plan) * (1 + 1e-9)
    if plan.zero_stage < 2:
        assert total(replace(plan, zero_stage=plan.zero_stage + 1), STATES) <= total(plan, STATES) * (1 + 1e-9)
    assert total(replace(plan, recompute="full"), ("activations",)) <= total(replace(plan, recompute="none"), ("activations",))


@given(plans=st.lists(PLANS, min_size=2, max_size=8), model=st.sampled_from([LLAMA, ROUTED]))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_a_batch_of_plans_is_the_plans_one_by_one(plans: list[Plan], model: Transformer) -> None:
    alike = [replace(plan, schedule=plans[0].schedule, attention=plans[0].attention) for plan in plans]
    together = memory_by_kind(model, Plans.of(alike), MACHINE)
    for index, plan in enumerate(alike):
        assert {kind: value[index] for kind, value in together.items()} == memory_by_kind(model, plan, MACHINE)
