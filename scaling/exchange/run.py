"""A number of chips of one side at work: its speed, what it costs an hour and what it draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chipassay.results.prices import Price

from ..cluster import Group
from ..errors import MissingCell
from ..mixed.records import MixedPrediction
from ..planner.objective import wall_watts
from ..predict import Prediction

if TYPE_CHECKING:
    from ..mixed.search import MixedAnswer


@dataclass(frozen=True)
class Run:
    """A number of chips of one side at work, by its best plan."""

    groups: tuple[Group, ...]
    chips: int
    """That there are; of them ``prediction.chips`` work."""
    prediction: Prediction | MixedPrediction
    prices: tuple[Price | None, ...]
    """Of each kind, per chip and hour."""
    mix: MixedAnswer | None = None

    @property
    def tokens_per_s(self) -> float:
        return self.prediction.tokens_per_s

    @property
    def name(self) -> str:
        return "+".join(group.name for group in self.groups)

    @property
    def text(self) -> str:
        """The plan in one line."""
        found = self.prediction
        plan = found.plan.describe() if isinstance(found, Prediction) else found.text
        return plan if found.chips == self.chips else f"{found.chips} of the {self.chips} work: {plan}"

    @property
    def dtypes(self) -> tuple[str, ...]:
        """In which the work is done, each once."""
        return tuple(dict.fromkeys(dtype for _, dtype in self.working))

    @cached_property
    def usd_per_hour(self) -> float | None:
        """Of all chips, at the median quotes; None where one has none."""
        return self._usd(lambda price: price.usd)

    @property
    def usd_per_hour_ends(self) -> tuple[float, float] | None:
        """The same at the lowest and at the highest quotes."""
        low, high = self._usd(lambda price: price.lowest_usd), self._usd(lambda price: price.highest_usd)
        return None if low is None or high is None else (low, high)

    def _usd(self, of: Callable[[Price], float]) -> float | None:
        total = 0.0
        for group, price in zip(self.groups, self.prices, strict=True):
            if price is None:
                return None
            total += group.count * of(price)
        return total

    @cached_property
    def working(self) -> tuple[tuple[Group, str], ...]:
        """The kinds that work, each with its dtype: a mix may leave one out."""
        found = self.prediction
        if isinstance(found, MixedPrediction):
            return tuple((self.groups[kind], found.dtypes[kind]) for kind in found.plan.kinds)
        names = (self.groups[0].profile.chip_id,) if self.mix is None else self.mix.best.kinds
        return tuple((group, found.dtype) for group in self.groups if group.profile.chip_id in names)

    @cached_property
    def watts(self) -> float | None:
        """From the wall, the hosts and the building in it (see energy.py); None where a chip's power is unknown. Single chips that are left
        idle draw as those that work, kinds that are left out nothing."""
        found = self.prediction
        total = 0.0
        try:
            for group, dtype in self.working:
                watts = wall_watts(group, dtype)
                joules = math.fsum(seconds * watts[kind] for kind, seconds in found.breakdown_s.items())
                total += group.count * joules / found.step_time_s
        except MissingCell:
            return None
        return total

    @property
    def usd_per_token(self) -> float | None:
        return None if self.usd_per_hour is None else self.usd_per_hour / 3600 / self.tokens_per_s

    @property
    def joules_per_token(self) -> float | None:
        return None if self.watts is None else self.watts / self.tokens_per_s

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "cluster": self.name, "chips": self.chips, "working": self.prediction.chips, "tokens_per_s": self.tokens_per_s,
            "dtypes": self.dtypes, "plan": self.text, "usd_per_hour": self.usd_per_hour, "usd_per_hour_ends": self.usd_per_hour_ends,
            "watts": self.watts, "usd_per_token": self.usd_per_token, "joules_per_token": self.joules_per_token,
        }  # fmt: skip
