"""Two sides at one table: the reference's run is given, and the other's number is looked for that does the same."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from chipassay.results.errors import UnknownName

from ..as_of import check_released, later_used, left_out, software_input
from ..machine import Input
from ..plans import Plans
from ..predict import Prediction
from ..uncertainty import Z80
from .counts import STEP, thinned
from .fleet import Fleet
from .limits import Ceiling, ceiling
from .record import SAMES, WHAT, Exchange, Same
from .run import Run
from .same import Sides, as_fast, no_more, no_number, of_itself
from .side import Side
from .spread import ratio_sigma
from .worth import Worth, worth_of

CURVE_STEP = 1.2
"""From one number to the next on the curve of one kind."""


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
            self._worth = worth_of(self.reference.model, *kinds, self.reference.settings, self.reference.as_of)
        return self._worth

    @property
    def guess(self) -> int:
        """About how many of the other it takes; of a mix by what its kinds are worth one by one."""
        if self.worth is not None:
            return math.ceil(self.aim.chips * self.worth.ratio)
        side, kinds = self.other.side, self.other.side.kinds
        reference = self.reference
        ratios = [worth_of(reference.model, reference.side.kinds[0], kind, reference.settings, reference.as_of).ratio for kind in kinds]
        speed = sum(each / ratio for each, ratio in zip(side.unit, ratios, strict=True)) / side.unit_chips
        return math.ceil(self.aim.chips / speed)

    def exchange(self, same: Same = "time", limits: bool = False) -> Exchange:
        """The answer. ``limits``: also where it stops being possible (not of a mix, whose large numbers take long); where there is no
        answer that is told anyway."""
        if same not in SAMES:
            raise UnknownName("measure to hold the same", same, SAMES)
        sides = Sides(self.reference, self.aim, self.other, self.guess, self._sigma)
        itself = self.other.side == self.reference.side
        found = of_itself(sides, same) if itself else as_fast(sides) if same == "time" else no_more(sides, same)
        count, reason = found.count, found.reason
        run = None
        if count is not None:
            run = self.aim if itself else self.other.run(count) if same == "time" else self._at_most(same, count)
        nowhere = same == "time" and count is None
        top = ceiling(self.other, self.reference, self.aim, self.guess) if nowhere or (limits and not self.other.side.mixed) else None
        if nowhere:
            reason = self._why_not(top)
            nearest, ratio = (None, None) if top is None else (top.chips, top.share)
        else:
            nearest, ratio = found.nearest, found.nearest_ratio
        shown = run if run is not None or nearest is None else self.other.run(nearest)
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
            count_low=found.low,
            count_high=found.high,
            count_exact=found.exact,
            nearest_count=nearest,
            nearest_ratio=ratio,
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

    def _at_most(self, same: Same, count: int) -> Run | None:
        """So many chips, some of them left idle where that is faster and costs or draws no more than the reference."""
        value = WHAT[same][2]
        some = self.other.up_to(count)
        found, most = value(some), value(self.aim)
        return some if found is not None and most is not None and found <= most * (1 + 1e-9) else self.other.run(count)

    def so_far(self, same: Same = "time") -> str:
        """What is known where the work was stopped in the middle."""
        known = self.other.known
        aim, name = self.aim.tokens_per_s, self.other.side.name
        if same != "time" or not any(known.values()):
            return f"not finished: {len(known)} numbers of {name} were looked at"
        enough = min((count for count, speed in known.items() if speed >= aim), default=None)
        few = max((count for count, speed in known.items() if speed < aim and (enough is None or count < enough)), default=None)
        said = [f"{enough:,} {name} are as fast"] if enough is not None else []
        said += [f"{few:,} are not" if said else f"{few:,} {name} are not as fast"] if few is not None else []
        return f"not finished: of {len(known)} numbers that were looked at, {' and '.join(said)}"

    def curve(self, most: int | None = None) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
        """Speeds over numbers of chips of both sides, the reference's first: from the smallest that can run up to ``most``."""
        sides = []
        for fleet, asked in ((self.reference, {self.aim.chips: self.aim}), (self.other, {})):
            runs = {**fleet.tried, **asked}
            step = STEP if fleet.side.mixed else CURVE_STEP
            counts = [count for count in thinned(fleet.counts, step) if most is None or count <= most]
            fleet.look(count for count in counts if count not in runs)
            known = {count: run.tokens_per_s for count, run in runs.items() if run is not None and (most is None or count <= most)}
            speeds = {count: known[count] if count in known else fleet.speed(count) for count in sorted({*counts, *known})}
            best = 0.0
            points = []
            for count, speed in speeds.items():
                if speed > best:  # a number that divides badly leaves chips idle instead
                    best = speed
                    points.append(Point(count, speed))
            sides.append(tuple(points))
        return sides[0], sides[1]

    def _sigma(self, run: Run) -> float:
        sides = [[group for group, _ in one.working] for one in (self.aim, run)]
        return ratio_sigma(self.aim.prediction, run.prediction, sides[0], sides[1])

    def _why_not(self, top: Ceiling | None) -> str:
        name = self.other.side.name
        if top is None:
            return no_number(self.other)
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
        if self.reference.as_of is not None:
            notes += left_out((*self.reference.side.chip_ids, *self.other.side.chip_ids), self.reference.as_of)
        if run is not None and run.mix is not None:
            if self.reference.as_of is not None and (later := later_used(_plans(run), self.reference.as_of)):
                notes.append(
                    f"the plan of {self.other.side.name} uses {' and '.join(later)}: mixes are searched with all that is known today"
                )
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


def _plans(run: Run) -> Plans:
    """What a run does as plans: of a mix one for each kind of recomputation, all that its stages may have of what came late."""
    found = run.prediction
    if isinstance(found, Prediction):
        return Plans.of([found.plan])
    kinds = dict.fromkeys(stage.recompute for pipeline in found.plan.pipelines for stage in pipeline.stages)
    return Plans.of([replace(found.plan.settings, recompute=kind) for kind in kinds])
