"""Where an exchange stops being possible: the most that any number of a chip gives at one batch, and what it is that stops it."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from .counts import roundest, smallest_reaching, thinned
from .fleet import LARGE, MOST_CHIPS, MOST_MIXED, Estimate, Fleet
from .run import Run

FEW, FEW_ODD = 96, 192
"""So many numbers are all looked at: more of nodes whose chips are no power of two, where no number stands for those near it."""
LESS, BEHIND = 0.7, 8
"""Where so many numbers in a row, each STEP times the one before, reach less than this share of the best speed seen, more chips are taken
to help no more."""
CLOSE = 1.1
"""From one number to the next around the best."""
BATCH_MOVED = 1.06
"""Numbers so near each other may differ by how far the batch is moved to fit them."""
NEAREST = 16
"""So many of them."""
MORE_SHARE = 0.02
"""A part of the step counts as what stops it from this share on."""
WORDS = {
    "tensor_parallel": "traffic of tensor parallelism",
    "context_parallel": "traffic of context parallelism",
    "expert_parallel": "traffic to the experts",
    "data_parallel": "reduction of the gradients",
    "pipeline_send": "sends between pipeline stages",
    "pipeline_bubble": "pipeline bubble",
    "host": "waiting for the host",
    "offload": "traffic to the host's memory",
}


@dataclass(frozen=True)
class Ceiling:
    """The most speed that any number of one side gives."""

    chips: int
    """The number that gives it; of five models on four chips no other was more than 4 % faster."""
    tokens_per_s: float
    share: float
    """Of the reference's speed."""
    beyond: int | None
    """The smallest number of reference chips (in whole nodes) that is faster than that: from there on it is not possible at all. None: the
    reference itself never gets there, or larger numbers of the other were not looked at."""
    reason: str
    """What stops it, in one sentence."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "chips": self.chips, "tokens_per_s": self.tokens_per_s, "share": self.share, "beyond": self.beyond, "reason": self.reason,
        }  # fmt: skip


def fastest(fleet: Fleet, start: int) -> Estimate | None:
    """The fastest of any number of chips: numbers from ``start`` on, then more of them around the best."""
    counts = fleet.counts
    unit = fleet.side.unit_chips
    if len(counts) <= (FEW_ODD if unit & (unit - 1) else FEW) and not fleet.side.mixed:
        fleet.look(counts)
        return fleet.estimate(max(counts, key=fleet.speed))
    samples = roundest(counts[bisect_left(counts, start) :]) or counts[-1:]
    best, behind = 0.0, 0
    tried: list[int] = []
    for place, count in enumerate(samples):
        if place % BEHIND == 0:
            fleet.look(samples[place : place + BEHIND])
        speed = fleet.speed(count)
        tried.append(count)
        behind = behind + 1 if best and speed < LESS * best else 0
        best = max(best, speed)
        if behind == BEHIND:
            break
    top = max(tried, key=fleet.speed)
    if not fleet.speed(top):
        # None of them holds the model, or only numbers in between do.
        top = max(thinned(counts), key=fleet.speed, default=top)
    around = [] if fleet.side.mixed else _around(fleet, top)
    fleet.look(around)
    return fleet.estimate(max([top, *around], key=fleet.speed))


def _around(fleet: Fleet, top: int) -> list[int]:
    """Numbers from half to double of one: all of them where they are few; else some in steps of CLOSE, and of those near it, whose batch
    may be moved to fit better, the ones that can be halved most often."""
    if 2 * top > MOST_CHIPS:  # larger ones may be faster, so that no number is the last
        return []
    counts = fleet.counts
    wide = counts[bisect_left(counts, top / 2) : bisect_left(counts, 2 * top)]
    if len(wide) <= FEW and top <= LARGE:
        return wide
    near = counts[bisect_left(counts, top / BATCH_MOVED) : bisect_left(counts, top * BATCH_MOVED)]
    return [*roundest(wide, CLOSE), *sorted(near, key=lambda count: -(count & -count))[:NEAREST]]


def ceiling(fleet: Fleet, reference: Fleet, aim: Run, start: int) -> Ceiling | None:
    """What ``fleet`` can give at all, beside ``reference``, of which ``aim`` is to be replaced; None where no number of it can run."""
    most = fastest(fleet, start)
    if most is None:
        return None
    beyond = None if fleet.side == reference.side or _cut_off(fleet, most) else _first_above(reference, most.tokens_per_s, aim.chips)
    return Ceiling(most.chips, most.tokens_per_s, most.tokens_per_s / aim.tokens_per_s, beyond, _reason(fleet, most))


def _first_above(fleet: Fleet, tokens_per_s: float, start: int) -> int | None:
    """The smallest number of chips from ``start`` on that is faster than that; None where none is. Of many numbers it may be one a little
    larger: some that divide well are faster than those after them."""
    top = fastest(fleet, start)
    if top is None or top.tokens_per_s <= tokens_per_s:
        return None
    first, last = bisect_left(fleet.counts, start), bisect_left(fleet.counts, top.chips)
    if first > last:  # already fewer are
        return top.chips
    counts = [*roundest(fleet.counts[first:last], CLOSE), top.chips]
    more = math.nextafter(tokens_per_s, math.inf)
    index = smallest_reaching(counts, 0, lambda place: fleet.speed(counts[place]), more)
    assert index is not None  # the last one does
    most = bisect_left(fleet.counts, counts[index])
    before = fleet.counts[first:most]
    if len(before) <= FEW and counts[index] <= LARGE:
        fleet.look(before)
        return next((count for count in before if fleet.speed(count) > tokens_per_s), counts[index])
    between = fleet.counts[bisect_left(fleet.counts, counts[index - 1]) + 1 : most + 1] if index else [counts[0]]
    place = smallest_reaching(between, len(between) // 2, lambda place: fleet.speed(between[place]), more)
    assert place is not None
    return between[place]


def _cut_off(fleet: Fleet, most: Estimate) -> bool:
    """Whether larger numbers were not looked at, though they may be faster."""
    return 2 * most.chips > (MOST_MIXED if fleet.side.mixed else MOST_CHIPS)


def _reason(fleet: Fleet, most: Estimate) -> str:
    name, total = fleet.side.name, math.fsum(most.parts_s.values())
    waits = {kind: seconds / total for kind, seconds in most.parts_s.items() if kind in WORDS}
    told = sorted((kind for kind in waits if waits[kind] >= MORE_SHARE), key=lambda kind: -waits[kind])[:2]
    shares = " and ".join(f"{waits[kind]:.0%} {WORDS[kind]}" for kind in told)
    if _cut_off(fleet, most):
        return f"more than {MOST_MIXED if fleet.side.mixed else MOST_CHIPS:,} {name} were not looked at"
    if most.chips == fleet.counts[-1]:
        return f"a batch of {fleet.batch:,} sequences cannot be cut over more than {most.chips:,} {name}"
    if not shares:
        return f"the batch of {fleet.batch:,} sequences divides over no larger number of {name} as well"
    return f"on {most.chips:,} {name} the step is {shares}, and more of them only add to that at a batch of {fleet.batch:,} sequences"
