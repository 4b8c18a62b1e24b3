"""The end of a step, by hand: gradients, weights, the optimizer, offloading. 8 chips of one node at a bus bandwidth of 100 GB/s."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chipassay.results.profile import Quantity
from chipassay.scaling import constants
from chipassay.scaling.errors import MissingCell
from chipassay.scaling.memory import memory_by_kind
from chipassay.scaling.plans import Plans
from chipassay.scaling.update import OPTIMIZER_BYTES
from chipassay.scaling.weights import fullest_stage

from .toy_models import DENSE, GPT, MODELS
from .toys import (
    MEASURED,
    changed,
    link_s,
    machine_of,
    parts_of,
    plain,
    step_of,
    toy_group,
    with_profile,
)

WEIGHTS = float(GPT.parameters)


@pytest.mark.parametrize(("stage", "bytes_moved"), [(0, 2 * 2), (1, 2 + 2), (2, 2 + 2), (3, 2 + 2 + 2)])
def test_zero_stages_one_and_two_move_what_data_parallelism_does_and_three_half_as_much_again(stage: int, bytes_moved: int) -> None:
    """Rajbhandari et al. 2020 (arXiv 1910.02054), section 7: 2, 2, 2 and 3 times the weights; here in 16-bit gradients."""
    parts = parts_of(GPT, plain(dp=8, zero_stage=stage, gradient_bytes=2), toy_group(8))
    assert parts["data_parallel"] == pytest.approx(bytes_moved * WEIGHTS * 7 / 8 / 1e11, rel=1e-6)


def test_gradients_summed_in_fp32_are_reduced_in_fp32() -> None:
    narrow, wide = (parts_of(GPT, plain(dp=8, gradient_bytes=size), toy_group(8)) for size in (2, 4))
    usual = parts_of(GPT, plain(dp=8), toy_group(8))
    assert wide["data_parallel"] == pytest.approx(2 * narrow["data_parallel"])
    assert usual["data_parallel"] == pytest.approx(wide["data_parallel"])


@pytest.mark.parametrize(("stage", "often"), [(1, 1), (2, 4), (3, 4)])
def test_zero_two_and_three_move_bytes_for_every_microbatch(stage: int, often: int) -> None:
    one, four = (parts_of(GPT, plain(dp=8, zero_stage=stage, global_batch=8 * m, gradient_bytes=2), toy_group(8)) for m in (1, 4))
    gather_s, scatter_s = link_s("all_gather", 2 * WEIGHTS), link_s("reduce_scatter", 2 * WEIGHTS)
    added = {1: 0.0, 2: 3 * scatter_s, 3: 3 * (2 * gather_s + scatter_s)}[stage]
    assert four["data_parallel"] - one["data_parallel"] == pytest.approx(added, rel=1e-6, abs=1e-12)
    assert (added > 0) == (often > 1)


def test_hybrid_sharding_scatters_in_its_group_and_reduces_the_shards_between_groups() -> None:
    """Four chips shard, two such groups: gather and scatter among four, then an all-reduce of a quarter between two."""
    parts = parts_of(GPT, plain(dp=8, zero_stage=1, shard=4, gradient_bytes=2), toy_group(8))
    size = 2 * WEIGHTS
    expected = link_s("reduce_scatter", size, 4) + link_s("all_gather", size, 4) + link_s("all_reduce", size / 4, 2)
    assert parts["data_parallel"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_sharding_moves_the_optimizer_and_the_traffic_and_no_other_part(stage: int) -> None:
    group = toy_group(8)
    assert changed(GPT, plain(dp=8), plain(dp=8, zero_stage=stage), group) == {"optimizer", "data_parallel"}
    sharded, whole = (parts_of(GPT, plain(dp=8, zero_stage=zero), toy_group(8, overhead_s=0.0)) for zero in (stage, 0))
    assert whole["optimizer"] / sharded["optimizer"] == pytest.approx(8)


def test_context_ranks_hold_the_same_weights_and_reduce_them_together() -> None:
    """Eight chips with the same weights, be they replicas or parts of a sequence."""
    replicas, parts = (parts_of(GPT, plain(global_batch=8, **how), toy_group(8)) for how in ({"dp": 8}, {"dp": 2, "cp": 4}))
    assert parts["data_parallel"] == pytest.approx(replicas["data_parallel"], rel=1e-9)


def test_a_group_over_two_nodes_is_held_to_its_nics() -> None:
    """Eight replicas of TP 2 over two nodes: each group has 4 chips a node, and half of its 8 NICs of 10 GB/s: 40 GB/s."""
    plan = plain(dp=8, tp=2, gradient_bytes=2)
    parts = parts_of(GPT, plan, toy_group(16))
    (dense,), _ = fullest_stage(GPT, Plans.of([plan]))
    ring_s = 2 * dense * 2 * 7 / 8 / 40e9
    assert 0.5 * ring_s < parts["data_parallel"] <= 1.001 * ring_s


def test_hidden_traffic_costs_what_it_takes_from_the_compute() -> None:
    """With passes long enough, all but the last bucket runs beside them, and compute loses OVERLAP_COST of its time."""
    group = toy_group(8, rate=1e12)
    open_s, hidden_s = (parts_of(GPT, plain(dp=8, overlap_dp=how), group)["data_parallel"] for how in (False, True))
    share, cost = constants.DP_HIDDEN_SHARE.value, constants.OVERLAP_COST.value
    assert hidden_s / open_s == pytest.approx(1 - share + share * cost)


def test_nothing_hides_behind_passes_that_take_no_time() -> None:
    group = toy_group(8, rate=1e30, bandwidth=1e30, overhead_s=0.0)
    open_s, hidden_s = (parts_of(GPT, plain(dp=8, overlap_dp=how), group)["data_parallel"] for how in (False, True))
    assert hidden_s == pytest.approx(open_s, rel=1e-6)


def test_experts_that_nobody_else_holds_are_not_reduced() -> None:
    model = MODELS["experts"]
    experts = model.layers * 8 * 3 * 1024 * 512
    spread, held = (parts_of(model, plain(dp=8, ep=ep, gradient_bytes=2), toy_group(8))["data_parallel"] for ep in (8, 1))
    assert held - spread == pytest.approx(link_s("all_reduce", 2.0 * experts), rel=1e-6)


def test_both_ends_of_a_pipeline_add_up_the_gradients_of_a_shared_table() -> None:
    apart, shared = (replace(DENSE, tied_embeddings=how) for how in (False, True))
    group = toy_group(2)
    added = parts_of(shared, plain(pp=2), group)["data_parallel"] - parts_of(apart, plain(pp=2), group)["data_parallel"]
    assert added == pytest.approx(link_s("all_reduce", 32000 * 1024 * 4.0, 2), rel=1e-6)


# Optimizer


@pytest.mark.parametrize("optimizer", OPTIMIZER_BYTES)
def test_the_optimizer_moves_its_bytes_once_for_each_weight(optimizer: Any) -> None:
    parts = parts_of(DENSE, plain(optimizer=optimizer), toy_group(overhead_s=0.0))
    assert parts["optimizer"] == pytest.approx(OPTIMIZER_BYTES[optimizer] * DENSE.parameters / 1e12, rel=1e-6)


def test_adam_reads_the_gradient_twice_and_moments_and_weights_both_ways() -> None:
    """fp32 gradient for the norm and the update, two moments and a master weight read and written, a 16-bit weight written."""
    assert OPTIMIZER_BYTES["adam"] == 2 * 4 + 3 * (4 + 4) + 2


# Offloading


def test_an_optimizer_on_the_host_takes_its_gradients_there_and_brings_its_weights_back() -> None:
    """fp32 gradients and 16-bit weights over a link of 20 GB/s; the processors of the node update what all its chips own."""
    group = with_profile(toy_group(8), host_link_bytes_per_s={"host_to_device pinned": Quantity(20e9, MEASURED)})
    plan = plain(dp=8, zero_stage=1)
    parts = parts_of(GPT, replace(plan, offload="optimizer"), group)
    owned = WEIGHTS / 8
    assert parts["offload"] == pytest.approx(owned * (4 + 2) / 20e9, rel=1e-6)
    assert parts["optimizer"] == pytest.approx(constants.HOST_ADAM_S_PER_WEIGHT.value * WEIGHTS, rel=1e-6)
    assert changed(GPT, plan, replace(plan, offload="optimizer"), group) == {"optimizer", "offload"}


def test_weights_on_the_host_come_for_every_pass() -> None:
    group = with_profile(toy_group(8), host_link_bytes_per_s={"host_to_device pinned": Quantity(20e9, MEASURED)})
    some, all_of_it = (plain(dp=8, zero_stage=3, global_batch=32, offload=what) for what in ("optimizer", "all"))
    added = parts_of(GPT, all_of_it, group)["offload"] - parts_of(GPT, some, group)["offload"]
    assert added == pytest.approx(4 * WEIGHTS / 8 * 3 * 2 / 20e9, rel=1e-6)


def test_a_chip_whose_host_link_is_unknown_is_not_offloaded() -> None:
    with pytest.raises(MissingCell, match=r"profile toy: the link to its host is unknown.*measure host copies"):
        step_of(GPT, plain(dp=8, offload="optimizer"), toy_group(8))


def test_experts_are_updated_by_those_that_hold_the_same_ones() -> None:
    """Eight chips, experts over four of them: each holds a quarter of the experts with one other chip, and updates half of that."""
    model = MODELS["experts"]
    experts = model.layers * 8 * 3 * 1024 * 512
    parts = parts_of(model, plain(dp=8, ep=4, zero_stage=1), toy_group(8, overhead_s=0.0))
    owned = (model.parameters - experts) / 8 + experts / 4 / 2
    assert parts["optimizer"] == pytest.approx(34 * owned / 1e12, rel=1e-6)


def test_whole_experts_of_a_tp_group_are_updated_by_all_ranks_that_hold_them() -> None:
    """Two ranks of TP with whole experts, four replicas: eight ranks hold each expert, and ZeRO-1 spreads its state over all of them."""
    model = MODELS["experts"]
    experts = model.layers * 8 * 3 * 1024 * 512
    plan = plain(dp=4, tp=2, expert_tp=1, zero_stage=1)
    parts = parts_of(model, plan, toy_group(8, overhead_s=0.0))
    norms_and_routers = model.layers * 1024 * (2 + 8) + 1024
    owned = ((model.parameters - experts - norms_and_routers) / 2 + norms_and_routers) / 4 + experts / 8
    assert parts["optimizer"] == pytest.approx(34 * owned / 1e12, rel=1e-6)
    held = memory_by_kind(model, plan, machine_of(toy_group(8)))
    assert held["optimizer"] == pytest.approx(12 * owned)


def test_experts_that_a_sharding_group_holds_once_are_not_gathered_but_reduced_between_groups() -> None:
    """Two groups of four shard; the experts are spread over the four: each rank of a group has other ones, whole, and one rank of the
    other group has the same."""
    model = MODELS["experts"]
    experts = model.layers * 8 * 3 * 1024 * 512
    rest = model.parameters - experts
    parts = parts_of(model, plain(dp=8, ep=4, shard=4, zero_stage=3, gradient_bytes=2), toy_group(8))
    sharded = 2 * link_s("all_gather", 2 * rest, 4) + link_s("reduce_scatter", 2 * rest, 4) + link_s("all_reduce", 2 * rest / 4, 2)
    assert parts["data_parallel"] == pytest.approx(sharded + link_s("all_reduce", 2 * experts / 4, 2), rel=1e-6)


def test_two_replicas_reduce_their_gradients_too() -> None:
    parts = parts_of(GPT, plain(dp=2, gradient_bytes=2), toy_group(2))
    assert parts["data_parallel"] == pytest.approx(link_s("all_reduce", 2 * WEIGHTS, 2), rel=1e-6)
