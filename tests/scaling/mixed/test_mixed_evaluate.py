"""One mixed plan: against the homogeneous model where the kinds are the same, and by hand where links and cuts differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chipassay.results.errors import InputError
from chipassay.scaling.cluster import Cluster
from chipassay.scaling.communication import collective_s
from chipassay.scaling.memory import memory_by_kind
from chipassay.scaling.mixed.evaluate import common_pipeline_s, cost, play, predict_mixed
from chipassay.scaling.mixed.even import even_plan
from chipassay.scaling.mixed.kinds import gradient_bytes, kinds_of
from chipassay.scaling.mixed.records import MixedPipeline, MixedPlan, MixedStage, check_mixed
from chipassay.scaling.mixed.tables import Tables
from chipassay.scaling.mixed.traffic import SEND_BUFFER_BYTES, held_shares, reductions, sends_s
from chipassay.scaling.placement import Placement
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import predict_ready

from ..toy_models import DENSE, GPT
from ..toys import machine_of, toy_fabric, toy_group

MODEL = replace(DENSE, layers=8)


def chips(count, name="toy", **more):
    more.setdefault("fabric", toy_fabric(nics=4, nic=20e9, latency_s=1e-6))
    return toy_group(count, per_node=4, chip_id=name, **more)


def tables_of(*groups, model=MODEL, **settings):
    settings = {"global_batch": 16, "sequence_parallel": True, **settings}
    return Tables(model, kinds_of(Cluster(groups))[0], Plan(**settings))


def pipeline(*stages, microbatch=1, microbatches=4, replicas=1):
    return MixedPipeline(tuple(MixedStage(*stage) for stage in stages), microbatch, microbatches, replicas)


@pytest.mark.parametrize("model", [MODEL, replace(GPT, layers=8, tied_embeddings=True)], ids=["llama-like", "tied tables"])
@pytest.mark.parametrize(
    ("tp", "pp", "dp", "recompute"),
    [(1, 1, 8, "none"), (2, 1, 4, "full"), (2, 2, 2, "none"), (1, 4, 2, "operators"), (4, 2, 1, "none"), (1, 8, 1, "none")],
)
def test_one_kind_alone_is_the_homogeneous_model(model, tp, pp, dp, recompute):
    group = chips(8)
    plan = Plan(global_batch=16, tp=tp, pp=pp, dp=dp, zero_stage=int(dp > 1), recompute=recompute, sequence_parallel=tp > 1, host="graph")
    alone = predict_ready(model, plan, machine_of(group), group)
    stage = (0, tp, 8 // pp, recompute)
    mixed = MixedPlan((pipeline(*[stage] * pp, microbatches=16 // dp, replicas=dp),), plan)
    found = predict_mixed(tables_of(group, model=model, host="graph"), mixed)
    # The homogeneous model takes every border for one between nodes where any is; here those inside a node are told apart.
    assert found.step_time_s == pytest.approx(alone.step_time_s, rel=0.02)
    assert max(one.memory_bytes for one in found.stages) == pytest.approx(alone.memory_total_bytes, rel=1e-9)


def test_the_parts_sum_to_the_step():
    tables = tables_of(chips(4, "one"), chips(4, "other", rate=3e13))
    plan = MixedPlan((pipeline((0, 2, 6), (1, 1, 2), replicas=2), pipeline((1, 2, 8), microbatches=8)), tables.settings)
    found = predict_mixed(tables, plan)
    assert sum(found.breakdown_s.values()) == pytest.approx(found.step_time_s)
    assert found.low_s < found.step_time_s < found.high_s
    assert all(0 <= one.idle_share < 1 for one in found.stages)


def test_a_stage_by_the_table_holds_what_the_model_of_memory_says():
    group = chips(1)
    tables = tables_of(group)
    for recompute in ("none", "full"):
        costs, row = tables.of(0, (1, 2, recompute))
        plan = Plan(global_batch=2, microbatch=2, recompute=recompute)
        known = sum(memory_by_kind(MODEL, plan, machine_of(group)).values())
        assert costs.memory_bytes(row, 3, MODEL.layers, 1, 1) == pytest.approx(known, rel=1e-12)


def test_sends_between_kinds_take_the_slower_network():
    fast, slow = toy_fabric(nics=4, nic=20e9), toy_fabric(nics=1, nic=1e9)
    tables = tables_of(chips(4, "near", fabric=fast), chips(4, "far", fabric=slow), sequence_parallel=False)
    size = MODEL.seq_len * MODEL.hidden * 2
    for replicas in (1, 2, 4):
        found = sends_s(tables, pipeline((0, 1, 4), (1, 1, 4), replicas=replicas))
        assert found == [pytest.approx(size * replicas / 1e9)]


def test_a_mask_goes_ahead_whole_and_gradients_come_back_whole():
    """Between TP groups of two, over NICs of 1 GB/s: half of the activations and the mask from either chip, then all gradients back."""
    fabric = toy_fabric(nics=1, nic=1e9)
    tables = tables_of(chips(2, "near", fabric=fabric), chips(2, "far", fabric=fabric), sequence_parallel=False)
    size, mask = MODEL.seq_len * MODEL.hidden * 2, 5e6
    without, with_mask = (sends_s(tables, pipeline((0, 2, 4), (1, 2, 4)), one)[0] for one in (0.0, mask))
    assert with_mask - without == pytest.approx(2 * ((size / 2 + mask) + size) / 2 / 1e9 - 2 * (size / 2) / 1e9, rel=1e-6)


def test_sends_in_a_node_do_not_use_the_network():
    tables = tables_of(chips(4, fabric=toy_fabric(nics=1, nic=1e3)))
    inside = sends_s(tables, pipeline((0, 1, 4), (0, 1, 4), replicas=2))
    across = sends_s(tables, pipeline((0, 1, 4), (0, 1, 4), replicas=4))
    assert inside[0] < 1e-3 < 1 < across[0]


def test_replicas_that_take_a_microbatch_less_lie_where_the_others_do():
    """Two replicas in two nodes of four chips: with their first stages in one node their sends cross, whether they do as much or not."""
    tables = tables_of(chips(8, fabric=toy_fabric(nics=4, nic=1e9)))
    stages = ((0, 2, 4), (0, 2, 4))
    even = MixedPlan((pipeline(*stages, microbatches=7, replicas=2),), tables.settings)
    uneven = MixedPlan((pipeline(*stages, microbatches=7), pipeline(*stages, microbatches=6)), tables.settings)
    assert cost(tables, uneven).sends_s == cost(tables, even).sends_s * 2
    assert predict_mixed(tables, uneven).step_time_s == pytest.approx(predict_mixed(tables, even).step_time_s, rel=1e-9)


@pytest.mark.parametrize("tied", [True, False])
def test_replicas_told_one_by_one_take_the_same_time(tied):
    tables = tables_of(chips(8), model=replace(GPT, layers=8, tied_embeddings=tied))
    together = MixedPlan((pipeline((0, 1, 4), (0, 1, 4), replicas=4),), tables.settings)
    apart = MixedPlan((pipeline((0, 1, 4), (0, 1, 4)),) * 4, tables.settings)
    assert predict_mixed(tables, apart).step_time_s == pytest.approx(predict_mixed(tables, together).step_time_s, rel=1e-9)


def test_layers_cut_differently_are_reduced_between_their_owners():
    """Two pipelines, one cut after 6 of 8 layers and one after 2: the middle four are owned by a first and a last stage."""
    groups = [chips(2, name, fabric=toy_fabric(nics=1, nic=1e9)) for name in ("one", "other")]
    tables = tables_of(*groups, zero_stage=0, overlap_dp=False)
    plan = MixedPlan((pipeline((0, 1, 6), (0, 1, 2)), pipeline((1, 1, 2), (1, 1, 6))), tables.settings)
    found = reductions(tables, plan)
    costs, row = tables.of(0, (1, 1, "none"))
    weights = costs.weights[row]
    layer, embedding, head = weights[0, 1] - weights[0, 0], weights[1, 0], weights[2, 0]
    place = Placement(2, 1, 1, 2, 4)

    def ring_s(count):
        return float(collective_s("all_reduce", 4.0 * count, place, tables.kinds[0].machine, groups[0].fabric))

    pieces = {"front": ring_s(embedding + 2 * layer), "middle": ring_s(4 * layer), "back": ring_s(2 * layer + head)}
    # Both stages of a kind share one node and its NIC, so that none is done before twice the time of the larger piece alone.
    assert found[0][0].all_s >= pieces["front"] + pieces["middle"]
    assert found[1][1].all_s >= pieces["middle"] + pieces["back"]
    assert found[0][0].all_s <= 2 * (pieces["front"] + pieces["middle"]) * 1.01


def test_gradients_travel_as_wide_as_the_widest_kind_sums_them():
    kinds, notes = kinds_of(Cluster((chips(1, "new"), chips(1, "old", dtype="fp16"))))
    assert gradient_bytes(kinds, 0) == 4.0
    assert gradient_bytes(kinds[1:], 0) == 2.0
    assert gradient_bytes(kinds, 2) == 2.0
    assert any("loss scaling" in note for note in notes)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("last", [1, 4, 7])
def test_the_common_cost_is_near_the_simulation(overlap, last):
    tables = tables_of(chips(2, "one"), chips(2, "other", rate=4e13), overlap_pp=overlap, host="graph")
    one = pipeline((0, 1, 8 - last), (1, 1, last), microbatches=32)
    costed = cost(tables, MixedPlan((one,), tables.settings))
    played = play(tables, one, costed.sends_s[0])
    assert played == pytest.approx(costed.pipeline_s[0], rel=0.05)
    assert played <= costed.pipeline_s[0] * (1 + 1e-9)


def test_senders_that_stand_still_take_longer():
    assert common_pipeline_s((1.0, 1.0), (0.5,), 3, held=(1.0,)) == 2 * 2.0 + 2.0 + 1.0
    assert common_pipeline_s((1.0, 1.0), (0.5,), 3) == 2 * 1.5 + 2.0 + 1.0


def test_messages_that_the_transport_takes_into_its_buffers_hold_nobody():
    """2 MiB a channel (NCCL): two sequences of the toy model's activations fit, three do not; beside a mask as large only gradients do."""
    model = replace(MODEL, seq_len=SEND_BUFFER_BYTES // (2 * 2 * MODEL.hidden))
    groups = chips(2, "one"), chips(2, "other")
    blocking, beside = (tables_of(*groups, model=model, sequence_parallel=False, overlap_pp=one) for one in (False, True))
    fits, more = (pipeline((0, 1, 4), (1, 1, 4), microbatch=size) for size in (2, 3))
    assert held_shares(blocking, fits) == [0.0]
    assert held_shares(blocking, more) == [1.0]
    assert held_shares(blocking, fits, SEND_BUFFER_BYTES) == [0.5]
    assert held_shares(beside, more) == [0.0]


def test_a_network_between_kinds_is_used_between_kinds_alone():
    quick, slow = toy_fabric(nics=1, nic=1e9), toy_fabric(nics=1, nic=1e8)
    kinds = (chips(4, "one", fabric=quick), chips(4, "other", fabric=quick))
    near, far = tables_of(*kinds, sequence_parallel=False), replace(tables_of(*kinds, sequence_parallel=False), between=slow)
    mixed, alike = pipeline((0, 1, 4), (1, 1, 4)), pipeline((0, 1, 4), (0, 1, 4), replicas=4)
    assert sends_s(far, mixed)[0] == pytest.approx(10 * sends_s(near, mixed)[0], rel=1e-6)
    assert sends_s(far, alike) == sends_s(near, alike)
    plan = MixedPlan((pipeline((0, 1, 8)), pipeline((1, 1, 8))), near.settings)
    assert reductions(far, plan)[0][0].all_s > 5 * reductions(near, plan)[0][0].all_s
    alone = MixedPlan((pipeline((0, 1, 8), replicas=2),), near.settings)
    assert reductions(far, alone) == reductions(near, alone)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ((), "without a pipeline"),
        ((pipeline((0, 1, 7)),), "hold 7 layers"),
        ((pipeline((0, 1, 8), replicas=5),), "uses 5 chips"),
        ((pipeline((2, 1, 8)),), "kind 2 is not in the cluster"),
        ((pipeline((0, 1, 4), (0, 1, 0), (0, 1, 4)),), "between the first and the last"),
        ((pipeline((0, 1, 8), microbatches=0),), "no microbatch"),
    ],
)
def test_a_plan_that_cannot_run_says_why(plan, words):
    with pytest.raises(InputError, match=words):
        check_mixed(MixedPlan(plan, Plan(global_batch=4)), MODEL, (4, 4))


