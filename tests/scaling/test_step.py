"""The step: parts that sum, stages that wait for each other, hosts and stragglers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chipassay.results.profile import Curve
from chipassay.scaling import constants
from chipassay.scaling.models import Transformer
from chipassay.scaling.plan import Plan
from chipassay.scaling.step import KINDS, straggler_share

from .toy_models import DENSE, GPT, MODELS
from .toys import (
    MEASURED,
    TRAFFIC,
    changed,
    only_products,
    parts_of,
    plain,
    step_of,
    toy_fabric,
    toy_group,
    with_profile,
)

RATE = 1e14
TOKENS = 2048
BUSY = ("matmul", "attention", "memory_bound", "recompute", "host", "tensor_parallel", "context_parallel", "expert_parallel")

# One chip


@pytest.mark.parametrize("name", ["dense", "two plain matrices", "latent", "experts and shared ones", "bidirectional"])
def test_one_ideal_chip_takes_six_flops_per_weight_and_token(name: str) -> None:
    model = MODELS[name]
    parts = parts_of(model, plain(microbatch=2), only_products())
    tokens = 8 * TOKENS
    head = model.hidden * model.padded_vocab(1) * model.predicted_share
    assert parts["matmul"] == pytest.approx(6 * tokens * (model.layers * model.layer_matmul_parameters + head) / RATE, rel=1e-9)


def test_one_ideal_chip_takes_three_and_a_half_times_its_forward_attention() -> None:
    """FlashAttention's backward pass multiplies five times where the forward pass does twice (arXiv 2205.14135)."""
    forward = 4 * 8 * 16 * TOKENS * (TOKENS + 128) / 2 * 64 / (RATE / 2)  # the toy's tiles of 128 queries
    assert parts_of(DENSE, plain(), only_products())["attention"] == pytest.approx(3.5 * 8 * forward, rel=1e-9)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_one_chip_sends_nothing_and_waits_for_nobody(model: Transformer) -> None:
    parts = parts_of(model, Plan(global_batch=8), toy_group())
    assert all(parts[kind] == 0 for kind in (*TRAFFIC, "pipeline_bubble", "offload", "stragglers"))


def test_an_ideal_chip_spends_all_its_time_multiplying() -> None:
    parts = parts_of(DENSE, plain(), only_products())
    assert sum(parts.values()) == pytest.approx(parts["matmul"] + parts["attention"], rel=1e-9)


# Host


def test_captured_graphs_have_no_host_time() -> None:
    assert parts_of(DENSE, Plan(global_batch=8, host="graph"), toy_group())["host"] == 0


def test_a_chip_that_takes_no_time_waits_for_every_launch() -> None:
    group = toy_group(rate=1e25, bandwidth=1e25, overhead_s=0.0)
    parts = parts_of(DENSE, Plan(global_batch=4), group)
    per_pass = parts["host"] / 4 / constants.HOST_S_PER_KERNEL.value
    # forward: 4 products, one core, 2 norms, 2 residuals, 2 rotary, an activation; backward twice the products and two further of the core
    layer = (4 + 1 + 2 + 2 + 2 + 1) + (2 * 4 + 3 + 2 + 2 + 2 + 1)
    ends = 3 + 3 + 8 + 6 + 1
    assert per_pass == pytest.approx(8 * layer + ends + 2 * constants.HOST_KERNELS_PER_PASS.value, rel=1e-6)


def test_large_kernels_hide_the_host() -> None:
    slow = toy_group(rate=1e9, bandwidth=1e9)
    parts = parts_of(DENSE, Plan(global_batch=8), slow)
    assert parts["host"] < 1e-6 * sum(parts.values())


# What sums

PLANS = {
    "data": Plan(global_batch=64, dp=16),
    "zero": Plan(global_batch=64, dp=16, zero_stage=3, recompute="full"),
    "hybrid": Plan(global_batch=64, dp=16, zero_stage=2, shard=4),
    "tensors": Plan(global_batch=64, dp=2, tp=8, zero_stage=1, sequence_parallel=True, overlap_tp=True),
    "pipeline": Plan(global_batch=64, dp=2, tp=2, pp=4, interleave=2, recompute="selective", attention="unfused"),
    "zero bubble": Plan(global_batch=64, dp=2, tp=2, pp=4, schedule="zero-bubble", recompute="operators"),
    "context": Plan(global_batch=64, dp=4, cp=4),
    "gathered context": Plan(global_batch=64, dp=4, cp=4, context_parallel="all-gather"),
}
EXPERT_PLANS = {
    "experts": Plan(global_batch=64, dp=8, tp=2, ep=4),
    "whole experts": Plan(global_batch=64, dp=4, tp=4, ep=4, expert_tp=1, sequence_parallel=True, zero_stage=1),
    "experts in a pipeline": Plan(global_batch=64, dp=4, tp=1, pp=4, ep=4, recompute="full"),
}
CASES = [(GPT, plan) for plan in PLANS.values()] + [(MODELS["experts and shared ones"], plan) for plan in EXPERT_PLANS.values()]
NAMES = [*PLANS, *EXPERT_PLANS]


