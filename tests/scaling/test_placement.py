"""Where the groups of a plan lie: against counting every rank, and by hand for the layouts that people use."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chipassay.scaling.errors import IllegalPlan
from chipassay.scaling.placement import FEW, Placement, placements
from chipassay.scaling.plan import Plan
from chipassay.scaling.plans import Plans

DENSE = ("tp", "cp", "dp", "pp")


def place(plan: Plan, chips_per_node: int, pod_nodes: int = 0) -> dict[str, Placement]:
    return placements(Plans.of([plan]), chips_per_node, pod_nodes)


def as_told(placement: Placement) -> tuple[int, int, int, int]:
    """(members, most in a node, most nodes, most groups that cross a node's border)."""
    columns = (placement.members, placement.members_per_node, placement.nodes, placement.groups_per_node)
    return tuple(int(np.asarray(column)[0]) for column in columns)  # type: ignore[return-value]


def counted(groups: Iterable[list[int]], chips_per_node: int) -> tuple[int, int, int, int]:
    """The same by looking at every rank of every group."""
    most_inside, most_nodes, crossing = 0, 0, defaultdict(int)
    members = 0
    for group in groups:
        members = len(group)
        nodes = defaultdict(int)
        for rank in group:
            nodes[rank // chips_per_node] += 1
        most_inside, most_nodes = max(most_inside, *nodes.values()), max(most_nodes, len(nodes))
        for node in nodes if len(nodes) > 1 else ():
            crossing[node] += 1
    return members, most_inside, most_nodes, max(crossing.values(), default=1)


def ranks_by_coordinates(plan: Plan) -> dict[tuple[int, ...], int]:
    """Coordinates in the order of DENSE -> rank: the first dimension of the order changes fastest."""
    names = [name for name in plan.order.split("-") if name != "ep"]
    numbered = {}
    for rank, slowest_first in enumerate(itertools.product(*(range(getattr(plan, name)) for name in reversed(names)))):
        at = dict(zip(reversed(names), slowest_first, strict=True))
        numbered[tuple(at[name] for name in DENSE)] = rank
    return numbered


def groups_over(plan: Plan, free: tuple[str, ...]) -> list[list[int]]:
    """Ranks that agree in all but the ``free`` dimensions, each group in the order of its ranks."""
    groups = defaultdict(list)
    for coordinates, rank in ranks_by_coordinates(plan).items():
        groups[tuple(c for c, name in zip(coordinates, DENSE, strict=True) if name not in free)].append(rank)
    return [sorted(group) for group in groups.values()]


def cut(groups: list[list[int]], size: int) -> tuple[list[list[int]], list[list[int]]]:
    """(each group cut into neighbours, those at the same place in the pieces)."""
    pieces = [group[i : i + size] for group in groups for i in range(0, len(group), size)]
    across = [group[i::size] for group in groups for i in range(size)]
    return pieces, across


degrees = st.sampled_from((1, 2, 3, 4, 6))
ORDERS = [order for order in map("-".join, itertools.permutations(("tp", "cp", "ep", "dp", "pp"))) if order.index("ep") < order.index("dp")]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(tp=degrees, cp=st.sampled_from((1, 2, 3)), dp=degrees, pp=degrees, order=st.sampled_from(ORDERS), per_node=st.integers(1, 12))
def test_groups_lie_where_counting_every_rank_finds_them(tp: int, cp: int, dp: int, pp: int, order: str, per_node: int) -> None:
    plan = Plan(global_batch=dp, tp=tp, cp=cp, dp=dp, pp=pp, order=order)
    found = place(plan, per_node)
    for name in DENSE:
        assert as_told(found[name]) == counted(groups_over(plan, (name,)), per_node), name
    assert as_told(found["dp_cp"]) == counted(groups_over(plan, ("dp", "cp")), per_node)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(tp=degrees, cp=st.sampled_from((1, 2)), dp=degrees, pp=degrees, per_node=st.integers(1, 12), data=st.data())
def test_shards_and_experts_are_neighbours_and_replicas_the_rest(
    tp: int, cp: int, dp: int, pp: int, per_node: int, data: st.DataObject
) -> None:
    part = data.draw(st.sampled_from([d for d in range(1, dp * cp + 1) if dp * cp % d == 0]))
    plan = Plan(global_batch=dp, tp=tp, cp=cp, dp=dp, pp=pp, shard=part, ep=part)
    found = place(plan, per_node)
    neighbours, rest = cut(groups_over(plan, ("dp", "cp")), part)
    assert as_told(found["shard"]) == as_told(found["ep"]) == counted(neighbours, per_node)
    assert as_told(found["replica"]) == as_told(found["expert_dp"]) == counted(rest, per_node)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(tp=st.sampled_from((2, 4)), dp=st.sampled_from((2, 4, 6)), pp=degrees, per_node=st.integers(1, 12))
def test_experts_that_are_not_cut_by_tp_spread_over_the_tp_ranks_too(tp: int, dp: int, pp: int, per_node: int) -> None:
    plan = Plan(global_batch=dp, tp=tp, dp=dp, pp=pp, ep=dp, expert_tp=1)
    neighbours, rest = cut(groups_over(plan, ("tp", "dp")), dp)
    found = place(plan, per_node)
    assert as_told(found["ep"]) == counted(neighbours, per_node)
    assert as_told(found["expert_dp"]) == counted(rest, per_node)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    tp=degrees, dp=st.sampled_from((8, 12, 24)), ep=st.sampled_from((1, 2, 4)), shard=st.sampled_from((4, 8)), per_node=st.integers(1, 12)
)
def test_hybrid_sharding_cuts_those_that_hold_the_same_experts(tp: int, dp: int, ep: int, shard: int, per_node: int) -> None:
    """Of a sharding group shard / ep hold the same ones."""
    assume(dp % shard == 0)
    found = place(Plan(global_batch=dp, tp=tp, dp=dp, ep=ep, shard=shard, zero_stage=3), per_node)
    _, alike = cut(groups_over(Plan(global_batch=dp, tp=tp, dp=dp), ("dp",)), ep)
    inside, across = cut(alike, shard // ep)
    assert as_told(found["expert_shard"]) == counted(inside, per_node)
    assert as_told(found["expert_replica"]) == counted(across, per_node)


def test_the_usual_layout_by_hand() -> None:
    found = place(Plan(global_batch=64, tp=4, pp=8, dp=16), 8)  # 512 chips, nodes of 8: two TP groups to a node
    assert as_told(found["tp"]) == (4, 4, 1, 1)
    assert as_told(found["dp"]) == (16, 2, 8, 4)  # both TP groups of a node hold the same stage; four DP groups cross its NICs
    assert as_told(found["pp"]) == (8, 1, 8, 8)
    assert as_told(found["embedding"]) == (2, 1, 2, 8)


def test_tp_of_16_fills_two_nodes_and_has_their_nics_alone() -> None:
    assert as_told(place(Plan(global_batch=4, tp=16, dp=4), 8)["tp"]) == (16, 8, 2, 1)


def test_a_pipeline_within_a_node_keeps_its_ends_there() -> None:
    assert as_told(place(Plan(global_batch=4, pp=4, dp=4, order="pp-tp-cp-ep-dp"), 8)["embedding"]) == (2, 2, 1, 1)


def test_a_group_that_straddles_nodes_counts_at_its_worst() -> None:
    # Nodes of 8 and TP 3: chips 6, 7 | 8 are one group.
    assert as_told(place(Plan(global_batch=8, tp=3, dp=8), 8)["tp"]) == (3, 3, 2, 2)


def test_a_rack_of_72_holds_what_8_nodes_of_8_do_not() -> None:
    plan = Plan(global_batch=64, tp=8, dp=9)
    assert as_told(place(plan, 72)["dp"])[2] == 1
    assert as_told(place(plan, 8)["dp"])[2] == 9


def test_pods_are_larger_nodes() -> None:
    found = place(Plan(global_batch=64, tp=8, dp=64), 8, pod_nodes=16)["dp"]
    assert found.members_per_pod is not None
    assert (int(found.members_per_node[0]), int(found.members_per_pod[0])) == (1, 16)


def test_many_plans_at_once_are_each_what_one_is_alone() -> None:
    shapes = [(tp, cp, dp, pp) for tp in (1, 2, 8, 16) for cp in (1, 2) for dp in (1, 3, 8) for pp in (1, 2, 5)]
    several = [Plan(global_batch=math.lcm(1, dp), tp=tp, cp=cp, dp=dp, pp=pp) for tp, cp, dp, pp in shapes]
    assert len(several) >= FEW  # the way of many is taken
    together = placements(Plans.of(several), 8)
    for index, plan in enumerate(several):
        for name, alone in place(plan, 8).items():
            assert as_told(together[name].take(np.array([index]))) == as_told(alone), (plan, name)


@pytest.mark.parametrize("order", ["tp-dp", "tp-cp-ep-dp-xx", "tp-tp-cp-ep-dp-pp", ""])
def test_an_order_that_is_no_permutation_is_refused_with_the_names(order: str) -> None:
    with pytest.raises(IllegalPlan, match="give each of tp, cp, ep, dp, pp once"):
        place(Plan(global_batch=8, order=order), 8)
