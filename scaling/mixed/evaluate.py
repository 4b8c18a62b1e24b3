"""One step of a mixed plan: its pipelines played through pass by pass, the gradients, the optimizer, and what each stage holds.

The common cost of the planners (Metis, ATC 2024; AMP, arXiv 2210.07297; Sailor, SOSP 2025) stands beside it, which the search minimises:
``(m - 1) max t + sum t``, the slowest pipeline's, with t the passes of a stage and half of the messages over its borders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..machine import Input
from ..pipeline.simulate import makespan_s
from ..pipeline.stages import Stages
from ..plan import Plan
from ..step import KINDS, straggler_share
from ..uncertainty import MODEL_SIGMA, Z80, input_sigma, regime
from .records import MixedPipeline, MixedPlan, MixedPrediction, StageReport, check_mixed
from .tables import Tables, ends_of
from .traffic import Reduction, held_shares, reductions, replicas_together, sends_s

MIXED_SIGMA = 0.10
"""What mixing kinds adds to the standard deviation of log(step time) (assumed: with it 47 of the 51
scored runs of heterogeneous_runs.csv lie within their 80 % intervals)."""


@dataclass(frozen=True)
class Costed:
    """A plan by the common cost."""

    stage_s: tuple[tuple[float, ...], ...]
    """Per pipeline and stage: passes of one microbatch."""
    sends_s: tuple[tuple[float, ...], ...]
    reductions: tuple[tuple[Reduction, ...], ...]
    update_s: tuple[tuple[float, ...], ...]
    memory_bytes: tuple[tuple[float, ...], ...]
    fits: bool
    pipeline_s: tuple[float, ...]
    """Per pipeline, by the common cost."""
    end_s: float
    """Exposed reduction and optimizer of the stage that takes longest over them."""
    stragglers: float
    """Share that they add."""

    @property
    def step_time_s(self) -> float:
        return (max(self.pipeline_s) + self.end_s) * (1 + self.stragglers)


def common_pipeline_s(
    stage_s: tuple[float, ...], sends: tuple[float, ...], microbatches: int, held: Sequence[float] | None = None
) -> float:
    """``(m - 1) max t + sum t``.

    A border's messages take of the turn of each of its stages, in messages: half of the two if they run beside the passes, for the next
    microbatch waits for them; both if the stages stand still for them (DeepSpeed's pipeline engine). ``held``: share of those that they
    stand still for, per border; None: none.

    >>> common_pipeline_s((1.0, 2.0), (0.25,), 3)
    8.0
    >>> common_pipeline_s((1.0, 2.0), (0.25,), 3, held=(1.0,))
    8.5
    """
    around = (0.0, *(send * (1 + share) for send, share in zip(sends, held or [0.0] * len(sends), strict=True)), 0.0)
    slowest = max(t + around[i] + around[i + 1] for i, t in enumerate(stage_s))
    return (microbatches - 1) * slowest + sum(stage_s) + 2 * sum(sends)


def cost(tables: Tables, plan: MixedPlan) -> Costed:
    """A plan by the common cost, and whether its stages fit."""
    shard = plan.replicas if plan.settings.zero_stage >= 1 else 1
    reduced = reductions(tables, plan)
    stage_s, sends, update, memory = [], [], [], []
    fits = True
    for pipeline, together in zip(plan.pipelines, replicas_together(plan), strict=True):
        times, updates, held = [], [], []
        for index, stage in enumerate(pipeline.stages):
            costs, row = tables.of_stage(stage, pipeline.microbatch)
            ends = ends_of(pipeline, index)
            times.append(float(costs.total_s[row, ends, stage.layers]))
            updates.append(costs.optimizer_s(row, ends, stage.layers, shard))
            flying = min(pipeline.microbatches, len(pipeline.stages) - index)
            held.append(costs.memory_bytes(row, ends, stage.layers, flying, shard))
            fits &= held[-1] <= costs.kind.machine.memory_bytes
        stage_s.append(tuple(times))
        sends.append(tuple(sends_s(tables, pipeline, plan.mask_bytes, together)))
        update.append(tuple(updates))
        memory.append(tuple(held))
    chips = sum(pipeline.chips for pipeline in plan.pipelines)
    end_s = max(one.exposed_s + two for rows, times in zip(reduced, update, strict=True) for one, two in zip(rows, times, strict=True))
    whole = [
        common_pipeline_s(t, s, p.microbatches, held_shares(tables, p, plan.mask_bytes))
        for t, s, p in zip(stage_s, sends, plan.pipelines, strict=True)
    ]
    return Costed(
        tuple(stage_s), tuple(sends), tuple(map(tuple, reduced)), tuple(update), tuple(memory), fits, tuple(whole),
        end_s, float(straggler_share(np.array([chips]))[0]),
    )  # fmt: skip


def play(tables: Tables, pipeline: MixedPipeline, sends: tuple[float, ...], mask_bytes: float = 0.0) -> float:
    """Seconds of one step's passes through a pipeline, 1F1B played through."""
    columns = []
    for index, stage in enumerate(pipeline.stages):
        costs, row = tables.of_stage(stage, pipeline.microbatch)
        at = (row, ends_of(pipeline, index), stage.layers)
        columns.append((costs.forward_s[at], costs.backward_input_s[at] + costs.backward_weight_s[at]))
    forward, backward = np.array(columns, float).T
    # Whoever stands still while it sends or receives has passes that are so much longer. On the way of one microbatch each such message
    # counts once, though both of its ends are held.
    held = np.array(sends, float) * held_shares(tables, pipeline, mask_bytes)
    around = np.array([0.0, *held, 0.0])
    forward, backward = (one + around[:-1] + around[1:] for one in (forward, backward))
    stages = Stages.of(forward, backward, 0.0, microbatches=pipeline.microbatches, stages=len(forward), schedule="1f1b")
    column = np.array([*(np.array(sends, float) - held), 0.0])[:, None]
    done = makespan_s(replace(stages, send_forward_s=column, send_backward_s=np.roll(column, 1, axis=0)))
    return done - 2 * float(held.sum())


def predict_mixed(tables: Tables, plan: MixedPlan, cluster: str = "", notes: tuple[str, ...] = ()) -> MixedPrediction:
    """One step of a mixed plan. InputError where it cannot run; whether it fits is in the answer."""
    model, kinds = tables.model, tables.kinds
    check_mixed(plan, model, tuple(kind.count for kind in kinds))
    costed = cost(tables, plan)
    played = [play(tables, *both, plan.mask_bytes) for both in zip(plan.pipelines, costed.sends_s, strict=True)]
    slowest = int(np.argmax(played))
    breakdown = _breakdown(tables, plan, costed, slowest, played[slowest])
    step_time_s = math.fsum(breakdown.values())
    low_s, high_s = _interval(tables, plan, breakdown, step_time_s)
    names = tuple(kind.name for kind in kinds)
    reports = tuple(
        StageReport(
            pipeline=p,
            index=i,
            kind=stage.kind,
            layers=stage.layers,
            microbatch_s=costed.stage_s[p][i],
            send_s=costed.sends_s[p][i] if i < len(costed.sends_s[p]) else 0.0,
            reduction_s=costed.reductions[p][i].all_s,
            idle_share=1.0 - pipeline.microbatches * costed.stage_s[p][i] / step_time_s,
            memory_bytes=costed.memory_bytes[p][i],
            limit_bytes=kinds[stage.kind].machine.memory_bytes,
        )
        for p, pipeline in enumerate(plan.pipelines)
        for i, stage in enumerate(pipeline.stages)
    )
    return MixedPrediction(
        model=model.name,
        cluster=cluster or "+".join(kind.group.name for kind in kinds),
        plan=plan,
        text=plan.describe(names),
        dtypes=tuple(kind.machine.dtype for kind in kinds),
        chips=sum(pipeline.chips for pipeline in plan.pipelines),
        step_time_s=step_time_s,
        low_s=low_s,
        high_s=high_s,
        tokens_per_s=plan.global_batch * model.seq_len / step_time_s,
        breakdown_s=breakdown,
        common_cost_s=costed.step_time_s,
        stages=reports,
        notes=notes,
        inputs=_inputs(tables, plan),
    )


def _breakdown(tables: Tables, plan: MixedPlan, costed: Costed, slowest: int, played_s: float) -> Mapping[str, float]:
    """Seconds by kind: the passes of the slowest pipeline's slowest stage, and what fills the step up."""
    pipeline = plan.pipelines[slowest]
    index = int(np.argmax(costed.stage_s[slowest]))
    stage = pipeline.stages[index]
    costs, row = tables.of_stage(stage, pipeline.microbatch)
    parts = dict.fromkeys(KINDS, 0.0)
    for kind, seconds in costs.parts_s(row, ends_of(pipeline, index), stage.layers).items():
        parts[kind] = pipeline.microbatches * seconds
    over = max(0.0, played_s - pipeline.microbatches * costed.stage_s[slowest][index])
    silent = play(tables, pipeline, (0.0,) * len(costed.sends_s[slowest])) if costed.sends_s[slowest] else played_s
    parts["pipeline_send"] = min(over, max(0.0, played_s - silent))
    parts["pipeline_bubble"] = over - parts["pipeline_send"]
    ends = [
        (one.exposed_s + update, one.exposed_s, update)
        for rows, times in zip(costed.reductions, costed.update_s, strict=True)
        for one, update in zip(rows, times, strict=True)
    ]
    _, parts["data_parallel"], parts["optimizer"] = max(ends)
    parts["stragglers"] = math.fsum(parts.values()) * costed.stragglers
    return parts


def _interval(tables: Tables, plan: MixedPlan, breakdown: Mapping[str, float], step_time_s: float) -> tuple[float, float]:
    """The 80 % interval: the inputs of the worst known kind, the model's own error, and what mixing adds."""
    inputs = 0.0
    for kind in plan.kinds:
        tp = max(stage.tp for pipeline in plan.pipelines for stage in pipeline.stages if stage.kind == kind)
        known = tables.kinds[kind]
        inputs = max(inputs, input_sigma(breakdown, known.machine, known.group, Plan(global_batch=1, tp=tp)))
    sigma = math.hypot(MODEL_SIGMA[regime(breakdown)], inputs, MIXED_SIGMA if len(plan.kinds) > 1 else 0.0)
    spread = math.exp(Z80 * sigma)
    return step_time_s / spread, step_time_s * spread


def _inputs(tables: Tables, plan: MixedPlan) -> tuple[Input, ...]:
    return tuple(
        replace(one, what=f"{tables.kinds[kind].name}: {one.what}")
        for kind in plan.kinds
        for one in (*tables.kinds[kind].machine.inputs, *tables.kinds[kind].group.inputs)
    )
