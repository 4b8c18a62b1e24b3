"""What the stages of a mixed plan say to each other: activations along a pipeline, and gradients between the copies of each layer.

Where two kinds meet, each side's own network is asked how long it takes, as if the other were like it, and the slower one counts.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chipassay.results.fabrics import Fabric

from .. import constants
from ..communication import collective_s, send_s, tensor_placement
from ..overlap import exposed_s
from ..placement import Placement
from .records import MixedPipeline, MixedPlan, MixedStage
from .stage_costs import FIRST, LAST
from .tables import Tables

Array = npt.NDArray[Any]

SEND_BUFFER_BYTES = 2 * 1024**2
"""Of a message, that one channel of NCCL's network transport takes into its own buffers, whereupon the sender's kernel ends: 16 slots
(NVIDIA/nccl, src/transport/net.cc, NCCL_SHARED_STEPS) of 128 KiB (src/init.cc, NCCL_P2P_NET_CHUNKSIZE). Several channels take more, and so
do collectives (4 MiB, DEFAULT_BUFFSIZE), as which DeepSpeed sent in 2021: AMP's runs tell neither from the other (10.4 and 10.8 %)."""


def replicas_together(plan: MixedPlan) -> list[int]:
    """Of each pipeline: how many lie together with it as one pool of replicas. Those are on chips alike, whatever their layers and
    microbatches: replicas that take a microbatch less do not lie elsewhere for it."""
    alike: Counter[tuple[tuple[int, int], ...]] = Counter()
    for pipeline in plan.pipelines:
        alike[_chips_of(pipeline)] += pipeline.replicas
    return [alike[_chips_of(pipeline)] for pipeline in plan.pipelines]


def _chips_of(pipeline: MixedPipeline) -> tuple[tuple[int, int], ...]:
    return tuple((stage.kind, stage.tp) for stage in pipeline.stages)


def sends_s(tables: Tables, pipeline: MixedPipeline, mask_bytes: float = 0.0, together: int | None = None) -> list[float]:
    """Seconds of one message over each border between stages, either way. ``mask_bytes``: as in ``MixedPlan``; ``together``: the replicas
    that lie and send together, if there are more than the pipeline's own (``replicas_together``)."""
    replicas = together or pipeline.replicas
    used: dict[int, int] = {}
    found = []
    first_chip = []
    for stage in pipeline.stages:
        first_chip.append(used.get(stage.kind, 0))
        used[stage.kind] = first_chip[-1] + replicas * stage.tp
    for index, (here, there) in enumerate(zip(pipeline.stages[:-1], pipeline.stages[1:], strict=True)):
        found.append(border_s(tables, here, there, pipeline.microbatch, replicas, first_chip[index], mask_bytes))
    return found


def ways_bytes(tables: Tables, here: MixedStage, there: MixedStage, microbatch: int, mask_bytes: float = 0.0) -> tuple[float, float]:
    """What one chip sends over a border with a microbatch: activations ahead, and their gradients back."""
    split = min(here.tp, there.tp) if tables.settings.scatter_gather or tables.settings.sequence_parallel else 1
    size = _message_bytes(tables, (here, there), microbatch)
    return size / split + mask_bytes, size if mask_bytes else size / split


def _message_bytes(tables: Tables, ends: tuple[MixedStage, ...], microbatch: int) -> float:
    """Activations of a microbatch, of a whole TP group, in the wider dtype of both ends."""
    return max(float(costs.message_bytes[row]) for costs, row in (tables.of_stage(stage, microbatch) for stage in ends))


def held_shares(tables: Tables, pipeline: MixedPipeline, mask_bytes: float = 0.0) -> list[float]:
    """Per border: the share of its two messages that sender and receiver stand still for. With sends between the passes (``overlap_pp``
    false) that is all, but for messages that NCCL takes into its own buffers (SEND_BUFFER_BYTES)."""
    borders = list(itertools.pairwise(pipeline.stages))
    if tables.settings.overlap_pp:
        return [0.0] * len(borders)
    ways = (ways_bytes(tables, *border, pipeline.microbatch, mask_bytes) for border in borders)
    return [sum(size > SEND_BUFFER_BYTES for size in both) / len(both) for both in ways]


