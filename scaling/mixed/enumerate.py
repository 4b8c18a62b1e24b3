"""The plans worth solving for each choice of kinds, by about how long they take: pools alone, side by side, and nested.

A plan is at most one pool of pipelines that run through two or three kinds, and beside it for each kind at most one pool on what is left
of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .candidates import Limits, Rows, orders, pools_of
from .choices import ideal_rate, microbatch_axis
from .pools import Pool
from .pures import Pures, pures_of
from .reduction import exposed_reduction_s
from .tables import Tables

Array = npt.NDArray[Any]

PER_FAMILY = 96
"""Plans kept of one order of kinds, microbatch and choice of leftovers."""
SIDE_BY_SIDE = 160_000
"""Plans of pools side by side that are looked at for one choice of kinds: so many pools are kept for each kind."""
MOST_PURES = 400
KEPT, FEWEST_KEPT = 800, 100
"""Pools of one order of kinds and one microbatch that are kept by each of their merits (``screen``); fewer where there are many orders."""
ORDERS_OF_THREE = 12
"""Orders of two or three of three kinds."""

Candidates = dict[frozenset[int], list["Candidate"]]
"""Kinds that work -> plans on exactly these."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """Pools that make a plan, and about how long it takes."""

    estimate_s: float
    bound_s: float
    """It takes no less by the common cost."""
    pools: Callable[[], tuple[Pool, ...]]


@dataclass(frozen=True, eq=False)
class _Part:
    """One pool of each of many plans: what counts when they share a batch. Arrays of one length."""

    unit: Array
    slowest_s: Array
    sum_s: Array
    usual_sum_s: Array
    held: Array
    ring_s: Array
    own_s: Array

    @classmethod
    def of(cls, pools: Pures, index: Array) -> _Part:
        return cls(*(getattr(pools, one.name)[index] for one in fields(cls)))

    @classmethod
    def of_rows(cls, rows: Rows) -> _Part:
        return cls(rows.replicas * rows.microbatch, *(getattr(rows, one.name) for one in fields(cls)[1:]))


def together_s(global_batch: int, parts: Sequence[tuple[Array, Array, Array]]) -> Array:
    """No fewer seconds than pools need for a batch together, each in whole microbatches, and one at least.

    ``parts``: per pool the sequences that its pipelines take at once, the time of the slowest stage, and that of the first microbatch.

    >>> one, two = (np.ones(1) * value for value in (1.0, 2.0))
    >>> float(together_s(6, [(one, one, one), (one, two, two)])[0])
    4.0
    """
    ahead: Any = 0.0
    rate: Any = 0.0
    time_s: Any = 0.0
    for unit, slowest_s, first_s in parts:
        pace = unit / slowest_s
        rate, ahead = rate + pace, ahead + pace * (first_s - slowest_s)
        time_s = np.maximum(time_s, first_s)
    time_s = np.maximum(time_s, (global_batch + ahead) / rate)
    # Each pool has less than one microbatch under way at that time, so that one more of each is enough. Where a fast one ends several
    # before a slow one ends its own, a few may be missing: less time than it takes, as for all that is a bound.
    for _ in range(2 * len(parts) + 1):
        total: Any = 0.0
        following: Any = np.inf
        for unit, slowest_s, first_s in parts:
            turns = np.maximum(0.0, np.floor((time_s - first_s) / slowest_s + 1e-9)) + 1.0
            total, following = total + unit * turns, np.minimum(following, first_s + turns * slowest_s)
        time_s = np.where(total < global_batch, following, time_s)
    done: Array = time_s
    return done


@dataclass(eq=False)
class Enumeration:
    """All candidates for one cluster and batch."""

    tables: Tables
    global_batch: int
    every: bool = False
    report: Callable[[str], None] = lambda words: None
    """Told what is being priced, part by part: see ``parts``."""
    seen: int = 0
    """Pools and their combinations that were looked at."""

    def __post_init__(self) -> None:
        self.pures: list[Pures] = []
        for kind, known in enumerate(self.tables.kinds):
            self.report(f"pipelines on {known.name}")
            self.pures.append(pures_of(self.tables, kind, self.global_batch, self.every))
        self.seen += sum(pures.seen for pures in self.pures)

    @staticmethod
    def parts(kinds: int, sizes: int) -> int:
        """How often ``report`` is called."""
        return kinds + sizes * sum(1 for _ in orders(range(kinds)))

    @property
    def ideal_s(self) -> float:
        """No plan takes less by the common cost, of these and of all others: every chip at its best, all the time."""
        return self.global_batch / sum(kind.count * ideal_rate(self.tables, index) for index, kind in enumerate(self.tables.kinds))

    def side_by_side(self, time_s: float) -> Candidates:
        """Each kind its own pipelines, the fastest by estimate first. ``time_s``: about what a good plan takes."""
        kinds = range(len(self.tables.kinds))
        found: Candidates = {}
        for count in range(1, len(kinds) + 1):
            for some in itertools.combinations(kinds, count):
                found[frozenset(some)] = list(self._side_by_side(some, time_s))
        return found

    def nested(self, limits_s: Mapping[frozenset[int], float], time_s: float) -> Candidates:
        """Pipelines through several kinds, and beside them pools on what is left. ``limits_s``: what plans on these kinds have to beat."""
        kinds = range(len(self.tables.kinds))
        rates = tuple(pures.best_rate for pures in self.pures)
        found: dict[frozenset[int], list[Candidate]] = {}
        kept = max(FEWEST_KEPT, KEPT * ORDERS_OF_THREE // max(ORDERS_OF_THREE, sum(1 for _ in orders(kinds))))
        for order in orders(kinds):
            limit_s = max(limit for some, limit in limits_s.items() if some >= set(order))
            limits = None if self.every else Limits(limit_s, rates, kept)
            for size in microbatch_axis(self.global_batch):
                self.report(f"pipelines through {' and '.join(self.tables.kinds[kind].name for kind in order)}")
                rows, seen = pools_of(self.tables, order, size, self.global_batch, self.every, limits)
                self.seen += seen
                if rows is None:
                    continue
                leftovers = self._leftovers(rows, time_s)
                for with_left in _subsets(kinds):
                    some = frozenset({*order, *with_left})
                    found.setdefault(some, []).extend(self._nested(rows, with_left, leftovers, limits_s.get(some, np.inf)))
        return found

    def _leftovers(self, rows: Rows, time_s: float) -> list[Array]:
        """For each kind the pool that does most on what each of the rows leaves of it, -1 where there is none."""
        if self.every:
            return []
        return [pures.best_within(self.tables.kinds[kind].count - rows.used(kind), time_s) for kind, pures in enumerate(self.pures)]

    def _side_by_side(self, kinds: Sequence[int], time_s: float) -> Iterator[Candidate]:
        pures = [self.pures[kind] for kind in kinds]
        if not all(map(len, pures)):
            return
        most = min(MOST_PURES, int(SIDE_BY_SIDE ** (1 / len(kinds))))
        chosen = [np.arange(len(pure)) if self.every or len(pure) <= most else self._fastest(pure, kinds, time_s, most) for pure in pures]
        if len(kinds) == 1:
            # Those in one node do without the network, which ``_fastest`` does not look at.
            in_node = np.flatnonzero(pures[0].used <= self.tables.kinds[kinds[0]].group.chips_per_node)
            chosen = [np.union1d(chosen[0], in_node)]
        grid = [axis.ravel() for axis in np.meshgrid(*chosen, indexing="ij")]
        able = sum(pure.unit[index] for pure, index in zip(pures, grid, strict=True)) <= self.global_batch
        at = [(pure, index[able]) for pure, index in zip(pures, grid, strict=True)]
        if not able.any():
            return
        self.seen += len(at[0][1]) if len(at) > 1 else 0
        parts = [_Part.of(pure, index) for pure, index in at]
        estimate, bound = self._priced(parts)
        if len(kinds) == 1:
            # Alone in a node, their gradients do not go over the network at whose pace they are estimated; in it they take next to nothing.
            in_node = at[0][0].used[at[0][1]] <= self.tables.kinds[kinds[0]].group.chips_per_node
            estimate = np.where(in_node, self._passes_s(parts), estimate)
        for row in self._best(estimate).tolist():
            chosen_pools = partial(_pures, tuple((pure, int(index[row])) for pure, index in at))
            yield Candidate(float(estimate[row]), float(bound[row]), chosen_pools)

    def _fastest(self, pure: Pures, kinds: Sequence[int], time_s: float, most: int) -> Array:
        """Pools that do most in the time that all kinds together need at best, and somewhat more of it, and in ``time_s``."""
        together = sum(self.tables.kinds[kind].count * self.pures[kind].best_rate for kind in kinds)
        times = (time_s, *(share * self.global_batch / together for share in (1.1, 1.25, 1.5)))
        kept = [np.argsort(-pure.done(time), kind="stable")[: -(-most // len(times))] for time in times]
        return np.unique(np.concatenate(kept))

    def _nested(self, rows: Rows, with_left: Sequence[int], leftovers: Sequence[Array], limit_s: float) -> Iterator[Candidate]:
        counts = [self.tables.kinds[kind].count for kind in range(len(self.tables.kinds))]
        if self.every:
            yield from self._every_nested(rows, with_left, counts)
            return
        able = np.ones(len(rows), bool)
        units: Any = rows.replicas * rows.microbatch
        for kind in with_left:
            able &= leftovers[kind] >= 0
            units = units + np.where(leftovers[kind] >= 0, self.pures[kind].unit[leftovers[kind]], 0) if len(self.pures[kind]) else units
        which = np.flatnonzero(able & (units <= self.global_batch))
        if not len(which):
            return
        mine = rows.take(which)
        parts = [_Part.of_rows(mine), *(_Part.of(self.pures[kind], leftovers[kind][which]) for kind in with_left)]
        estimate, bound = self._priced(parts)
        self.seen += len(which)

        beside = [(kind, leftovers[kind][which]) for kind in with_left]
        chosen = self._best(np.where(bound < limit_s, estimate, np.inf))
        few = mine.take(chosen)  # not to keep all of them for the sake of some
        for place, row in enumerate(chosen.tolist()):
            pools = partial(self._pools, few, place, tuple((kind, int(index[row])) for kind, index in beside))
            yield Candidate(float(estimate[row]), float(bound[row]), pools)

    def _every_nested(self, rows: Rows, with_left: Sequence[int], counts: Sequence[int]) -> Iterator[Candidate]:
        for row in range(len(rows)):
            left = [counts[kind] - int(rows.used(kind)[row]) for kind in range(len(counts))]
            options = [np.flatnonzero(self.pures[kind].used <= left[kind]) for kind in with_left]
            chosen = [axis.ravel() for axis in np.meshgrid(*options, indexing="ij")] if options else []
            one = rows.take(np.full(len(chosen[0]) if chosen else 1, row))
            parts = [_Part.of_rows(one), *(_Part.of(self.pures[k], index) for k, index in zip(with_left, chosen, strict=True))]
            able = np.flatnonzero(sum(part.unit for part in parts) <= self.global_batch)
            _, bounds = self._priced(parts)
            self.seen += len(one)
            for at in able.tolist():
                beside = tuple((k, int(index[at])) for k, index in zip(with_left, chosen, strict=True))
                yield Candidate(float(bounds[at]), float(bounds[at]), partial(self._pools, rows, row, beside))

    def _pools(self, rows: Rows, row: int, beside: Sequence[tuple[int, int]]) -> tuple[Pool, ...]:
        return (rows.pool(row), *(self.pures[kind].pool(index) for kind, index in beside))

    def _priced(self, parts: Sequence[_Part]) -> tuple[Array, Array]:
        """(about how long they take, at least so long) of plans of such pools."""
        bound = together_s(self.global_batch, [(part.unit, part.slowest_s, part.sum_s) for part in parts])
        return self._passes_s(parts) + exposed_reduction_s(self.tables, parts), bound

    def _passes_s(self, parts: Sequence[_Part]) -> Array:
        """About how long all passes take."""
        return together_s(self.global_batch, [(part.unit, part.slowest_s, part.usual_sum_s) for part in parts])

    def _best(self, estimate: Array) -> Array:
        """The plans that are kept, the fastest by estimate first."""
        most = len(estimate) if self.every else PER_FAMILY
        some = np.argpartition(estimate, most - 1)[:most] if most < len(estimate) else np.arange(len(estimate))
        some = some[np.isfinite(estimate[some])]
        best: Array = some[np.argsort(estimate[some], kind="stable")]
        return best


def _pures(chosen: Sequence[tuple[Pures, int]]) -> tuple[Pool, ...]:
    return tuple(pure.pool(index) for pure, index in chosen)


def _subsets(kinds: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for count in range(len(kinds) + 1):
        yield from itertools.combinations(kinds, count)
