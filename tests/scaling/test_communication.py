"""Collectives over nodes: formulas worked by hand, bytes counted rank by rank, limits, and what others have measured."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.evidence import Evidence
from chipassay.results.fabrics import NO_FABRIC, Fabric, find_fabric
from chipassay.results.link import bus_factor
from chipassay.results.shipped import find_profile
from chipassay.scaling.communication import (
    CONGESTION,
    SLICE_BYTES,
    TREE_HOP,
    TREE_NICS,
    TREE_SHARE,
    bus_factors,
    collective_s,
    node_rate,
    send_s,
)
from chipassay.scaling.errors import MissingCell
from chipassay.scaling.machine import Machine, prepare
from chipassay.scaling.placement import Placement

from . import toys

PATTERNS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send_recv")
TEN = Fabric("ten", 8, 10e9, 1.0, 1e-6, Evidence("assumed", "8 NICs of 10 GB/s, 1 us"))
ALONE = prepare(toys.toy_profile())
"""A chip of which no link is known: one to a node."""
FREE_NODE = prepare(toys.toy_profile(links=(toys.toy_link(8, 1e30, 0.0),)))
"""Chips whose links in the node cost nothing."""


def groups(members: int, inside: int, crossing: int = 1, chips_per_node: int = 8, members_per_pod: int | None = None) -> Placement:
    pod = None if members_per_pod is None else np.array(members_per_pod)
    return Placement(np.array(members), np.array(inside), np.array(crossing), np.array(-(-members // inside)), chips_per_node, pod)


@pytest.mark.parametrize(("pattern", "way", "steps"), [("all_gather", 1, 3), ("reduce_scatter", 1, 3), ("all_reduce", 2, 6)])
def test_a_ring_of_four_nodes_is_what_the_hand_makes_of_it(pattern: str, way: int, steps: int) -> None:
    size = 4e9  # one chip a node, one NIC of 10 GB/s each: 3/4 of 4 GB go through it, once or both ways, and a slice waits at each hop
    by_hand = way * 0.75 * size / 10e9 + steps * (1e-6 + SLICE_BYTES / 10e9)
    assert collective_s(pattern, size, groups(4, 1), ALONE, TEN) == pytest.approx(by_hand)


def test_a_tree_is_taken_where_a_ring_has_too_many_hops() -> None:
    by_hand = 2 * 8 * TREE_HOP * 1e-6  # 256 nodes: 8 levels up and 8 down
    assert collective_s("all_reduce", 8.0, groups(256, 1), ALONE, TEN) == pytest.approx(by_hand, rel=1e-3)
    assert collective_s("reduce_scatter", 8.0, groups(256, 1), ALONE, TEN) == pytest.approx(255 * 1e-6, rel=1e-3)


def test_between_two_nodes_a_tree_sends_every_byte_once() -> None:
    size, slow = 1e10, replace(TEN, nics=1, latency_s=0.0)
    machine = prepare(toys.toy_profile(links=(toys.toy_link(8, 1e12, 0.0),)))
    through_nic = size / (10e9 * TREE_NICS)
    assert collective_s("all_reduce", size, groups(16, 8), machine, slow) == pytest.approx(through_nic, rel=1e-3)
    assert through_nic < 2 * 15 / 16 * size / 10e9  # a ring's


def test_a_tree_of_nodes_that_reduce_in_the_switch_is_bound_by_the_node() -> None:
    links = (toys.toy_link(8, 1e11, 0.0), replace(toys.toy_link(8, 8e10, 0.0), pattern="all_gather"))
    found = collective_s("all_reduce", 1e10, groups(16, 8), prepare(toys.toy_profile(links=links)), replace(TEN, latency_s=0.0))
    assert found == pytest.approx(1.75 * 1e10 / (TREE_SHARE * 1e11), rel=1e-3)


def test_tp_of_16_over_two_nodes_uses_all_the_nics_of_both() -> None:
    # One NIC a ring would be 8 times as slow: the mistake cost 110 to 175 %.
    machine, fabric = prepare(find_profile("a100-sxm-80gb")), find_fabric("hdr200x8")
    found = collective_s("all_gather", 1e9, groups(16, 8), machine, fabric)
    assert found == pytest.approx(15 / 16 * 1e9 / (8 * 25e9 * 0.96), rel=0.05)


@pytest.mark.parametrize(
    ("placement", "nics"),
    [
        (groups(16, 8), 8.0),  # a whole node: all of its NICs
        (groups(4, 1, crossing=8), 1.0),  # 8 groups share 8 NICs
        (groups(4, 2, crossing=4), 2.0),
        (groups(2, 1), 1.0),  # alone in its node, and still no more than the NIC beside it
        (groups(8, 4), 4.0),
        (groups(144, 72, chips_per_node=72), 8.0),
    ],
)
def test_a_group_gets_its_share_of_the_nics_and_no_more_than_those_beside_its_chips(placement: Placement, nics: float) -> None:
    assert node_rate("all_reduce", placement, TEN) == pytest.approx(nics * 10e9)


def test_a_chip_with_four_nics_beside_it_drives_all_four() -> None:
    assert node_rate("all_reduce", groups(2, 1), replace(TEN, nics=32)) == pytest.approx(4 * 10e9)


@pytest.mark.parametrize(("members", "inside"), [(16, 8), (12, 4), (6, 1)])
def test_an_all_to_all_sends_through_the_nics_what_its_ranks_have_for_other_nodes(members: int, inside: int) -> None:
    size, fabric = 1e9, replace(TEN, latency_s=0.0)
    each = size / members
    leaving = sum(each for sender in range(inside) for receiver in range(members) if sender // inside != receiver // inside)
    placement = groups(members, inside)
    found = collective_s("all_to_all", size, placement, FREE_NODE, fabric)
    assert found * float(node_rate("all_to_all", placement, fabric)) == pytest.approx(leaving)


@pytest.mark.parametrize("pattern", ["all_gather", "reduce_scatter", "broadcast"])
@pytest.mark.parametrize(("members", "inside"), [(16, 8), (12, 4), (6, 1)])
def test_every_byte_of_the_pattern_passes_the_slowest_link_of_a_ring(pattern: str, members: int, inside: int) -> None:
    size, fabric, placement = 1e15, replace(TEN, latency_s=0.0), groups(members, inside)
    carried = collective_s(pattern, size, placement, FREE_NODE, fabric) * float(node_rate(pattern, placement, fabric))
    assert carried / size == pytest.approx(bus_factor(pattern, members), rel=1e-3)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_bus_factors_of_many_groups_are_those_of_each(pattern: str) -> None:
    assert bus_factors(pattern, np.array([2, 3, 16])).tolist() == pytest.approx([bus_factor(pattern, n) for n in (2, 3, 16)])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_one_member_and_no_bytes_cost_nothing(pattern: str) -> None:
    assert collective_s(pattern, 1e9, groups(1, 1), ALONE, NO_FABRIC) == 0.0
    assert collective_s(pattern, 0.0, groups(16, 8), FREE_NODE, TEN) == 0.0


@pytest.mark.parametrize("pattern", PATTERNS)
def test_infinite_bandwidth_without_latency_costs_nothing(pattern: str) -> None:
    endless = replace(TEN, nic_bytes_per_s_one_way=1e30, latency_s=0.0)
    assert collective_s(pattern, 1e9, groups(64, 8), FREE_NODE, endless) == pytest.approx(0.0, abs=1e-12)
    assert send_s(1e9, True, 8, FREE_NODE, endless) == pytest.approx(0.0, abs=1e-12)


sizes = st.floats(1.0, 1e11)
shapes = st.sampled_from([(2, 1, 8), (8, 8, 1), (16, 8, 1), (32, 2, 4), (256, 1, 8), (24, 8, 1)])


@settings(derandomize=True, deadline=None, max_examples=60)
@given(pattern=st.sampled_from(PATTERNS), size=sizes, shape=shapes, factor=st.floats(1.0, 100.0))
def test_a_faster_link_or_network_never_slows(pattern: str, size: float, shape: tuple[int, int, int], factor: float) -> None:
    placement = groups(*shape)
    link = toys.toy_link(8, 1e11, 1e-5)
    base = collective_s(pattern, size, placement, prepare(toys.toy_profile(links=(link,))), TEN)
    for faster in (
        replace(link, busbw_bytes_per_s=link.busbw_bytes_per_s * factor),
        replace(link, latency_s=link.latency_s / factor),
    ):
        assert collective_s(pattern, size, placement, prepare(toys.toy_profile(links=(faster,))), TEN) <= base
    for better in (
        replace(TEN, nic_bytes_per_s_one_way=TEN.nic_bytes_per_s_one_way * factor),
        replace(TEN, latency_s=TEN.latency_s / factor),
        replace(TEN, nics=TEN.nics * math.ceil(factor)),
    ):
        assert collective_s(pattern, size, placement, prepare(toys.toy_profile(links=(link,))), better) <= base


@settings(derandomize=True, deadline=None, max_examples=60)
@given(pattern=st.sampled_from(PATTERNS), size=sizes, shape=shapes, factor=st.floats(1.0, 100.0))
def test_more_bytes_never_take_less(pattern: str, size: float, shape: tuple[int, int, int], factor: float) -> None:
    machine = prepare(toys.toy_profile(links=(toys.toy_link(8, 1e11, 1e-5),)))
    small, large = (collective_s(pattern, bytes_, groups(*shape), machine, TEN) for bytes_ in (size, size * factor))
    assert small <= large * (1 + 1e-12)


def test_a_message_in_a_node_never_takes_less_than_a_smaller_one_where_lines_meet() -> None:
    machine = prepare(find_profile("a100-sxm-80gb"))
    for pattern in ("all_reduce", "all_gather", "all_to_all"):
        link = machine.link(pattern, 8)
        assert link is not None
        many = np.geomspace(64, 1e10, 500)
        found = collective_s(pattern, many, groups(8, 8), machine, NO_FABRIC)
        assert found == pytest.approx([link.time_s(size) for size in many])


def test_many_at_once_are_each_what_one_is_alone() -> None:
    machine = prepare(find_profile("h100-sxm-80gb"))
    fabric = find_fabric("ndr400x8/2:4")
    columns = [(1, 1, 1), (8, 8, 1), (16, 8, 1), (64, 8, 1), (32, 2, 4), (16, 1, 8)]
    many = Placement(*(np.array(column) for column in zip(*columns, strict=True)), node_size=8)
    size = np.array([1e3, 1e5, 1e6, 1e7, 1e8, 1e9])
    for pattern in PATTERNS:
        alone = [float(collective_s(pattern, s, groups(*c), machine, fabric)) for s, c in zip(size, columns, strict=True)]
        assert collective_s(pattern, size, many, machine, fabric) == pytest.approx(alone)


def test_a_rack_of_72_needs_no_network_for_what_nodes_of_8_send_through_it() -> None:
    machine, size = shipped("gb200"), 2.0**32
    for pattern in ("all_to_all", "all_reduce"):
        rack = collective_s(pattern, size, groups(64, 64, chips_per_node=72), machine, NO_FABRIC)
        assert rack < collective_s(pattern, size, groups(64, 8), machine, find_fabric("ndr400x8")) / 2


def test_uplinks_slow_only_groups_beyond_a_pod_and_an_all_to_all_more_than_a_ring() -> None:
    fabric = replace(TEN, oversubscription=4.0, pod_nodes=2)
    whole = float(node_rate("all_gather", groups(16, 8), TEN))
    assert node_rate("all_gather", groups(16, 8, members_per_pod=16), fabric) == pytest.approx(whole)
    # Two nodes of each pod in one ring: it leaves the pod once, which has uplinks for half of one node's NICs.
    assert node_rate("all_gather", groups(64, 8, members_per_pod=16), fabric) == pytest.approx(whole / 2)
    # Of 56 members elsewhere 48 are in other pods.
    assert node_rate("all_to_all", groups(64, 8, members_per_pod=16), fabric) == pytest.approx(whole / (4 * 48 / 56))
    # Where nobody told how many share a pod, each has one node there.
    assert node_rate("all_gather", groups(64, 8), fabric) == pytest.approx(whole / 4)


def test_each_doubling_beyond_few_nodes_loses_its_share() -> None:
    ratio = node_rate("all_reduce", groups(256, 8), TEN) / node_rate("all_reduce", groups(128, 8), TEN)
    assert ratio == pytest.approx(1 - CONGESTION)


def test_sends_share_the_nics_of_their_node() -> None:
    assert send_s(1e9, True, 8, ALONE, TEN) == pytest.approx(1e-6 + 1e9 / 10e9)
    assert send_s(1e9, True, 1, ALONE, TEN, chips_per_node=8) == pytest.approx(1e-6 + 1e9 / 10e9)  # no more than the NIC beside it
    assert send_s(1e9, True, 8, ALONE, replace(TEN, nics=4)) == pytest.approx(1e-6 + 1e9 / 5e9)
    assert send_s(np.array([0.0, 1e9]), np.array([True, True]), np.array([8, 8]), ALONE, TEN).tolist() == pytest.approx([0.0, 0.100001])


def test_what_is_not_known_is_named() -> None:
    with pytest.raises(MissingCell, match="no collective between 8 chips of a node is known"):
        collective_s("all_reduce", 1e9, groups(8, 8), ALONE, TEN)
    with pytest.raises(MissingCell, match="crosses nodes, but the fabric is none"):
        collective_s("all_reduce", 1e9, groups(16, 8), FREE_NODE, NO_FABRIC)
    with pytest.raises(MissingCell, match="pipeline crosses nodes, but the fabric is none"):
        send_s(1e9, True, 8, FREE_NODE, NO_FABRIC)


GB = 1e9
MEASURED = [
    # chip, members, members in a node, chips in a node, fabric, bytes, bus bandwidth in GB/s, tolerance: what was measured, by whom
    ("b200-sxm-180gb", 16, 8, 8, "ndr400x8", 8 * 2**30, 690.07, 0.10),  # coreweave/nccl-tests pull request 92
    ("h100-sxm-80gb", 16, 8, 8, "ndr400x8", 8 * 2**30, 440.58, 0.10),  # coreweave/nccl-tests pull request 92
    ("h100-sxm-80gb", 64, 8, 8, "ndr400x8", 8 * 2**30, 387.0, 0.10),  # coreweave/nccl-tests README
    ("h200-sxm-141gb", 32, 8, 8, "efa200x16", 4 * 2**30, 364.9, 0.10),  # stas00/ml-engineering network/README.md
    ("b200-sxm-180gb", 32, 8, 8, "efa400x8", 4 * 2**30, 377.3, 0.10),  # stas00/ml-engineering network/README.md
    ("h200-sxm-141gb", 1984, 8, 8, "ndr400x8", 2**29, 350.0, 0.15),  # NVIDIA/nccl-tests issue 283, "typically around"
    ("a100-sxm-40gb", 24, 8, 8, "hdr200x4", 2**27, 96.0, 0.15),  # NVIDIA/nccl-tests issue 119
    ("a100-sxm-80gb", 16, 8, 8, "hdr200x4", 2**27, 93.25, 0.25),  # NVIDIA/nccl-tests issue 152
    ("v100-sxm2-32gb", 16, 8, 8, "efa100x1", 2**30, 15.02, 0.15),  # NVIDIA/nccl-tests issue 22: 134 ms
    ("v100-sxm2-32gb", 64, 8, 8, "edr100x4", 2**30, 43.57, 0.15),  # NVIDIA/nccl issue 319
    ("h100-sxm-80gb", 2, 1, 4, "roce400x4", 2**25, 41.31, 0.15),  # NVIDIA/nccl-tests issue 232
]


@pytest.mark.parametrize(("chip", "members", "inside", "per_node", "fabric", "size", "busbw", "tolerance"), MEASURED)
def test_large_all_reduces_over_nodes_take_what_others_measured(
    chip: str, members: int, inside: int, per_node: int, fabric: str, size: int, busbw: float, tolerance: float
) -> None:
    found = collective_s("all_reduce", float(size), groups(members, inside, 1, per_node), shipped(chip), find_fabric(fabric))
    assert size * bus_factor("all_reduce", members) / found / GB == pytest.approx(busbw, rel=tolerance)


@pytest.mark.parametrize(
    ("chip", "members", "inside", "fabric", "measured_s"),
    [
        ("a100-sxm-40gb", 256, 8, "hdr200x4", 63e-6),  # NVIDIA/nccl issue 652
        ("h100-sxm-80gb", 128, 8, "ndr400x8", 62e-6),  # NVIDIA/nccl issue 1469
        ("a100-sxm-80gb", 2, 1, "hdr200x8", 19.2e-6),  # NVIDIA/nccl-tests issue 150
    ],
)
def test_the_smallest_all_reduces_over_nodes_take_what_others_measured(
    chip: str, members: int, inside: int, fabric: str, measured_s: float
) -> None:
    found = collective_s("all_reduce", 8.0, groups(members, inside), shipped(chip), find_fabric(fabric))
    assert found == pytest.approx(measured_s, rel=0.25)


def test_an_all_to_all_between_two_nodes_reaches_twice_the_nics_rate() -> None:
    # "On 2 nodes, 50% of the traffic is inter-node so you should see BusBW = 2x network bandwidth per GPU" (NVIDIA/nccl-tests issue 130)
    size = 16 * 2.0**30
    found = collective_s("all_to_all", size, groups(16, 8), shipped("h100-sxm-80gb"), find_fabric("ndr400x8"))
    per_nic = 50 * 0.96
    assert size * bus_factor("all_to_all", 16) / found / GB == pytest.approx(2 * per_nic * 15 / 16, rel=0.02)


def shipped(chip: str) -> Machine:
    return prepare(find_profile(chip))