def test_sharded_weights_over_kinds_are_refused():
    with pytest.raises(InputError, match="ZeRO-3"):
        check_mixed(MixedPlan((pipeline((0, 1, 8)),), Plan(global_batch=4, zero_stage=3)), MODEL, (4,))


def test_the_even_split_numbers_the_chips_kind_after_kind():
    """4 + 4 chips as pp 2 x dp 4: all first stages on the one kind, all last ones on the other."""
    tables = tables_of(chips(4, "one"), chips(4, "other"))
    plan = even_plan(tables, 1, 2, 1)
    assert plan is not None
    assert [[stage.kind for stage in one.stages] for one in plan.pipelines] == [[0, 1]]
    assert plan.pipelines[0].replicas == 4
    assert even_plan(tables, 1, 1, 1).describe(("one", "other")).count("4 x (") == 2
    assert even_plan(tables, 1, 2, 3) is None


def test_a_plan_in_one_line():
    plan = MixedPlan((pipeline((0, 2, 5), (0, 2, 1), (1, 1, 2, "full"), replicas=3),), Plan(global_batch=12, zero_stage=1))
    assert plan.describe(("a", "b")) == "3 x (a tp2 [5,1] -> b tp1 [2] recompute full) 4 x 1; ZeRO-1"
    uneven = replace(plan, pipelines=(replace(plan.pipelines[0], replicas=2), replace(plan.pipelines[0], microbatches=3, replicas=1)))
    assert uneven.describe(("a", "b")).startswith("3 x (a tp2 [5,1] -> b tp1 [2] recompute full) 4 x 1 (1 of them 3 x 1); ")
    assert (plan.global_batch, plan.replicas, plan.kinds, plan.chips(0), plan.chips(1)) == (12, 3, (0, 1), 12, 3)


