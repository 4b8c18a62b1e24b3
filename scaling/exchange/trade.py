"""Two sides at one table: the reference's run is given, and the other's number is looked for that does the same."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

from chipassay.results.errors import UnknownName

from ..as_of import check_released, software_input
from ..errors import IllegalPlan, MissingCell, NoPlanFits
from ..machine import Input
from ..predict import Prediction
from ..uncertainty import Z80
from .counts import largest_within, smallest_reaching, thinned
from .fleet import Fleet, Run
from .limits import Ceiling, ceiling
from .record import SAMES, WHAT, Exchange, Same
from .side import Side
from .spread import ratio_sigma
from .worth import Worth, worth_of

NEAR = 0.02
"""Closed forms that miss the aim by less than that are held against a prediction."""
FAR = 1.5
"""Times the estimated number up to which predictions are tried before none is taken to reach the aim."""


@dataclass(frozen=True)
class Point:
    """One number of chips on the curve."""

    chips: int
    tokens_per_s: float


class Trade:
    """Both sides made ready: the reference's run, and the other's numbers as they are asked for."""

    def __init__(self, reference: Fleet, aim: Run, other: Fleet) -> None:
        self.reference, self.aim, self.other = reference, aim, other
        self._worth: Worth | None = None

    def against(self, other: Side) -> Trade:
        """The same reference against another side. Raises InputError for a chip that came after the month that is asked about."""
        if self.reference.as_of is not None:
            check_released(other.chip_ids, self.reference.as_of)
        return Trade(self.reference, self.aim, self.reference.of(other))

    @property
    def worth(self) -> Worth | None:
        """Chip for chip; None for a mix."""
        if self._worth is None and not self.other.side.mixed:
            kinds = self.reference.side.kinds[0], self.other.side.kinds[0]
            self._worth = worth_of(self.reference.model, *kinds, self.reference.settings)
        return self._worth

    @property
    def guess(self) -> int:
        """About how many of the other it takes; of a mix by what its kinds are worth one by one."""
        if self.worth is not None:
            return math.ceil(self.aim.chips * self.worth.ratio)
        side, kinds = self.other.side, self.other.side.kinds
        ratios = [worth_of(self.reference.model, self.reference.side.kinds[0], kind, self.reference.settings).ratio for kind in kinds]
        speed = sum(each / ratio for each, ratio in zip(side.unit, ratios, strict=True)) / side.unit_chips
        return math.ceil(self.aim.chips / speed)

    def exchange(self, same: Same = "time", limits: bool = False) -> Exchange:
        """The answer. ``limits``: also where it stops being possible (not of a mix, whose large numbers take long); where there is no
        answer that is told anyway."""
        if same not in SAMES:
            raise UnknownName("measure to hold the same", same, SAMES)
        count, low, high, reason = self._of_time() if same == "time" else self._of_value(same)
        found = None if count is None else self.other.up_to(count) if same == "rent" else self.other.run(count)
        nowhere = same == "time" and count is None
        top = ceiling(self.other, self.reference, self.aim, self.guess) if nowhere or (limits and not self.other.side.mixed) else None
        if count is None and same == "time":
            reason = self._why_not(top)
        shown = found or (None if top is None else self.other.run(top.chips))
        speed = None if shown is None else shown.tokens_per_s / self.aim.tokens_per_s
        spread = 1.0 if shown is None else math.exp(Z80 * self._sigma(shown))
        predicted = None if shown is None else shown.prediction
        aimed = self.aim.prediction
        assert isinstance(aimed, Prediction)  # the reference is of one kind
        worth = self.worth
        return Exchange(
            model=self.reference.model.name,
            same=same,
            global_batch=self.other.batch,
            as_of=self.reference.as_of,
            reference_chip=self.reference.side.name,
            reference_count=self.aim.chips,
            other_chip=self.other.side.name,
            count=count,
            count_low=low,
            count_high=high,
            speed=speed,
            speed_low=None if speed is None else speed / spread,
            speed_high=None if speed is None else speed * spread,
            ratio=None if worth is None else worth.ratio,
            reference=aimed,
            other=predicted if isinstance(predicted, Prediction) else None,
            reference_run=self.aim,
            other_run=shown,
            mix=None if shown is None else shown.mix,
            worth=worth,
            ceiling=top,
            reason=reason,
            notes=self._notes(shown),
            inputs=self._inputs(shown),
        )

    def curve(self, most: int | None = None) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
        """Speeds over numbers of chips of both sides, the reference's first: from the smallest that can run up to ``most``."""
        sides = []
        for fleet in (self.reference, self.other):
            counts = [count for count in thinned(fleet.counts) if most is None or count <= most]
            known = [count for count, run in fleet.tried.items() if run is not None and (most is None or count <= most)]
            speeds = {count: fleet.speed(count) for count in sorted({*counts, *known})}
            best = 0.0
            points = []
            for count, speed in speeds.items():
                if speed > best:  # a number that divides badly leaves chips idle instead
                    best = speed
                    points.append(Point(count, speed))
            sides.append(tuple(points))
        return sides[0], sides[1]

    def _of_time(self) -> tuple[int | None, float | None, float | None, str]:
        aim = self.aim.tokens_per_s
        run = self._smallest(aim)
        if run is None:
            return None, None, None, ""
        count = run.chips
        low, high = float(count), float(count)
        if sigma := self._sigma(run):
            spread = math.exp(Z80 * sigma)
            low = min(low, self._estimated(aim / spread, count / spread))
            high = max(high, self._estimated(aim * spread, count * spread))
        steps = f", tried in steps of {self.other.side.unit_chips} or 5 %," if self.other.side.mixed else ""
        reason = f"the smallest number in whole nodes{steps} that reaches {aim:.4g} tokens/s at a batch of {self.other.batch:,} sequences"
        return count, low, high, reason

    def _smallest(self, aim: float) -> Run | None:
        """The fewest chips as fast as the aim: found by closed forms, then held against predictions around that."""
        counts, reached = self.other.counts, aim * (1 - 1e-9)
        estimated = self._estimated(aim * (1 - NEAR), self.guess)
        if math.isinf(estimated):
            return None
        for count in counts[bisect_left(counts, estimated) :]:
            if self.other.speed(count) < aim * (1 - NEAR):
                continue
            run = self.other.run(count)
            if run is not None and run.tokens_per_s >= reached:
                return run
            if count > FAR * estimated:
                break
        return None

    def _estimated(self, aim: float, start: float) -> float:
        """The fewest chips that reach an aim by closed forms; infinite where none do."""
        counts, other = self.other.counts, self.other
        at = smallest_reaching(counts, bisect_left(counts, start), lambda index: other.speed_up_to(counts[index]) >= aim)
        if at is None:
            return math.inf
        return float(next(count for count in (*other.fewer(counts[at]), counts[at]) if other.speed(count) >= aim))

    def _of_value(self, same: Same) -> tuple[int | None, float | None, float | None, str]:
        what, unit, value = WHAT[same]
        aim = value(self.aim)
        if aim is None or (same in ("cost", "rent") and None in self.other.prices):
            raise self._missing(same)
        if same == "rent":
            return self._of_rent(aim)
        counts = self.other.counts

        def of(count: int) -> float:
            run = self.other.run(count)
            if run is None:
                return math.inf
            found = value(run)
            if found is None:
                raise self._missing(same)
            return found

        count, cheapest = largest_within(counts, of, aim * (1 + 1e-9))
        if count is None:
            if cheapest is None:
                return None, None, None, f"no number of {self.other.side.name} can run {self.other.model.name}: {self.other.problem}"
            times = of(cheapest) / aim
            least = f"the {what} is {times:.4g} times that of the reference at the least, with {cheapest} {self.other.side.name}"
            return None, None, None, f"no number of {self.other.side.name} does it for the same: {least}"
        low = high = float(count)
        run = self.other.run(count)
        assert run is not None
        if same in ("cost", "energy"):  # of a whole run, so as unsure as its time
            spread = math.exp(Z80 * self._sigma(run))
            few, many = (largest_within(counts, of, aim * factor)[0] for factor in (1 / spread, spread))
            low, high = float(few or 0), float(max(count, many or count))
        reason = f"the largest number in whole nodes whose {what} is no more than the reference's {aim:.4g} {unit}"
        return count, low, high, reason

    def _of_rent(self, aim: float) -> tuple[int | None, float | None, float | None, str]:
        side = self.other.side
        unit = sum(each * price.usd for each, price in zip(side.unit, self.other.prices, strict=True) if price is not None)
        units = math.floor(aim / unit * (1 + 1e-9))
        if not units:
            return None, None, None, f"{side.unit_chips} {side.name} rent for {unit:.4g} USD/h, more than the reference's {aim:.4g}"
        count = units * side.unit_chips
        try:
            self.other.up_to(count)
        except (NoPlanFits, IllegalPlan) as error:
            return None, None, None, f"{count} {side.name} rent for no more than {aim:.4g} USD/h, but cannot run it: {error}"
        return count, float(count), float(count), f"the largest number in whole nodes that rents for no more than {aim:.4g} USD/h"

    def _missing(self, same: Same) -> MissingCell:
        when = f" by {self.reference.as_of}" if self.reference.as_of else ""
        if same in ("cost", "rent"):
            fleets = (self.reference, self.other)
            chips = [chip for fleet in fleets for chip, price in zip(fleet.side.chip_ids, fleet.prices, strict=True) if price is None]
            return MissingCell(f"no quote of {chips[0]} is known{when}; give one with --price {chips[0]}=USD per chip and hour")
        unknown = [
            kind.profile.chip_id for fleet in (self.reference, self.other) for kind in fleet.side.kinds if kind.profile.power_w is None
        ]
        return MissingCell(f"the power of {(unknown or ['a chip'])[0]} is unknown; add power_w to its profile")

    def _sigma(self, run: Run) -> float:
        sides = [[group for group, _ in one.working] for one in (self.aim, run)]
        return ratio_sigma(self.aim.prediction, run.prediction, sides[0], sides[1])

    def _why_not(self, top: Ceiling | None) -> str:
        name = self.other.side.name
        if top is None:
            return f"no number of {name} can run {self.other.model.name}: {self.other.problem}"
        return f"no number of {name} reaches it: {top.reason} ({top.chips} chips give {top.share:.3g} of it)"

    def _notes(self, run: Run | None) -> tuple[str, ...]:
        notes: list[str] = []
        if self.aim.prediction.chips < self.aim.chips:
            working, chips = self.aim.prediction.chips, self.aim.chips
            notes.append(f"{working} of the {chips} {self.reference.side.name} do more than all: {chips} divide the work badly")
        for fleet in (self.reference, self.other):
            for chip, price in zip(fleet.side.chip_ids, fleet.prices, strict=True):
                if price is None:
                    when = f" dated by {self.reference.as_of}" if self.reference.as_of else ""
                    notes.append(f"no quote of {chip}{when} is known, so its cost is not: give --price {chip}=USD")
        if run is not None and run.mix is not None:
            notes += run.mix.notes
            notes.append(
                f"as whole separate jobs the kinds would make {run.mix.separate_tokens_per_s:.4g} tokens/s together, but each of its own "
                "model: no way to train one"
            )
        return tuple(dict.fromkeys(notes))

    def _inputs(self, run: Run | None) -> tuple[Input, ...]:
        found = [(self.reference.side.name, self.aim.prediction.inputs)]
        if run is not None:
            found.append((self.other.side.name, run.prediction.inputs))
        told = tuple(Input(f"{name}: {one.what}", one.value, one.evidence) for name, inputs in found for one in inputs)
        return told if self.reference.as_of is None else (*told, software_input(self.reference.as_of))
