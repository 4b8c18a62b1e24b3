"""The sampling loop against a fake chip: what it calls, in which order, and what it reports."""

from __future__ import annotations

import itertools

import pytest

from chipassay.results.schema import SAMPLES_KEPT
from chipassay.runners.timing.columns import UNREAD_HZ, result_columns
from chipassay.runners.timing.engine import measure
from chipassay.runners.timing.stopping import PreciseMedian

from .fakes import FakeChip, FixedCount, noisy, steady


def nothing() -> None:
    pass


def test_each_cold_sample_refills_the_output_then_evicts_the_cache_then_calls():
    chip = FakeChip(steady(1e-3))
    measure(nothing, chip, FixedCount(3), cache="cold", before_sample=lambda: chip.log.append("refill"))
    assert chip.log[-9:] == ["refill", "evict", "call"] * 3


def test_the_timer_is_told_that_another_call_begins():
    chip = FakeChip(steady(1e-3))
    measure(nothing, chip, FixedCount(3))
    assert chip.log.index("start") == 0


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


def columns_of(chip, count):
    return result_columns(measure(nothing, chip, FixedCount(count)))


def test_throttled_samples_are_kept_and_marked():
    clocks = itertools.chain([2.0e9, 1.9e9, 1.2e9], itertools.repeat(1.2e9))
    found = columns_of(FakeChip(steady(0.3), clocks), 5)
    assert found["sample_count"] == 5
    assert found["throttled"] is True
    assert found["clock_min_hz"] == 1.2e9


def test_a_steady_clock_is_not_throttled():
    found = columns_of(FakeChip(steady(0.3), itertools.repeat(1.7e9)), 5)
    assert found["throttled"] is False
    assert (found["clock_hz"], found["clock_method"]) == (1.7e9, "nvml")


def test_a_chip_without_a_readable_clock_has_unknown_throttling():
    found = columns_of(FakeChip(steady(0.3)), 5)
    assert {found[name] for name in ("throttled", "clock_hz", "clock_method", "sample_clocks_hz", "throttle_reasons")} == {None}


def test_a_clock_read_on_the_chip_around_each_call_is_kept_beside_its_sample_and_preferred():
    chip = FakeChip(steady(1e-3), itertools.repeat(1.0e9))
    warmups = measure(nothing, chip, FixedCount(1)).warmup_count
    chip.device_clocks_hz = itertools.chain([9e9] * warmups, (1e9 + i for i in itertools.count()))
    found = columns_of(chip, 5)
    assert found["sample_clocks_hz"] == (1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3, 1e9 + 4)
    assert (found["clock_hz"], found["clock_min_hz"], found["clock_method"]) == (1e9 + 2, 1e9, "device")


def test_clocks_stay_beside_their_samples_when_few_are_kept():
    durations = (1e-3 + 1e-9 * i for i in itertools.count())
    chip = FakeChip(durations, device_clocks_hz=(1e9 + i for i in itertools.count()))
    found = columns_of(chip, 1000)
    assert len(found["samples_s"]) == len(found["sample_clocks_hz"]) == SAMPLES_KEPT
    pairs = zip(found["samples_s"], found["sample_clocks_hz"], strict=True)
    assert all(round((time_s - 1e-3) * 1e9) == round(clock_hz - 1e9) for time_s, clock_hz in pairs)


def test_a_sample_whose_clock_cannot_be_read_keeps_its_place():
    found = columns_of(FakeChip(steady(1e-3), device_clocks_hz=itertools.cycle([None, 2e9])), 4)
    assert sorted(found["sample_clocks_hz"]) == [UNREAD_HZ, UNREAD_HZ, 2e9, 2e9]
    assert found["clock_min_hz"] == 2e9


@pytest.mark.parametrize(("low", "throttled"), [(3, False), (60, True)])
def test_of_many_clocks_a_few_stray_ones_are_no_throttling(low, throttled):
    clocks = itertools.chain([2e9] * (200 - low), [1e9] * low)
    chip = FakeChip(steady(1e-3), device_clocks_hz=itertools.cycle(clocks))
    assert columns_of(chip, 400)["throttled"] is throttled


def test_what_the_driver_names_as_reasons_is_told_once_each():
    found = columns_of(FakeChip(steady(0.3), throttle_reasons=("power_cap", "sync_boost")), 5)
    assert (found["throttled"], found["throttle_reasons"]) == (True, "power_cap;sync_boost")


def test_samples_that_were_not_queued_in_time_are_counted():
    chip = FakeChip(steady(1e-3))
    warmups = measure(nothing, chip, FixedCount(1)).warmup_count
    begun = chip.log.count("call") + warmups
    chip.unqueued = frozenset({begun - 1, begun, begun + 2})
    assert measure(nothing, chip, FixedCount(5)).unqueued_count == 2


def test_an_overhead_is_timed_without_queueing_ahead():
    chip = FakeChip(steady(1e-3))
    measure(nothing, chip, FixedCount(3), queue=False)
    assert "call" not in chip.log
    assert "call unheld" in chip.log


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
