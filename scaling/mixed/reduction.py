"""About how long the gradients of a plan are on their way, for many plans at once; ``traffic`` has it in full for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .. import constants
from ..overlap import exposed_s
from .tables import Tables

Array = npt.NDArray[Any]

BACKWARD_SHARE = 2 / 3
"""Of the passes, without recomputation."""


def layer_reduction_s(tables: Tables, kind: int, column: Mapping[str, Array], replicas: Array) -> tuple[Array, Array]:
    """About how long the gradients and weights of one layer are on their way over the network: with no other stage on it, and with all.

    The slices of a TP group go in rings of their own; so do stages whose replicas do not fill a node (``traffic``).
    """
    known = tables.kinds[kind]
    per_node, fabric = known.group.chips_per_node, known.group.fabric
    inside = np.maximum(1, np.minimum(replicas, per_node // column["tp"]))
    crossing = np.maximum(1, np.minimum(per_node, replicas * column["tp"] * column["stages"]) // inside)
    driven = inside * max(1.0, fabric.nics / per_node)
    lanes = [np.minimum(fabric.nics / rings, driven) for rings in (np.minimum(per_node, column["tp"]), crossing)]
    lane_bytes_per_s = fabric.node_bytes_per_s / max(1, fabric.nics)
    if (len(tables.kinds) == 1 and known.count <= per_node) or lane_bytes_per_s <= 0:
        link = known.machine.link("all_reduce", min(per_node, known.count))
        lane_bytes_per_s, lanes = (np.inf if link is None else link.busbw_bytes_per_s), [np.ones(1)] * 2
    size = column["weights"] * (tables.gradient_bytes(range(len(tables.kinds))) + known.machine.element_bytes)
    several = replicas + len(tables.kinds) > 2
    alone, shared = (np.where(several, size / (lane * lane_bytes_per_s), 0.0) for lane in lanes)
    return alone, shared


class Part(Protocol):
    """A pool of each of many plans, as arrays of one length: ``Rows``, or pools on one kind."""

    @property
    def slowest_s(self) -> Array: ...
    @property
    def held(self) -> Array: ...
    @property
    def ring_s(self) -> Array: ...
    @property
    def own_s(self) -> Array: ...


def exposed_reduction_s(tables: Tables, parts: Sequence[Part]) -> Array:
    """About how much of the gradients' traffic stays exposed where these pools, row by row, make a plan.

    Layers of one pool are reduced with those of all others, at the pace of the slowest ring.
    """
    held, ring, own, slowest = (np.array([getattr(part, name) for part in parts]) for name in ("held", "ring_s", "own_s", "slowest_s"))
    time_s = np.maximum((held * ring.max(axis=0)).max(axis=0), own.max(axis=0))
    gradient, weight = tables.gradient_bytes(range(len(tables.kinds))), min(kind.machine.element_bytes for kind in tables.kinds)
    share = constants.DP_HIDDEN_SHARE.value if tables.settings.overlap_dp else 0.0
    back = gradient / (gradient + weight)
    beside = slowest.min(axis=0) * BACKWARD_SHARE
    exposed: Array = exposed_s(back * time_s, beside, share) + exposed_s((1 - back) * time_s, slowest.min(axis=0) - beside, share)
    return exposed