def border_s(
    tables: Tables, here: MixedStage, there: MixedStage, microbatch: int, replicas: int, first_chip: int, mask_bytes: float = 0.0
) -> float:
    """One message between a stage and the next, the mean of both ways where they differ (``MixedPlan.mask_bytes``).

    ``first_chip``: the number of the first chip of ``here`` among those of its kind; the chips of its other replicas follow, then
    ``there``, if it is of the same kind.
    """
    settings = tables.settings
    ends: tuple[MixedStage, ...] = (here, there)
    crosses = True
    if there.kind == here.kind:
        per_node = tables.kinds[here.kind].group.chips_per_node
        following = first_chip + replicas * here.tp
        moves = ((0, 0), ((replicas - 1) * here.tp, (replicas - 1) * there.tp))
        crosses = any((first_chip + a) // per_node != (following + b) // per_node for a, b in moves)
        ends = (here,)
    between = tables.between if there.kind != here.kind else None
    ways: tuple[float, ...] = ways_bytes(tables, here, there, microbatch, mask_bytes)
    ways = ways if mask_bytes else ways[:1]
    time_s = sum(max(_send_s(tables, stage, size, replicas, crosses, between) for stage in ends) for size in ways) / len(ways)
    sequence_parallel = settings.sequence_parallel and tables.model.seq_len % there.tp == 0
    if settings.scatter_gather and there.tp > 1 and not sequence_parallel:
        kind = tables.kinds[there.kind]
        place = tensor_placement(there.tp, kind.group.chips_per_node)
        size = _message_bytes(tables, (here, there), microbatch)
        time_s += float(collective_s("all_gather", size, place, kind.machine, kind.group.fabric))
    return time_s


def _send_s(tables: Tables, stage: MixedStage, size_bytes: float, replicas: int, crosses: bool, between: Fabric | None = None) -> float:
    kind = tables.kinds[stage.kind]
    per_node = kind.group.chips_per_node
    sharing = max(1, min(per_node, replicas * stage.tp))
    key = (stage.kind, size_bytes, sharing, crosses, between is not None)
    if key not in tables.known_sends:
        fabric = between or kind.group.fabric
        tables.known_sends[key] = float(send_s(size_bytes, crosses, sharing, kind.machine, fabric, per_node))
    return tables.known_sends[key]


@dataclass(frozen=True)
class Reduction:
    """The gradients of one stage, once a step."""

    all_s: float
    """With what is hidden beside the passes."""
    exposed_s: float


def units_of(pipeline: MixedPipeline) -> list[int]:
    """Where the stages begin and end, in units of the model: the embedding, its layers, the logits."""
    ends = np.cumsum([stage.layers for stage in pipeline.stages]) + 1
    ends[-1] += 1
    return [0, *ends.tolist()]


def reductions(tables: Tables, plan: MixedPlan) -> list[list[Reduction]]:
    """Per pipeline and stage: the gradients summed over all that hold the same layers.

    Pipelines are cut at different layers. Between two neighbouring cuts all layers have the same owners, one stage of each pipeline, and
    are reduced as one message through a ring over them all. A stage is done when all of its messages are, one after the other, and no
    sooner than those that it shares them with, whose stages share the NICs of their nodes.
    """
    cuts = np.unique(np.concatenate([units_of(pipeline) for pipeline in plan.pipelines]))
    edges = [np.searchsorted(cuts, units_of(pipeline)) for pipeline in plan.pipelines]
    per_gradient = tables.gradient_bytes(plan.kinds)
    scatter = gather = [[0.0] * len(pipeline.stages) for pipeline in plan.pipelines]
    if plan.replicas > 1:
        owners = _owners(tables, plan, cuts)
        if plan.settings.zero_stage >= 1:
            scatter = owners.stages_s(tables, "reduce_scatter", per_gradient, edges)
            gather = owners.stages_s(tables, "all_gather", 0.0, edges)
        else:
            scatter = owners.stages_s(tables, "all_reduce", per_gradient, edges)
    share = constants.DP_HIDDEN_SHARE.value if plan.settings.overlap_dp else 0.0
    found = []
    for p, (pipeline, together) in enumerate(zip(plan.pipelines, replicas_together(plan), strict=True)):
        tied = _tied_s(tables, pipeline, plan.tied_bytes or per_gradient, together)
        last = len(pipeline.stages) - 1
        rows = []
        for index, stage in enumerate(pipeline.stages):
            back, ahead = scatter[p][index], gather[p][index]
            costs, row = tables.of_stage(stage, pipeline.microbatch)
            at = (row, FIRST * (index == 0) + LAST * (index == last), stage.layers)
            backward_s = float(costs.backward_input_s[at] + costs.backward_weight_s[at])
            exposed = float(exposed_s(back, backward_s, share) + exposed_s(ahead, float(costs.forward_s[at]), share))
            table = tied if index in (0, last) else 0.0
            rows.append(Reduction(back + ahead + table, exposed + table))
        found.append(rows)
    return found


@dataclass(frozen=True, eq=False)
class _Owners:
    """What the pipelines hold between the cuts. Arrays of shape (pipelines, segments)."""

    members: int
    kind: Array
    weights: Array
    """On one chip."""
    element_bytes: Array
    inside: Array
    """Replicas of the pipeline that share a node."""
    alone: Array
    """Rings that cross a node's border at once if no other stage reduces meanwhile: the slices of one TP group."""
    crossing: Array
    """The same if all stages on the node do."""
    nodes: Array

    def stages_s(self, tables: Tables, pattern: str, bytes_each: float, edges: list[Array]) -> list[list[float]]:
        """Seconds of a collective, per pipeline and stage. ``bytes_each`` 0: those of a weight.

        A ring through unequal links runs at the pace of the slowest: of the times that a message would take if all were like one of its
        owners, the longest counts.
        """
        shared_s = self._s(tables, pattern, bytes_each, self.crossing)
        alike = np.array_equal(self.alone, self.crossing)
        message_s = (shared_s if alike else self._s(tables, pattern, bytes_each, self.alone)).max(axis=0)
        own = [np.add.reduceat(shared_s[p], edge[:-1]) for p, edge in enumerate(edges)]
        by_segment = np.max([np.repeat(times, np.diff(edge)) for times, edge in zip(own, edges, strict=True)], axis=0)
        return [np.maximum(np.add.reduceat(message_s, edge[:-1]), np.maximum.reduceat(by_segment, edge[:-1])).tolist() for edge in edges]

    def _s(self, tables: Tables, pattern: str, bytes_each: float, crossing: Array) -> Array:
        """Of each owner and segment, as if all owners were like it."""
        done = np.zeros(self.kind.shape)
        alike = len(np.unique(self.kind)) == 1
        spanned = np.broadcast_to(self.nodes.sum(axis=0), self.kind.shape)
        for kind in np.unique(self.kind):
            here = self.kind == kind
            group, machine = tables.kinds[kind].group, tables.kinds[kind].machine
            inside = self.inside[here]
            place = Placement(np.full(inside.shape, self.members), inside, crossing[here], spanned[here], group.chips_per_node)
            size = self.weights[here] * (bytes_each or self.element_bytes[here])
            done[here] = collective_s(pattern, size, place, machine, group.fabric if alike else tables.between or group.fabric)
        return done


def _owners(tables: Tables, plan: MixedPlan, cuts: Array) -> _Owners:
    shape = (len(plan.pipelines), len(cuts) - 1)
    kind, inside, alone, crossing, nodes = (np.zeros(shape, np.int64) for _ in range(5))
    weights, element = np.zeros(shape), np.zeros(shape)
    layers = np.diff(np.clip(cuts, 1, tables.model.layers + 1))
    pools = [_chips_of(pipeline) for pipeline in plan.pipelines]
    for p, (pool, pipeline, alike) in enumerate(zip(pools, plan.pipelines, replicas_together(plan), strict=True)):
        edges, last = np.searchsorted(cuts, units_of(pipeline)), len(pipeline.stages) - 1
        for index, stage in enumerate(pipeline.stages):
            own = slice(edges[index], edges[index + 1])
            costs, row = tables.of_stage(stage, pipeline.microbatch)
            held = costs.weights[row]
            weights[p, own] = layers[own] * (held[0, 1] - held[0, 0])
            if index == 0:
                weights[p, edges[0]] += held[FIRST, 0]
            if index == last:
                weights[p, edges[-1] - 1] += held[LAST, 0] if last else held[FIRST + LAST, 0] - held[FIRST, 0]
            per_node = tables.kinds[stage.kind].group.chips_per_node
            together = max(1, min(alike, per_node // stage.tp))
            kind[p, own] = stage.kind
            element[p, own] = costs.kind.machine.element_bytes
            inside[p, own] = together
            alone[p, own] = min(per_node, stage.tp)
            crossing[p, own] = max(1, min(per_node, plan.chips(stage.kind)) // together)
            nodes[p, own] = -(-alike // together) if pool not in pools[:p] else 0
    return _Owners(plan.replicas, kind, weights, element, inside, alone, crossing, nodes)


def _tied_s(tables: Tables, pipeline: MixedPipeline, per_gradient: float, replicas: int) -> float:
    """First and last stage both hold a tied token table and add up its gradients (Narayanan et al. 2021, arXiv 2104.04473)."""
    model = tables.model
    if not model.tied_embeddings or len(pipeline.stages) == 1:
        return 0.0
    ends = (pipeline.stages[0], pipeline.stages[-1])
    times = []
    for stage in ends:
        kind = tables.kinds[stage.kind]
        per_node = kind.group.chips_per_node
        chips = replicas * sum(other.tp for other in pipeline.stages if other.kind == stage.kind)
        together = ends[0].kind == ends[1].kind and chips <= per_node
        crossing = max(1, min(per_node, replicas * stage.tp))
        one = np.ones(1, np.int64)
        place = Placement(
            2 * one, (2 if together else 1) * one, (1 if together else crossing) * one, (1 if together else 2) * one, per_node
        )
        size = float(model.vocab) * model.hidden / stage.tp * per_gradient
        times.append(float(collective_s("all_reduce", size, place, kind.machine, kind.group.fabric)[0]))
    return max(times)
