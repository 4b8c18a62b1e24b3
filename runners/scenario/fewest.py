"""The fewest chips of one kind that train at a given speed."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache

from chipassay.scaling.errors import NoPlanFits
from chipassay.scaling.exchange import Fleet
from chipassay.scaling.machine import Input
from chipassay.scaling.models import load_model
from chipassay.scaling.predict import Prediction
from chipassay.scaling.search import default_global_batch

from .records import Case, Scenario
from .sides import fleet_of

FACTORS = (2, 3, 5, 7)
"""Numbers of nodes that are looked at have no other prime factor: others divide layers and batches badly, and nobody builds them."""
MOST_CHIPS = 131_072
NEAR = 0.96
"""Share of a speed by closed forms from which on a number is looked at closer."""
LEAST_USED = 0.8
"""Share of given chips below which leaving out more is not looked at."""
TOGETHER = 12
"""Numbers that are looked at in one go."""
FALLS = 3
"""Doublings without more speed after which no larger number is looked at."""


class Fewest:
    """The search on one kind of chip at one batch. The fleet remembers what was tried: several speeds cost little more than one."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._node = fleet.side.unit_chips

    def reaching(self, tokens_per_s: float) -> Prediction | None:
        """The prediction on the fewest chips, in whole nodes, that train so fast; None where no number does (see ``why_not``).

        Doublings find a number that does. From the least that could, by the best speed of a chip seen, each is then looked at by closed
        forms, and where these come near the speed, pass by pass.
        """
        aim = tokens_per_s * (1 - 1e-9)
        for count in self._near(NEAR * aim):
            found = self.at(count)
            if found is not None and found.tokens_per_s >= aim:
                return found
        return None

    def least(self, tokens_per_s: float) -> float:
        """The fewest chips that train so fast by closed forms, infinite where no number does: for the ends of an interval."""
        return float(next(self._near(tokens_per_s), math.inf))

    def at(self, count: int) -> Prediction | None:
        """On so many chips; None where they cannot train the model."""
        run = self.fleet.run(count)
        found = None if run is None else run.prediction
        assert found is None or isinstance(found, Prediction)  # it is of one kind
        return found

    def most_of(self, count: int) -> Prediction:
        """The fastest use of up to so many chips: all of them, or fewer that divide the work better. Raises NoPlanFits where none can."""
        near = sorted({count, *(fewer for fewer in self._counts if LEAST_USED * count <= fewer <= count)})
        self.fleet.look(near)
        speeds = {some: self.fleet.speed(some) for some in near}
        found = [self.at(some) for some, speed in speeds.items() if speed >= NEAR * max(speeds.values())]
        best = max((one for one in found if one is not None), key=lambda one: one.tokens_per_s, default=None)
        if best is None:
            raise NoPlanFits(f"no {count} of {self.fleet.side.name} hold {self.fleet.model.name}; use more")
        return best

    @property
    def fastest(self) -> Prediction | None:
        """On the number of chips that was the fastest of those looked at, by closed forms; None where none holds the model."""
        speeds = self.fleet.known
        return self.at(max(speeds, key=lambda count: speeds[count])) if any(speeds.values()) else None

    def why_not(self, tokens_per_s: float) -> str:
        """Why no number of chips reaches a speed by the best estimate."""
        speeds, fleet = self.fleet.known, self.fleet
        if not any(speeds.values()):
            return f"no number of {fleet.side.name} up to {MOST_CHIPS:,} holds {fleet.model.name} at a batch of {fleet.batch:,} sequences"
        best = max(speeds, key=lambda count: speeds[count])
        share = f"{speeds[best] / tokens_per_s:.0%}".replace("%", " %")
        told = f"{best:,} chips reach {share} of the speed, no number up to {MOST_CHIPS:,} more"
        return f"a batch of {fleet.batch:,} sequences runs out of parallel work: {told}"

    @cached_property
    def _counts(self) -> list[int]:
        return [count for count in self.fleet.counts if count <= MOST_CHIPS and count % self._node == 0 and smooth(count // self._node)]

    def _near(self, tokens_per_s: float) -> Iterator[int]:
        """Numbers of chips that train so fast by closed forms, ascending; none where speeds fall without having reached it."""
        best, falls = 0.0, 0
        for count in _doublings(self._counts):
            speed = self.fleet.speed(count)
            if speed >= tokens_per_s:
                break
            falls = 0 if speed > best or not speed else falls + 1
            best = max(best, speed)
            if falls == FALLS:
                return
        else:
            return
        each = max(speed / at for at, speed in self.fleet.known.items())
        able = self._counts[bisect_left(self._counts, tokens_per_s / each) :]
        for start in range(0, len(able), TOGETHER):
            self.fleet.look(some := able[start : start + TOGETHER])
            yield from (count for count in some if self.fleet.speed(count) >= tokens_per_s)


@lru_cache(maxsize=256)
def fewest(model: str, chip: str, network: str | None, scenario: Scenario, batch: int | None = None, dtype: str | None = None) -> Fewest:
    """The search at this batch, else that of the model's run, else about four million tokens: one for the same question."""
    run = scenario.runs.get(model)
    usual = (None if run is None else run.batch) or default_global_batch(load_model(model))
    return Fewest(fleet_of(model, chip, network, scenario, batch or usual, dtype))


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
