"""The best plan that treats all chips alike: equal stages, equal shares of the batch, ranks in the order of the cluster."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

from ..errors import MissingCell
from ..grid import pipeline_axis, recompute_axis, tensor_axis
from ..plan import Recompute
from ..rules import divisors
from .choices import microbatch_axis
from .evaluate import Costed, cost
from .records import MixedPipeline, MixedPlan, MixedStage
from .tables import Tables


def even_plan(
    tables: Tables, tp: int, pp: int, microbatch: int, recompute: Recompute = "none", counts: Sequence[int] | None = None
) -> MixedPlan | None:
    """All chips, or so many of each kind, in one rectangle of tp x pp x dp, numbered kind after kind (tp-dp-pp); None where that does not
    divide."""
    counts = counts or [kind.count for kind in tables.kinds]
    chips, layers, batch = sum(counts), tables.model.layers, tables.settings.global_batch
    dp = chips // (tp * pp)
    if chips % (tp * pp) or batch % (dp * microbatch) or pp > layers or any(count % tp for count in counts):
        return None
    # Groups of tp chips are numbered stage by stage. Where a kind ends, so do replicas of the same kinds.
    ends = list(itertools.accumulate(count // tp for count in counts))
    borders = sorted({0, dp, *(end % dp for end in ends)})
    alike: dict[tuple[int, ...], int] = {}
    for first, after in itertools.pairwise(borders):
        kinds = tuple(bisect_right(ends, stage * dp + first) for stage in range(pp))
        alike[kinds] = alike.get(kinds, 0) + after - first
    held = [layers // pp + (stage < layers % pp) for stage in range(pp)]
    return MixedPlan(alike_pipelines(alike, held, tp, recompute, microbatch, batch // (dp * microbatch)), tables.settings)


def alike_pipelines(
    alike: Mapping[tuple[int, ...], int], held: Sequence[int], tp: int, recompute: Recompute, microbatch: int, microbatches: int
) -> tuple[MixedPipeline, ...]:
    """Pipelines of the same layers, TP degree and share of the batch. ``alike``: kind of each stage -> how many such pipelines;
    ``held``: layers of each stage."""
    return tuple(
        MixedPipeline(
            tuple(MixedStage(kind, tp, layers, recompute) for kind, layers in zip(kinds, held, strict=True)),
            microbatch,
            microbatches,
            replicas,
        )
        for kinds, replicas in alike.items()
    )


def even_split(tables: Tables) -> MixedPlan | None:
    """The fastest of them that fits, by the common cost: on all chips, or on powers of two of each kind where that does not divide; None
    where none does."""
    counts = [kind.count for kind in tables.kinds]
    return _fastest(tables, counts) or _fastest(tables, [1 << count.bit_length() - 1 for count in counts])


def _fastest(tables: Tables, counts: Sequence[int]) -> MixedPlan | None:
    best: tuple[float, MixedPlan] | None = None
    for bound_s, plan in sorted(_plans(tables, counts), key=lambda pair: pair[0]):
        if best is not None and bound_s >= best[0]:
            break
        try:
            costed = cost(tables, plan)
        except MissingCell:  # chips have to talk that nothing joins
            continue
        if fits(tables, plan, costed) and (best is None or costed.step_time_s < best[0]):
            best = costed.step_time_s, plan
    return None if best is None else best[1]


def fits(tables: Tables, plan: MixedPlan, costed: Costed) -> bool:
    """Whether every stage leaves as much memory free as plans found by a search do."""
    return all(
        held <= tables.usable_bytes(stage.kind)
        for pipeline, bytes_held in zip(plan.pipelines, costed.memory_bytes, strict=True)
        for stage, held in zip(pipeline.stages, bytes_held, strict=True)
    )


def _plans(tables: Tables, counts: Sequence[int]) -> Iterator[tuple[float, MixedPlan]]:
    """All of them on so many chips of each kind, each with a time that it does not beat: its layers on the slowest kind."""
    most = min(kind.group.chips_per_node for kind in tables.kinds)
    # Chips that are no power of two divide into stages at least, if not into replicas.
    depths = sorted({*pipeline_axis(tables.model), *(pp for pp in divisors(sum(counts)) if pp <= tables.model.layers)})
    for tp in tensor_axis(tables.model, most):
        for pp in depths:
            for microbatch in microbatch_axis(tables.settings.global_batch):
                for recompute in recompute_axis(tables.settings.attention):
                    plan = even_plan(tables, tp, pp, microbatch, recompute, counts)
                    if plan is None:
                        continue
                    layer_s = 0.0
                    for kind in range(len(tables.kinds)):
                        costs, row = tables.of(kind, (tp, microbatch, recompute))
                        layer_s = max(layer_s, float(costs.total_s[row, 0, 1] - costs.total_s[row, 0, 0]))
                    stage_s = layer_s * (tables.model.layers // pp)
                    yield (plan.pipelines[0].microbatches + pp - 1) * stage_s, plan
