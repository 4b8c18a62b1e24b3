"""Which plans can run: refused in a sentence that names a value that could, and told apart in bulk just as one by one."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.errors import InputError
from chipassay.scaling.errors import IllegalPlan, NotModelled
from chipassay.scaling.legal import check_plan, legal
from chipassay.scaling.models import Experts, Latent, Transformer, load_model
from chipassay.scaling.plan import RECOMPUTES, SCHEDULES, Plan
from chipassay.scaling.plans import Plans
from chipassay.scaling.rules import divisors, nearest, tensor_degrees

DENSE = load_model("llama3-8b")  # 32 layers, 32 heads, 8 key and value heads, MLP of 14336, sequences of 8192
MIXTRAL = replace(DENSE, name="mixtral", experts=Experts(count=8, active=2, ffn_hidden=14336))
DEEPSEEK = Transformer(
    name="deepseek",
    layers=61, hidden=7168, heads=128, kv_heads=128, head_dim=192, ffn_hidden=18432, gated=True, vocab=129280, seq_len=4096,
    tied_embeddings=False,
    experts=Experts(count=256, active=8, ffn_hidden=2048, shared_ffn_hidden=2048, first_dense=3),
    latent=Latent(kv_rank=512, q_rank=1536, nope_dim=128, rope_dim=64, value_dim=128),
)  # fmt: skip


def allowed(plan: Plan, model: Transformer = DENSE, chips: int | None = None) -> bool:
    try:
        check_plan(plan, model, plan.chips if chips is None else chips)
    except InputError:
        return False
    return True


@pytest.mark.parametrize(
    ("plan", "model", "chips"),
    [
        # SC21 (arXiv 2104.04473), Table 1: the largest runs
        (Plan(global_batch=1536, tp=8, pp=16, dp=8, interleave=3), load_model("gpt3-175b"), 1024),
        # Llama 3 (arXiv 2407.21783), Table 4: context parallelism over 16 chips at a length of 131,072; ZeRO-1 in the place of its FSDP
        (Plan(global_batch=16, tp=8, cp=16, pp=16, dp=8, zero_stage=1), replace(load_model("llama3-405b"), seq_len=131072), 16384),
        # Llama 3 again, as its 126 layers lie: eight parts of one layer or none on each of 16 stages
        (Plan(global_batch=2048, tp=8, pp=16, dp=128, interleave=8, zero_stage=2), load_model("llama3-405b"), 16384),
        # DeepSeek-V3 (arXiv 2412.19437), section 3.2: 16-way pipeline (DualPipe), 64-way experts, ZeRO-1, 2,048 chips
        (Plan(global_batch=15360, pp=16, dp=128, ep=64, zero_stage=1, schedule="dualpipe"), DEEPSEEK, 2048),
        # torchtitan: FSDP within the node, replicas beyond
        (Plan(global_batch=64, dp=64, zero_stage=3, shard=8), DENSE, 64),
        # an uneven cut: 32 layers on 3 stages
        (Plan(global_batch=8, pp=3), DENSE, 3),
        # more ranks than key and value heads
        (Plan(global_batch=8, tp=16), DENSE, 16),
        (Plan(global_batch=8, tp=4, dp=2, ep=2, expert_tp=1, sequence_parallel=True), MIXTRAL, 8),
    ],
)
def test_a_plan_of_a_published_kind_may_run(plan: Plan, model: Transformer, chips: int) -> None:
    check_plan(plan, model, chips)


REFUSED: list[tuple[dict[str, Any], Transformer, str, dict[str, Any]]] = [
    ({"tp": 3}, DENSE, "tp 3 does not divide the 32 heads of llama3-8b; the nearest that does is 4", {"tp": 4}),
    ({"tp": 64}, DENSE, "the nearest that does is 32", {"tp": 32}),
    ({"tp": 8}, replace(DENSE, ffn_hidden=14340), "does not divide the 14340 MLP columns of .*; the nearest that does is 4", {"tp": 4}),
    ({"tp": 8}, replace(DENSE, heads=24, kv_heads=12), "the 12 key and value heads of .*; the nearest that does is 4", {"tp": 4}),
    ({"dp": 7}, DENSE, "does not divide into dp 7 x microbatch 1; the nearest that does is 63", {"global_batch": 63}),
    ({"dp": 4, "microbatch": 3}, DENSE, "dp 4 x microbatch 3; the nearest that does is 60", {"global_batch": 60}),
    ({"pp": 33}, DENSE, "pp 33 is more than the 32 layers of llama3-8b; give at most 32", {"pp": 32}),
    ({"interleave": 2}, DENSE, "interleave 2 needs a pipeline", {"interleave": 1}),
    ({"pp": 4, "interleave": 9}, DENSE, "interleave 9 is more than the 8 layers of a stage; the nearest is 8", {"interleave": 8}),
    ({"pp": 3, "interleave": 12, "global_batch": 63}, DENSE, "more than the 11 layers of a stage; the nearest is 11", {"interleave": 11}),
    ({"pp": 4, "interleave": 2, "global_batch": 6}, DENSE, "multiple of pp 4; the nearest global batch is 8", {"global_batch": 8}),
    ({"pp": 4, "interleave": 2, "schedule": "zero-bubble"}, DENSE, "with an interleave of 2 is not modelled", {"interleave": 1}),
    ({"pp": 4, "schedule": "interleaved"}, DENSE, "interleaved with an interleave of 1", {"interleave": 2}),
    ({"pp": 3, "schedule": "dualpipe"}, DENSE, "even pp, not 3; the nearest is 2", {"pp": 2}),
    ({"pp": 8, "schedule": "dualpipe", "global_batch": 15}, DENSE, "not 15; the nearest global batch is 16", {"global_batch": 16}),
    ({"pp": 4, "schedule": "dualpipe", "global_batch": 9}, DENSE, "not 9; the nearest global batch is 8", {"global_batch": 8}),
    ({"cp": 3}, DENSE, "cp 3 does not cut sequences of 8192 into 6 equal parts; the nearest that does is 4", {"cp": 4}),
    ({"cp": 8192}, DENSE, "the nearest that does is 4096", {"cp": 4096}),
    ({"tp": 4, "sequence_parallel": True}, DENSE.with_seq_len(8190), "tp 4 x cp 1 divides; the nearest is 8192", None),
    ({"ep": 2, "dp": 2}, DENSE, "ep is 2, but llama3-8b has no experts; give 1", {"ep": 1}),
    ({"tp": 4, "expert_tp": 2}, DENSE, "expert_tp is 2, but llama3-8b has no experts", {"expert_tp": 0}),
    ({"ep": 3, "dp": 3}, MIXTRAL, "ep 3 does not divide the 8 experts; the nearest that does is 4", None),
    ({"ep": 8, "dp": 4}, MIXTRAL, "does not divide their 4 chips; the nearest that divides them and the 8 experts is 4", {"ep": 4}),
    ({"tp": 4, "expert_tp": 3}, MIXTRAL, "tp 4 and the 14336 columns of an expert; the nearest that does is 4", {"expert_tp": 4}),
    ({"zero_stage": 4}, DENSE, "zero_stage is 4; give 0, 1, 2 or 3", {"zero_stage": 3}),
    ({"zero_stage": 1, "dp": 8, "shard": 3}, DENSE, "the 8 chips of dp x cp; the nearest that does is 4", {"shard": 4}),
    ({"dp": 8, "shard": 4}, DENSE, "shard 4 needs something to shard", {"zero_stage": 1}),
    ({"offload": "all", "zero_stage": 1}, DENSE, "offload all with zero_stage 1 is not modelled", {"zero_stage": 3}),
    ({"offload": "optimizer", "optimizer": "sgd"}, DENSE, "a step of sgd on the host", {"optimizer": "adam"}),
    ({"recompute_share": 0.0}, DENSE, "recompute_share is 0.0; give a share above 0 and up to 1", {"recompute_share": 0.5}),
    ({"gradient_bytes": 3}, DENSE, "gradient_bytes is 3; give 2 or 4", {"gradient_bytes": 2}),
    ({"order": "tp-pp-dp"}, DENSE, "order is 'tp-pp-dp'; name each of tp, cp, ep, dp and pp once", {"order": "tp-cp-ep-pp-dp"}),
    ({"dtype": "int8"}, DENSE, "dtype is 'int8'; give one of fp32, tf32, fp16, bf16, fp8", {"dtype": "fp8"}),
    ({"recompute": "some"}, DENSE, "recompute is 'some'; give one of none, selective, operators, full", {"recompute": "full"}),
    ({"schedule": "best"}, DENSE, "schedule is 'best'; give one of gpipe, 1f1b", {"schedule": "gpipe"}),
    ({"tp": 2.0}, DENSE, "tp is 2.0; give a whole number", {"tp": 2}),
    ({"microbatch": -1}, DENSE, "microbatch is -1; give at least 1", {"microbatch": 1}),
    ({"shard": -8}, DENSE, "shard is -8; give at least 0", {"shard": 0}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "model", "problem", "mended"), REFUSED, ids=[" ".join(f"{k}={v}" for k, v in row[0].items()) for row in REFUSED]
)
def test_a_refused_plan_is_told_the_nearest_that_may_run(
    fields: dict[str, Any], model: Transformer, problem: str, mended: dict[str, Any] | None
) -> None:
    plan = Plan(**{"global_batch": 64, **fields})
    with pytest.raises((IllegalPlan, NotModelled), match=problem):
        check_plan(plan, model, plan.chips)
    if mended is not None:
        better = replace(plan, **mended)
        check_plan(better, model, better.chips)


def test_a_degree_that_cannot_be_is_named_before_the_number_of_chips() -> None:
    with pytest.raises(IllegalPlan, match="tp 3 does not divide the 32 heads"):
        check_plan(Plan(global_batch=64, tp=3, dp=2), DENSE, 8)


@pytest.mark.parametrize(
    ("plan", "chips", "mend"),
    [
        (Plan(global_batch=64, dp=8), 16, "tp 1 x pp 1 x dp 8 = 8 chips, but the cluster has 16; dp 16 would use them all"),
        (Plan(global_batch=64, tp=8, dp=4), 100, "with those tp, pp and cp the nearest number is 96"),
        (Plan(global_batch=64, cp=2, dp=4), 16, "x cp 2 = 8 chips"),
    ],
)
def test_a_plan_for_another_number_of_chips_is_told_what_would_use_them(plan: Plan, chips: int, mend: str) -> None:
    with pytest.raises(IllegalPlan, match=re.escape(mend)):
        check_plan(plan, DENSE, chips)


degrees = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 8, 12, 16])
columns = st.fixed_dictionaries(
    {
        **dict.fromkeys(("dp", "tp", "pp", "cp", "ep", "expert_tp", "microbatch", "interleave", "shard"), degrees),
        "global_batch": st.integers(0, 128),
        "zero_stage": st.integers(-1, 4),
        "recompute": st.sampled_from(RECOMPUTES),
        "sequence_parallel": st.booleans(),
    }
)
some_models = st.sampled_from([DENSE, MIXTRAL, DEEPSEEK, DENSE.with_seq_len(24), replace(MIXTRAL, causal=False, seq_len=12, layers=12)])


@settings(derandomize=True, max_examples=150)
@given(
    rows=st.lists(columns, min_size=1, max_size=30),
    model=some_models,
    schedule=st.sampled_from(SCHEDULES),
    offload=st.sampled_from(["none", "all"]),
    chips=st.none() | st.integers(1, 64),
)
def test_many_plans_at_once_are_told_apart_as_one_by_one(
    rows: list[dict[str, Any]], model: Transformer, schedule: Any, offload: Any, chips: int | None
) -> None:
    plans = [Plan(schedule=schedule, offload=offload, **row) for row in rows]
    count = plans[0].chips if chips is None else chips
    assert legal(Plans.of(plans), model, count).tolist() == [allowed(plan, model, count) for plan in plans]


@settings(derandomize=True, max_examples=300)
@given(row=columns, model=some_models)
def test_what_may_run_is_cut_into_whole_parts(row: dict[str, Any], model: Transformer) -> None:
    """The rules again, written as what each chip would hold."""
    small = {name: 1 if value == 0 else value for name, value in row.items() if name not in ("shard", "expert_tp", "zero_stage")}
    plan = Plan(**small)
    whole = [
        model.heads / plan.tp,
        plan.global_batch / plan.dp / plan.microbatch,
        model.seq_len / plan.cp / (2 if model.causal and plan.cp > 1 else 1),
        model.seq_len / plan.cp / (plan.tp if plan.sequence_parallel else 1),
        plan.global_batch / plan.dp / plan.microbatch / plan.pp if plan.interleave > 1 else 1.0,
        (model.experts.count if model.experts else 1) / plan.ep,
        plan.dp * plan.cp / plan.ep,
    ]
    expected = all(value == int(value) for value in whole) and plan.pp <= model.layers and (plan.interleave == 1 or plan.pp > 1)
    expected &= plan.interleave == 1 or plan.interleave <= -(-model.layers // plan.pp)  # no stage holds a part of no layer
    if model.ffn_hidden % plan.tp == 0 and (model.latent or model.kv_heads % plan.tp == 0 or plan.tp % model.kv_heads == 0):
        assert allowed(plan, model) == expected


def test_a_setting_that_no_plan_could_have_is_refused_for_all_at_once() -> None:
    with pytest.raises(IllegalPlan, match="recompute_share"):
        legal(Plans.of([Plan(global_batch=8, recompute_share=2.0)]), DENSE, 1)


def test_a_degree_of_zero_is_refused_without_a_warning() -> None:
    plans = Plans.grid(Plan(global_batch=8), dp=np.array([0, 1]), microbatch=np.array([1, 0]))
    with np.errstate(all="raise"):
        assert legal(plans, DENSE, 1).tolist() == [False, False]


def test_tensor_degrees_divide_what_they_cut() -> None:
    assert tensor_degrees(DENSE) == (1, 2, 4, 8, 16, 32)
    assert tensor_degrees(replace(DENSE, heads=25, kv_heads=25)) == (1,)  # 25 and 14336 share no divisor
    assert tensor_degrees(replace(DENSE, heads=24, kv_heads=3, ffn_hidden=12288)) == (1, 3, 6, 12, 24)
    assert tensor_degrees(DEEPSEEK) == (1, 2, 4, 8, 16, 32, 64, 128)


@given(value=st.integers(1, 1000), number=st.integers(1, 1000))
def test_the_nearest_divisor_is_itself_if_it_divides(value: int, number: int) -> None:
    found = nearest(value, divisors(number))
    assert number % found == 0
    assert (found == value) == (number % value == 0)
