"""The plans worth solving for each choice of kinds, by about how long they take: pools alone, side by side, and nested.

A plan is at most one pool of pipelines that run through several kinds, and beside it for each kind at most one pool on what is left of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .candidates import Rows, orders, pools_of
from .choices import microbatch_axis
from .pools import Pool
from .tables import Tables

Array = npt.NDArray[Any]

PER_FAMILY = 96
"""Plans kept of one order of kinds, microbatch and choice of leftovers."""
PURE_OPTIONS = (0, 400, 24, 10, 6)
"""Pools kept for each kind where so many kinds run side by side."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """Pools that make a plan, and about how long it takes."""

    estimate_s: float
    bound_s: float
    """It takes no less by the common cost."""
    pools: Callable[[], tuple[Pool, ...]]


@dataclass(frozen=True, eq=False)
class Pures:
    """Pools on one kind alone, of all microbatch sizes. Arrays of one length."""

    places: tuple[tuple[Rows, int], ...]
    used: Array
    rate: Array
    fill_s: Array
    """What the filled pipeline takes beyond its microbatches' time, about."""
    least_fill_s: Array
    reduction_s: Array
    unit: Array
    """Sequences that all its pipelines take at once."""
    slowest_s: Array

    def pool(self, index: int) -> Pool:
        rows, row = self.places[index]
        return rows.pool(row)

    def best_within(self, count: int, time_s: float) -> Array:
        """For each number of chips up to ``count`` the pool that does most in a time, -1 where none can."""
        done = np.maximum(0.0, self.rate * (time_s - self.fill_s - self.reduction_s))
        best = np.full(count + 1, -1)
        order = np.argsort(self.used, kind="stable")
        most, chosen = 0.0, -1
        place = 0
        for chips in range(count + 1):
            while place < len(order) and self.used[order[place]] <= chips:
                if done[order[place]] > most:
                    most, chosen = float(done[order[place]]), int(order[place])
                place += 1
            best[chips] = chosen
        return best


def pures_of(tables: Tables, kind: int, global_batch: int, every: bool) -> Pures:
    found = [rows for size in microbatch_axis(global_batch) if (rows := pools_of(tables, (kind,), size, global_batch, every)) is not None]
    places = tuple((rows, row) for rows in found for row in range(len(rows)))

    def column(values: Sequence[Array]) -> Array:
        return np.concatenate(values) if values else np.zeros(0)

    return Pures(
        places, column([rows.used(kind) for rows in found]), column([rows.rate for rows in found]),
        column([rows.usual_sum_s - rows.slowest_s for rows in found]), column([rows.sum_s - rows.slowest_s for rows in found]),
        column([rows.reduction_s for rows in found]), column([rows.replicas * rows.microbatch for rows in found]),
        column([rows.slowest_s for rows in found]),
    )  # fmt: skip


def _together_s(global_batch: int, parts: Sequence[tuple[Array, Array]]) -> Array:
    """Seconds of a batch that may be shared out in any part, by the pools' rates and fills."""
    rate = np.sum([one for one, _ in parts], axis=0)
    ahead = np.sum([one * fill for one, fill in parts], axis=0)
    done: Array = (global_batch + ahead) / rate
    return done


