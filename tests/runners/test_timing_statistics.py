"""The statistics against known answers and against simulation."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipassay.runners.timing.statistics import median, median_interval, median_interval_ranks, percentile, thin


@pytest.mark.parametrize(("count", "ranks"), [(6, (0, 5)), (10, (1, 8)), (20, (5, 14)), (50, (17, 32)), (100, (39, 60))])
def test_median_interval_ranks_agree_with_the_published_table(count, ranks):
    # Conover, Practical Nonparametric Statistics, from the binomial(n, 1/2): largest symmetric pair of at least 95 %.
    assert median_interval_ranks(count) == ranks


def test_the_interval_covers_the_true_median_at_least_95_times_in_100():
    source = random.Random(3)
    hits = 0
    for _ in range(2000):
        low, high = median_interval([source.lognormvariate(0.0, 0.7) for _ in range(25)])
        hits += low <= 1.0 <= high
    assert hits / 2000 >= 0.94


def test_the_interval_covers_under_drift_that_makes_neighbouring_samples_alike():
    source = random.Random(5)
    hits = narrow = 0
    for _ in range(400):
        # An autoregressive log time around 0: 200 samples are worth far fewer independent ones.
        level, samples = 0.0, []
        for _ in range(200):
            level = 0.9 * level + source.gauss(0.0, 0.02)
            samples.append(math.exp(level))
        low, high = median_interval(samples)
        hits += low <= 1.0 <= high
        ordered = sorted(samples)
        ranks = median_interval_ranks(200)
        narrow += ordered[ranks[0]] <= 1.0 <= ordered[ranks[1]]
    assert hits / 400 >= 0.8
    assert narrow / 400 < 0.5


def test_two_visits_that_disagree_give_an_interval_that_holds_both():
    low, high = median_interval([1.0 + 0.001 * i for i in range(50)] + [1.5 + 0.001 * i for i in range(50)])
    assert low < 1.05
    assert high >= 1.5


def test_the_large_sample_rule_meets_the_exact_one():
    exact, approximate = median_interval_ranks(100), median_interval_ranks(101)
    assert abs(exact[0] - approximate[0]) <= 1
    assert approximate[0] + approximate[1] == 100


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=60))
def test_the_median_lies_inside_its_interval_and_the_range(samples):
    low, high = median_interval(samples)
    assert min(samples) <= low <= median(samples) <= high <= max(samples)


@given(st.lists(st.floats(1e-9, 1e3), min_size=2, max_size=300), st.integers(2, 100))
def test_thinning_keeps_order_ends_and_bound(samples, bound):
    kept = thin(samples, bound)
    assert len(kept) == min(len(samples), bound)
    assert (kept[0], kept[-1]) == (samples[0], samples[-1])


def test_percentiles_interpolate():
    assert percentile([0.0, 10.0], 0.05) == pytest.approx(0.5)
    assert percentile([7.0], 0.95) == 7.0
