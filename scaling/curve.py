"""The scaling curve: one model on more and more chips of a cluster's kind, at one batch or at a batch that grows with the chips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from chipassay.results.errors import InputError
from chipassay.results.profile import Profile

from .cluster import Cluster, Group
from .errors import IllegalPlan, NoPlanFits
from .models import Transformer, load_model
from .plan import Plan
from .predict import Prediction, predict, single_group
from .search import best_plan, default_global_batch


@dataclass(frozen=True)
class ScalingPoint:
    """One number of chips."""

    chips: int
    prediction: Prediction | None
    efficiency: float | None
    """Tokens per second and chip over those of the smallest number that can run."""
    reason: str
    """Why there is no prediction, or what is wrong with it; empty where it can run."""

    @property
    def runs(self) -> bool:
        """Whether this number of chips can train the model."""
        return self.prediction is not None and self.prediction.fits


@dataclass(frozen=True)
class ScalingCurve:
    """Predictions over numbers of chips, ascending."""

    model: str
    chip_id: str
    weak: bool
    """The batch grows with the chips; else it stays (strong scaling)."""
    planned: bool
    """Every number runs the same plan but for its data parallelism; else each its best plan."""
    points: tuple[ScalingPoint, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """A line for each number of chips."""
        kind = "the batch grows with the chips" if self.weak else "the batch stays"
        plans = "one plan, its data parallelism grows" if self.planned else "the best plan of each number"
        lines = [
            f"{self.model} on {self.chip_id}: {kind}; {plans}",
            f"{'chips':>8} {'step':>10} {'tokens/s':>12} {'MFU':>7} {'efficiency':>11}  plan",
        ]
        for point in self.points:
            p = point.prediction
            if p is None or not p.fits:
                lines.append(f"{point.chips:>8} {point.reason}")
                continue
            mfu = "" if p.mfu is None else f"{p.mfu:.1%}"
            speed = f"{p.step_time_s:>8.4g} s {p.tokens_per_s:>12,.0f} {mfu:>7} {point.efficiency or 0:>10.1%}"
            lines.append(f"{point.chips:>8} {speed}  {p.plan.describe()}")
        return "\n".join(lines)


def scaling_curve(
    model: Transformer | str,
    cluster: Cluster | Group | str,
    counts: Sequence[int] | None = None,
    *,
    plan: Plan | None = None,
    global_batch: int | None = None,
    weak: bool = False,
    profiles: Mapping[str, Profile] | None = None,
) -> ScalingCurve:
    """The curve over ``counts`` chips of the cluster's kind; None: the cluster's number, halved down to a node or a replica of the plan.

    ``plan``: every number runs it with as many replicas as it has chips for; None: each its best plan. ``global_batch`` is that of the
    largest number (default: the plan's, or about four million tokens); with ``weak`` smaller numbers get their share of it.

    Raises InputError for numbers of chips below 1; a number that cannot run the model stands in the curve with the reason.

    >>> curve = scaling_curve("llama3-8b", "32xh100-sxm-80gb", plan=Plan(global_batch=256, dp=8, zero_stage=3, recompute="full"))
    >>> [point.chips for point in curve.points], curve.points[0].efficiency
    ([8, 16, 32], 1.0)
    """
    transformer = load_model(model) if isinstance(model, str) else model
    group = single_group(cluster, profiles)
    replica = 1 if plan is None else plan.tp * plan.pp * plan.cp
    numbers = _halvings(group.count, max(min(group.chips_per_node, group.count), replica)) if counts is None else sorted(set(counts))
    if not numbers or numbers[0] < 1:
        raise InputError(f"a scaling curve needs numbers of chips of at least 1, not {', '.join(map(str, numbers)) or 'none'}")
    most = numbers[-1]
    batch = global_batch or (plan.global_batch if plan is not None else default_global_batch(transformer, most))
    points: list[ScalingPoint] = []
    base: float | None = None
    for chips in numbers:
        prediction, reason = _predicted(transformer, group.with_count(chips), plan, replica, batch, most if weak else None)
        efficiency = None
        if prediction is not None and prediction.fits:
            per_chip = prediction.tokens_per_s / chips
            base = per_chip if base is None else base
            efficiency = per_chip / base
        points.append(ScalingPoint(chips, prediction, efficiency, reason))
    return ScalingCurve(transformer.name, group.profile.chip_id, weak, plan is not None, tuple(points))


def _halvings(most: int, least: int) -> list[int]:
    """The number itself and its halves, as long as they are whole and at least ``least``, ascending.

    >>> _halvings(96, 8), _halvings(4, 8)
    ([12, 24, 48, 96], [4])
    """
    numbers = [most]
    while numbers[0] % 2 == 0 and numbers[0] // 2 >= least:
        numbers.insert(0, numbers[0] // 2)
    return numbers


def _predicted(
    model: Transformer, group: Group, plan: Plan | None, replica: int, batch: int, weak_most: int | None
) -> tuple[Prediction | None, str]:
    """The prediction of one number of chips, or the reason why there is none."""
    chips = group.count
    if weak_most is not None:
        if batch * chips % weak_most:
            return None, f"a batch of {batch} sequences on {weak_most} chips leaves no whole number for {chips}; choose divisors"
        batch = batch * chips // weak_most
    try:
        if plan is None:
            return best_plan(model, group, batch), ""
        if chips % replica:
            return None, f"{chips} chips are no multiple of the {replica} that one replica of the plan takes"
        found = predict(model, group, replace(plan, dp=chips // replica, global_batch=batch))
    except (IllegalPlan, NoPlanFits) as error:
        return None, str(error)
    if not found.fits:
        needed, limit = found.memory_total_bytes / 1e9, found.memory_limit_bytes / 1e9
        return found, f"does not fit: {needed:.1f} of {limit:.1f} GB, most of it {found.largest_memory}"
    return found, ""
