"""A side's chips in numbers: the best plan of each number that is asked for, what it costs an hour and what it draws."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from chipassay.results.prices import Price, price_of

from ..errors import IllegalPlan, NoPlanFits
from ..models import Transformer
from ..plan import Plan
from ..plans import Array
from ..search import BATCH_TOLERANCE
from .counts import roundest, thinned, usable_counts
from .quick import Quick
from .run import Run
from .side import Side

FEWER = 4
"""A number of chips that divides badly is beaten by a smaller one: so many whole-node numbers below it are tried too."""
DIP = 0.6
"""A number may be beaten by one of so few of its chips: LLaMA 13B at a batch of 2,000 takes a fifth longer on 3,400 H800 than on 2,536."""
DIP_STEP = 1.01
"""Of the numbers down to there one in each such step is looked at, and every one of the last FEWER."""
CLOSE = 0.95
"""Share of the best speed by closed forms from which on a number is predicted: these miss by 3 % at most among the fastest plans."""
LEAST_USED = 0.75
"""Of the chips that there are; plans that leave more of them idle are not looked for."""
MIX_STEP = 1.05
"""From one number of a mix to the next: each is an optimisation of its own."""
LARGE, LARGE_STEP = 2**14, 1.01
"""Chips from which on not every number of whole nodes is looked at but one in each step: a node is a thousandth of them, and where ranks
lie takes long to count."""
MOST_CHIPS, MOST_MIXED = 2**20, 8192
"""Chips of one kind and of a mix beyond which no number is looked at: ten times the largest clusters of today; what takes seconds."""


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
        own: int | None = None,
        watch: Callable[[str], None] = lambda words: None,
    ) -> None:
        """``batch`` may be moved by ``tolerance``. ``prices`` stand in the place of the quotes (of those dated by ``as_of``). ``own``: a
        number that is looked at though it may fill no whole nodes. ``watch`` is told of each number before it is searched."""
        self.own = own
        self.model, self.side, self.batch, self.tolerance, self.settings = model, side, batch, tolerance, settings
        self.as_of = as_of
        self.prices = tuple(price_of(chip_id, prices or {}, as_of=as_of) for chip_id in side.chip_ids)
        self.problem: NoPlanFits | IllegalPlan | None = None
        """Why the last number that could not be used could not."""
        self.tried: dict[int, Run | None] = {}
        self._watch = watch
        self._terms: dict[str, Any] = {"settings": settings, "prices": prices, "as_of": as_of, "watch": watch}

    @cached_property
    def quick(self) -> Quick:
        """Closed forms of the one kind."""
        return Quick(self.model, self.side.kinds[0], self.batch, self.tolerance, self.settings, self.as_of)

    def of(self, side: Side, batch: int | None = None, own: int | None = None) -> Fleet:
        """Another side on the same terms, at the same batch unless another is given; it may be moved by BATCH_TOLERANCE."""
        return Fleet(self.model, side, batch or self.batch, own=own or self.own, **self._terms)

    @cached_property
    def usable(self) -> Array:
        """Numbers of chips of one kind that some split uses in full, nodes whole or not, ascending, up to MOST_CHIPS; empty of a mix."""
        if self.side.mixed:
            return np.zeros(0, np.int64)
        found = usable_counts(self.model, self.side.kinds[0].group(self.side.unit_chips), self.batch, self.tolerance)
        return found[found <= MOST_CHIPS]

    @cached_property
    def counts(self) -> list[int]:
        """Numbers of chips worth trying, ascending, up to MOST_CHIPS: fewer than a node has, whole nodes (above LARGE in steps of
        LARGE_STEP), and ``own``. Of a mix whole nodes in its shares up to MOST_MIXED, thinned out as they grow, and ``own`` where it is
        such a number."""
        unit, own = self.side.unit_chips, self.own or 0
        if not self.side.mixed:
            found = self.usable
            whole = [int(count) for count in found[(found % unit == 0) | (found < unit) | (found == own)]]
            large = bisect_right(whole, LARGE)
            return whole[:large] + sorted({*roundest(whole[large:], LARGE_STEP), *(count for count in whole[large:] if count == own)})
        tried = thinned(range(unit, MOST_MIXED + 1, unit), MIX_STEP)[:-1] or [unit]
        return sorted({*tried, own}) if own and own % unit == 0 and own <= MOST_MIXED else tried

    def between(self, below: int, count: int) -> list[int]:
        """Numbers of one kind above one and below another, nodes whole or not; none above LARGE."""
        found = self.usable[self.usable <= LARGE]
        return [int(some) for some in found[(found > below) & (found < count)]]

    def in_nodes(self, count: int) -> str:
        """Which numbers one of ``counts`` was chosen from.

        >>> from .side import parse_side
        >>> from ..models import load_model
        >>> fleet = Fleet(load_model("gpt2"), parse_side("h100-sxm-80gb"), 64)
        >>> fleet.in_nodes(16), fleet.in_nodes(4)
        ('in whole nodes of 8', 'of chips in one node of 8')
        """
        unit = self.side.unit_chips
        if self.side.mixed:
            return f"in whole nodes, tried in steps of {unit} or 5 %,"
        if count > LARGE:
            return f"in whole nodes of {unit}, tried in steps of {100 * (LARGE_STEP - 1):.0f} %,"
        if count % unit == 0:
            return f"in whole nodes of {unit}" if unit > 1 else "of chips, each a node by itself,"
        return f"of chips in one node of {unit}" if count < unit else f"in whole nodes of {unit} or as many as the reference's"

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
        return self.quick.speed(count)

    def speed_up_to(self, count: int, enough: float) -> float:
        """The same, where some of the chips may be left idle: which is looked at only where all of them at work are not ``enough``."""
        found = self.speed(count)
        if found >= enough:
            return found
        fewer = self.fewer(count)
        self.look(fewer)
        return max((found, *map(self.speed, fewer)))

    def look(self, counts: Iterable[int]) -> None:
        """Work out the speeds of these numbers together, which is faster than one by one; nothing for a mix."""
        if not self.side.mixed:
            asked = tuple(counts)
            self._watch(f"{len(asked)} numbers of {self.side.name}")
            self.quick.look(asked)

    @property
    def known(self) -> dict[int, float]:
        """The speeds worked out so far."""
        if self.side.mixed:
            return {count: 0.0 if run is None else run.tokens_per_s for count, run in self.tried.items()}
        return self.quick.speeds

    def estimate(self, count: int) -> Estimate | None:
        """The best plan of so many chips by closed forms."""
        if self.side.mixed:
            found = self.run(count)
            return None if found is None else Estimate(count, found.tokens_per_s, found.prediction.breakdown_s)
        speed = self.quick.speed(count)
        return Estimate(count, speed, self.quick.parts_s(count)) if speed else None

    def fewer(self, count: int) -> list[int]:
        """Numbers just below it that may do more; of a mix none, whose search leaves chips idle by itself."""
        if self.side.mixed:
            return []
        last = bisect_left(self.counts, count)
        return [some for some in self.counts[max(0, last - FEWER) : last] if some >= LEAST_USED * count]

    def below(self, count: int, share: float) -> list[int]:
        """Numbers from that share of it on, ascending, each likely to divide well, and those of ``fewer``; of a mix none."""
        if self.side.mixed:
            return []
        first, last = bisect_left(self.counts, share * count), bisect_left(self.counts, count)
        return sorted({*roundest(self.counts[first:last], DIP_STEP), *self.fewer(count)})

    def beside(self, count: int, most: int) -> list[int]:
        """Every number within DIP_STEP of one of ``below``, which may divide better still, up to ``most``; ascending."""
        return self.counts[bisect_left(self.counts, count / DIP_STEP) : bisect_right(self.counts, min(most, count * DIP_STEP))]

    def up_to(self, count: int) -> Run:
        """The fastest run on so many chips, some of which may be left idle. Raises what is wrong where there is none."""
        near: tuple[int, ...] = (count, *self.below(count, LEAST_USED))
        if not self.side.mixed:
            self.look(near)
            near = tuple(sorted({*near, *self.beside(max(near, key=self.speed), count)}, reverse=True))
            self.look(near)
            speeds = [self.speed(some) for some in near]
            near = tuple(some for some, speed in zip(near, speeds, strict=True) if speed >= CLOSE * max(speeds))
        found = [self.run(some) for some in near]
        fastest = max((run for run in found if run is not None), key=lambda run: run.tokens_per_s, default=None)
        if fastest is None:
            self.tried.pop(count, None)
            self.run(count)  # again, so that what is told is of this number
            assert self.problem is not None
            raise self.problem
        return Run(self.side.groups(count), count, fastest.prediction, self.prices, fastest.mix)

    def _search(self, count: int) -> Run:
        groups = self.side.groups(count)
        if self.side.mixed:
            from ..mixed.search import plan_mixed  # takes long to load

            def report(done: int, total: int, words: str) -> None:
                self._watch(f"{count} x {self.side.name}: {words} ({done} of {total})")

            answer = plan_mixed(self.model, self.side.cluster(count), self.batch, settings=self._mixed_settings(), report=report)
            return Run(groups, count, answer.best.prediction, self.prices, answer)
        return Run(groups, count, self.quick.best(count), self.prices)

    def _mixed_settings(self) -> Plan | None:
        return None if self.settings is None else replace(self.settings, sequence_parallel=True)
