"""The best plan that treats all chips alike: equal stages, equal shares of the batch, ranks in the order of the cluster."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import MissingCell
from ..grid import pipeline_axis, recompute_axis, tensor_axis
from ..plan import Recompute
from .choices import microbatch_axis
from .evaluate import Costed, cost
from .records import MixedPipeline, MixedPlan, MixedStage
from .tables import Tables


def even_plan(tables: Tables, tp: int, pp: int, microbatch: int, recompute: Recompute = "none") -> MixedPlan | None:
    """All chips in one rectangle of tp x pp x dp, numbered kind after kind (tp-dp-pp); None where that does not divide."""
    counts = [kind.count for kind in tables.kinds]
    chips, layers, batch = sum(counts), tables.model.layers, tables.settings.global_batch
    dp = chips // (tp * pp)
    if chips % (tp * pp) or batch % (dp * microbatch) or pp > layers or any(count % tp for count in counts):
        return None
    kind_of = [kind for kind, count in enumerate(counts) for _ in range(count // tp)]
    alike: dict[tuple[int, ...], int] = {}
    for replica in range(dp):
        kinds = tuple(kind_of[stage * dp + replica] for stage in range(pp))
        alike[kinds] = alike.get(kinds, 0) + 1
    held = [layers // pp + (stage < layers % pp) for stage in range(pp)]
    pipelines = tuple(
        MixedPipeline(
            tuple(MixedStage(kind, tp, count, recompute) for kind, count in zip(kinds, held, strict=True)),
            microbatch,
            batch // (dp * microbatch),
            replicas,
        )
        for kinds, replicas in alike.items()
    )
    return MixedPlan(pipelines, tables.settings)


def even_split(tables: Tables) -> MixedPlan | None:
    """The fastest of them that fits, by the common cost; None where none does."""
    best: tuple[float, MixedPlan] | None = None
    for bound_s, plan in sorted(_plans(tables), key=lambda pair: pair[0]):
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


def _plans(tables: Tables) -> Iterator[tuple[float, MixedPlan]]:
    """All of them, each with a time that it does not beat: its layers on the slowest kind."""
    most = min(kind.group.chips_per_node for kind in tables.kinds)
    for tp in tensor_axis(tables.model, most):
        for pp in pipeline_axis(tables.model):
            for microbatch in microbatch_axis(tables.settings.global_batch):
                for recompute in recompute_axis(tables.settings.attention):
                    plan = even_plan(tables, tp, pp, microbatch, recompute)
                    if plan is None:
                        continue
                    layer_s = 0.0
                    for kind in range(len(tables.kinds)):
                        costs, row = tables.of(kind, (tp, microbatch, recompute))
                        layer_s = max(layer_s, float(costs.total_s[row, 0, 1] - costs.total_s[row, 0, 0]))
                    stage_s = layer_s * (tables.model.layers // pp)
                    yield (plan.pipelines[0].microbatches + pp - 1) * stage_s, plan
