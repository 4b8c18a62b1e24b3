"""The sampling loop against a fake chip: what it calls, in which order, and what it reports."""

from __future__ import annotations

import itertools

import pytest

from chipassay.runners.timing.engine import measure
from chipassay.runners.timing.stopping import PreciseMedian

from .fakes import FakeChip, FixedCount, noisy, steady


def nothing() -> None:
    pass


def test_each_cold_sample_refills_the_output_then_evicts_the_cache_then_calls():
    chip = FakeChip(steady(1e-3))
    measure(nothing, chip, FixedCount(3), cache="cold", before_sample=lambda: chip.log.append("refill"))
    assert chip.log[-9:] == ["refill", "evict", "call"] * 3


def test_a_warm_sample_evicts_nothing():
    chip = FakeChip(steady(1e-3))
    samples = measure(nothing, chip, FixedCount(3), cache="warm")
    assert "evict" not in chip.log
    assert samples.cache == "warm"


def test_eviction_is_not_in_the_time():
    samples = measure(nothing, FakeChip(steady(1e-5)), FixedCount(5), cache="cold")
    assert samples.times_s == (1e-5,) * 5


def test_warm_up_goes_on_until_the_times_no_longer_fall():
    falling = itertools.chain([1.0, 0.5, 0.25, 0.2, 0.1], steady(0.1))
    samples = measure(nothing, FakeChip(falling), FixedCount(4), warmup_cap_s=100)
    assert samples.times_s == (0.1,) * 4
    assert samples.warmup_count == 7


def test_warm_up_that_never_settles_ends_at_its_cap():
    falling = (0.9**i for i in itertools.count())
    samples = measure(nothing, FakeChip(falling), FixedCount(1), warmup_cap_s=3.0)
    assert samples.warmup_count == 4


def test_throttled_samples_are_kept_and_marked():
    clocks = itertools.chain([2.0e9, 1.9e9, 1.2e9], itertools.repeat(1.2e9))
    samples = measure(nothing, FakeChip(steady(0.3), clocks), FixedCount(5))
    assert len(samples.times_s) == 5
    assert samples.throttled is True
    assert samples.clock_min_hz == 1.2e9


def test_a_steady_clock_is_not_throttled():
    samples = measure(nothing, FakeChip(steady(0.3), itertools.repeat(1.7e9)), FixedCount(5))
    assert samples.throttled is False
    assert samples.clock_hz == 1.7e9


def test_a_chip_without_a_readable_clock_has_unknown_throttling():
    samples = measure(nothing, FakeChip(steady(0.3)), FixedCount(5))
    assert samples.throttled is None
    assert samples.clock_hz is None


def test_measuring_time_covers_warm_up_eviction_and_samples():
    chip = FakeChip(steady(1e-3))
    samples = measure(nothing, chip, FixedCount(10))
    assert samples.measuring_s == pytest.approx(10 * 1.1e-3 + samples.warmup_count * 1e-3)
    assert samples.measuring_s == pytest.approx(chip.now)


def test_a_quiet_chip_stops_as_soon_as_it_is_precise():
    samples = measure(nothing, FakeChip(steady(0.1)), PreciseMedian(min_time_s=0.5))
    assert samples.stop_reason == "precise"
    assert len(samples.times_s) == 10


def test_a_noisy_chip_samples_until_its_interval_is_narrow():
    rule = PreciseMedian(relative_half_width=0.01, min_time_s=0.0, time_cap_s=1e9, plateau_ratio=9.0)
    samples = measure(nothing, FakeChip(noisy(1e-3, 0.05)), rule)
    assert samples.stop_reason == "precise"
    assert 50 < len(samples.times_s) < 400
    assert rule.relative_interval() <= 0.01


def test_a_chip_that_drifts_stops_on_a_plateau():
    drifting = (1e-3 * (1 + 0.01 * i) for i in itertools.count())
    samples = measure(nothing, FakeChip(drifting), PreciseMedian(min_time_s=0.0, time_cap_s=1e9))
    assert samples.stop_reason == "plateau"
    assert len(samples.times_s) >= 64


def test_a_slow_call_stops_at_the_time_cap_with_few_samples():
    samples = measure(nothing, FakeChip(steady(4.0)), PreciseMedian(time_cap_s=2.0))
    assert samples.stop_reason == "time_cap"
    assert len(samples.times_s) == 3


def test_endless_tiny_calls_stop_at_the_sample_cap():
    rule = PreciseMedian(relative_half_width=0.0, min_time_s=0.0, time_cap_s=1e9, sample_cap=500, plateau_ratio=1e9)
    samples = measure(nothing, FakeChip(noisy(1e-6, 0.5)), rule)
    assert samples.stop_reason == "sample_cap"
    assert len(samples.times_s) == 500


def test_the_minimum_time_is_spent_even_when_ten_samples_agree():
    samples = measure(nothing, FakeChip(steady(1e-3)), PreciseMedian(min_time_s=0.5), cache="warm")
    assert sum(samples.times_s) >= 0.499


def test_a_rule_can_be_used_twice():
    rule = PreciseMedian(min_time_s=0.0)
    first = measure(nothing, FakeChip(steady(0.1)), rule)
    second = measure(nothing, FakeChip(steady(0.2)), rule)
    assert len(first.times_s) == len(second.times_s)
