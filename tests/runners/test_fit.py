"""The fit of time against work: known answers, robustness, and what it says of its own error."""

from __future__ import annotations

import random

import pytest

from chipassay.results.profile import Evidence
from chipassay.runners.fit import fit_curve, fit_time

WORK = [10.0**e for e in range(6, 13)]


def test_exact_points_give_back_overhead_and_rate():
    overhead_s, per_unit_s, spread = fit_time(WORK, [2e-5 + w / 1e12 for w in WORK])
    assert overhead_s == pytest.approx(2e-5, rel=1e-6)
    assert 1 / per_unit_s == pytest.approx(1e12, rel=1e-6)
    assert spread == pytest.approx(0.0, abs=1e-9)


def test_one_wild_point_hardly_moves_the_rate():
    times = [2e-5 + w / 1e12 for w in WORK]
    times[3] *= 3
    assert 1 / fit_time(WORK, times)[1] == pytest.approx(1e12, rel=0.05)


def test_the_spread_is_the_noise_that_was_put_in():
    source = random.Random(1)
    work = [10.0 ** source.uniform(6, 12) for _ in range(2000)]
    times = [(1e-5 + w / 1e12) * source.lognormvariate(0, 0.08) for w in work]
    assert fit_time(work, times)[2] == pytest.approx(0.08, rel=0.1)


def test_a_rate_that_falls_with_size_gets_no_negative_overhead():
    overhead_s, per_unit_s, _ = fit_time([1e9, 1e10, 1e11], [1e-3, 1.2e-2, 1.5e-1])
    assert overhead_s == 0.0
    assert per_unit_s > 0


def test_one_point_gives_its_rate_and_no_spread():
    assert fit_time([1e9], [1e-3]) == (0.0, 1e-12, None)


def test_an_overhead_that_is_known_stays_and_two_points_then_tell_their_spread():
    overhead_s, per_unit_s, spread = fit_time([1e9, 2e9], [1.1e-3 * 1.02, 2.1e-3 / 1.02], 1e-4)
    assert overhead_s == 1e-4
    assert 1 / per_unit_s == pytest.approx(1e12, rel=0.02)
    assert spread == pytest.approx(0.02 * 2**0.5, rel=0.2)
    assert fit_time([1e9], [1.1e-3], 1e-4)[1] == pytest.approx(1e-12)
    with pytest.raises(ValueError, match="longer than a time"):
        fit_time([1e9], [1e-5], 1e-4)


def test_no_point_is_an_error():
    with pytest.raises(ValueError, match="no point"):
        fit_time([], [])


def test_the_curve_says_how_far_it_was_measured():
    curve = fit_curve([1e6, 1e9], [1e-5, 1e-3], Evidence("measured", "test"))
    assert (curve.work_min, curve.work_max, curve.points, curve.spread) == (1e6, 1e9, 2, None)
