"""What the chips say to each other: collectives in a node and over nodes, and sends. Functions of sizes and groups, one or many at once.

Over nodes the algorithm is the faster of NCCL's two (src/graph/tuning.cc): a ring through all members, which costs latency per member, or
for all-reduce a tree over the nodes, which costs latency per level. Both are pipelined, so the slowest of the links they cross sets the
rate: that between chips of a node, or the group's share of the node's NICs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from chipassay.results.fabrics import Fabric
from chipassay.results.link import TWO_WAY, WHOLE

from .errors import MissingCell
from .machine import Machine
from .placement import Placement
from .plans import Array

TREE_SHARE = 0.92
"""Share of the rate in a node that a tree reaches (NCCL, src/graph/tuning.cc: 0.92 for an all-reduce by Tree)."""
TREE_HOP = 1.85
"""Latency of one level of a tree over the network, in hops of a ring (the same file, protocol LL: 5.0 us and 2.7 us). Measured levels:
4.2 us (32 nodes of A100, NVIDIA/nccl issue 652), 4.7 us (2 nodes, NVIDIA/nccl-tests issue 150), 5.8 us (16 of H100, nccl issue 1469)."""
TREE_NICS = 0.62
"""Share of the NICs' rate that a tree of sends between chips reaches. Median over 0.95 (2 nodes of V100, nccl-tests issue 251), 0.64 (V100
on EFA, issue 22), 0.61 (A100 on EFA, nccl issue 527) and 0.48 (A100, 4 NICs, nccl-tests issue 152)."""
IN_SWITCH = 1.1
"""An all-reduce this much faster among 8 chips than an all-gather is reduced in the switch (NVLS: 1.2 to 1.4 times; without it at most
1.08: NVIDIA's tables in aiconfigurator-core). Trees of such nodes reach the NICs' rate (2 of B200: coreweave/nccl-tests PR 92)."""
SLICE_BYTES = 256 * 1024
"""What a step passes on at once of a large message (NCCL, src/graph/tuning.cc: the latency of a hop is that of a 256 kB chunk)."""
PEER_S = 3.3e-6
"""Time to start one message of an all-to-all to a chip of another node: 64 H800 on 8 nodes, 8 MiB, take 338 us, 153 of them bytes
(NVIDIA/nccl issue 1531)."""
CONGESTION = 0.01
"""Share of the rate that each doubling of the nodes beyond FEW_NODES loses to other traffic in the switches: lies between 0.00 and 0.05 by
32 nodes of H100 (NVIDIA/nccl issue 1218) and 248 of H200 (nccl-tests issue 283)."""
FEW_NODES = 8
"""Nodes up to which the fabrics' shares of the line rate were measured (results/data/fabrics.csv)."""


def tensor_placement(tp: int, chips_per_node: int) -> Placement:
    """A TP group is made of neighbours; beyond a node it fills whole nodes."""
    inside = min(tp, chips_per_node)
    return Placement(np.asarray(tp), np.asarray(inside), np.asarray(max(1, chips_per_node // inside) if tp <= chips_per_node else 1))


def bus_factors(pattern: str, members: Array) -> Array:
    """Bytes on the busiest link for each byte of the message; ``results.link.bus_factor`` for many groups."""
    if pattern in WHOLE:
        return np.ones(np.shape(members))
    share = (members - 1) / members
    return 2 * share if pattern in TWO_WAY else share


@dataclass(frozen=True, eq=False)
class _Lines:
    """The lines that hold for messages in a node, one per message."""

    latency: Array
    busbw: Array
    smallest: Array
    """What a message of no size takes, seconds."""
    floor: Array
    """What the largest message of the line before takes, seconds: a larger one never takes less."""


@lru_cache(maxsize=4096)
def _segments(machine: Machine, pattern: str, members: int) -> tuple[Array, _Lines]:
    """The link of a group in a node: where each of its lines begins (bytes), and the lines."""
    link = machine.link(pattern, members)
    if link is None:
        raise MissingCell(
            f"profile {machine.chip_id}: no collective between {members} chips of a node is known; "
            f"measure all_reduce there, or put one chip to a node"
        )
    lines = link.segments or (link.segment(0.0),)
    ends = [line.time_s(following.first_bytes * link.bus_factor) for line, following in itertools.pairwise(lines)]
    return np.array([line.first_bytes for line in lines]), _Lines(
        latency=np.array([line.latency_s for line in lines]),
        busbw=np.array([line.busbw_bytes_per_s for line in lines]),
        smallest=np.full(len(lines), link.small_latency_s),
        floor=np.maximum.accumulate([0.0, *ends]),
    )


def _inside(pattern: str, sizes: Array, members: Array, machine: Machine) -> _Lines:
    """The lines of messages of these sizes among ``members`` chips of one node; of one chip: no time at all."""
    counts = np.flatnonzero(np.bincount(members)).tolist()
    if len(counts) == 1 and counts[0] > 1:
        first, lines = _segments(machine, pattern, counts[0])
        at = np.maximum(0, np.searchsorted(first, sizes, side="right") - 1)
        return _Lines(lines.latency[at], lines.busbw[at], lines.smallest[at], lines.floor[at])
    found = _Lines(np.zeros(sizes.shape), np.full(sizes.shape, np.inf), np.zeros(sizes.shape), np.zeros(sizes.shape))
    for count in counts:
        if count > 1:
            here = members == count
            some = _inside(pattern, sizes[here], members[here], machine)
            for column in ("latency", "busbw", "smallest", "floor"):
                getattr(found, column)[here] = getattr(some, column)
    return found


@lru_cache(maxsize=256)
def _in_switch(machine: Machine) -> bool:
    """Whether the switch between the chips of a node reduces: by the largest group whose all-reduce and all-gather are known."""
    reduce, gather = ({link.group_size: link for link in machine.links.get(pattern, ())} for pattern in ("all_reduce", "all_gather"))
    both = reduce.keys() & gather.keys()
    return bool(both) and reduce[max(both)].busbw_bytes_per_s > IN_SWITCH * gather[max(both)].busbw_bytes_per_s


def node_rate(pattern: str, placement: Placement, fabric: Fabric) -> Array:
    """Bytes/s, one way, that one group gets of its node's NICs: its share, and no more than the NICs beside its own chips.

    A chip drives the NICs beside it (one chip a node levels off at one NIC: NVIDIA/nccl-tests issue 232; half the chips of a node reach
    half the rate: NVIDIA/nccl issue 1168). Beyond FEW_NODES nodes CONGESTION takes its part, beyond a pod its uplinks.
    """
    own = placement.members_per_node * np.maximum(1.0, fabric.nics / np.asarray(placement.chips_per_node))
    lanes = np.minimum(fabric.nics / np.asarray(placement.groups_per_node), own)
    crowd = (1.0 - CONGESTION) ** np.log2(np.maximum(1.0, placement.nodes / FEW_NODES))
    rate: Array = lanes * fabric.nic_bytes_per_s_one_way * fabric.bus_share * crowd
    return rate if fabric.oversubscription <= 1 else rate * _uplinks(pattern, placement, fabric)


def _uplinks(pattern: str, placement: Placement, fabric: Fabric) -> Array:
    """Share of the rate that the uplinks of the pods leave: they carry 1 / oversubscription of what its nodes can send.

    A ring leaves a pod once however many of its nodes lie there; of an all-to-all leaves what is for members elsewhere. Where it is not
    told how many members share a pod, a group beyond a pod is taken to have one node in each.
    """
    inside = np.asarray(placement.members_per_node)
    if placement.members_per_pod is None:
        in_pod = np.where(placement.nodes > fabric.pod_nodes, inside, placement.members)
    else:
        in_pod = placement.members_per_pod
    leaving = (placement.members - in_pod) / np.maximum(1, placement.members - inside) if pattern == "all_to_all" else inside / in_pod
    share: Array = np.where(in_pod < placement.members, 1 / np.maximum(1.0, fabric.oversubscription * leaving), 1.0)
    return share


def collective_s(pattern: str, size_bytes: float | Array, placement: Placement, machine: Machine, fabric: Fabric) -> Array:
    """Seconds of one collective of ``size_bytes`` (the field's definition: the total for all-gather and reduce-scatter; what one rank
    sends, its own part included, for all-to-all).

    Raises MissingCell where the profile has no link in the node, or the fabric no bandwidth, and the groups need one.
    """
    columns = np.broadcast_arrays(np.asarray(size_bytes, float), placement.members, placement.members_per_node, placement.nodes)
    shape = columns[0].shape
    if not np.any(columns[1] > 1):
        return np.zeros(shape)
    sizes, members, inside, nodes = (column.reshape(-1) for column in columns)
    lines = _inside(pattern, sizes, np.where(members > 1, inside, 1), machine)
    time_s = np.maximum(lines.latency + sizes * bus_factors(pattern, members) / lines.busbw, lines.floor)
    over = (nodes > 1) & (members > 1)
    if over.any():
        if fabric.node_bytes_per_s <= 0:
            most = int(members[over].max())
            raise MissingCell(f"the group of {most} crosses nodes, but the fabric is {fabric.name}; name one such as hdr200x8")
        rate = np.broadcast_to(node_rate(pattern, placement, fabric), shape).reshape(-1)
        across = _Over(pattern, sizes, members, inside, nodes, lines, rate, fabric, machine)
        time_s = np.where(over, across.time_s(), time_s)
    done: Array = np.where((members > 1) & (sizes > 0), time_s, 0.0).reshape(shape)[()]
    return done


@dataclass(frozen=True, eq=False)
class _Over:
    """Collectives over nodes, one per element."""

    pattern: str
    sizes: Array
    members: Array
    inside: Array
    """Members in a node."""
    nodes: Array
    lines: _Lines
    """Of the members in a node."""
    rate: Array
    """Bytes/s that the group gets of a node's NICs."""
    fabric: Fabric
    machine: Machine

    def time_s(self) -> Array:
        if self.pattern == "all_to_all":
            return self.all_to_all_s()
        if self.pattern == "send_recv":
            return self.lines.latency + self.fabric.latency_s + self.sizes / np.minimum(self.lines.busbw, self.rate)
        if self.pattern not in TWO_WAY:
            return self.ring_s()
        fastest: Array = np.minimum(self.ring_s(), self.tree_s())
        return fastest

    def ring_s(self) -> Array:
        """One ring through all members; each node is entered once, and every byte leaves each chip, and each node, bus_factor times.

        The way through each further node adds what the smallest message takes in one.
        """
        steps = (2 if self.pattern in TWO_WAY else 1) * (self.nodes - 1)
        waiting = self.start_s + self.lines.smallest * (self.nodes - 1) + steps * (self.fabric.latency_s + self.slice_s)
        carried = self.sizes * bus_factors(self.pattern, self.members)
        done: Array = waiting + carried / np.minimum(self.lines.busbw, self.rate)
        return done

    def tree_s(self) -> Array:
        """All-reduce in each node, and a tree over the nodes at the same time, piece by piece.

        Between two nodes each byte goes once either way; a node in the middle of a tree passes on what both of its children send.
        """
        levels = 2 * np.ceil(np.log2(self.nodes))
        share = np.where((self.inside == 1) | _in_switch(self.machine), 1.0, TREE_NICS)
        through_nics = np.where(self.nodes == 2, 1.0, 2.0) * self.sizes / (self.rate * share)
        in_node = self.sizes * bus_factors(self.pattern, self.inside) / (TREE_SHARE * self.lines.busbw)
        waiting = self.start_s + levels * (TREE_HOP * self.fabric.latency_s + self.slice_s)
        done: Array = waiting + np.maximum(in_node, through_nics)
        return done

    def all_to_all_s(self) -> Array:
        """Each chip sends what is for other nodes through the NICs, and the rest beside that in its node (nccl-tests issue 130)."""
        leaving = self.sizes * self.inside * (self.members - self.inside) / self.members
        staying = self.sizes * (self.inside - 1) / self.members
        peers = (self.members - self.inside) * min(PEER_S, self.fabric.latency_s)
        done: Array = self.lines.latency + self.fabric.latency_s + peers + np.maximum(leaving / self.rate, staying / self.lines.busbw)
        return done

    @cached_property
    def slice_s(self) -> Array:
        """What a hop waits for the piece that it passes on, each NIC its own."""
        one_nic = self.fabric.nic_bytes_per_s_one_way * self.fabric.bus_share
        nics = np.maximum(1.0, self.rate / one_nic)
        done: Array = np.minimum(SLICE_BYTES, self.sizes / self.members / nics) * nics / self.rate
        return done

    @cached_property
    def start_s(self) -> Array:
        """The latency of a node; where a chip has no partner in it, that of the smallest message of a pair: its kernels must start too."""
        if self.inside.min() > 1 or self.machine.link(self.pattern, 2) is None:
            return self.lines.latency
        pair = _segments(self.machine, self.pattern, 2)[1]
        done: Array = np.where(self.inside > 1, self.lines.latency, pair.smallest[0])
        return done


def send_s(
    size_bytes: float | Array,
    crosses: bool | Array,
    sharing: int | Array,
    machine: Machine,
    fabric: Fabric,
    chips_per_node: int | None = None,
) -> Array:
    """Seconds of one send; where it ``crosses`` nodes, ``sharing`` chips of the node (of ``chips_per_node``; None: all of it) send at once,
    each through its share of the NICs, and no more than the NICs beside it. In a network of pods the next stage is in another pod.

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
        rate = lanes * fabric.nic_bytes_per_s_one_way * fabric.bus_share / fabric.oversubscription
        time_s = np.where(over, fabric.latency_s + sizes / rate, time_s)
    if np.any(~over & (sizes > 0)):
        if machine.link("send_recv", 2) is None:
            raise MissingCell(f"profile {machine.chip_id}: no link between chips of a node is known; measure all_reduce there")
        flat = sizes.reshape(-1)
        lines = _inside("send_recv", flat, np.full(flat.shape, 2), machine)
        time_s = np.where(over, time_s, np.maximum(lines.latency + flat / lines.busbw, lines.floor).reshape(sizes.shape))
    done: Array = np.where(sizes > 0, time_s, 0.0)[()]
    return done
