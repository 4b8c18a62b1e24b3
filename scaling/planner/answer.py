"""What a search of plans answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from chipassay.results.errors import ChipassayError
from chipassay.results.prices import Price

from ..constants import STRAGGLER_SIGMA
from ..plan import Plan
from ..plan_text import write_plan
from ..predict import Prediction
from .front import Against
from .objective import Objective
from .why import why_not_best


class NoPlanReaches(ChipassayError):
    """No plan is as fast as asked for. ``tokens_per_s``: what the fastest makes."""

    exit_code = 1

    def __init__(self, problem: str, tokens_per_s: float) -> None:
        super().__init__(problem)
        self.tokens_per_s = tokens_per_s


@dataclass(frozen=True)
class Candidate:
    """One plan with its prediction."""

    prediction: Prediction
    value: float
    """What it is judged by: seconds (time, chips), USD (cost) or joules (energy) per token."""
    usd_per_token: float | None
    """None: no price is known."""

    def respect(self, against: Against) -> float:
        """What a front holds against its time."""
        if against == "cost" and self.usd_per_token is not None:
            return self.usd_per_token
        return self.prediction.memory_total_bytes if against == "memory" else float(self.prediction.chips)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON; ``plan_text`` is what ``predict --plan`` takes."""
        p = self.prediction
        million = None if self.usd_per_token is None else self.usd_per_token * 1e6
        found = {name: getattr(p, name) for name in ("chips", "step_time_s", "low_s", "high_s", "tokens_per_s", "mfu", "hfu")}
        found |= {"usd_per_million_tokens": million, "memory_total_bytes": p.memory_total_bytes, "memory_limit_bytes": p.memory_limit_bytes}
        return {"plan_text": write_plan(p.plan), **found, "breakdown_s": dict(p.breakdown_s), "plan": asdict(p.plan)}


def ways(plan: Plan) -> int:
    """In how many ways a plan cuts the model: the dimensions it has beside replicas, and what else a run has to be set up for.

    >>> ways(Plan(global_batch=64, dp=64)), ways(Plan(global_batch=64, tp=2, pp=4, dp=8, interleave=2, recompute="full"))
    (0, 4)
    """
    degrees = (plan.tp, plan.pp, plan.cp, plan.ep, plan.interleave)
    return sum(degree > 1 for degree in degrees) + (plan.recompute != "none") + (plan.schedule in ("zero-bubble", "dualpipe"))


@dataclass(frozen=True)
class PlanAnswer:
    """The best plans of a search, best first."""

    objective: Objective
    candidates: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    """Fastest first; empty where no front was asked for."""
    against: Against | None
    chips_available: int
    plans_seen: int
    """Plans of the space, orders of ranks not counted."""
    plans_timed: int
    """Those of them, with their orders of ranks, that could not be left out."""
    proven: bool
    """No plan of the space is better than the first."""
    interrupted: bool
    price: Price | None
    spare: float
    """Share of each chip's memory that every plan leaves free."""
    notes: tuple[str, ...] = ()
    """What has to be known of the first plan beside its figures."""

    @property
    def best(self) -> Candidate:
        return self.candidates[0]

    @property
    def simplest(self) -> int:
        """Place (from 0) of the plan that cuts the work in the fewest ways, among those on as many chips that come as close to the first as
        two chips of one kind do to each other."""
        close = [
            place
            for place, one in enumerate(self.candidates)
            if self._ratio(place) <= 1 + STRAGGLER_SIGMA.value and one.prediction.chips == self.best.prediction.chips
        ]
        return min(close, key=lambda place: (ways(self.candidates[place].prediction.plan), place))

    def why(self, place: int) -> str:
        """Why the plan at this place (from 1) is not the best; empty for the best."""
        return why_not_best(self.best.prediction, self.candidates[place].prediction, self.objective, self._ratio(place)) if place else ""

    def _ratio(self, place: int) -> float:
        return self.candidates[place].value / self.best.value

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        names = ("objective", "against", "chips_available", "plans_seen", "plans_timed", "proven", "interrupted", "spare", "simplest")
        first = self.best.prediction
        plans = [{**one.to_dict(), "why": self.why(place)} for place, one in enumerate(self.candidates)]
        return {
            "model": first.model,
            "dtype": first.dtype,
            **{name: getattr(self, name) for name in names},
            "price": None if self.price is None else asdict(self.price),
            "notes": list(self.notes),
            "plans": plans,
            "front": [one.to_dict() for one in self.front],
        }