def test_a_pool_whose_replicas_take_unequal_shares_reduces_as_one_pool():
    tables = tables_of(chips(8), global_batch=9, zero_stage=1, overlap_dp=False)
    stages = ((0, 1, 4), (0, 1, 4))
    equal = (pipeline(*stages, microbatches=3, replicas=3),)
    unequal = (pipeline(*stages, microbatches=3, replicas=2), pipeline(*stages, microbatches=3, replicas=1))
    one, two = (cost(tables, MixedPlan(pipelines, tables.settings)) for pipelines in (equal, unequal))
    assert two.end_s == pytest.approx(one.end_s, rel=1e-12)


def test_an_even_split_counts_replicas_without_going_through_them():
    """A million chips and half as many more, in three stages: two of them on the first kind."""
    tables = tables_of(chips(2**20, name="one"), chips(2**19, name="other"), global_batch=2**21)
    plan = even_plan(tables, 1, 3, 1)
    assert [(one.replicas, [stage.kind for stage in one.stages]) for one in plan.pipelines] == [(2**19, [0, 0, 1])]
    uneven = even_plan(tables_of(chips(5, name="one"), chips(4, name="other"), global_batch=6), 1, 3, 1)
    assert [(one.replicas, [stage.kind for stage in one.stages]) for one in uneven.pipelines] == [(2, [0, 0, 1]), (1, [0, 1, 1])]
