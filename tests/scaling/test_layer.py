"""Times of one layer: operations by the profile's numbers, worked by hand on a chip of round ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chipassay.results.profile import Curve
from chipassay.scaling.constants import ATTENTION_KERNELS, FULL_CLOCK_W_PER_TFLOPS
from chipassay.scaling.cut import Cut
from chipassay.scaling.layer import core_times, end_times, layer_times, pass_times, product_times
from chipassay.scaling.machine import Machine, sustained_share
from chipassay.scaling.models import Transformer
from chipassay.scaling.operations import Core, Pass, Product
from chipassay.scaling.plan import Plan
from chipassay.scaling.plans import Plans

from .toy_models import DENSE, GPT, MODELS, ROUTED
from .toys import MEASURED, machine_of, only_products, toy_group, with_profile

ONE = Plan(global_batch=8)
RATE = 1e14
TOKENS = 2048


def cut_of(plan: Plan, model: Transformer = DENSE) -> Cut:
    return Cut.of(model, Plans.of([plan]), 2)


def one_layer(model: Transformer, plan: Plan, machine: Machine) -> Any:
    return layer_times(model, Plans.of([plan]), machine)


def test_each_pass_of_a_product_takes_its_flops_at_the_rate() -> None:
    machine = machine_of(only_products())
    times = product_times([Product("a", 1000.0, 2000.0, 3000.0), Product("b", 100.0, 100.0, 100.0, groups=8.0)], machine, cut_of(ONE))
    for passes in times:
        assert passes[:, 0] == pytest.approx([2 * 6e9 / RATE, 2 * 8e6 / RATE], rel=1e-9)


def test_the_gradients_of_a_product_are_in_the_other_layouts() -> None:
    """C = A B^T: the gradient of A is a product without a transpose (nn), that of B transposes its first operand (tn)."""
    machine = machine_of(only_products())
    machine = replace(machine, linear_products=replace(machine.linear_products, layouts={"nn": 1.25, "tn": 1.5}))
    forward, dgrad, wgrad = product_times([Product("a", 1000.0, 2000.0, 3000.0)], machine, cut_of(ONE))
    assert (dgrad / forward).item() == pytest.approx(1.25)
    assert (wgrad / forward).item() == pytest.approx(1.5)


def test_gradients_move_the_bytes_of_their_own_shapes() -> None:
    """Few tokens on a chip without limit on arithmetic: the product reads A and B and writes C, whichever of the three is which."""
    machine = machine_of(toy_group(rate=1e30, overhead_s=0.0))
    m, n, k = 8.0, 4096.0, 1024.0
    forward, dgrad, _ = product_times([Product("a", m, n, k)], machine, cut_of(ONE))
    assert forward.item() == pytest.approx(2 * (m * k + k * n + m * n) / 1e12, rel=1e-9)
    assert dgrad.item() == pytest.approx(forward.item(), rel=1e-9)


def test_a_kernel_takes_its_start_and_its_bytes() -> None:
    machine = machine_of(toy_group())
    forward_s, backward_s, ahead, back = pass_times([Pass("norms", "rms_norm", 4e6, 6e6, 2, 3)], machine)
    assert forward_s == pytest.approx(2 * 1e-6 + 4e6 / 1e12)
    assert backward_s == pytest.approx(3 * 1e-6 + 6e6 / 1e12)
    assert (ahead, back) == (2, 3)


@pytest.mark.parametrize(
    ("known", "forward", "backward"),
    [((), 1e12, 1e12), (("rms_norm",), 2e12, 2e12), (("rms_norm", "rms_norm backward"), 2e12, 3e12)],
    ids=["copies", "the operation", "its direction"],
)
def test_an_operation_runs_at_its_own_measured_rate_where_there_is_one(known: tuple[str, ...], forward: float, backward: float) -> None:
    rates = {"rms_norm": 2e12, "rms_norm backward": 3e12}
    ops = {name: Curve(0.0, rates[name], MEASURED) for name in known}
    machine = machine_of(with_profile(toy_group(overhead_s=0.0), memory_ops=ops))
    forward_s, backward_s, *_ = pass_times([Pass("norms", "rms_norm", 1e6, 1e6)], machine)
    assert (forward_s, backward_s) == pytest.approx((1e6 / forward, 1e6 / backward))


def core_s(plan: Plan, machine: Machine, *, model: Transformer = DENSE, head_dim: float = 64.0, window: int = 0) -> tuple[float, float]:
    cut = cut_of(plan, model)
    heads = np.full(1, 16.0)
    forward, backward = core_times([Core(heads, heads, head_dim, window)], machine, cut)
    return float(forward[0]), float(backward[0])


def test_a_causal_core_computes_half_of_its_scores_and_half_a_tile() -> None:
    """Tiles of 128 queries walk up to their last one: (s + 128) / 2 keys on average; the toy's attention runs at half the rate."""
    model = MODELS["dense"]
    forward, _ = core_s(ONE, machine_of(only_products()), model=model)
    assert forward == pytest.approx(4 * 16 * TOKENS * (TOKENS + 128) / 2 * 64 / (RATE / 2), rel=1e-9)


