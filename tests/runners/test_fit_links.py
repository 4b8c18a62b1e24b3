"""The fit of a collective's time: planted protocol changes come back, noise makes none, and errors are as large as they say."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.evidence import Evidence
from chipassay.results.link import BEYOND_SIGMA, Link, bus_factor
from chipassay.results.links import GROUP_SIGMA
from chipassay.results.published_rows import COLLECTIVES, load_published
from chipassay.runners.fit_links import PRIOR_SPREAD, fit_link

CHANGES = (2.0**14, 2.0**23)
PLANTED = ((1e-5, 2e9), (3e-5, 2e10), (3e-4, 2e11))
"""Latency and bandwidth of three protocols; each change is a jump."""
SEEDS = range(40)
ENOUGH = 0.9
"""The share of seeds that must find what was planted."""


def planted_s(size_bytes: float) -> float:
    latency_s, rate = PLANTED[sum(size_bytes >= change for change in CHANGES)]
    return latency_s + size_bytes / rate


def points(time_of, count: int, noise: float, seed: int, wild: int = 0) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(seed)
    sizes = np.geomspace(8, 2**32, count)
    times = np.array([time_of(size) for size in sizes]) * np.exp(source.normal(0, noise, count))
    for i in source.choice(np.arange(count // 6) * 6, wild, replace=False):
        times[i] *= source.uniform(1.5, 4)
    return sizes, times


def link_of(fit, sizes, group_size: int = 2) -> Link:
    last = fit.segments[-1]
    return Link(
        "all_reduce", "nccl", group_size, last.latency_s, last.busbw_bytes_per_s, Evidence("measured", "test"), len(sizes), fit.spread,
        segments=fit.segments, first_bytes=float(min(sizes)), last_bytes=float(max(sizes)),
    )  # fmt: skip


@pytest.mark.parametrize(("noise", "wild"), [(0.01, 0), (0.03, 0), (0.03, 2)], ids=["quiet", "noisy", "noisy with wild points"])
def test_planted_changes_are_found_within_a_step_and_their_numbers_within_their_intervals(noise: float, wild: int) -> None:
    right, latency, bandwidth = 0, 0, 0
    for seed in SEEDS:
        sizes, times = points(planted_s, 40, noise, seed, wild)
        segments = fit_link(sizes, times, 1.0).segments
        # A wild point beside a change may be taken to the wrong side with what lies between.
        step = (sizes[1] / sizes[0]) ** (4 if wild else 1)
        firsts = [segment.first_bytes for segment in segments[1:]]
        if len(firsts) == 2 and all(1 / step <= found / planted <= step for found, planted in zip(firsts, CHANGES, strict=True)):
            right += 1
        first, last = segments[0].latency_interval_s, segments[-1].busbw_interval
        latency += first[0] <= PLANTED[0][0] <= first[1]
        bandwidth += last[0] <= PLANTED[-1][1] <= last[1]
    assert right >= ENOUGH * len(SEEDS)
    assert latency >= ENOUGH * len(SEEDS)
    assert bandwidth >= ENOUGH * len(SEEDS)


@pytest.mark.parametrize("count", [6, 10, 16, 40])
@pytest.mark.parametrize(("noise", "wild"), [(0.02, 0), (0.05, 0), (0.02, 1)], ids=["quiet", "noisy", "one wild point"])
def test_one_line_is_fitted_as_one_line(count: int, noise: float, wild: int) -> None:
    fits = [fit_link(*points(lambda size: 2e-5 + size / 1e11, count, noise, seed, wild), 1.0) for seed in SEEDS]
    assert sum(len(fit.segments) == 1 for fit in fits) >= ENOUGH * len(fits)
    held = [fit.segments[0].latency_interval_s for fit in fits if len(fit.segments) == 1]
    assert sum(low <= 2e-5 <= high for low, high in held) >= ENOUGH * len(held)


@given(
    latency_s=st.floats(1e-6, 1e-3), rate=st.floats(1e8, 1e12), noise=st.floats(0, 0.5), count=st.integers(1, 30), seed=st.integers(0, 999)
)
@settings(max_examples=60, derandomize=True, deadline=None)
def test_no_number_is_ever_negative_and_every_time_is_positive(latency_s, rate, noise, count, seed) -> None:
    sizes, times = points(lambda size: latency_s + size / rate, count, noise, seed)
    fit = fit_link(sizes, times, 1.75)
    assert all(segment.latency_s >= 0 and 0 < segment.busbw_bytes_per_s < math.inf for segment in fit.segments)
    firsts = [segment.first_bytes for segment in fit.segments]
    assert firsts == sorted(firsts)
    assert sum(segment.points for segment in fit.segments) == count
    link = link_of(fit, sizes)
    assert all(link.time_s(size) > 0 and link.sigma(size) > 0 for size in (1.0, *sizes, 2.0**40))


@pytest.mark.parametrize(
    ("better", "first", "second"),
    [(min, (1e-5, 1e9), (8e-5, 8e9)), (max, (1e-4, 1e10), (1e-5, 1e9))],
    ids=["the library takes the faster", "the slower part decides"],
)
def test_lines_that_cross_between_two_sizes_join_there(better, first, second) -> None:
    sizes = np.geomspace(8, 2**30, 28)
    fit = fit_link(sizes, [better(first[0] + size / first[1], second[0] + size / second[1]) for size in sizes], 1.0)
    crossing = (second[0] - first[0]) / (1 / first[1] - 1 / second[1])
    assert [segment.first_bytes for segment in fit.segments] == pytest.approx([8.0, crossing], rel=1e-3)


def test_many_points_of_few_sizes_are_one_line_with_their_spread() -> None:
    source = np.random.default_rng(3)
    sizes = np.repeat([8.0, 2.0**26], 28)
    times = (1e-5 + sizes / 1e10) * np.exp(source.normal(0, 0.05, len(sizes)))
    (segment,) = fit_link(sizes, times, 1.0).segments
    assert segment.busbw_bytes_per_s == pytest.approx(1e10, rel=0.03)
    assert fit_link(sizes, times, 1.0).spread == pytest.approx(0.05, rel=0.35)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_points_give_a_link_with_a_wide_interval(count: int) -> None:
    sizes = [2.0**20, 2.0**10, 2.0**28][:count]
    fit = fit_link(sizes, [1e-5 + size / 1e10 for size in sizes], 1.0)
    (segment,) = fit.segments
    link = link_of(fit, sizes)
    for size in sizes:
        assert link.time_s(size) == pytest.approx(1e-5 + size / 1e10, rel=1e-3)
        low, high = link.interval_s(size)
        assert high / low > math.exp(4 * PRIOR_SPREAD)
    if count == 1:
        assert segment.latency_interval_s[0] == 0.0
        assert segment.busbw_interval[1] == math.inf


def test_no_point_and_no_time_are_errors() -> None:
    with pytest.raises(ValueError, match="no point"):
        fit_link([], [], 1.0)
    with pytest.raises(ValueError, match="must be positive"):
        fit_link([8.0], [0.0], 1.0)


def test_hundreds_of_points_are_fitted_in_a_moment() -> None:
    sizes, times = points(planted_s, 400, 0.02, 1)
    fit_link(sizes, times, 1.0)
    begin_s = time.process_time()
    fit_link(sizes, times, 1.0)
    assert time.process_time() - begin_s < 0.05


def published_sweeps() -> list[tuple[int, list[tuple[float, float]]]]:
    """(group size, (size, seconds) by size) of every published sweep of at least five sizes."""
    sweeps = defaultdict(list)
    for row in load_published():
        if row.op in COLLECTIVES and row.work and row.group_size:
            time_s = row.work * bus_factor(row.op, row.group_size) / row.rate_per_s
            sweeps[row.chip_id, row.op, row.group_size, row.source].append((row.work, time_s))
    return [(key[2], sorted(sweep)) for key, sweep in sorted(sweeps.items()) if len(sweep) >= 5]


def fitted(sweep: list[tuple[float, float]], group_size: int) -> Link:
    sizes, times = zip(*sweep, strict=True)
    return link_of(fit_link(sizes, times, bus_factor("all_reduce", group_size)), sizes, group_size)


def test_published_sweeps_are_fitted_within_a_few_percent() -> None:
    """nccl-tests and all_reduce_bench.py on V100, A100, H100, H200 and B200 (results/data/published.csv)."""
    errors = [abs(math.log(fitted(sweep, ranks).time_s(size) / time_s)) for ranks, sweep in published_sweeps() for size, time_s in sweep]
    assert statistics.median(errors) < 0.04
    assert sorted(errors)[int(0.9 * len(errors))] < 0.12


def test_what_is_believed_of_the_noise_beforehand_is_that_of_published_sweeps() -> None:
    spreads = []
    for ranks, sweep in published_sweeps():
        link = fitted(sweep, ranks)
        squares = sum(math.log(link.time_s(size) / time_s) ** 2 for size, time_s in sweep)
        spreads.append(math.sqrt(squares / (len(sweep) - 3 * len(link.segments) + 1)))
    assert statistics.median(spreads) == pytest.approx(PRIOR_SPREAD, rel=0.1)


def test_the_error_of_extrapolation_is_that_of_published_sweeps_cut_short() -> None:
    each, inside = [], []
    for ranks, sweep in published_sweeps():
        for cut in range(1, len(sweep) - 2):
            link = fitted(sweep[:-cut], ranks)
            size, time_s = sweep[-1]
            each.append(math.log(link.time_s(size) / time_s) / link.doublings_beyond(size))
            low, high = link.interval_s(size)
            inside.append(low <= time_s <= high)
    assert math.sqrt(statistics.mean(error**2 for error in each)) == pytest.approx(BEYOND_SIGMA, rel=0.1)
    assert statistics.mean(inside) >= ENOUGH


def test_the_error_of_other_group_sizes_is_the_typical_change_of_published_ones() -> None:
    best: dict[str, dict[int, float]] = defaultdict(dict)
    for row in load_published():
        if row.op == "all_reduce" and row.group_size:
            best[row.chip_id][row.group_size] = max(row.rate_per_s, best[row.chip_id].get(row.group_size, 0.0))
    changes = []
    for rates in best.values():
        sizes = sorted(rates)
        changes += [abs(math.log(rates[b] / rates[a]) / math.log2(b / a)) for a, b in itertools.pairwise(sizes)]
    assert statistics.median(changes) / 0.6745 == pytest.approx(GROUP_SIGMA, rel=0.05)
