"""The one place where validation asks the model: times, intervals and memory of plans, and the best of those that fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chipassay.scaling.cluster import Group
from chipassay.scaling.errors import IllegalPlan, NotModelled
from chipassay.scaling.legal import check_plan, legal
from chipassay.scaling.machine import Machine
from chipassay.scaling.memory import memory_by_kind
from chipassay.scaling.models import Transformer
from chipassay.scaling.plan import Plan
from chipassay.scaling.plans import COLUMNS, Plans
from chipassay.scaling.step import step
from chipassay.scaling.uncertainty import Z80, log_sigma

from .tables import Unusable

OPEN_SIGMA = 0.05
"""What each field that a source leaves open adds to it, in squares: plans that fit and are searched differ by about so much."""


@dataclass(frozen=True)
class Predicted:
    """The step of one plan, the best of those tried."""

    plan: Plan
    step_s: float
    low_s: float
    high_s: float
    """80 % interval, widened by what was searched over."""
    fits: bool
    tried: int
    parts_s: Mapping[str, float]
    """The step by kind."""


_ALIKE: dict[str, Any] = {name: getattr(Plan(global_batch=1), name) for name in COLUMNS}


def _batches(plans: Sequence[Plan]) -> dict[Plan, list[Plan]]:
    """Plans by what they share: all fields outside COLUMNS."""
    found: dict[Plan, list[Plan]] = {}
    for plan in plans:
        found.setdefault(replace(plan, **_ALIKE), []).append(plan)
    return found


def predicted_step_s(model: Transformer, group: Group, machine: Machine, plans: Sequence[Plan], open_fields: int = 0) -> Predicted:
    """The fastest per token of the plans that fit; of all that are legal where none does.

    Raises Unusable, with the sentence of the last refusal, where none is legal.
    """
    refusal = "no plan to try"
    best: Predicted | None = None
    rates: list[float] = []
    for some in _batches(plans).values():
        batch = Plans.of(some)
        try:
            kept = np.flatnonzero(legal(batch, model, group.count))
            if not len(kept):
                check_plan(some[0], model, group.count)
        except (IllegalPlan, NotModelled) as error:
            refusal = str(error)
            continue
        batch = batch.take(kept)
        steps = step(model, batch, machine, group)
        step_s = np.asarray(steps.step_time_s, float)
        memory = memory_by_kind(model, batch, machine)
        fits = np.asarray(sum(memory.values()), float) <= machine.memory_bytes
        per_sequence = step_s / batch.global_batch
        order = np.lexsort((per_sequence, ~fits))
        first = int(order[0])
        rates += list(per_sequence[fits])
        parts_s = {kind: float(values[first]) for kind, values in steps.parts_s.items()}
        one = Predicted(some[int(kept[first])], float(step_s[first]), 0.0, 0.0, bool(fits[first]), len(plans), parts_s)
        if best is None or (not one.fits, one.step_s / one.plan.global_batch) < (not best.fits, best.step_s / best.plan.global_batch):
            best = one
    if best is None:
        raise Unusable(refusal)
    sigma = math.hypot(log_sigma(best.parts_s, machine, group, best.plan), OPEN_SIGMA * math.sqrt(open_fields))
    low, high = (best.step_s * math.exp(side * Z80 * sigma) for side in (-1, 1))
    if open_fields and len(rates) > 1:
        # Who publishes a run has tuned it, but not to the last percent: the best tenth of what fits may be what was run.
        high = max(high, float(np.quantile(rates, 0.1)) * best.plan.global_batch * math.exp(Z80 * sigma))
    return replace(best, low_s=low, high_s=high)
