"""Fits of a collective's time against message size: as many lines as the sizes bear out, each with the error of its own numbers.

Between two changes of protocol the time is ``latency + bytes on the bus / busbw``; where NCCL goes from LL to LL128 to Simple, or from
tree to ring, both numbers change. The changes are found by dynamic programming over all places where they could be (Bai and Perron,
"Computation and analysis of multiple structural change models", J. Applied Econometrics 18, 2003), their number by BIC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipassay.results.link import Segment

from .fit import HUBER_SCALE, HUBER_TURNS

Array = NDArray[np.float64]

SIZES_A_SEGMENT = 3
"""Two numbers a line and one size to contradict them."""
SEGMENTS_AT_MOST = 6
"""NCCL has three protocols and two or three algorithms; more lines than this only follow the noise."""
PLACES_AT_MOST = 48
"""Sizes between which a change is looked for; of more sizes, neighbours are taken together."""
LEAST_NOISE = 0.005
"""Assumed: medians of one size differ by so much between visits even on a quiet machine; residuals below are no evidence."""
BOUGHT_BY = 2.25
"""However far off, so many points cost a fit as much as one more segment does: two wild sizes do not buy one, three that agree do."""
REJECTED = 4.0
"""Standard deviations beyond which a point has hardly any say in where a line lies while changes are looked for."""
PRIOR_SPREAD = 0.08
PRIOR_FREEDOM = 2.0
"""What is believed of the noise before any point: that of published sweeps of five or six sizes (median 8 %,
tests/runners/test_fit_links.py), worth two points. A link of two or three sizes so has an honest error."""
FLAT_SHARE = 1e-3
"""A line that does not rise gets a bandwidth at which its largest message's bytes take this share of the latency."""


@dataclass(frozen=True)
class LinkFit:
    """The lines, and how far single points lie from them."""

    segments: tuple[Segment, ...]
    spread: float
    """Standard deviation of the log residuals, with PRIOR_SPREAD as if it were two more points."""


def fit_link(size_bytes: Sequence[float], time_s: Sequence[float], bus_factor: float, least_noise: float = LEAST_NOISE) -> LinkFit:
    """The lines through points (message size, seconds). Raises ValueError without a point, or with one that is not positive.

    ``least_noise``: standard deviation of a time's log as known from its own samples; neighbours may agree better by luck.

    >>> sizes = [2.0**e for e in range(10, 31, 2)]
    >>> fit = fit_link(sizes, [2e-5 + size / 1e10 for size in sizes], 1.0)
    >>> len(fit.segments), round(fit.segments[0].latency_s * 1e6, 3), round(fit.segments[0].busbw_bytes_per_s / 1e9, 3)
    (1, 20.0, 10.0)
    """
    sizes, times = np.asarray(size_bytes, dtype=float), np.asarray(time_s, dtype=float)
    if len(sizes) == 0:
        raise ValueError("no point to fit")
    if not (np.all(sizes > 0) and np.all(times > 0) and bus_factor > 0):
        raise ValueError("sizes, times and the bus factor must be positive")
    order = np.argsort(sizes, kind="stable")
    sizes, times = sizes[order], times[order]
    places = _places(sizes)
    bounds = _bounds(sizes * bus_factor, times, places, max(least_noise, LEAST_NOISE))
    lines = [_line(sizes[a:b] * bus_factor, times[a:b]) for a, b in bounds]
    residuals = np.concatenate([line.residuals for line in lines])
    weights = np.concatenate([line.weights for line in lines])
    freedom = max(0, len(sizes) - 3 * len(lines) + 1)
    variance = (float((weights * residuals**2).sum()) + PRIOR_FREEDOM * PRIOR_SPREAD**2) / (freedom + PRIOR_FREEDOM)
    # Wild sizes do not bend the lines, but the next size may be as wild: the spread counts them in full.
    spread = math.sqrt((float((residuals**2).sum()) + PRIOR_FREEDOM * PRIOR_SPREAD**2) / (freedom + PRIOR_FREEDOM))
    segments = [
        line.segment(first, variance, freedom + PRIOR_FREEDOM)
        for line, first in zip(lines, _firsts(lines, sizes, bounds, bus_factor), strict=True)
    ]
    return LinkFit(tuple(segments), spread)


