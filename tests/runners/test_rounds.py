"""Two visits pooled to one row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chipassay.results.schema import SAMPLES_KEPT, Row
from chipassay.runners.rounds import pooled
from chipassay.runners.timing.columns import time_columns


def visit(time_s, count=100, **more):
    samples = tuple(time_s * (1 + 0.001 * (i % 10)) for i in range(count))
    columns = time_columns(samples)
    rates = {"rate_flops_per_s": 1e9 / columns["time_median_s"], "peak_fraction": 0.5e-3 / columns["time_median_s"]}
    return Row(op="matmul", status="ok", flops=1e9, sample_count=count, measuring_s=1.0, wall_s=2.0, **columns, **rates, **more)


def test_the_pooled_interval_and_spread_hold_both_visits():
    slow, fast = visit(2e-3), visit(1e-3)
    both = pooled(slow, fast)
    assert both.time_low_s <= 1.01 * fast.time_median_s
    assert both.time_high_s >= 0.99 * slow.time_median_s
    assert both.time_p05_s <= fast.time_median_s
    assert both.time_p95_s >= slow.time_median_s
    assert both.time_min_s == fast.time_min_s


def test_rates_follow_the_pooled_median():
    both = pooled(visit(2e-3), visit(1e-3))
    assert both.rate_flops_per_s == pytest.approx(1e9 / both.time_median_s)
    assert both.peak_fraction == pytest.approx(0.5e-3 / both.time_median_s)


def test_counts_and_times_add_up_and_the_first_check_stays():
    both = pooled(visit(1e-3, error=0.1, error_limit=1.0, throttled=True), visit(1e-3, throttled=False))
    assert (both.sample_count, both.measuring_s, both.wall_s, both.round_count) == (200, 2.0, 4.0, 2)
    assert (both.error, both.error_limit) == (0.1, 1.0)
    assert both.throttled is True


def test_a_third_visit_counts_as_much_as_each_of_the_first_two():
    third = pooled(pooled(visit(1e-3), visit(1e-3)), visit(3e-3))
    assert third.round_count == 3
    assert len(third.samples_s) <= SAMPLES_KEPT
    slow = sum(sample > 2e-3 for sample in third.samples_s)
    assert slow / len(third.samples_s) == pytest.approx(1 / 3, abs=0.02)


def test_few_samples_of_long_calls_are_all_kept():
    both = pooled(visit(1.0, count=3), visit(1.1, count=4))
    assert len(both.samples_s) == 7
    assert both.time_median_s == pytest.approx(1.1, rel=0.01)


def test_clocks_stay_beside_the_samples_that_are_kept():
    def clocked(time_s, hz):
        return visit(time_s, sample_clocks_hz=tuple(hz + i for i in range(100)))

    both = pooled(clocked(1e-3, 1e9), clocked(2e-3, 2e9))
    assert len(both.sample_clocks_hz) == len(both.samples_s)
    assert all((time_s > 1.5e-3) == (hz >= 2e9) for time_s, hz in zip(both.samples_s, both.sample_clocks_hz, strict=True))
    half = pooled(visit(1e-3), clocked(2e-3, 2e9))
    assert all((time_s > 1.5e-3) == (hz >= 2e9) for time_s, hz in zip(half.samples_s, half.sample_clocks_hz, strict=True))
    assert pooled(visit(1e-3), visit(1e-3)).sample_clocks_hz is None


def test_what_only_the_first_visit_measured_stays_and_doubts_add_up():
    first = visit(1e-3, energy_j=0.5, sustained_s=30.0, sustained_time_s=1.2e-3, flags="a;throttled", throttle_reasons="power_cap")
    both = pooled(first, visit(1e-3, flags="throttled;b", roofline_fraction=0.5))
    assert (both.energy_j, both.sustained_s, both.sustained_time_s) == (0.5, 30.0, 1.2e-3)
    assert (both.flags, both.throttle_reasons) == ("a;throttled;b", "power_cap")
    assert pooled(both, visit(1e-3)).energy_j == 0.5


def test_the_roofline_share_follows_the_pooled_median():
    later = visit(1e-3)
    later = replace(later, roofline_fraction=0.8e-3 / later.time_median_s)
    both = pooled(visit(2e-3), later)
    assert both.roofline_fraction == pytest.approx(0.8e-3 / both.time_median_s)


def test_ranks_are_averaged_over_visits_and_stay_in_order():
    both = pooled(visit(1e-3, rank_times_s=(1.0, 3.0), alone_time_s=1.0), visit(1e-3, rank_times_s=(2.0, 5.0), alone_time_s=2.0))
    assert (both.rank_times_s, both.alone_time_s) == ((1.5, 4.0), 1.5)
    assert pooled(both, visit(1e-3, rank_times_s=(3.0, 4.0))).rank_times_s == (2.0, 4.0)


def test_a_straggler_is_the_rank_that_is_slow_in_every_visit():
    def slow(rank, ratio):
        return visit(1e-3, straggler_rank=rank, straggler_hash=f"h{rank}", straggler_ratio=ratio)

    same = pooled(slow(2, 1.4), slow(2, 1.6))
    assert (same.straggler_rank, same.straggler_hash, same.straggler_ratio) == (2, "h2", pytest.approx(1.5))
    passing = pooled(slow(1, 1.9), slow(0, 1.02))
    assert (passing.straggler_rank, passing.straggler_hash, passing.straggler_ratio) == (0, "h0", 1.02)
