"""One prediction with all that was asked of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from chipassay.results.prices import given_price, price_of
from chipassay.scaling.cost import Cost, RunCost, cost_of, run_cost
from chipassay.scaling.energy import Energy, Site, energy_of
from chipassay.scaling.errors import MissingCell
from chipassay.scaling.fits import fits_report
from chipassay.scaling.goodput import Goodput, Operation, checkpoint_bytes, goodput
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import Prediction, predict_ready
from chipassay.scaling.ready import ready
from chipassay.scaling.search import best_plan, default_global_batch

if TYPE_CHECKING:
    from chipassay.results.prices import Price
    from chipassay.scaling.cluster import Group
    from chipassay.scaling.curve import ScalingCurve
    from chipassay.scaling.explain import Term
    from chipassay.scaling.models import Transformer
    from chipassay.scaling.sensitivity import Sensitivity

LEAST_GOODPUT = 1e-6
"""A run that trains for less than a millionth of the time does not end."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a model on a cluster."""

    model: Transformer
    group: Group
    plan: Plan | None = None
    """None: the best one."""
    batch: int | None = None
    tokens: float | None = None
    price: Price | None = None
    operation: Operation | None = None
    """Asks for the goodput of a long run; None: not asked for."""
    site: Site = field(default_factory=Site)
    terms: bool = False
    sensitivity: bool = False
    curve: bool = False
    curve_counts: Sequence[int] | None = None
    """None: the cluster's number of chips, halved down to a node."""
    weak: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is None was not asked for, or is unknown."""

    question: Question
    prediction: Prediction
    why_not: str
    """What takes most memory, and the nearest plan that fits; empty where the plan fits."""
    cost: Cost | None
    goodput: Goodput | None
    run: RunCost | None
    energy: Energy | None
    energy_unknown: str
    terms: tuple[Term, ...] | None
    sensitivity: Sensitivity | None
    curve: ScalingCurve | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON: what is infinite is null."""
        found = {
            **self.prediction.to_dict(),
            "why_not": self.why_not or None,
            "tokens": self.question.tokens,
            "days": None if self.run is None else self.run.days,
            "cost": None if self.cost is None else self.cost.to_dict(),
            "run": None if self.run is None else self.run.to_dict(),
            "goodput": None if self.goodput is None else self.goodput.to_dict(),
            "energy": None if self.energy is None else self.energy.to_dict(),
        }
        if self.terms is not None:
            found["explain"] = [term.to_dict() for term in self.terms]
        if self.sensitivity is not None:
            found["sensitivity"] = [one.to_dict() for one in self.sensitivity.influences]
        if self.curve is not None:
            found["curve"] = _curve(self.curve)
        return {name: _finite(value) for name, value in found.items()}


def answer(question: Question) -> Answer:
    """Predict, and work out what else was asked for. Raises what the prediction raises."""
    q = question
    if q.plan is None:
        prediction = best_plan(q.model, q.group, q.batch)
    else:
        prediction = predict_ready(q.model, q.plan, ready(q.group, q.plan.dtype), q.group)
    plan = prediction.plan
    machine = ready(q.group, plan.dtype)
    price = q.price or default_price(q.group)
    alive = None if q.operation is None else goodput(prediction.chips, checkpoint_bytes(q.model, plan), q.operation)
    share = 1.0 if alive is None else alive.share
    trains = share >= LEAST_GOODPUT
    energy, unknown = None, ""
    try:
        energy = energy_of(prediction, q.group.profile, q.site, tokens=q.tokens if trains else None, goodput=share if trains else 1.0)
    except MissingCell as error:
        unknown = str(error)
    return Answer(
        question=q,
        prediction=prediction,
        why_not="" if prediction.fits else fits_report(q.model, plan, machine, q.group),
        cost=None if price is None else cost_of(prediction, price),
        goodput=alive,
        run=None if q.tokens is None or not trains else run_cost(prediction, q.tokens, price, goodput=share),
        energy=energy,
        energy_unknown=unknown,
        terms=_terms(q, plan) if q.terms else None,
        sensitivity=_sensitivity(q, price) if q.sensitivity else None,
        curve=_scaling(q, plan) if q.curve else None,
    )


def batch_of(model: Transformer, group: Group, batch: int | None) -> int:
    """The batch of a plan: as given, else of about four million tokens."""
    return batch or default_global_batch(model, group.count)


def default_price(group: Group) -> Price | None:
    """What the cluster's own file says of an hour of a chip, else quotes."""
    chip_id = group.profile.chip_id
    return price_of(chip_id, {}) if group.usd_per_chip_hour is None else given_price(chip_id, group.usd_per_chip_hour)


def _terms(q: Question, plan: Plan) -> tuple[Term, ...]:
    from chipassay.scaling.explain import explain

    return explain(q.model, plan, ready(q.group, plan.dtype), q.group)


def _sensitivity(q: Question, price: Price | None) -> Sensitivity:
    from chipassay.scaling.sensitivity import sensitivity

    return sensitivity(q.model, q.group, q.plan, global_batch=q.batch, price=price)


def _scaling(q: Question, plan: Plan) -> ScalingCurve:
    from chipassay.scaling.curve import scaling_curve

    batch = q.batch or (plan.global_batch if q.curve_counts is None else None)
    return scaling_curve(q.model, q.group, q.curve_counts, plan=q.plan, global_batch=batch, weak=q.weak)


def _curve(curve: ScalingCurve) -> dict[str, Any]:
    """A curve without the inputs of each of its predictions, which are those of the first."""
    points = []
    for point in curve.points:
        found: dict[str, Any] = {"chips": point.chips, "efficiency": point.efficiency, "runs": point.runs, "reason": point.reason}
        p = point.prediction
        names = ("step_time_s", "low_s", "high_s", "tokens_per_s", "mfu", "hfu", "memory_total_bytes", "fits")
        found |= {} if p is None else {name: getattr(p, name) for name in names} | {"plan": asdict(p.plan)}
        points.append(found)
    return {"model": curve.model, "chip_id": curve.chip_id, "weak": curve.weak, "planned": curve.planned, "points": points}


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