@dataclass(frozen=True)
class _Line:
    """One segment's line, time = a + b x, with what its errors are made of."""

    a: float
    b: float
    x: Array
    times: Array
    weights: Array

    @property
    def residuals(self) -> Array:
        return np.log(self.times / (self.a + self.b * self.x))

    def segment(self, first_bytes: float, variance: float, freedom: float) -> Segment:
        columns = np.stack([1 / self.times, self.x / self.times], axis=1) * np.sqrt(self.weights)[:, None]
        scales = np.linalg.norm(columns, axis=0)
        normal = (columns / scales).T @ (columns / scales)
        if len(np.unique(self.x)) < 2:
            # One size tells the sum of the two, neither of them.
            time_s = self.a + self.b * float(self.x[0])
            return Segment(first_bytes, self.a, 1 / self.b, time_s, time_s / float(self.x[0]), -1.0, len(self.x), freedom)
        covariance = np.linalg.inv(normal) * variance
        errors = np.sqrt(np.diag(covariance)) / scales
        correlation = float(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]))
        return Segment(first_bytes, self.a, 1 / self.b, float(errors[0]), float(errors[1]), correlation, len(self.x), freedom)


def _line(x: Array, times: Array) -> _Line:
    """Huber's line through one segment's points, residuals relative, neither number negative."""
    weights, line, a, b = np.ones_like(times), times, 0.0, 0.0
    for _ in range(HUBER_TURNS):
        # Gauss-Newton on log(time / line): relative residuals alone would lean to the low side of noisy times.
        base, slope, _ = _solve(*(term.sum() for term in _terms(x, times, weights, line)))
        a = float(base)
        b = max(float(slope), FLAT_SHARE * a / float(x[-1]))
        line = a + b * x
        residuals = np.abs(np.log(times / line))
        scale = max(LEAST_NOISE, float(np.median(residuals)) / 0.6745)
        weights = 1 / np.maximum(1.0, residuals / (HUBER_SCALE * scale))
    return _Line(a, b, x, times, weights)


def _terms(x: Array, times: Array, weights: Array, line: Array) -> tuple[Array, ...]:
    """What the normal equations of sum w (a / line + b x / line - 1 - log(times / line))^2 are sums of.

    With the times themselves for ``line`` that is the sum of squared relative residuals.
    """
    u, v, y = 1 / line, x / line, 1 + np.log(times / line)
    return weights * u * u, weights * u * v, weights * v * v, weights * u * y, weights * v * y, weights * y * y


def _solve(uu: Array, uv: Array, vv: Array, uy: Array, vy: Array, yy: Array) -> tuple[Array, Array, Array]:
    """(a, b, cost) of the best line with a, b >= 0; everything elementwise, so that all segments are solved at once."""
    determinant = uu * vv - uv * uv
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (uy * vv - vy * uv) / determinant, (vy * uu - uy * uv) / determinant
        proportional, flat = vy / vv, uy / uu
        usable = determinant > 1e-10 * uu * vv
        a, b = np.where(usable, a, 0.0), np.where(usable, b, proportional)
        a, b = np.where(b < 0, flat, np.where(a < 0, 0.0, a)), np.where(b < 0, 0.0, np.where(a < 0, proportional, b))
    return a, b, np.maximum(0.0, yy - 2 * (a * uy + b * vy) + a * a * uu + 2 * a * b * uv + b * b * vv)


def _places(sizes: Array) -> list[int]:
    """Indices at which a segment may begin, and the end: wherever the size changes."""
    return [0, *map(int, np.flatnonzero(np.diff(sizes)) + 1), len(sizes)]


def _fewer(places: list[int]) -> list[int]:
    """At most PLACES_AT_MOST of the places, evenly spaced, the ends kept."""
    if len(places) <= PLACES_AT_MOST + 1:
        return places
    return [places[i] for i in np.linspace(0, len(places) - 1, PLACES_AT_MOST + 1).round().astype(int)]