def test_a_bidirectional_core_computes_all_of_its_scores() -> None:
    forward, _ = core_s(ONE, machine_of(only_products()), model=MODELS["bidirectional"])
    assert forward == pytest.approx(4 * 16 * TOKENS**2 * 64 / (RATE / 2), rel=1e-9)


def test_the_backward_pass_takes_the_profiles_ratio_for_the_size_of_the_head() -> None:
    machine = machine_of(only_products())
    machine = replace(machine, attentions=replace(machine.attentions, backward={"64": 2.0, "128": 3.0}))
    ratios = []
    for size in (64.0, 96.0, 128.0, 256.0):
        forward, backward = core_s(ONE, machine, head_dim=size)
        ratios.append(backward / forward)
    assert ratios == pytest.approx([2.0, 2.5, 3.0, 3.0])


def test_each_rank_of_a_context_parallel_group_computes_its_share_of_the_scores() -> None:
    machine = machine_of(only_products())
    whole, part = core_s(ONE, machine), core_s(replace(ONE, cp=4), machine)
    assert np.array(whole) / np.array(part) == pytest.approx(4.0)


@pytest.mark.parametrize("kernel", ["flash", "flash2", "flash1"])
@pytest.mark.parametrize("later", [False, True])
def test_an_older_kernel_runs_at_its_share_of_the_profiles_rate(kernel: Any, later: bool) -> None:
    machine = replace(machine_of(only_products()), later_than_ampere=later)
    known = ATTENTION_KERNELS[kernel]
    forward, _ = core_s(replace(ONE, attention=kernel), machine)
    assert forward == pytest.approx(core_s(ONE, machine)[0] / (known.later_share if later else known.share))


def test_clocks_that_power_holds_down_slow_products_but_no_memory() -> None:
    machine = machine_of(toy_group())
    fast, slow = (one_layer(DENSE, ONE, replace(machine, sustained=share)) for share in (1.0, 0.5))
    assert slow.forward.matmul_s / fast.forward.matmul_s == pytest.approx(2.0)
    assert slow.backward_input.memory_s == pytest.approx(fast.backward_input.memory_s)


def test_attention_slows_by_the_cube_root_of_the_power_that_its_own_rate_would_take() -> None:
    machine = machine_of(toy_group())
    full_w = FULL_CLOCK_W_PER_TFLOPS.value * machine.attention_flops_per_s / 1e12
    fast, slow = (one_layer(DENSE, ONE, replace(machine, power_w=watts, rated_w=watts)) for watts in (full_w, full_w / 8))
    assert slow.forward.attention_s / fast.forward.attention_s == pytest.approx(2.0)
    assert slow.forward.matmul_s == pytest.approx(fast.forward.matmul_s)


def test_a_board_capped_below_its_rating_loses_more_than_its_share_of_power() -> None:
    assert sustained_share(500.0, 776e12, 700.0) < sustained_share(500.0, 776e12) < sustained_share(700.0, 776e12)


@pytest.mark.parametrize("name", ["dense", "grouped queries", "two plain matrices", "latent", "experts and shared ones"])
def test_a_layer_takes_the_flops_of_its_weights_three_times(name: str) -> None:
    model, machine = MODELS[name], machine_of(only_products())
    layer = one_layer(model, ONE, machine)
    each = 2 * TOKENS * model.layer_matmul_parameters / RATE
    for work in (layer.forward, layer.backward_input, layer.backward_weight):
        assert float(work.matmul_s[0]) == pytest.approx(each, rel=1e-9)


def test_backward_products_of_the_logits_take_the_profiles_ratio_for_their_layouts() -> None:
    machine = machine_of(only_products())
    ratios = {"nn": 1.5, "tn": 2.0}
    ends = end_times(DENSE, Plans.of([ONE]), replace(machine, products=replace(machine.products, layouts=ratios)))
    forward = float(ends.head_forward.matmul_s[0])
    assert float(ends.head_backward_input.matmul_s[0]) == pytest.approx(1.5 * forward)
    assert float(ends.head_backward_weight.matmul_s[0]) == pytest.approx(2.0 * forward)


def test_no_weight_gradient_takes_less_than_its_fp32_sum_through_memory() -> None:
    """One sequence of 2,048 tokens at a rate of 1e30: 8 bytes for each of 1,024 x 32,000 weights, and both 16-bit operands, at 1 TB/s."""
    machine = machine_of(toy_group(rate=1e30, overhead_s=0.0))
    ends = end_times(DENSE, Plans.of([ONE]), machine)
    size = 8 * 1024 * 32000 + 2 * TOKENS * (1024 + 32000)
    assert float(ends.head_backward_weight.matmul_s[0]) == pytest.approx(size / 1e12)


