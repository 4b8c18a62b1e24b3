"""Which ranks talk to each other, and how they lie over the nodes: every group of a plan, from the order of its ranks alone.

Ranks are numbered as Megatron-LM numbers them (megatron/core/parallel_state.py, RankGenerator): the first dimension of the order changes
fastest. Node i holds the chips [i * chips_per_node, (i + 1) * chips_per_node).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .errors import IllegalPlan
from .plan import ORDER
from .plans import Array, Plans

DEGREES = ("tp", "cp", "dp", "pp", "ep", "expert_tp", "shard")
"""Columns that placements depend on."""
FEW = 64
"""Below so many plans it does not pay to look for equal ones."""

Axis = tuple[Array, Array]
"""(stride, size): ranks ``stride`` apart, ``size`` of them. A group is spanned by one or more axes."""


@dataclass(frozen=True, eq=False)
class Placement:
    """How the groups of one kind lie over the nodes; whole numbers, scalar or one per plan. Where groups differ, the worst one counts."""

    members: Array
    members_per_node: Array
    """Members that share a node (the most that do)."""
    groups_per_node: Array
    """Like groups that cross the same node's NICs at the same time."""
    spanned: Array | None = None
    """Nodes that a group touches; None: as few as members_per_node allows."""
    node_size: int | None = None
    """Chips in a node; None: the members of the groups that cross it."""
    members_per_pod: Array | None = None
    """Members that share a pod of nodes; None: nobody asked."""

    @property
    def nodes(self) -> Array:
        """Nodes that a group touches."""
        return -(-np.asarray(self.members) // self.members_per_node) if self.spanned is None else self.spanned

    def take(self, which: Array) -> Placement:
        """Those of an index or a mask."""
        spanned, in_pod = (None if column is None else column[which] for column in (self.spanned, self.members_per_pod))
        members, inside, crossing = (column[which] for column in (self.members, self.members_per_node, self.groups_per_node))
        return Placement(members, inside, crossing, spanned, self.node_size, in_pod)

    @property
    def chips_per_node(self) -> Array | int:
        """Chips in a node."""
        return np.asarray(self.members_per_node) * self.groups_per_node if self.node_size is None else self.node_size


def rank_order(order: str) -> tuple[str, ...]:
    """The dimensions of an order such as ``tp-cp-ep-dp-pp``, fastest first. Raises IllegalPlan where it is no permutation of these.

    >>> rank_order("tp-cp-ep-pp-dp")
    ('tp', 'cp', 'ep', 'pp', 'dp')
    """
    names = tuple(order.split("-"))
    if sorted(names) != sorted(ORDER.split("-")):
        raise IllegalPlan(f"order is {order!r}; give each of {', '.join(ORDER.split('-'))} once, the fastest first, as in {ORDER}")
    return names


def placements(plans: Plans, chips_per_node: int, pod_nodes: int = 0) -> dict[str, Placement]:
    """Kind of group -> how it lies over nodes of ``chips_per_node`` (and pods of ``pod_nodes`` nodes, if any).

    ``tp``, ``cp``, ``dp``, ``pp``; ``dp_cp``: the ranks that hold the same weights; ``shard`` and ``replica``: what hybrid sharding
    makes of them (neighbours shard); ``ep``: the chips that one layer's experts are spread over, neighbours if ``ep`` stands before
    ``dp`` in the order, ``expert_dp``: those that hold the same experts (``expert_shard`` and ``expert_replica``: what hybrid sharding
    makes of them), ``expert_tp``: those that share each of them; ``embedding``: first and last stage. Raises IllegalPlan for an order
    that is none.
    """
    if len(plans) < FEW:
        return _placements(plans, chips_per_node, pod_nodes)
    first, back = _distinct(plans)
    found = _placements(plans.take(first), chips_per_node, pod_nodes)
    return {name: placement.take(back) for name, placement in found.items()}


def _distinct(plans: Plans) -> tuple[Array, Array]:
    """(first index of each combination of degrees, which of those each plan has)."""
    code = np.zeros(len(plans), np.int64)
    for name in DEGREES:
        column = getattr(plans, name)
        rank = np.cumsum(np.bincount(column) > 0)
        code = code * int(rank[-1]) + rank[column] - 1
    _, first, back = np.unique(code, return_index=True, return_inverse=True)
    return first, back.reshape(-1)


def _placements(plans: Plans, chips_per_node: int, pod_nodes: int) -> dict[str, Placement]:
    names = rank_order(plans.settings.order)
    dense = [name for name in names if name != "ep"]
    axes: dict[str, Axis] = {}
    stride = np.ones_like(plans.tp)
    for name in dense:
        size = getattr(plans, name)
        axes[name] = (stride, size)
        stride = stride * size
    same_weights = _joined(axes, [name for name in dense if name in ("cp", "dp")], dense)
    shard, replica = _split(same_weights, plans.shard)

    tp_stride, tp = axes["tp"]
    expert_axes = {**axes, "tp": (tp_stride * plans.expert_tp, np.maximum(1, tp // plans.expert_tp))}
    experts = _joined(expert_axes, [name for name in dense if name != "pp"], dense)
    if names.index("ep") < names.index("dp"):
        ep_axes, expert_dp_axes = _split(experts, plans.ep)
    else:
        expert_dp_axes, ep_axes = _split(experts, plans.expert_replicas)

    expert_shard, expert_replica = _split(expert_dp_axes, plans.expert_shard)

    groups: dict[str, list[Axis]] = {
        **{name: [axes[name]] for name in dense},
        "dp_cp": same_weights,
        "shard": shard,
        "replica": replica,
        "ep": ep_axes,
        "expert_dp": expert_dp_axes,
        "expert_shard": expert_shard,
        "expert_replica": expert_replica,
        "expert_tp": [(tp_stride, plans.expert_tp)],
    }
    found = dict(zip(groups, _placed(list(groups.values()), plans.chips, chips_per_node, pod_nodes), strict=True))
    found["embedding"] = _ends(found["pp"], axes["pp"], chips_per_node)
    return found


def _joined(axes: dict[str, Axis], names: list[str], order: list[str]) -> list[Axis]:
    """The axes of ``names`` in the order, neighbours in it as one axis."""
    joined: list[Axis] = []
    last = -2
    for name in names:
        stride, size = axes[name]
        position = order.index(name)
        if position == last + 1:
            joined[-1] = (joined[-1][0], joined[-1][1] * size)
        else:
            joined.append((stride, size))
        last = position
    return joined


def _split(axes: list[Axis], inner: Array) -> tuple[list[Axis], list[Axis]]:
    """(groups of ``inner`` neighbours, the groups of those that stand at the same place in them)."""
    if len(axes) == 1:
        stride, size = axes[0]
        return [(stride, inner)], [(stride * inner, np.maximum(1, size // inner))]
    inside, outside = [], []
    for stride, size in axes:
        part = np.gcd(inner, size)
        inside.append((stride, part))
        outside.append((stride * part, size // part))
        inner = inner // part
    return inside, outside


def _placed(groups: list[list[Axis]], chips: Array, chips_per_node: int, pod_nodes: int) -> list[Placement]:
    """The placements of groups spanned by axes. All kinds of groups are worked out together, as rows of one array."""
    depth = max(len(group) for group in groups)
    one = np.ones_like(chips)
    padded = [group + [(one, one)] * (depth - len(group)) for group in groups]
    strides, sizes = (np.array([[group[level][part] for group in padded] for level in range(depth)]) for part in (0, 1))
    members = np.prod(sizes, axis=0)
    inside, spanned, crossing = _over(strides, sizes, members, chips, chips_per_node)
    in_pod = _over(strides, sizes, members, chips, chips_per_node * pod_nodes)[0] if pod_nodes else None
    return [
        Placement(members[i], inside[i], crossing[i], spanned[i], chips_per_node, None if in_pod is None else in_pod[i])
        for i in range(len(groups))
    ]


def _over(strides: Array, sizes: Array, members: Array, chips: Array, per_node: int) -> tuple[Array, Array, Array]:
    """(members in a node, nodes touched, groups that cross a node's border) of groups over nodes of ``per_node`` chips.

    ``strides`` and ``sizes`` have the axes of a group first, then (kind of group, plan), as ``members`` has. Closed form where every
    axis nests with the node (one divides the other), else by counting ranks.
    """
    blocks = strides * sizes
    nested = ((per_node % strides == 0) | (strides % per_node == 0)) & ((per_node % blocks == 0) | (blocks % per_node == 0))
    alone = chips <= per_node
    inside = np.where(alone, members, np.prod(np.clip(per_node // strides, 1, sizes), axis=0))
    spanned = members // inside
    crossing = np.where(spanned > 1, per_node // inside, 1)
    odd = ~((nested | (sizes == 1)).all(axis=0) | alone)
    if odd.any():
        world = np.broadcast_to(chips, members.shape)[odd]
        axes = np.concatenate([strides[:, odd], sizes[:, odd]])
        counted = [_counted(per_node, *row) for row in zip(world.tolist(), *axes.tolist(), strict=True)]
        inside[odd], spanned[odd], crossing[odd] = np.array(counted).T
    return inside, spanned, crossing


@lru_cache(maxsize=1 << 16)
def _counted(per_node: int, chips: int, *axes: int) -> tuple[int, int, int]:
    """The same for one kind of group by counting the ranks of one period; ``axes`` holds the strides, then as many sizes."""
    digits = [(stride, size) for stride, size in zip(axes[: len(axes) // 2], axes[len(axes) // 2 :], strict=True) if size > 1]
    rank = np.arange(min(chips, math.lcm(per_node, *(stride * size for stride, size in digits))))
    group = rank.copy()
    for stride, size in digits:
        group -= rank // stride % size * stride
    nodes = int(rank[-1]) // per_node + 1
    # A group and a node that meet, and how many members do: few of all pairs.
    meeting, members = np.unique(group * nodes + rank // per_node, return_counts=True)
    spans = np.bincount(meeting // nodes)
    crossing = np.bincount(meeting[spans[meeting // nodes] > 1] % nodes)
    return int(members.max()), int(spans.max()), max(1, int(crossing.max(initial=1)))


def _ends(stages: Placement, axis: Axis, chips_per_node: int) -> Placement:
    """First and last stage: together in a node only if the whole pipeline is."""
    stride, size = axis
    members = np.minimum(size, 2)
    crosses = stages.nodes > 1
    inside = np.where(crosses, 1, members)
    crossing = np.where(crosses, np.minimum(chips_per_node, stride), 1)
    in_pod = None if stages.members_per_pod is None else np.where(stages.members_per_pod < size, 1, members)
    return Placement(members, inside, crossing, np.where(crosses, members, 1), chips_per_node, in_pod)
