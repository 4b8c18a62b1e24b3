"""Sensitivity: which input would move the answer most, and by how much.

Each input of the profile, the network and the price is made 10 % better and 10 % worse by itself, and the step is predicted again. What is
told is the elasticity, d log(step time) / d log(input): -0.4 for a rate means that 1 % more of it makes the step 0.4 % shorter.

A machine that is twice as fast in everything takes half the time: the step is homogeneous of degree 1 in all times. By Euler's theorem on
homogeneous functions their elasticities (those of rates with the sign turned) then sum to 1. What the inputs leave of that 1 belongs to
the times that are constants of the model, the host's time per kernel above all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chipassay.results.errors import InputError
from chipassay.results.prices import Price
from chipassay.results.profile import Profile

from .cluster import Cluster, Group
from .errors import NoPlanFits
from .models import Transformer, load_model
from .plan import Plan
from .predict import Prediction, predict, single_group
from .scaled import INPUTS, with_own_links
from .search import best_plan

CHANGE = 0.1
"""How much better and worse an input is made."""

CONSTANTS = "host and other constants"
LEAST_LEFT = 0.002
"""Less than this, left over from a sum of central differences, is their error."""


@dataclass(frozen=True)
class Influence:
    """What one input does to the answer."""

    name: str
    better_is: str
    """``more`` for rates and sizes, ``less`` for times and prices."""
    step_elasticity: float
    """d log(step time) / d log(input)."""
    cost_elasticity: float | None
    """d log(USD per token) / d log(input); None without a price."""
    better_s: float
    worse_s: float | None
    """The step with the input better and worse by ``change``; None: no plan fits then."""
    change: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Sensitivity:
    """Every input, the one that moves the step most first (with a price: that moves the cost most)."""

    prediction: Prediction
    influences: tuple[Influence, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)

    def describe(self, least: float = 0.005) -> str:
        """A line for each input that moves the step or the cost by at least ``least`` per unit."""
        change = f"{self.influences[0].change:.0%}" if self.influences else ""
        lines = [f"which input moves the step of {self.prediction.step_time_s:.4g} s most (step with the input {change} better, worse):"]
        for one in self.influences:
            if max(abs(one.step_elasticity), abs(one.cost_elasticity or 0.0)) < least:
                continue
            ends = (self._percent(one.better_s), "no plan fits" if one.worse_s is None else self._percent(one.worse_s))
            what = f"  {one.name:<26} {one.step_elasticity:+.3f}  {ends[0]}, {ends[1]}"
            lines.append(what if one.cost_elasticity is None else f"{what}; cost {one.cost_elasticity:+.3f}")
        return "\n".join(lines)

    def _percent(self, step_s: float) -> str:
        return f"{step_s / self.prediction.step_time_s - 1:+.1%}"


def sensitivity(
    model: Transformer | str,
    cluster: Cluster | Group | str,
    plan: Plan | None = None,
    *,
    global_batch: int | None = None,
    price: Price | None = None,
    change: float = CHANGE,
    profiles: Mapping[str, Profile] | None = None,
) -> Sensitivity:
    """The influence of each input on a plan's step time; without a plan, on that of the best plan, searched for anew each time: only then
    does the memory's size matter.

    Raises what the prediction raises, and InputError for a change that is none.

    >>> found = sensitivity("llama3-8b", "8xh100-sxm-80gb", Plan(global_batch=64, dp=8, zero_stage=3, recompute="full"))
    >>> found.influences[0].name
    'matrix products'
    """
    if not 0 < change < 1:
        raise InputError(f"change is {change:g}; give a share above 0 and below 1, such as 0.1")
    transformer = load_model(model) if isinstance(model, str) else model
    group = with_own_links(single_group(cluster, profiles))

    def answer(changed: Group) -> Prediction:
        return best_plan(transformer, changed, global_batch) if plan is None else predict(transformer, changed, plan)

    prediction = answer(group)
    batch = prediction.plan.global_batch
    influences = []
    for name, (better_is, changed) in INPUTS.items():
        if changed(group, 2.0) == group:
            continue  # nothing in this cluster is such an input
        up, down = 1 + change, 1 / (1 + change)
        more_s, less_s = (_step_s(answer, changed(group, factor), batch) for factor in (up, down))
        better_s, worse_s = (more_s, less_s) if better_is == "more" else (less_s, more_s)
        assert better_s is not None  # an answer stays possible where an input gets better
        elasticity = _elasticity(prediction.step_time_s, more_s, less_s, up)
        influences.append(Influence(name, better_is, elasticity, None if price is None else elasticity, better_s, worse_s, change))
    left = 1 - math.fsum(one.step_elasticity * (-1 if one.better_is == "more" else 1) for one in influences)
    if plan is not None and left > LEAST_LEFT:  # a best plan jumps from one to another, where a central difference is no derivative
        better_s, worse_s = (prediction.step_time_s * (1 + change) ** exponent for exponent in (-left, left))
        influences.append(Influence(CONSTANTS, "less", left, None if price is None else left, better_s, worse_s, change))
    if price is not None:
        step_s = prediction.step_time_s
        influences.append(Influence("price", "less", 0.0, 1.0, step_s, step_s, change))
    influences.sort(key=lambda one: (-abs(one.step_elasticity if one.cost_elasticity is None else one.cost_elasticity), one.name))
    return Sensitivity(prediction, tuple(influences))


def _step_s(answer: Callable[[Group], Prediction], group: Group, batch: int) -> float | None:
    """The step time, at the batch of the first answer; None where nothing fits."""
    try:
        found = answer(group)
    except NoPlanFits:
        return None
    return found.step_time_s * batch / found.plan.global_batch


def _elasticity(step_s: float, more_s: float | None, less_s: float | None, factor: float) -> float:
    """Central where both ends are known, else one-sided."""
    ends = [(more_s, factor), (less_s, 1 / factor)]
    known = [(value, at) for value, at in ends if value is not None]
    if len(known) == 1:
        known.append((step_s, 1.0))
    (high_s, high), (low_s, low) = known
    return math.log(high_s / low_s) / math.log(high / low)
