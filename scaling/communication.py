"""What the chips say to each other: collectives in a node and over nodes, and pipeline sends. Pure functions of sizes and groups."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chipassay.results.fabrics import Fabric
from chipassay.results.link import bus_factor

from .errors import MissingCell
from .machine import Machine


@dataclass(frozen=True)
class Placement:
    """How one communicator lies over the nodes."""

    members: int
    members_per_node: int
    """Members that share a node."""
    groups_per_node: int
    """Like groups that cross the same node's NICs at the same time."""

    @property
    def nodes(self) -> int:
        return -(-self.members // self.members_per_node)


def tensor_placement(tp: int, chips_per_node: int) -> Placement:
    """A TP group is made of neighbours; beyond a node it fills whole nodes."""
    inside = min(tp, chips_per_node)
    return Placement(tp, inside, max(1, chips_per_node // inside) if tp <= chips_per_node else 1)


def data_placement(dp: int, tp: int, chips_per_node: int) -> Placement:
    """A DP group takes every tp-th rank: chips_per_node / tp of its members share a node, and tp such groups cross it."""
    inside = max(1, min(dp, chips_per_node // tp))
    return Placement(dp, inside, min(tp, chips_per_node))


def collective_s(pattern: str, size_bytes: float, placement: Placement, machine: Machine, fabric: Fabric) -> float:
    """Seconds of one collective of ``size_bytes`` (the field's definition: the total for all-gather and reduce-scatter).

    One ring runs through all members: its bus bandwidth is the lower of the link's in the node and the group's share of the node's
    NICs. Latency: the link's, measured or published, and one fabric latency per step of a tree over the nodes.
    """
    if placement.members == 1 or size_bytes <= 0:
        return 0.0
    rate = math.inf
    latency_s = 0.0
    if placement.members_per_node > 1:
        link = machine.link(pattern, placement.members_per_node)
        if link is None:
            raise MissingCell(
                f"profile {machine.chip_id}: no collective between {placement.members_per_node} chips of a node is known; "
                f"measure all_reduce there, or put one chip to a node"
            )
        line = link.segment(size_bytes)
        rate, latency_s = line.busbw_bytes_per_s, line.latency_s
    if placement.nodes > 1:
        rate = min(rate, fabric.node_bytes_per_s / placement.groups_per_node)
        steps = math.ceil(math.log2(placement.nodes)) * (2 if pattern == "all_reduce" else 1)
        latency_s += steps * fabric.latency_s
    if rate <= 0:
        raise MissingCell(f"the group of {placement.members} crosses nodes, but the fabric is {fabric.name}; name one such as hdr200x8")
    return latency_s + size_bytes * bus_factor(pattern, placement.members) / rate


def send_s(size_bytes: float, crosses_nodes: bool, chips_per_node: int, machine: Machine, fabric: Fabric) -> float:
    """Seconds of one send between neighbouring pipeline stages, while every chip of the node sends."""
    if crosses_nodes:
        if fabric.node_bytes_per_s <= 0:
            raise MissingCell(f"the pipeline crosses nodes, but the fabric is {fabric.name}; name one such as hdr200x8")
        return fabric.latency_s + size_bytes * chips_per_node / fabric.node_bytes_per_s
    link = machine.link("send_recv", 2)
    if link is None:
        raise MissingCell(f"profile {machine.chip_id}: no link between chips of a node is known; measure all_reduce there")
    line = link.segment(size_bytes)
    return line.latency_s + size_bytes / line.busbw_bytes_per_s


def exposed_s(communication_s: float, hideable_s: float, hidden_share: float) -> float:
    """What of a communication is not hidden behind ``hideable_s`` of compute, if at most ``hidden_share`` of it can be.

    >>> exposed_s(10.0, 4.0, 0.9), exposed_s(10.0, 100.0, 0.9)
    (6.0, 1.0)
    """
    return communication_s - min(hideable_s, hidden_share * communication_s)
