"""One plan's pipeline played through: its stages with their own layers, embedding and logits, as the simulation takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .models import Transformer
from .pipeline.simulate import makespan_s
from .pipeline.stages import Stages
from .plan import Plan
from .step import Step, launch_s, waiting_s


def stage_layers(model: Transformer, plan: Plan) -> list[int]:
    """Layers of each stage; what does not divide goes to the first stages, for the last has the logits.

    >>> from chipassay.scaling.models import load_model
    >>> stage_layers(load_model("gpt2"), Plan(global_batch=8, pp=5))
    [3, 3, 2, 2, 2]
    """
    least, more = divmod(model.layers, plan.pp)
    return [least + (index < more) for index in range(plan.pp)]


def stages_of(model: Transformer, plan: Plan, step: Step, index: int = 0) -> Stages:
    """The pipeline of one of a step's plans."""

    def one(value: Any) -> float:
        return float(value[index]) if isinstance(value, np.ndarray) and value.ndim else float(value)

    passes = step.passes
    layer, head, embedding = (np.array([one(part) for part in parts]) for parts in (passes.layer_s, passes.head_s, passes.embedding_s))
    layers = np.array(stage_layers(model, plan), float)
    rows = np.outer(layers, layer)
    rows[0] += embedding
    rows[-1] += head + model.mtp_depth * (head + layer)
    by_layer, by_head, by_embedding = (np.array([one(part) for part in parts]) for parts in passes.launches)
    launches = np.outer(layers, by_layer)
    launches[0] += by_embedding
    launches[-1] += by_head + model.mtp_depth * (by_head + by_layer)
    ahead_s = waiting_s(rows[:, 0], launches[:, 0], launch_s(plan))
    back_s = waiting_s(rows[:, 1] + rows[:, 2], launches[:, 1], launch_s(plan))
    rows += np.stack([ahead_s, back_s, 0.0 * back_s], axis=1)
    settings = "1f1b" if plan.schedule == "interleaved" and plan.interleave == 1 else plan.schedule
    if plan.interleave > 1 and settings == "1f1b":
        settings = "interleaved"
    return Stages.of(
        rows[:, 0], rows[:, 1], rows[:, 2], one(passes.send_s), microbatches=plan.microbatches, stages=plan.pp,
        interleave=plan.interleave, schedule=settings, overlap=plan.overlap_pp,
    )  # fmt: skip


def played(model: Transformer, plan: Plan, step: Step) -> dict[str, float]:
    """Kind -> seconds of the step's bubble and sends, by simulation: with the passes of the slowest stage they fill the makespan."""
    busy = plan.microbatches * float(step.passes.slowest_s[0])
    over = max(0.0, makespan_s(stages_of(model, plan, step)) - busy)
    bubble = min(over, float(step.parts_s["pipeline_bubble"][0]))
    return {"pipeline_bubble": bubble, "pipeline_send": over - bubble}
