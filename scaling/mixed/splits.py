"""The two splits that are solved exactly: a pipeline's layers over unequal stages, and a batch over unequal pipelines.

Both are exact for the common cost ``(m - 1) max t + sum t``. Layers: for a bound on t each stage takes what fits under it, and the rest is
placed by least further time, which is the cheapest way since a stage's time is convex in its layers. Batch: how many microbatches a
pipeline finishes in a time is a division, so the least time in which all are done is found by stepping through the times at which one
more is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Split:
    """One way to cut a pipeline's layers."""

    slowest_s: float
    """Of the stages, one microbatch."""
    sum_s: float
    layers: tuple[int, ...]

    def time_s(self, microbatches: int) -> float:
        return (microbatches - 1) * self.slowest_s + self.sum_s


def layer_splits(curves: Array, layers: int, fewest: Array | None = None, least_microbatches: int = 1) -> tuple[Split, ...]:
    """The best cuts of ``layers`` layers for any number of microbatches from ``least_microbatches`` on: a trade between the slowest stage
    and the sum. Empty where they do not fit.

    ``curves``: seconds of stage i with n layers at [i, n], convex and rising in n, infinite from where it does not fit; shape
    (stages, layers + 1). ``fewest``: layers that each stage has at least (1).

    >>> layer_splits(np.array([[0, 1, 2, 3], [0, 2, 4, 6]]), 3)[0].layers
    (2, 1)
    """
    stages = len(curves)
    least = np.ones(stages, np.int64) if fewest is None else fewest
    start = curves[np.arange(stages), least]
    free = layers - int(least.sum())
    if free < 0 or not np.all(np.isfinite(start)):
        return ()
    if stages == 1:
        whole = float(curves[0, layers])
        return (Split(whole, whole, (layers,)),) if math.isfinite(whole) else ()
    levels = np.unique(curves[np.isfinite(curves)])
    levels = levels[np.searchsorted(levels, start.max()) :]
    low, high = 0, len(levels) - 1
    if int(_caps(curves, levels[high]).sum()) < layers:
        return ()
    while low < high:
        middle = (low + high) // 2
        if int(_caps(curves, levels[middle]).sum()) >= layers:
            high = middle
        else:
            low = middle + 1
    further = np.diff(np.where(np.isfinite(curves), curves, 0.0), axis=1)
    further[~np.isfinite(curves[:, 1:])] = np.inf
    columns = np.arange(layers)[None, :]
    order = np.argsort(further, axis=None, kind="stable")
    owner = order // layers
    allowed_from = (columns >= least[:, None]).ravel()[order]
    cheapest = _fill(curves, order, owner, allowed_from, _caps(curves, np.inf), least, free)
    found: list[Split] = []
    best_s = math.inf
    for level in levels[low:]:
        if (least_microbatches - 1) * level + cheapest.sum_s >= best_s:
            break
        one = _fill(curves, order, owner, allowed_from, _caps(curves, level), least, free)
        if not found or one.sum_s < found[-1].sum_s:
            found.append(one)
            best_s = min(best_s, one.time_s(least_microbatches))
    return tuple(found)


def _caps(curves: Array, level: float) -> Array:
    """Most layers of each stage within a time."""
    if math.isinf(level):
        return np.isfinite(curves).sum(axis=1) - 1
    return (curves <= level).sum(axis=1) - 1


def _fill(curves: Array, order: Array, owner: Array, allowed: Array, caps: Array, least: Array, free: int) -> Split:
    """The cheapest cut within caps: ``free`` layers beyond the least, by rising further time."""
    width = curves.shape[1] - 1
    kept = allowed & (order % width < caps[owner])
    taken = owner[kept][:free]
    layers = least + np.bincount(taken, minlength=len(curves))
    times = curves[np.arange(len(curves)), layers]
    return Split(float(times.max()), float(times.sum()), tuple(layers.tolist()))