@pytest.mark.parametrize(("model", "plan"), CASES, ids=NAMES)
def test_what_a_stage_does_is_what_its_passes_take(model: Transformer, plan: Plan) -> None:
    """The kinds that the slowest stage works on sum to its passes of all microbatches."""
    result = step_of(model, plan, toy_group(16))
    busy = sum(float(result.parts_s[kind][0]) for kind in BUSY)
    assert busy == pytest.approx(plan.microbatches * float(np.asarray(result.passes.slowest_s).item()), rel=1e-12)


@pytest.mark.parametrize(("model", "plan"), CASES, ids=NAMES)
def test_the_parts_are_whole_finite_and_sum_to_the_step(model: Transformer, plan: Plan) -> None:
    result = step_of(model, plan, toy_group(16))
    assert tuple(result.parts_s) == KINDS
    assert all(np.isfinite(seconds).all() and (seconds >= 0).all() for seconds in result.parts_s.values())
    assert result.step_time_s.item() == pytest.approx(sum(seconds.item() for seconds in result.parts_s.values()))


@pytest.mark.parametrize(("model", "plan"), CASES, ids=NAMES)
def test_without_latency_and_limits_of_bandwidth_the_compute_is_left(model: Transformer, plan: Plan) -> None:
    group = toy_group(16, busbw=1e30, fabric=toy_fabric(nic=1e30))
    ideal, real = parts_of(model, plan, group), parts_of(model, plan, toy_group(16))
    assert sum(ideal[kind] for kind in TRAFFIC) < 1e-9 * sum(ideal.values())
    for kind in ("matmul", "attention", "memory_bound", "recompute", "optimizer"):
        assert ideal[kind] == pytest.approx(real[kind], rel=1e-12)


# Pipeline


def test_equal_stages_have_the_bubble_of_the_formula_and_interleaving_divides_it() -> None:
    """Narayanan et al. 2021 (arXiv 2104.04473), section 2.2: (p - 1) / (v m) of the ideal time."""
    model = replace(DENSE, vocab=1, layers=16)
    for interleave in (1, 2, 4):
        plan = plain(pp=4, interleave=interleave, global_batch=32)
        parts = parts_of(model, plan, only_products(4, busbw=1e30))
        busy = sum(parts[kind] for kind in BUSY)
        assert parts["pipeline_bubble"] / busy == pytest.approx(3 / (interleave * 32), rel=1e-3)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zero-bubble", "dualpipe"])
def test_equal_stages_have_the_bubble_that_the_schedule_was_published_with(schedule: Any) -> None:
    """GPipe, 1F1B: (p - 1)(F + B + W). ZB-H1: (p - 1)(F + B - W) (arXiv 2401.10241, table 1). DualPipe: fewer than half of 1F1B's."""
    model = replace(DENSE, vocab=1, layers=16)
    result = step_of(model, plain(pp=4, global_batch=32, schedule=schedule), only_products(4, busbw=1e30))
    f, b, w = (4 * float(np.asarray(seconds).item()) for seconds in result.passes.layer_s)
    bubble = result.parts_s["pipeline_bubble"].item()
    if schedule == "dualpipe":
        assert 0 < bubble < 3 * (f + b + w) / 2
    else:
        assert bubble == pytest.approx(3 * (f + b + (-w if schedule == "zero-bubble" else w)), rel=1e-3)


def test_a_chip_of_dualpipe_shares_the_last_stages_logits_with_the_first() -> None:
    """Each chip holds a stage and its mirror image, and half of the microbatches pass each: half of the logits meet each end."""
    model = replace(DENSE, vocab=400_000)
    parts = parts_of(model, plain(pp=4, global_batch=400, schedule="dualpipe"), only_products(4))
    per_stage = 6 * 400 * TOKENS * (2 * model.layer_matmul_parameters + 400_000 * 1024 / 2) / RATE
    assert parts["matmul"] == pytest.approx(per_stage, rel=1e-9)


@pytest.mark.parametrize("schedule", ["gpipe", "zero-bubble"])
def test_a_schedule_changes_waiting_and_sends_alone(schedule: Any) -> None:
    kinds = changed(DENSE, plain(pp=4), plain(pp=4, schedule=schedule), toy_group(4))
    assert kinds <= {"pipeline_bubble", "pipeline_send"}


