"""The best plans seen so far, by the least that they may come to."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

import numpy as np

from ..plan import Plan
from ..plans import Array, Plans

KEPT = 512
"""Plans that are kept: beyond those that are played through anyway, as many as may turn out to be better than the closed forms say."""


@dataclass
class Pool:
    """At most KEPT plans. ``least``: what each may come to when its pipeline is played through, ascending; ``closed``: what it comes to by
    closed forms."""

    top: int
    """So many are asked for."""
    least: list[float] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    """Of the ``top`` best by closed forms, ascending."""
    dropped: float = np.inf
    """The least that one of those that were not kept may come to."""

    @property
    def limit(self) -> float:
        """A plan that cannot come below is none of those asked for."""
        return self.values[-1] if len(self.values) == self.top else np.inf

    def add(self, values: Array, least: Array, plans: Plans) -> None:
        """Show it more plans: their values by closed forms, and the least that they may come to."""
        for value in np.sort(values)[: self.top].tolist():
            bisect.insort(self.values, value)
        del self.values[self.top :]
        room = self.least[-1] if len(self.least) == KEPT else np.inf
        limit = min(self.limit, room)
        order = np.argsort(least, kind="stable")
        within = order[least[order] <= limit]
        if len(within) > KEPT:
            self.dropped = min(self.dropped, float(least[within[KEPT]]))
        for index in within[:KEPT].tolist():
            place = bisect.bisect_right(self.least, float(least[index]))
            self.least.insert(place, float(least[index]))
            self.closed.insert(place, float(values[index]))
            self.plans.insert(place, plans.plan(index))
        for gone in self.least[KEPT:]:
            self.dropped = min(self.dropped, gone)
        if room < np.inf and (cut := least[(least > room) & (least <= self.limit)]).size:
            self.dropped = min(self.dropped, float(cut.min()))
        del self.least[KEPT:], self.closed[KEPT:], self.plans[KEPT:]
