"""What the chips say to each other: collectives in a node and over nodes, and sends. Functions of sizes and groups, one or many at once.

Over nodes the algorithm is the faster of NCCL's two (src/graph/tuning.cc): a ring through all members, which costs latency per member, or
for all-reduce a tree over the nodes, which costs latency per level. Both are pipelined, so the slowest of the links they cross sets the
rate: that between chips of a node, or the group's share of the node's NICs.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np

from chipassay.results.fabrics import Fabric
from chipassay.results.link import TWO_WAY, WHOLE, Link

from .errors import MissingCell
from .machine import Machine
from .placement import Placement
from .plans import Array

TREE_SHARE = 0.92
"""Share of the links' rate that a tree reaches, beside a ring (NCCL, src/graph/tuning.cc: 0.92 for an all-reduce by Tree)."""
TREE_HOP = 2.1
"""Latency of a tree's level over the network, in hops of a ring (the same file: 8.5 us and 4.0 us in LL128, 5.0 us and 2.7 us in LL)."""


def tensor_placement(tp: int, chips_per_node: int) -> Placement:
    """A TP group is made of neighbours; beyond a node it fills whole nodes."""
    inside = min(tp, chips_per_node)
    return Placement(np.asarray(tp), np.asarray(inside), np.asarray(max(1, chips_per_node // inside) if tp <= chips_per_node else 1))


def data_placement(dp: int, tp: int, chips_per_node: int) -> Placement:
    """A DP group takes every tp-th rank: chips_per_node / tp of its members share a node, and tp such groups cross it."""
    inside = max(1, min(dp, chips_per_node // tp))
    return Placement(np.asarray(dp), np.asarray(inside), np.asarray(min(tp, chips_per_node)))


def bus_factors(pattern: str, members: Array) -> Array:
    """Bytes on the busiest link for each byte of the message; ``results.link.bus_factor`` for many groups."""
    if pattern in WHOLE:
        return np.ones(np.shape(members))
    share = (members - 1) / members
    return 2 * share if pattern in TWO_WAY else share


@lru_cache(maxsize=4096)
def _link(machine: Machine, pattern: str, members: int) -> tuple[Link, Array, Array, Array, Array]:
    """The link of a group in a node; by segment: first bytes, latency, bus bandwidth, and the least time at larger sizes."""
    link = machine.link(pattern, members)
    if link is None:
        raise MissingCell(
            f"profile {machine.chip_id}: no collective between {members} chips of a node is known; "
            f"measure all_reduce there, or put one chip to a node"
        )
    lines = link.segments or (link.segment(0.0),)
    ends = [line.time_s(following.first_bytes * link.bus_factor) for line, following in itertools.pairwise(lines)]
    floors = np.maximum.accumulate([0.0, *ends])
    columns = ([line.first_bytes for line in lines], [line.latency_s for line in lines], [line.busbw_bytes_per_s for line in lines])
    first, latency, busbw = (np.array(column) for column in columns)
    return link, first, latency, busbw, floors


def _inside(pattern: str, sizes: Array, members: Array, machine: Machine) -> tuple[Array, Array, Array]:
    """(latency, bus bandwidth, least time) that hold for messages of these sizes among ``members`` chips of one node; 1 member: 0, inf."""
    latency, busbw, floor = np.zeros(sizes.shape), np.full(sizes.shape, np.inf), np.zeros(sizes.shape)
    for count in np.flatnonzero(np.bincount(members)):
        if count < 2:
            continue
        here = members == count
        _, first, latencies, rates, floors = _link(machine, pattern, int(count))
        line = np.maximum(0, np.searchsorted(first, sizes[here], side="right") - 1)
        latency[here], busbw[here], floor[here] = latencies[line], rates[line], floors[line]
    return latency, busbw, floor


def node_rate(placement: Placement, fabric: Fabric) -> Array:
    """Bytes/s, one way, that one group gets of its node's NICs: its share, and no more than the NICs beside its own chips.

    A chip drives the NICs beside it (one chip a node levels off at one NIC: NVIDIA/nccl-tests issue 232; half the chips of a node reach
    half the rate: NVIDIA/nccl issue 1168).
    """
    own = placement.members_per_node * np.maximum(1.0, fabric.nics / np.asarray(placement.chips_per_node))
    rate: Array = np.minimum(fabric.nics / np.asarray(placement.groups_per_node), own) * fabric.nic_bytes_per_s_one_way * fabric.bus_share
    return rate


def collective_s(pattern: str, size_bytes: float | Array, placement: Placement, machine: Machine, fabric: Fabric) -> Array:
    """Seconds of one collective of ``size_bytes`` (the field's definition: the total for all-gather and reduce-scatter; what one rank
    sends, its own part included, for all-to-all).

    Raises MissingCell where the profile has no link in the node, or the fabric no bandwidth, and the groups need one.
    """
    columns = (size_bytes, placement.members, placement.members_per_node, placement.nodes)
    shape = np.broadcast_shapes(*(np.shape(column) for column in columns))
    sizes, members, inside, nodes = (np.broadcast_to(column, shape).reshape(-1) for column in columns)
    sizes = np.asarray(sizes, float)
    latency, busbw, floor = _inside(pattern, sizes, np.where(members > 1, inside, 1), machine)
    factor = bus_factors(pattern, members)
    with np.errstate(divide="ignore"):
        time_s = np.maximum(latency + sizes * factor / busbw, floor)
    over = (nodes > 1) & (members > 1)
    if over.any():
        if fabric.node_bytes_per_s <= 0:
            most = int(members[over].max())
            raise MissingCell(f"the group of {most} crosses nodes, but the fabric is {fabric.name}; name one such as hdr200x8")
        rate = np.broadcast_to(node_rate(placement, fabric), shape).reshape(-1)
        time_s = np.where(over, _over_s(pattern, sizes, members, inside, nodes, latency, busbw, rate, fabric), time_s)
    done: Array = np.where((members > 1) & (sizes > 0), time_s, 0.0).reshape(shape)[()]
    return done


def _over_s(
    pattern: str, sizes: Array, members: Array, inside: Array, nodes: Array, latency: Array, busbw: Array, rate: Array, fabric: Fabric
) -> Array:
    """Seconds over nodes; latency and bus bandwidth are those in a node, ``rate`` the group's of the node's NICs."""
    hop = fabric.latency_s
    carried = sizes * bus_factors(pattern, members)
    if pattern == "send_recv":
        return hop + latency + carried / np.minimum(busbw, rate)
    if pattern == "all_to_all":
        # Each chip sends its bytes for the other nodes through the NICs, the rest beside that in the node (NVIDIA/nccl-tests issue 130).
        leaving = sizes * inside * (members - inside) / members
        staying = sizes * (inside - 1) / members
        return latency + hop + np.maximum(leaving / rate, staying / busbw)
    steps = (2 if pattern in TWO_WAY else 1) * (nodes - 1)
    ring: Array = latency * nodes + steps * hop + carried / np.minimum(busbw, rate)
    if pattern not in TWO_WAY:
        return ring
    # Between two nodes each byte goes once either way; a node in the middle of a tree passes on what both of its children send.
    through_nics = np.where(nodes == 2, 1.0, 2.0) * sizes
    levels = 2 * np.ceil(np.log2(nodes))
    tree = latency + levels * TREE_HOP * hop + np.maximum(2 * sizes / (TREE_SHARE * busbw), through_nics / rate)
    fastest: Array = np.minimum(ring, tree)
    return fastest


def send_s(
    size_bytes: float | Array,
    crosses: bool | Array,
    sharing: int | Array,
    machine: Machine,
    fabric: Fabric,
    chips_per_node: int | None = None,
) -> Array:
    """Seconds of one send; where it ``crosses`` nodes, ``sharing`` chips of the node (of ``chips_per_node``; None: all of it) send at once,
    each through its share of the NICs, and no more than the NICs beside it.

    Raises MissingCell where the profile has no link in the node, or the fabric no bandwidth, and the sends need one.
    """
    sizes, over, chips = np.broadcast_arrays(np.asarray(size_bytes, float), np.asarray(crosses, bool), np.asarray(sharing))
    time_s = np.zeros(sizes.shape)
    if over.any():
        if fabric.node_bytes_per_s <= 0:
            raise MissingCell(f"the pipeline crosses nodes, but the fabric is {fabric.name}; name one such as hdr200x8")
        lanes = fabric.nics / chips
        if chips_per_node is not None:
            lanes = np.minimum(lanes, max(1.0, fabric.nics / chips_per_node))
        time_s = np.where(over, fabric.latency_s + sizes / (lanes * fabric.nic_bytes_per_s_one_way * fabric.bus_share), time_s)
    if np.any(~over & (sizes > 0)):
        if machine.link("send_recv", 2) is None:
            raise MissingCell(f"profile {machine.chip_id}: no link between chips of a node is known; measure all_reduce there")
        flat = sizes.reshape(-1)
        latency, busbw, floor = _inside("send_recv", flat, np.full(flat.shape, 2), machine)
        time_s = np.where(over, time_s, np.maximum(latency + flat / busbw, floor).reshape(sizes.shape))
    done: Array = np.where(sizes > 0, time_s, 0.0)[()]
    return done


def exposed_s(communication_s: float, hideable_s: float, hidden_share: float) -> float:
    """What of a communication is not hidden behind ``hideable_s`` of compute, if at most ``hidden_share`` of it can be.

    >>> exposed_s(10.0, 4.0, 0.9), exposed_s(10.0, 100.0, 0.9)
    (6.0, 1.0)
    """
    return communication_s - min(hideable_s, hidden_share * communication_s)
