"""Pools: equal pipelines before their layers and microbatches are chosen, and the plan that a few pools make when both are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import MissingCell
from ..plan import Recompute
from .evaluate import Costed, cost
from .records import MixedPipeline, MixedPlan, MixedStage
from .splits import Split, Taker, batch_shares, layer_splits
from .stage_costs import FIRST, LAST
from .tables import Tables
from .traffic import held_shares, sends_s


@dataclass(frozen=True)
class Block:
    """Neighbouring stages on one kind of chip."""

    kind: int
    tp: int
    stages: int
    recompute: Recompute = "none"


@dataclass(frozen=True)
class Pool:
    """Equal pipelines through blocks of stages."""

    blocks: tuple[Block, ...]
    microbatch: int
    replicas: int

    def chips(self, kind: int) -> int:
        return self.replicas * sum(block.tp * block.stages for block in self.blocks if block.kind == kind)

    @property
    def stages(self) -> tuple[MixedStage, ...]:
        """Without layers yet."""
        return tuple(MixedStage(b.kind, b.tp, 0, b.recompute) for b in self.blocks for _ in range(b.stages))


@dataclass(eq=False)
class Solver:
    """Splits layers and batch over pools, for one batch. Cuts of a pool are kept, since it comes in many plans."""

    tables: Tables
    global_batch: int
    _cuts: dict[tuple[Pool, int], tuple[Split, ...]] = field(default_factory=dict, repr=False)

    def cuts(self, pool: Pool, shard: int) -> tuple[Split, ...]:
        """The best cuts of a pool's layers; ``shard``: copies of the model that share the optimizer's state."""
        key = (pool, shard)
        if key not in self._cuts:
            self._cuts[key] = self._cut(pool, shard)
        return self._cuts[key]

    def _cut(self, pool: Pool, shard: int) -> tuple[Split, ...]:
        stages, layers = pool.stages, self.tables.model.layers
        count = len(stages)
        one = MixedPipeline(stages, pool.microbatch, 1, pool.replicas)
        sends, held_share = np.array(sends_s(self.tables, one)), np.array(held_shares(self.tables, one))
        borders = np.array([0.0, *(sends * (1 + held_share)), 0.0])
        fewest = np.ones(count, np.int64)
        if count > 1:
            fewest[[0, -1]] = 0
        curves = np.empty((count, layers + 1))
        most = self.global_batch // pool.microbatch
        for index, stage in enumerate(stages):
            costs, row = self.tables.of_stage(stage, pool.microbatch)
            at = (row, FIRST * (index == 0) + LAST * (index == count - 1))
            held = costs.fixed_bytes[at] + min(most, count - index) * costs.flight_bytes[at] + costs.optimizer_bytes[at] / shard
            times = costs.total_s[at] + borders[index] + borders[index + 1]
            curves[index] = np.where(held <= self.tables.usable_bytes(stage.kind), times, np.inf)
        least = max(1, self.global_batch // (pool.microbatch * max(shard, pool.replicas)) // 4)
        found = layer_splits(curves, layers, fewest, least)
        # On the way of one microbatch each border's two messages count once, however long they hold its stages.
        twice = 2 * float((sends * held_share).sum())
        return tuple(replace(cut, sum_s=cut.sum_s - twice) for cut in found)

    def plan(self, pools: Sequence[Pool], limit_s: float = math.inf) -> tuple[MixedPlan, Costed] | None:
        """The best split of layers and batch over pools that all work; None where they do not fit, the batch does not divide, chips have
        to talk that nothing joins, or the pipelines alone take ``limit_s``."""
        try:
            return self._plan(pools, limit_s)
        except MissingCell:
            return None

    def _plan(self, pools: Sequence[Pool], limit_s: float) -> tuple[MixedPlan, Costed] | None:
        settings = self.tables.settings
        copies = sum(pool.replicas for pool in pools)
        shard = copies if settings.zero_stage >= 1 else 1
        takers = [Taker(pool.replicas, pool.microbatch, self.cuts(pool, shard)) for pool in pools]
        shared = batch_shares(takers, self.global_batch)
        if shared is None or shared[0] >= limit_s:
            return None
        pipelines = []
        for share in shared[1]:
            pool, cut = pools[share.taker], takers[share.taker].best(share.microbatches)
            stages = tuple(
                MixedStage(stage.kind, stage.tp, count, stage.recompute) for stage, count in zip(pool.stages, cut.layers, strict=True)
            )
            pipelines.append(MixedPipeline(stages, pool.microbatch, share.microbatches, share.replicas))
        plan = MixedPlan(tuple(pipelines), settings)
        return plan, cost(self.tables, plan)
