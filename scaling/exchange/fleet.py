"""A side's chips in numbers: the best plan of each number that is asked for, what it costs an hour and what it draws."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from chipassay.results.prices import Price, price_of

from ..cluster import Group
from ..errors import IllegalPlan, MissingCell, NoPlanFits
from ..mixed.records import MixedPrediction
from ..mixed.search import MixedAnswer, plan_mixed
from ..models import Transformer
from ..plan import Plan
from ..planner.objective import wall_watts
from ..predict import Prediction
from ..ready import ready
from ..search import BATCH_TOLERANCE, Priced, price_all, search
from ..step import step
from .counts import legal_counts, thinned
from .side import Side

FEWER = 4
"""A number of chips that divides badly is beaten by a smaller one: so many whole-node numbers below it are tried too."""
LEAST_USED = 0.75
"""Of the chips that there are; plans that leave more of them idle are not looked for."""
MIX_STEP = 1.05
"""From one number of a mix to the next: each is an optimisation of its own."""
MOST_CHIPS, MOST_MIXED = 2**20, 8192
"""Chips of one kind and of a mix beyond which no number is looked at: ten times the largest clusters of today; what takes seconds."""


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


@dataclass(frozen=True)
class Estimate:
    """The best plan of a number of chips by closed forms: within 1 % of what playing pipelines through tells."""

    chips: int
    tokens_per_s: float
    parts_s: Mapping[str, float]
    """The step by kind."""


class Fleet:
    """One side with what has been worked out of it: each number of chips is searched once."""

    def __init__(
        self,
        model: Transformer,
        side: Side,
        batch: int,
        *,
        tolerance: float = BATCH_TOLERANCE,
        settings: Plan | None = None,
        prices: Mapping[str, Price] | None = None,
        as_of: str | None = None,
        watch: Callable[[str], None] = lambda words: None,
    ) -> None:
        """``batch`` may be moved by ``tolerance``. ``prices`` stand in the place of the quotes (of those dated by ``as_of``). ``watch`` is
        told of each number before it is searched."""
        self.model, self.side, self.batch, self.tolerance, self.settings = model, side, batch, tolerance, settings
        self.as_of = as_of
        self.prices = tuple(price_of(chip_id, prices or {}, as_of=as_of) for chip_id in side.chip_ids)
        self.problem: NoPlanFits | IllegalPlan | None = None
        """Why the last number that could not be used could not."""
        self.tried: dict[int, Run | None] = {}
        self._estimates: dict[int, Priced | None] = {}
        self._watch = watch
        self._terms: dict[str, Any] = {"settings": settings, "prices": prices, "as_of": as_of, "watch": watch}

    def of(self, side: Side, batch: int | None = None) -> Fleet:
        """Another side on the same terms, at the same batch unless another is given; it may be moved by BATCH_TOLERANCE."""
        return Fleet(self.model, side, batch or self.batch, **self._terms)

    @cached_property
    def counts(self) -> list[int]:
        """Numbers of chips worth trying, in whole nodes, ascending, up to MOST_CHIPS; of a mix to MOST_MIXED, thinned out as they grow."""
        if not self.side.mixed:
            legal = legal_counts(self.model, self.side.kinds[0].group(self.side.unit_chips), self.batch, self.tolerance)
            return legal[: bisect_right(legal, MOST_CHIPS)]
        unit = self.side.unit_chips
        return thinned(range(unit, MOST_MIXED + 1, unit), MIX_STEP)[:-1] or [unit]

    def run(self, count: int) -> Run | None:
        """So many chips by their best plan; None where none fits or divides the batch."""
        if count not in self.tried:
            self._watch(f"{count} x {self.side.name}")
            try:
                self.tried[count] = self._search(count)
            except (NoPlanFits, IllegalPlan) as error:
                self.tried[count] = None
                self.problem = error
        return self.tried[count]

    def speed(self, count: int) -> float:
        """Tokens per second of so many chips, all at work, by closed forms; 0 where they cannot run."""
        if self.side.mixed:
            found = self.run(count)
            return 0.0 if found is None else found.tokens_per_s
        priced = self._priced(count)
        return 0.0 if priced is None else self.model.seq_len / priced.fastest(1)[1][0]

    def speed_up_to(self, count: int) -> float:
        """The same, where some of the chips may be left idle."""
        return max(self.speed(count), *map(self.speed, self.fewer(count)), 0.0)

    def estimate(self, count: int) -> Estimate | None:
        """The best plan of so many chips by closed forms."""
        if self.side.mixed:
            found = self.run(count)
            return None if found is None else Estimate(count, found.tokens_per_s, found.prediction.breakdown_s)
        priced = self._priced(count)
        if priced is None:
            return None
        index = priced.fastest(1)[0][0]
        parts = step(self.model, priced.plans.take(slice(index, index + 1)), priced.machine, self.side.groups(count)[0]).parts_s
        return Estimate(count, self.speed(count), {kind: float(seconds[0]) for kind, seconds in parts.items()})

    def fewer(self, count: int) -> list[int]:
        """Numbers just below it that may do more; of a mix none, whose search leaves chips idle by itself."""
        if self.side.mixed:
            return []
        last = bisect_left(self.counts, count)
        return [some for some in self.counts[max(0, last - FEWER) : last] if some >= LEAST_USED * count]

    def up_to(self, count: int) -> Run:
        """The fastest run on so many chips, some of which may be left idle. Raises what is wrong where there is none."""
        found = [self.run(some) for some in (count, *self.fewer(count))]
        fastest = max((run for run in found if run is not None), key=lambda run: run.tokens_per_s, default=None)
        if fastest is None:
            del self.tried[count]
            self.run(count)  # again, so that what is told is of this number
            assert self.problem is not None
            raise self.problem
        return Run(self.side.groups(count), count, fastest.prediction, self.prices, fastest.mix)

    def _search(self, count: int) -> Run:
        groups = self.side.groups(count)
        if self.side.mixed:
            answer = plan_mixed(self.model, self.side.cluster(count), self.batch, settings=self._mixed_settings())
            return Run(groups, count, answer.best.prediction, self.prices, answer)
        machine = self._machine if count >= self.side.unit_chips else ready(groups[0], self._dtype)
        found = search(self.model, groups[0], machine, self.batch, batch_tolerance=self.tolerance, settings=self.settings)
        return Run(groups, count, found.best, self.prices)

    def _priced(self, count: int) -> Priced | None:
        if count not in self._estimates:
            group = self.side.groups(count)[0]
            try:
                found = price_all(self.model, group, self._machine, self.batch, self.settings, batch_tolerance=self.tolerance)
            except (NoPlanFits, IllegalPlan) as error:
                found = None
                self.problem = error
            self._estimates[count] = found
        return self._estimates[count]

    @property
    def _dtype(self) -> str | None:
        return None if self.settings is None else self.settings.dtype

    @cached_property
    def _machine(self) -> Any:
        return ready(self.side.kinds[0].group(self.side.unit_chips), self._dtype)

    def _mixed_settings(self) -> Plan | None:
        return None if self.settings is None else replace(self.settings, sequence_parallel=True)
