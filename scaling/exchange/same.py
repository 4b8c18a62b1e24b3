"""How many of the other side's chips do the same: the fewest that are as fast, or the most that cost or draw no more."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import IllegalPlan, MissingCell, NoPlanFits
from ..text import amount
from ..uncertainty import Z80
from .counts import largest_within, smallest_reaching
from .fleet import DIP, Fleet
from .record import WHAT, Same
from .run import Run

NEAR = 0.02
"""Closed forms that miss the aim by less than that are held against a prediction."""
NEAR_END = 0.15
"""A number of a mix that is so much faster than an end of the interval tells that end: each number is an optimisation of its own."""
NEARLY = 0.95
"""Share of the reference's speed from which on as many chips as its are told though they are not quite as fast."""
AROUND = 5
"""Numbers on each side of a guess that are priced together with it."""
FAR = 1.5
"""Times the estimated number up to which predictions are tried before none is taken to reach the aim."""


@dataclass(frozen=True)
class Found:
    """A number of chips, or why there is none."""

    reason: str
    count: int | None = None
    low: float | None = None
    high: float | None = None
    """80 % interval of the number."""
    exact: int | None = None
    """The fewest that are enough where the last node need not be full, if that are fewer."""
    nearest: int | None = None
    """Where there is none, the number that comes nearest."""
    nearest_ratio: float | None = None
    """What that one costs or draws, over the reference's."""


@dataclass(frozen=True)
class Sides:
    """What is compared: the reference's run, and the other side with about how many of it that takes."""

    reference: Fleet
    aim: Run
    other: Fleet
    guess: int
    sigma: Callable[[Run], float]
    """Standard deviation of the log of a run's speed over the reference's."""


def of_itself(sides: Sides, same: Same) -> Found:
    """A chip for itself: as many, for certain, whatever is to be the same."""
    count = sides.aim.chips
    return Found(f"the same chips: as many have the same {WHAT[same][0]}", count, float(count), float(count))


def as_fast(sides: Sides) -> Found:
    """The fewest chips that reach the reference's speed; without a reason where none do."""
    other, aim = sides.other, sides.aim.tokens_per_s
    run = _smallest(sides, aim)
    if run is None:
        return Found("")
    count = run.chips
    low = high = float(count)
    if sigma := sides.sigma(run):
        spread = math.exp(Z80 * sigma)
        ends = _end_of_mix if other.side.mixed else _estimated
        low = min(low, ends(other, aim / spread, count / spread))
        high = max(high, ends(other, aim * spread, count * spread))
    exact = _exact(other, run, aim)
    reason = f"the smallest number {other.in_nodes(count)} that reaches {amount(aim)} tokens/s at a batch of {other.batch:,} sequences"
    if exact is not None:
        reason += f"; rounded up to these: {exact:,} would be enough"
    if other.own is not None and (share := _share_of_own(sides, count)):
        reason += f"; {other.own:,}, as many as the reference's, reach {share:.3g} of it"
    return Found(reason, count, low, high, exact)


def _share_of_own(sides: Sides, count: int) -> float | None:
    """What as many chips as the reference's reach of its speed, where they nearly do though it takes more."""
    other, aim = sides.other, sides.aim.tokens_per_s
    if other.side.mixed or other.own is None or other.own >= count or other.speed_up_to(other.own, aim) < NEARLY * aim:
        return None
    return other.up_to(other.own).tokens_per_s / aim


def no_more(sides: Sides, same: Same) -> Found:
    """The most chips that cost, rent for or draw no more than the reference."""
    other = sides.other
    what, unit, value = WHAT[same]
    aim = value(sides.aim)
    if aim is None or (same in ("cost", "rent") and None in other.prices):
        raise _missing(sides, same)
    if same == "rent":
        return _of_rent(sides, aim)

    def of(count: int) -> float:
        run = other.run(count)
        if run is None:
            return math.inf
        found = value(run)
        if found is None:
            raise _missing(sides, same)
        return found

    count, least = largest_within(other.counts, of, aim * (1 + 1e-9))
    if count is None:
        return _none(sides, same, least, of(least) / aim) if least is not None else Found(no_number(other))
    low = high = float(count)
    run = other.run(count)
    assert run is not None
    if same in ("cost", "energy"):  # of a whole run, so as unsure as its time
        spread = math.exp(Z80 * sides.sigma(run))
        few, many = (largest_within(other.counts, of, aim * factor)[0] for factor in (1 / spread, spread))
        low, high = float(few or 0), float(max(count, many or count))
    reason = f"the largest number {other.in_nodes(count)} whose {what} is no more than the reference's {aim:.4g} {unit}"
    return Found(reason, count, low, high)


def no_number(other: Fleet) -> str:
    """Said where a side cannot run the model at all."""
    return f"no number of {other.side.name} can run {other.model.name}: {other.problem}"


def _smallest(sides: Sides, aim: float) -> Run | None:
    """The fewest chips as fast as the aim: found by closed forms, then held against predictions around that."""
    other, reached = sides.other, aim * (1 - 1e-9)
    roughly = reached if other.side.mixed else aim * (1 - NEAR)  # a mix's speeds are predictions already
    estimated = _estimated(other, roughly, sides.guess)
    if math.isinf(estimated):
        return None
    for count in other.counts[bisect_left(other.counts, estimated) :]:
        if other.speed(count) < roughly:
            continue
        run = other.run(count)
        if run is not None and run.tokens_per_s >= reached:
            return run
        if count > FAR * estimated:
            break
    return None


