"""The fewest chips of one kind that train at a given speed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from chipassay.scaling.errors import IllegalPlan, NoPlanFits
from chipassay.scaling.exchange import legal_counts
from chipassay.scaling.machine import Input
from chipassay.scaling.models import load_model
from chipassay.scaling.predict import Prediction
from chipassay.scaling.search import default_global_batch

from .records import Case, Scenario
from .sides import fastest, group_of, rough_speed

FACTORS = (2, 3, 5, 7)
"""Numbers of nodes that are looked at have no other prime factor: others divide layers and batches badly, and nobody builds them."""
MOST_CHIPS = 131_072
NEAR = 0.96
"""Share of a speed by closed forms from which on a number is looked at closer."""
LEAST_USED = 0.8
"""Share of given chips below which leaving out more is not looked at."""
FALLS = 3
"""Doublings without more speed after which no larger number is looked at."""


@dataclass(eq=False)
class Fewest:
    """The search for one model on one chip at one batch. It remembers what it tried: several speeds cost little more than one."""

    model: str
    chip: str
    network: str | None
    scenario: Scenario
    batch: int
    dtype: str | None = None
    tried: dict[int, Prediction | None] = field(default_factory=dict)
    roughly: dict[int, float] = field(default_factory=dict)

    def reaching(self, tokens_per_s: float) -> Prediction | None:
        """The prediction on the fewest chips, in whole nodes, that train so fast; None where no number does (see ``why_not``).

        Doublings find a number that does. From the least that could, by the best speed of a chip seen, each is then looked at by closed
        forms, and where these come near the speed, pass by pass.
        """
        aim = tokens_per_s * (1 - 1e-9)
        for count in self._near(NEAR * aim):
            if self._speed(count) >= aim:
                return self.tried[count]
        return None

    def least(self, tokens_per_s: float) -> float:
        """The fewest chips that train so fast by closed forms, infinite where no number does: for the ends of an interval."""
        return float(next(self._near(tokens_per_s), math.inf))

    def _near(self, tokens_per_s: float) -> Iterator[int]:
        """Numbers of chips that train so fast by closed forms, ascending; none where speeds fall without having reached it."""
        best, falls = 0.0, 0
        for count in _doublings(self._counts):
            speed = self._rough(count)
            if speed >= tokens_per_s:
                break
            falls = 0 if speed > best or not speed else falls + 1
            best = max(best, speed)
            if falls == FALLS:
                return
        else:
            return
        each = max(speed / at for at, speed in self.roughly.items())
        for count in self._counts:
            if count >= tokens_per_s / each and self._rough(count) >= tokens_per_s:
                yield count

    @property
    def fastest(self) -> Prediction | None:
        """On the number of chips that was the fastest of those looked at, by closed forms; None where none holds the model."""
        if not any(self.roughly.values()):
            return None
        return self.at(max(self.roughly, key=lambda count: self.roughly[count]))

    def at(self, count: int) -> Prediction | None:
        """On so many chips; None where they cannot train the model."""
        self._speed(count)
        return self.tried[count]

    def most_of(self, count: int) -> Prediction:
        """The fastest use of up to so many chips: all of them, or a few less that divide better.

        Raises NoPlanFits where none of these holds the model.
        """
        node = group_of(self.chip, 1, self.network).chips_per_node
        near = [other for other in self._counts if LEAST_USED * count <= other <= count]
        for other in dict.fromkeys([*near, count]):
            self._speed(other)
        found = [prediction for other in (*near, count) if (prediction := self.tried[other]) is not None]
        if not found:
            raise NoPlanFits(f"{self.model} fits on no {count} of {self.chip} in nodes of {node}; use more")
        return max(found, key=lambda prediction: prediction.tokens_per_s)

    def why_not(self, tokens_per_s: float) -> str:
        """Why no number of chips reaches a speed by the best estimate."""
        if not any(self.roughly.values()):
            return f"no number of {self.chip} up to {MOST_CHIPS:,} holds {self.model} at a batch of {self.batch} sequences"
        best = max(self.roughly, key=lambda count: self.roughly[count])
        share = f"{self.roughly[best] / tokens_per_s:.0%}".replace("%", " %")
        told = f"{best:,} chips reach {share} of the speed, no number up to {MOST_CHIPS:,} more"
        return f"a batch of {self.batch} sequences runs out of parallel work: {told}"

    @cached_property
    def _counts(self) -> list[int]:
        node = group_of(self.chip, 1, self.network).chips_per_node
        legal = legal_counts(load_model(self.model), group_of(self.chip, node, self.network), self.batch)
        return [count for count in legal if count <= MOST_CHIPS and smooth(count // node)]

    def _rough(self, count: int) -> float:
        """Tokens per second by closed forms, which are some percent off the pipeline played through; 0 where nothing fits."""
        if count not in self.roughly:
            group = group_of(self.chip, count, self.network)
            try:
                self.roughly[count] = rough_speed(self.model, group, self.scenario, self.batch, self.dtype)
            except (NoPlanFits, IllegalPlan):
                self.roughly[count] = 0.0
        return self.roughly[count]

    def _speed(self, count: int) -> float:
        if count not in self.tried:
            try:
                group = group_of(self.chip, count, self.network)
                self.tried[count] = fastest(self.model, group, self.scenario, self.batch, self.dtype)
            except (NoPlanFits, IllegalPlan):
                self.tried[count] = None
        found = self.tried[count]
        return 0.0 if found is None else found.tokens_per_s


@lru_cache(maxsize=256)
def fewest(model: str, chip: str, network: str | None, scenario: Scenario, batch: int | None = None, dtype: str | None = None) -> Fewest:
    """The search at this batch, else that of the model's run, else about four million tokens: one for the same question."""
    run = scenario.runs.get(model)
    usual = (None if run is None else run.batch) or default_global_batch(load_model(model))
    return Fewest(model, chip, network, scenario, batch or usual, dtype)


Spread = Callable[[Prediction], float]


def impossible(search: Fewest, tokens_per_s: float, spread: Spread, axes: Mapping[str, str], inputs: tuple[Input, ...] = ()) -> Case:
    """The case of a speed that no number of chips reaches by the best estimate. Where the fastest of them reaches it at the upper end of
    its 80 % interval, the case says from how many chips on one may. ``spread``: factor between a prediction's speed and that end."""
    reason, low = search.why_not(tokens_per_s), math.inf
    top = search.fastest
    if top is not None and math.isfinite(low := search.least(tokens_per_s / spread(top))):
        reason += f"; within the 80 % interval {low:,.0f} may"
    return Case(axes, math.inf, low, math.inf, reason=reason, inputs=inputs)


def span(search: Fewest, chips: int, least: float, most: float) -> tuple[float, float]:
    """80 % interval of a number of chips, carried through how their speed grows with their number: the fewest for ``least`` and ``most``
    tokens per second, what must be predicted where chips are in truth faster and slower than that by the whole interval of the speed."""
    return min(float(chips), search.least(least)), max(float(chips), search.least(most))


def smooth(number: int) -> bool:
    """Whether a number has no prime factor beside FACTORS.

    >>> smooth(126), smooth(26)
    (True, False)
    """
    for factor in FACTORS:
        while number % factor == 0:
            number //= factor
    return number == 1


def _doublings(counts: list[int]) -> list[int]:
    """The counts that are the first at or above each power of two."""
    found = {next((count for count in counts if count >= 2**power), 0) for power in range(math.ceil(math.log2(max(counts, default=1))) + 1)}
    return sorted(found - {0})