def _bounds(x: Array, times: Array, places: list[int], least_noise: float) -> list[tuple[int, int]]:
    """The segments as (first, past the last) point: the number of lines that BIC prefers."""
    coarse, noise = _fewer(places), max(least_noise, _noise(x, times))
    best_score, best = math.inf, [(0, len(x))]
    for count in range(1, min(SEGMENTS_AT_MOST, (len(coarse) - 1) // SIZES_A_SEGMENT or 1) + 1):
        # Two numbers a line and one a change, each worth log(points) (Schwarz, Annals of Statistics 6, 1978; Yao, Statistics and
        # Probability Letters 6, 1988, for changes).
        price = 3 * math.log(len(x))
        bounds, loss = _changes(x, times, coarse, count, noise, price / BOUGHT_BY)
        if loss + count * price < best_score:
            best_score, best = loss + count * price, bounds
    if len(best) > 1 and len(coarse) < len(places):
        near = {place for begin, _ in best[1:] for place in places if _next(coarse, begin, -1) <= place <= _next(coarse, begin, 1)}
        best, _ = _changes(x, times, sorted({*coarse, *near}), len(best), noise, price / BOUGHT_BY)
    return best


def _next(places: list[int], place: int, step: int) -> int:
    return places[places.index(place) + step]


def _changes(x: Array, times: Array, places: list[int], count: int, noise: float, most: float) -> tuple[list[tuple[int, int]], float]:
    """The best ``count`` segments and their loss in squares of the noise, ``most`` at the most for one point. Points far from their
    line lose their weight."""
    weights = np.ones_like(times)
    bounds: list[tuple[int, int]] = []
    loss = math.inf
    for _ in range(4):
        found = _split(x, times, weights, places, count)
        residuals = np.concatenate([_residuals(x[a:b], times[a:b], weights[a:b]) for a, b in found]) / noise
        found_loss = float(np.minimum(residuals**2, most).sum())
        if found_loss >= loss - 1e-9:
            break
        bounds, loss = found, found_loss
        far = np.maximum(1.0, np.abs(residuals) / HUBER_SCALE)
        weights = np.where(np.abs(residuals) > REJECTED, 1e-3, 1 / far)
    return bounds, loss


def _residuals(x: Array, times: Array, weights: Array) -> Array:
    a, b, _ = _solve(*(term.sum() for term in _terms(x, times, weights, times)))
    return np.log(times / (a + b * x))


def _split(x: Array, times: Array, weights: Array, places: list[int], count: int) -> list[tuple[int, int]]:
    """The cheapest ``count`` segments of at least SIZES_A_SEGMENT places each, by dynamic programming."""
    blocks = len(places) - 1
    if count == 1:
        return [(0, len(x))]
    # cost[i, j]: of one line through blocks i to j. Sums run from each i on: differences of sums over all would lose small segments.
    later = np.triu(np.ones((blocks, blocks), dtype=bool))
    terms = (np.add.reduceat(term, places[:-1]) for term in _terms(x, times, weights, times))
    sums = [np.cumsum(np.where(later, term[None, :], 0.0), axis=1) for term in terms]
    cost = _solve(*sums)[2]
    long_enough = np.triu(np.ones((blocks, blocks), dtype=bool), SIZES_A_SEGMENT - 1)
    cost = np.where(long_enough, cost, np.inf)
    best, begins = cost[0], []
    for _ in range(count - 1):
        # through[i, j]: the best of the segments before i, and one line from i to j.
        through = np.concatenate([[np.inf], best[:-1]])[:, None] + cost
        begins.append(through.argmin(axis=0))
        best = through.min(axis=0)
    ends = [blocks - 1]
    for begin in reversed(begins):
        ends.append(int(begin[ends[-1]]) - 1)
    edges = [places[end + 1] for end in reversed(ends)]
    return list(zip([0, *edges[:-1]], edges, strict=True))


def _noise(x: Array, times: Array) -> float:
    """Standard deviation of the log times around a smooth curve, whatever it is: how far each lies from between its neighbours.

    Median-based, so that neither a wild point nor a change of protocol counts.
    """
    if len(x) < 5:
        return PRIOR_SPREAD
    logs = np.log(times)
    steps = np.diff(np.log(x))
    span = np.maximum(steps[:-1] + steps[1:], 1e-12)
    share = np.where(span > 1e-9, steps[:-1] / span, 0.5)
    middle = logs[:-2] * (1 - share) + logs[2:] * share
    inflated = np.sqrt(1 + share**2 + (1 - share) ** 2)
    return float(np.median(np.abs(logs[1:-1] - middle) / inflated)) / 0.6745


def _firsts(lines: list[_Line], sizes: Array, bounds: list[tuple[int, int]], bus_factor: float) -> list[float]:
    """Where each line takes over: where it crosses the one before it, if that lies between their points; with a jump upwards halfway; and
    where it begins lower than the other ended, at the other's last point, for what lies beyond that point nobody measured."""
    firsts = [float(sizes[0])]
    for before, after, (begin, _) in zip(lines, lines[1:], bounds[1:], strict=False):
        last, first = float(sizes[begin - 1]), float(sizes[begin])
        crossing = (after.a - before.a) / (before.b - after.b) / bus_factor if before.b != after.b else math.inf
        halfway = math.sqrt(last * first)
        falls = after.a + after.b * halfway * bus_factor < before.a + before.b * halfway * bus_factor
        firsts.append(crossing if last < crossing <= first else last if falls else halfway)
    return firsts