def _estimated(other: Fleet, aim: float, start: float) -> float:
    """The fewest chips that reach an aim by closed forms; infinite where none do.

    Bisection ends at one number that reaches it and the next one below that does not: below a dip a smaller one may.
    """
    counts, first = other.counts, bisect_left(other.counts, start)
    other.look(counts[max(0, first - AROUND) : first + AROUND])
    at = smallest_reaching(counts, first, lambda index: other.speed_up_to(counts[index], aim), aim)
    if at is None:
        return math.inf
    found = _first(other, other.below(counts[at], DIP), aim, counts[at])
    return float(_first(other, other.beside(found, found), aim, found))


def _first(other: Fleet, counts: list[int], aim: float, otherwise: int) -> int:
    """The first of these numbers that reaches an aim by closed forms."""
    other.look(counts)
    return next((count for count in counts if other.speed(count) >= aim), otherwise)


def _end_of_mix(other: Fleet, aim: float, start: float) -> float:
    """About the fewest chips of a mix that reach an aim, in its units: a number that is a little faster, less in proportion. Fewer chips do
    no less each, so that is enough. Infinite where none reach it."""
    counts, unit = other.counts, other.side.unit_chips
    at = smallest_reaching(counts, bisect_left(counts, start), lambda index: other.speed(counts[index]), aim, NEAR_END)
    return math.inf if at is None else float(unit * math.ceil(counts[at] * aim / other.speed(counts[at]) / unit - 1e-9))


def _exact(other: Fleet, run: Run, aim: float) -> int | None:
    """Fewer chips than a run's that are as fast in nodes that are not full; None where there are none."""
    at = bisect_left(other.counts, run.chips)
    between = other.between(other.counts[at - 1] if at else 0, run.chips)

    def speed(index: int) -> float:
        found = other.run(between[index])
        return 0.0 if found is None else found.tokens_per_s

    start = bisect_left(between, run.chips * aim / run.tokens_per_s)
    index = smallest_reaching(between, start, speed, aim * (1 - 1e-9))
    return None if index is None else between[index]


def _none(sides: Sides, same: Same, least: int, ratio: float) -> Found:
    """No number does it for the same: the one that comes nearest, and what makes it cost or draw more."""
    other, what = sides.other, WHAT[same][0]
    run = other.run(least)
    assert run is not None
    said = (
        f"no number of {other.side.name} does it for the same: the {what} is {ratio:.4g} times the reference's at the least, with {least:,}"
    )
    speed = run.tokens_per_s / sides.aim.tokens_per_s
    if same == "power":
        said += ", the fewest that can run it"
    else:
        at_once: tuple[Same, str] = ("rent", "rent for") if same == "cost" else ("power", "draw")
        value = WHAT[at_once[0]][2]
        now, before = value(run), value(sides.aim)
        assert now is not None
        assert before is not None
        said += f", which are {speed:.3g} times as fast and {at_once[1]} {now / before:.3g} times as much"
        if ratio <= math.exp(Z80 * sides.sigma(run)):  # both are of a whole run, so as unsure as its time
            said += "; that is within the 80 % interval of the speed: these may do it"
    return Found(said, nearest=least, nearest_ratio=ratio)


def _of_rent(sides: Sides, aim: float) -> Found:
    other = sides.other
    side = other.side
    each = sum(share * price.usd for share, price in zip(side.unit, other.prices, strict=True) if price is not None) / side.unit_chips
    most = math.floor(aim / each * (1 + 1e-9))
    count = most if most < side.unit_chips and not side.mixed else most - most % side.unit_chips
    if not side.mixed and other.own is not None and count < other.own <= most:
        count = other.own
    if not count:
        least = side.unit_chips if side.mixed else 1
        said = f"already {least} {side.name} rent for {least * each:.4g} USD/h, {least * each / aim:.4g} times the reference's {aim:.4g}"
        return _fewest_of_rent(other, said, least, each / aim)
    try:
        other.up_to(count)
    except (NoPlanFits, IllegalPlan) as error:
        said = f"{count:,} {side.name} rent for no more than {aim:.4g} USD/h, but cannot run it: {error}"
        return _fewest_of_rent(other, said, count, each / aim)
    reason = f"the largest number {other.in_nodes(count)} that rents for no more than {aim:.4g} USD/h"
    return Found(reason, count, float(count), float(count))


def _fewest_of_rent(other: Fleet, said: str, start: int, each: float) -> Found:
    """The fewest chips, from a number on, that can run the model at all, each of which rents for so many times all of the reference."""
    counts = other.counts
    at = smallest_reaching(counts, bisect_left(counts, start), lambda index: other.speed(counts[index]), math.ulp(0.0))
    if at is None:
        return Found(f"{said}; {no_number(other)}")
    nearest = counts[at]
    if nearest != start:
        said += f"; the fewest that can run it, {nearest:,}, for {nearest * each:.4g} times as much"
    return Found(said, nearest=nearest, nearest_ratio=nearest * each)


def _missing(sides: Sides, same: Same) -> MissingCell:
    as_of, fleets = sides.reference.as_of, (sides.reference, sides.other)
    when = f" dated by {as_of}" if as_of else ""
    if same in ("cost", "rent"):
        chips = [chip for fleet in fleets for chip, price in zip(fleet.side.chip_ids, fleet.prices, strict=True) if price is None]
        chips = list(dict.fromkeys(chips))
        flags = " ".join(f"--price {chip}=USD" for chip in chips)
        give = "it" if len(chips) == 1 else "them"
        return MissingCell(f"no quote of {' and '.join(chips)}{when} is known; give {give} with {flags}, per chip and hour")
    unknown = [kind.profile.chip_id for fleet in fleets for kind in fleet.side.kinds if kind.profile.power_w is None]
    return MissingCell(f"the power of {(unknown or ['a chip'])[0]} is unknown; add power_w to its profile")
