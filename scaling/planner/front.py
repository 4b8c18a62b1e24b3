"""The Pareto front: plans of which none is both faster and better in a second respect than another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from ..plan import Plan
from ..plans import Array, Plans

Against = Literal["cost", "chips", "memory"]
AGAINST: tuple[Against, ...] = get_args(Against)


def least_of_both(first: Array, second: Array) -> Array:
    """Indices of the points that no other equals or beats in both, by ascending ``first``; of equal points one.

    >>> least_of_both(np.array([1.0, 2.0, 3.0, 4.0]), np.array([9.0, 5.0, 7.0, 1.0])).tolist()
    [0, 1, 3]
    """
    order = np.lexsort((second, first))
    ranked = second[order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(ranked)[:-1]]) if len(ranked) else ranked
    return order[ranked < before]


@dataclass
class Front:
    """The front of all plans shown to it so far."""

    first: Array = field(default_factory=lambda: np.zeros(0))
    second: Array = field(default_factory=lambda: np.zeros(0))
    plans: list[Plan] = field(default_factory=list)

    def add(self, first: Array, second: Array, plans: Plans) -> None:
        """Show it more plans."""
        own = least_of_both(first, second)
        own = own[~self.beaten(first[own], second[own])]
        if not len(own):
            return
        both = np.concatenate([self.first, first[own]]), np.concatenate([self.second, second[own]])
        kept = least_of_both(*both)
        known = len(self.plans)
        self.plans = [self.plans[i] if i < known else plans.plan(int(own[i - known])) for i in kept.tolist()]
        self.first, self.second = both[0][kept], both[1][kept]

    def beaten(self, first: Array, second: Any) -> Array:
        """Which points one of the front equals or beats in both."""
        if not len(self.first):
            return np.zeros(len(first), bool)
        place = np.searchsorted(self.first, first, side="right")  # the front falls in its second respect: the last of the faster is best
        best = np.where(place > 0, self.second[np.maximum(place - 1, 0)], np.inf)
        beaten: Array = best <= second
        return beaten