@dataclass(eq=False)
class Enumeration:
    """All candidates for one cluster and batch."""

    tables: Tables
    global_batch: int
    every: bool = False
    seen: int = 0
    """Pools and their combinations that were priced."""
    left_out: bool = False
    """Some were dropped by their estimate."""

    def __post_init__(self) -> None:
        self.pures = [pures_of(self.tables, kind, self.global_batch, self.every) for kind in range(len(self.tables.kinds))]
        self.seen += sum(len(pures.used) for pures in self.pures)

    def candidates(self, time_s: float) -> dict[frozenset[int], list[Candidate]]:
        """Kinds that work -> plans on exactly these, the fastest by estimate first. ``time_s``: about what a good plan takes."""
        found: dict[frozenset[int], list[Candidate]] = {}
        kinds = range(len(self.tables.kinds))
        for count in range(1, len(kinds) + 1):
            for some in itertools.combinations(kinds, count):
                found.setdefault(frozenset(some), []).extend(self._side_by_side(some, time_s))
        leftovers = [pures.best_within(self.tables.kinds[kind].count, time_s) for kind, pures in enumerate(self.pures)]
        for order in orders(kinds):
            for size in microbatch_axis(self.global_batch):
                rows = pools_of(self.tables, order, size, self.global_batch, self.every)
                if rows is None:
                    continue
                for with_left in _subsets(kinds):
                    family = list(self._nested(rows, with_left, leftovers))
                    found.setdefault(frozenset({*order, *with_left}), []).extend(family)
        return {some: sorted(plans, key=lambda plan: plan.estimate_s) for some, plans in found.items()}

    def _side_by_side(self, kinds: Sequence[int], time_s: float) -> Iterator[Candidate]:
        """Each kind its own pipelines."""
        pures = [self.pures[kind] for kind in kinds]
        if any(len(pure.used) == 0 for pure in pures):
            return
        most = len(self.pures[0].used) if self.every else PURE_OPTIONS[min(len(kinds), len(PURE_OPTIONS) - 1)]
        chosen = []
        for pure in pures:
            done = pure.rate * (time_s - pure.fill_s - pure.reduction_s)
            chosen.append(np.argsort(-done, kind="stable")[: len(done) if self.every else most])
            self.left_out |= len(chosen[-1]) < len(done)
        grid = [axis.ravel() for axis in np.meshgrid(*chosen, indexing="ij")]
        able = np.sum([pure.unit[index] for pure, index in zip(pures, grid, strict=True)], axis=0) <= self.global_batch
        at = [(pure, index[able]) for pure, index in zip(pures, grid, strict=True)]
        if not able.any():
            return
        usual = _together_s(self.global_batch, [(pure.rate[index], pure.fill_s[index]) for pure, index in at])
        bound = _together_s(self.global_batch, [(pure.rate[index], pure.least_fill_s[index]) for pure, index in at])
        if len(at) == 1:
            usual, bound = (
                np.maximum(t, _whole(self.global_batch, *at[0], fill)) for t, fill in ((usual, "fill_s"), (bound, "least_fill_s"))
            )
        estimate = usual + np.max([pure.reduction_s[index] for pure, index in at], axis=0)
        self.seen += len(estimate) if len(at) > 1 else 0
        yield from self._best(estimate, bound, lambda row: tuple(pure.pool(int(index[row])) for pure, index in at))

    def _nested(self, rows: Rows, with_left: Sequence[int], leftovers: Sequence[Array]) -> Iterator[Candidate]:
        """Pipelines through several kinds, and beside them pools on what is left of some kinds."""
        counts = [self.tables.kinds[kind].count for kind in range(len(self.tables.kinds))]
        if self.every:
            yield from self._every_nested(rows, with_left, counts)
            return
        which = np.arange(len(rows))
        picked: dict[int, Array] = {}
        for kind in with_left:
            choice = leftovers[kind][counts[kind] - rows.used(kind)]
            picked[kind] = choice
            which = which[choice[which] >= 0]
        units: Array = np.sum([rows.replicas * rows.microbatch, *(self.pures[kind].unit[picked[kind]] for kind in with_left)], axis=0)
        which = which[units[which] <= self.global_batch]
        if not len(which):
            return
        mine = rows.take(which)
        parts = [(mine.rate, mine.usual_sum_s - mine.slowest_s)]
        least = [(mine.rate, mine.sum_s - mine.slowest_s)]
        reduction = mine.reduction_s
        for kind in with_left:
            pure, index = self.pures[kind], picked[kind][which]
            parts.append((pure.rate[index], pure.fill_s[index]))
            least.append((pure.rate[index], pure.least_fill_s[index]))
            reduction = np.maximum(reduction, pure.reduction_s[index])
        usual, bound = _together_s(self.global_batch, parts), _together_s(self.global_batch, least)
        if not with_left:
            turns = np.ceil(self.global_batch / (mine.replicas * mine.microbatch)) - 1
            usual = np.maximum(usual, turns * mine.slowest_s + mine.usual_sum_s)
            bound = np.maximum(bound, turns * mine.slowest_s + mine.sum_s)
        self.seen += len(which)

        def pools(row: int) -> tuple[Pool, ...]:
            return (mine.pool(row), *(self.pures[kind].pool(int(picked[kind][which[row]])) for kind in with_left))

        yield from self._best(usual + reduction, bound, pools)

    def _every_nested(self, rows: Rows, with_left: Sequence[int], counts: Sequence[int]) -> Iterator[Candidate]:
        for row in range(len(rows)):
            left = [counts[kind] - int(rows.used(kind)[row]) for kind in range(len(counts))]
            options = [np.flatnonzero(self.pures[kind].used <= left[kind]) for kind in with_left]
            for chosen in itertools.product(*options):
                parts = [(rows.rate[row], rows.sum_s[row] - rows.slowest_s[row])]
                parts += [(self.pures[k].rate[i], self.pures[k].least_fill_s[i]) for k, i in zip(with_left, chosen, strict=True)]
                bound = float(_together_s(self.global_batch, parts))
                self.seen += 1
                beside = (self.pures[k].pool(int(i)) for k, i in zip(with_left, chosen, strict=True))
                yield Candidate(bound, bound, partial(tuple, (rows.pool(row), *beside)))

    def _best(self, estimate: Array, bound: Array, pools: Any) -> Iterator[Candidate]:
        most = len(estimate) if self.every else PER_FAMILY
        self.left_out |= most < len(estimate)
        some = np.argpartition(estimate, most - 1)[:most] if most < len(estimate) else np.arange(len(estimate))
        for row in some[np.argsort(estimate[some], kind="stable")].tolist():
            yield Candidate(float(estimate[row]), float(bound[row]), partial(pools, row))


def _whole(global_batch: int, pure: Pures, index: Array, fill: str) -> Array:
    """A pool alone takes whole microbatches."""
    turns = np.ceil(global_batch / pure.unit[index])
    done: Array = turns * pure.slowest_s[index] + getattr(pure, fill)[index]
    return done


def _subsets(kinds: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for count in range(len(kinds) + 1):
        yield from itertools.combinations(kinds, count)