def test_the_mean_layer_weighs_each_kind_by_how_many_there_are() -> None:
    """One dense layer of eight, seven with experts."""
    machine = machine_of(toy_group())
    assert ROUTED.experts is not None
    dense = replace(ROUTED, experts=None)
    routed = replace(ROUTED, experts=replace(ROUTED.experts, first_dense=0))
    mixed, plain, sparse = (one_layer(model, ONE, machine).forward.total_s[0] for model in (ROUTED, dense, routed))
    assert mixed == pytest.approx((plain + 7 * sparse) / 8)


def test_tensor_parallelism_divides_the_products_and_the_core() -> None:
    machine = machine_of(only_products())
    whole, part = (one_layer(DENSE, replace(ONE, tp=tp), machine).forward for tp in (1, 4))
    assert whole.matmul_s / part.matmul_s == pytest.approx(4.0)
    assert whole.attention_s / part.attention_s == pytest.approx(4.0)


def test_a_fused_core_is_one_launch_and_an_unfused_one_many() -> None:
    machine = machine_of(toy_group())
    flash, unfused = (one_layer(GPT, replace(ONE, attention=how), machine) for how in ("flash", "unfused"))
    assert flash.core_forward.launches == 1
    assert unfused.core_forward.launches == 2 + 2  # two products, softmax and dropout
    assert unfused.forward.launches > flash.forward.launches


def test_kernels_that_are_not_fused_take_longer_and_more_launches() -> None:
    machine = machine_of(toy_group())
    for model in (DENSE, GPT):
        fused, eager = (one_layer(model, replace(ONE, fused=how, attention="unfused"), machine) for how in (True, False))
        assert eager.forward.total_s > fused.forward.total_s
        assert eager.forward.launches > fused.forward.launches


def test_fp8_quickens_the_linear_layers_alone() -> None:
    curves = {"bf16": Curve(0.0, RATE, MEASURED), "fp8_e4m3": Curve(0.0, 2 * RATE, MEASURED)}
    group = with_profile(only_products(), matmul=curves)
    half, eighth = (one_layer(GPT, replace(ONE, attention="unfused"), machine_of(group, dtype)) for dtype in ("bf16", "fp8"))
    assert half.forward.matmul_s / eighth.forward.matmul_s == pytest.approx(2.0)
    assert half.core_forward.total_s == pytest.approx(eighth.core_forward.total_s)
    ends = [end_times(GPT, Plans.of([ONE]), machine_of(group, dtype)).head_forward.matmul_s for dtype in ("bf16", "fp8")]
    assert ends[0] == pytest.approx(ends[1])


def test_the_logits_take_their_flops_over_the_padded_vocabulary() -> None:
    """50,257 tokens become 51,200 in parts of 128 for each of 8 ranks (Megatron-LM); each computes 6,400 columns."""
    model = replace(GPT, vocab=50257, vocab_multiple=128)
    ends = end_times(model, Plans.of([replace(ONE, tp=8)]), machine_of(only_products()))
    each = 2 * TOKENS * 1024 * 6400 / RATE
    for work in (ends.head_forward, ends.head_backward_input, ends.head_backward_weight):
        assert float(work.matmul_s[0]) == pytest.approx(each, rel=1e-9)


def test_only_predicted_positions_have_logits() -> None:
    machine, plans = machine_of(only_products()), Plans.of([ONE])
    some, all_of_them = (end_times(replace(GPT, predicted_share=share), plans, machine).head_forward.matmul_s for share in (0.25, 1.0))
    assert some / all_of_them == pytest.approx(0.25)


def test_the_embedding_reads_and_writes_one_row_each_token() -> None:
    ends = end_times(DENSE, Plans.of([ONE]), machine_of(toy_group(overhead_s=0.0)))
    row_s = TOKENS * 1024 * 2 / 1e12
    assert float(ends.embedding_forward.memory_s[0]) == pytest.approx(2 * row_s)
    assert float(ends.embedding_backward.memory_s[0]) == pytest.approx(3 * row_s)


def test_the_loss_passes_over_the_logits_half_forward_and_half_backward() -> None:
    """20 bytes a logit in all, and the final norm: 2 and 3 rows."""
    ends = end_times(DENSE, Plans.of([ONE]), machine_of(toy_group(overhead_s=0.0)))
    loss_s, row_s = 20 * TOKENS * 32000 / 1e12, TOKENS * 1024 * 2 / 1e12
    assert float(ends.head_forward.memory_s[0]) == pytest.approx(loss_s / 2 + 2 * row_s)
    assert float(ends.head_backward_input.memory_s[0]) == pytest.approx(loss_s / 2 + 3 * row_s)