@dataclass(frozen=True)
class Taker:
    """Pipelines that share the work of a batch."""

    replicas: int
    microbatch: int
    splits: tuple[Split, ...]

    def done(self, time_s: float) -> int:
        """Microbatches that one of them finishes in a time."""
        most = 0
        for split in self.splits:
            if time_s >= split.sum_s:
                most = max(most, 1 + math.floor((time_s - split.sum_s) / split.slowest_s * (1 + 1e-12) + 1e-9))
        return most

    def time_s(self, microbatches: int) -> float:
        return min(split.time_s(microbatches) for split in self.splits)

    def best(self, microbatches: int) -> Split:
        """The cut that takes so many microbatches fastest."""
        return min(self.splits, key=lambda split: split.time_s(microbatches))


@dataclass(frozen=True)
class Share:
    """What the replicas of one taker do: so many of them take so many microbatches each."""

    taker: int
    replicas: int
    microbatches: int


def batch_shares(takers: Sequence[Taker], sequences: int) -> tuple[float, tuple[Share, ...]] | None:
    """(least seconds, shares) in which the takers do a batch of exactly so many sequences, each replica one microbatch at least; None
    where the microbatches cannot add up to it.

    >>> fast, slow = (Taker(1, 1, (Split(t, t, (1,)),)) for t in (1.0, 2.0))
    >>> batch_shares([fast, slow], 6)
    (4.0, (Share(taker=0, replicas=1, microbatches=4), Share(taker=1, replicas=1, microbatches=2)))
    """
    if any(not taker.splits for taker in takers) or sum(one.replicas * one.microbatch for one in takers) > sequences:
        return None
    time_s = max(max(taker.time_s(1) for taker in takers), _fluid_s(takers, sequences))
    for _ in range(64 * len(takers) + 64):
        done = [max(1, taker.done(time_s)) for taker in takers]
        spare = sum(one.replicas * one.microbatch * count for one, count in zip(takers, done, strict=True)) - sequences
        if spare >= 0:
            fewer = _made_of(spare, [(one.microbatch, one.replicas * (count - 1)) for one, count in zip(takers, done, strict=True)])
            if fewer is not None:
                return _spread(takers, done, fewer)
        time_s = min(taker.time_s(count + 1) for taker, count in zip(takers, done, strict=True))
    return None


def _fluid_s(takers: Sequence[Taker], sequences: int) -> float:
    """No batch is done sooner: microbatches taken as divisible, each taker with the better of its cuts for the whole."""
    best = 0.0
    rate = sum(one.replicas * one.microbatch / min(split.slowest_s for split in one.splits) for one in takers)
    ahead = 0.0
    for one in takers:
        split = min(one.splits, key=lambda split: split.slowest_s)
        fill = min(other.sum_s for other in one.splits) - split.slowest_s
        ahead += one.replicas * one.microbatch / split.slowest_s * fill
    best = (sequences + ahead) / rate
    return best * (1 - 1e-9)


def _made_of(total: int, parts: Sequence[tuple[int, int]]) -> list[int] | None:
    """How many of each part (size, at most) make up a total exactly; None where no choice does. Large parts go first."""
    order = sorted(range(len(parts)), key=lambda index: -parts[index][0])

    def rest(position: int, left: int) -> dict[int, int] | None:
        index = order[position]
        size, most = parts[index]
        if position == len(order) - 1:
            return {index: left // size} if left % size == 0 and left // size <= most else None
        smallest = parts[order[-1]][0]
        top = min(most, left // size)
        for count in range(top, max(-1, top - smallest), -1):
            found = rest(position + 1, left - count * size)
            if found is not None:
                return {index: count, **found}
        return None

    found = rest(0, total)
    return None if found is None else [found[index] for index in range(len(parts))]


def _spread(takers: Sequence[Taker], done: Sequence[int], fewer: Sequence[int]) -> tuple[float, tuple[Share, ...]]:
    """Each taker's microbatches over its replicas, as evenly as they divide."""
    shares, time_s = [], 0.0
    for index, (taker, count, less) in enumerate(zip(takers, done, fewer, strict=True)):
        each, more = divmod(taker.replicas * count - less, taker.replicas)
        if more:
            shares.append(Share(index, more, each + 1))
        if taker.replicas - more:
            shares.append(Share(index, taker.replicas - more, each))
        time_s = max(time_s, taker.time_s(each + bool(more)))
    return time_s, tuple(shares)
