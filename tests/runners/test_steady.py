"""Calls back to back: energy from a counter that moves in steps, and rates that fall as the chip warms."""

from __future__ import annotations

import itertools

import pytest

from chipassay.runners.timing.condition import Condition
from chipassay.runners.timing.steady import energy_of_call, sustain

from .fakes import FakeChip, steady


def nothing() -> None:
    pass


@pytest.mark.parametrize("call_s", [1e-5, 1e-3, 9e-3, 19e-3])
@pytest.mark.parametrize("step_s", [0.02, 0.1])
@pytest.mark.parametrize("begin_s", [0.0, 3.137])
def test_energy_is_right_although_the_counter_steps(call_s, step_s, begin_s):
    chip = FakeChip(steady(call_s), power_w=400.0, energy_step_s=step_s, now=begin_s)
    found = energy_of_call(nothing, chip, call_s, cap_s=1.0)
    # Each step is seen up to a batch (20 ms) late, over at least 0.2 s.
    assert found == pytest.approx(400.0 * call_s, rel=0.1)
    assert chip.now - begin_s < 0.5


def test_a_call_too_long_for_its_time_has_no_energy_rather_than_a_wrong_one():
    assert energy_of_call(nothing, FakeChip(steady(0.3), power_w=400.0), 0.3, cap_s=1.0) is None


def test_a_chip_that_counts_no_energy_is_not_kept_busy_for_it():
    chip = FakeChip(steady(1e-3))
    assert energy_of_call(nothing, chip, 1e-3, cap_s=1.0) is None
    assert chip.now == 0.0


class Warming(FakeChip):
    """Takes 1 ms a call at first; after 15 s the power limit makes it 1.5 ms at two thirds of the clock."""

    def __init__(self):
        super().__init__(iter(()), power_w=500.0)
        self.durations_s = (1.5e-3 if self.now > 15.0 else 1e-3 for _ in itertools.count())
        self.device_clocks_hz = (1.2e9 if self.now > 15.0 else 1.8e9 for _ in itertools.count())

    def condition(self):
        return Condition(throttled=self.now > 15.0, power_w=700.0 if self.now > 15.0 else 500.0, temperature_c=min(80.0, 40 + self.now))


def test_the_sustained_figures_are_those_of_the_last_third():
    chip = Warming()
    found = sustain(nothing, chip, 30.0, call_s=1e-3)
    assert found.columns() == {
        "sustained_s": pytest.approx(30.0, abs=0.2),
        "sustained_time_s": pytest.approx(1.5e-3),
        "sustained_clock_hz": 1.2e9,
        "sustained_power_w": 700.0,
        "sustained_temperature_c": pytest.approx(70.0, abs=0.3),
    }
    assert found.throttled is True


def test_nothing_is_evicted_while_sustaining():
    chip = FakeChip(steady(1e-3))
    sustain(nothing, chip, 1.0, call_s=1e-3)
    assert set(chip.log) == {"burst of 100"}


def test_the_chip_is_looked_at_while_it_is_busy():
    chip = FakeChip(steady(1e-3), power_w=1.0)
    looked = []
    chip.condition = lambda: looked.append(chip.log[-1]) or Condition(power_w=300.0)
    assert sustain(nothing, chip, 1.0, call_s=1e-3).power_w == 300.0
    # Five times a second, each in the middle of a burst.
    assert looked == ["burst of 100"] * 5


def test_one_call_longer_than_the_whole_time_is_still_a_figure():
    found = sustain(nothing, FakeChip(steady(7.0)), 2.0, call_s=7.0)
    assert (found.span_s, found.time_s) == (7.0, 7.0)