def test_logits_slow_the_last_stage() -> None:
    """A vocabulary so large that the last of four stages does more than the others."""
    model = replace(DENSE, vocab=400_000)
    parts = parts_of(model, plain(pp=4, global_batch=400), only_products(4))
    per_stage = 6 * 400 * TOKENS * (2 * model.layer_matmul_parameters + 400_000 * 1024) / RATE
    assert parts["matmul"] == pytest.approx(per_stage, rel=1e-9)


# Dtypes


def test_fp8_changes_the_products_of_linear_layers_and_adds_casts() -> None:
    curves = {"bf16": Curve(0.0, RATE, MEASURED), "fp8_e4m3": Curve(0.0, 2 * RATE, MEASURED)}
    group = with_profile(toy_group(), matmul=curves)
    half, eighth = (parts_of(GPT, plain(dtype=dtype), group) for dtype in ("bf16", "fp8"))
    assert {kind for kind in KINDS if half[kind] != pytest.approx(eighth[kind])} == {"matmul", "memory_bound"}
    assert eighth["matmul"] < half["matmul"]
    assert eighth["memory_bound"] > half["memory_bound"]


# Stragglers


def test_one_chip_waits_for_no_other_and_more_chips_for_a_slower_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expected largest of n normal deviates: 0.564 of two, 1.423 of eight, 2.508 of a hundred (Harter 1961, Biometrika 48, table 1)."""
    monkeypatch.setattr(constants, "STRAGGLER_SIGMA", replace(constants.STRAGGLER_SIGMA, value=1.0))
    assert straggler_share(np.array([1, 2, 8, 100])) == pytest.approx([0.0, 0.5642, 1.4236, 2.5076], abs=0.03)


def test_stragglers_lengthen_all_other_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "STRAGGLER_SIGMA", replace(constants.STRAGGLER_SIGMA, value=0.02))
    parts = parts_of(GPT, plain(dp=8), toy_group(8))
    late = parts.pop("stragglers")
    assert late / sum(parts.values()) == pytest.approx(0.02 * 1.4236, rel=0.02)


# Further tokens and windows


def test_a_layer_for_further_tokens_adds_a_layer_its_projection_and_its_logits() -> None:
    """DeepSeek-V3 (arXiv 2412.19437), section 2.2: a projection of 2h to h."""
    without, with_one = (replace(DENSE, mtp_depth=depth) for depth in (0, 1))
    before, after = (parts_of(model, plain(), only_products())["matmul"] for model in (without, with_one))
    flops = 6 * 8 * TOKENS * (DENSE.layer_matmul_parameters + 2 * 1024**2 + 1024 * 32000)
    assert after - before == pytest.approx(flops / RATE, rel=1e-9)
    whole = with_one.training_flops_per_token(causal=False) - without.training_flops_per_token(causal=False)
    attention = 3 * 4 * TOKENS * DENSE.q_width
    assert flops / (8 * TOKENS) == pytest.approx(whole - attention, rel=1e-9)


def test_windows_shorten_the_attention_of_their_layers_alone() -> None:
    """A window of 256 of 2,048 positions: w - w^2 / 2s = 240 of 1,024 on average, and less than two tiles of 128 more."""
    full, some = (parts_of(MODELS[name], plain(), only_products()) for name in ("dense", "windows in most layers"))
    assert some["matmul"] == full["matmul"]
    in_window = (some["attention"] - full["attention"] / 4) / (full["attention"] * 3 / 4)
    assert 240 / 1024 <= in_window < (240 + 256) / 1024


@pytest.mark.parametrize(("layers", "vocab", "stage"), [(10, 1, 3), (8, 32000, 2), (9, 200_000, 2)])
def test_the_slowest_stage_is_a_fullest_one_or_the_last_with_its_logits(layers: int, vocab: int, stage: int) -> None:
    """Ten layers on four stages: 3, 3, 2, 2. Without logits a stage of three is slowest; large logits outweigh a layer."""
    model = replace(DENSE, layers=layers, vocab=vocab)
    parts = parts_of(model, plain(pp=4, global_batch=32), only_products(4))
    logits = 0 if vocab == 1 else vocab * 1024
    assert parts["matmul"] == pytest.approx(6 * 32 * TOKENS * (stage * model.layer_matmul_parameters + logits) / RATE, rel=1e-9)


def test_the_bubble_of_uneven_stages_is_the_work_of_the_others_on_one_microbatch() -> None:
    """GPipe: the pipeline takes m passes of the slowest stage and one of each other. Stages of 3, 3, 2, 2 layers: 7 of others."""
    model = replace(DENSE, layers=10, vocab=1)
    result = step_of(model, plain(pp=4, global_batch=32, schedule="gpipe"), only_products(4))
    layer = sum(float(np.asarray(seconds).item()) for seconds in result.passes.layer_s)
    assert result.parts_s["pipeline_bubble"].item() == pytest.approx(7 * layer, rel=1e-3)
