"""Neighbouring samples are alike on real machines: verdicts stay calibrated, and what is certain is still found."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest

from chipassay.results.compare.columns import columns_of_rows
from chipassay.results.compare.compare import compare
from chipassay.results.compare.comparison import Settings
from chipassay.results.compare.effects import Effects, effects
from chipassay.results.compare.estimates import Samples, log_medians
from chipassay.results.compare.judge import judge
from chipassay.results.compare.serial import less_certain, serial_factors
from chipassay.results.schema import Row


def series(rng, shape, likeness):
    """Normal series of which neighbours correlate by ``likeness`` (first-order autoregressive)."""
    kicks = rng.standard_normal(shape)
    values = kicks.copy()
    for i in range(1, shape[-1]):
        values[..., i] = likeness * values[..., i - 1] + math.sqrt(1 - likeness**2) * kicks[..., i]
    return values


def found_by(base, new):
    """Verdicts of many comparisons. Shape of both sides: comparisons, pairs, samples; each comparison is corrected for by itself."""
    comparisons, pairs, count = base.shape
    size = comparisons * pairs
    samples = Samples(np.concatenate([base.ravel(), new.ravel()]), np.arange(2 * size) * count, np.full(2 * size, count))
    unknown = np.full(2 * size, np.nan)
    kind = np.repeat([f"comparison {i}" for i in range(comparisons)], pairs).astype(object)
    pair = np.tile(np.arange(size), 2)
    all_found = effects(samples, (unknown,) * 3, np.ones(2 * size, dtype=np.int64), pair, np.arange(2 * size) >= size, kind)
    verdicts = []
    for begin in range(0, size, pairs):
        part = Effects(**{one.name: getattr(all_found, one.name)[begin : begin + pairs] for one in fields(Effects)})
        same = np.full(pairs, "memory", dtype=object), np.full(pairs, "", dtype=object)
        verdicts.append(judge(part, np.full(pairs, 0.03), np.full(pairs, np.nan), *same, Settings()).verdict)
    return np.array(verdicts)


@pytest.mark.parametrize(("likeness", "count"), [(0.0, 30), (0.3, 30), (0.5, 30), (0.5, 100), (0.7, 30)])
def test_samples_like_their_neighbours_raise_no_more_false_alarms_than_others(likeness, count):
    rng = np.random.default_rng(1)
    base, new = (1e-3 * np.exp(0.03 * series(rng, (300, 50, count), likeness)) for _ in "ab")
    assert np.isin(found_by(base, new), ("FASTER", "SLOWER")).any(axis=1).mean() <= 0.01


def test_a_change_in_five_of_a_hundred_rows_is_still_found():
    rng = np.random.default_rng(2)
    base, new = (1e-3 * np.exp(0.03 * rng.standard_normal((60, 100, 30))) for _ in "ab")
    new[:, :5] *= 1.06
    assert (found_by(base, new)[:, :5] == "SLOWER").mean() > 0.95


def test_the_correction_is_that_of_the_series_variance():
    """Of a series whose neighbours correlate by r the variance of a mean grows by (1 + r) / (1 - r); 1.0 and 3.0 for 0 and 0.5."""
    rng = np.random.default_rng(3)
    for likeness, grown in ((0.0, 1.0), (0.5, 3.0)):
        values = np.exp(series(rng, (400, 100), likeness))
        samples = Samples(values.ravel(), np.arange(400) * 100, np.full(400, 100))
        of_median, of_ranks = serial_factors(log_medians(samples).alike, samples.counts, np.full(400, "memory", dtype=object))
        assert np.median(of_ranks) == pytest.approx(grown, rel=0.1)
        measured = np.log(np.median(values, axis=1)).var() / np.nanmean(log_medians(samples).independent)
        assert np.median(of_median) == pytest.approx(measured, rel=0.25)


def test_samples_that_alternate_are_taken_for_independent():
    factors = serial_factors(np.array([-0.8, -0.8]), np.array([50, 50]), np.array(["link", "link"], dtype=object))
    assert [list(factor) for factor in factors] == [[1.0, 1.0], [1.0, 1.0]]


def test_rows_without_samples_keep_their_interval_as_it_is_told():
    factors = serial_factors(np.array([0.5, np.nan]), np.array([50, 0]), np.array(["link", ""], dtype=object))
    assert factors[0][0] > 1
    assert factors[0][1] == 1.0


def test_a_test_of_four_times_the_variance_sees_half_the_standard_errors():
    assert less_certain(np.array([0.0027]), np.array([4.0])) == pytest.approx(0.1336, abs=1e-3)  # three standard errors, then 1.5


def ramp(time_s, **more):
    samples = tuple(time_s * (1 + 1e-3 * np.arange(20)))
    given = {"op": "matmul", "m": 1, "run_id": "a", "chip_id": "one", "status": "ok", "flops": 1e9, "bytes": 1e6}
    return Row(**{**given, "samples_s": samples, "time_median_s": float(np.median(samples)), **more})


def told(base, new, **chosen):
    return compare(columns_of_rows(base, "base"), columns_of_rows(new, "new"), Settings(**chosen))


def test_a_change_many_times_the_drift_is_certain():
    assert told([ramp(1.0)], [ramp(1.2)]).pairs["verdict"].tolist() == ["SLOWER"]


def at(clock_hz, time_s, **more):
    return ramp(time_s, clock_hz=clock_hz, clock_method="nvml", **more)


def test_another_chip_is_not_the_same_one_at_another_clock():
    base, new = at(1.41e9, 1.0, chip_id="a100"), at(1.755e9, 1.41 / 1.755, chip_id="h100")
    assert told([base], [new]).pairs["verdict"].tolist() == ["FASTER"]
    shares = [ramp(1.0, chip_id="a100", peak_fraction=0.5, clock_hz=1.41e9, clock_method="nvml")]
    more = [ramp(0.4, chip_id="h100", peak_fraction=0.6, clock_hz=1.755e9, clock_method="nvml")]
    assert told(shares, more, normalised=True).pairs["verdict"].tolist() == ["FASTER"]


def test_where_the_clock_hides_what_the_code_gained_the_reason_says_so():
    found = told([at(2.0e9, 1.0)], [at(1.5e9, 1.1)]).pairs
    assert found["verdict"].tolist() == ["UNCLEAR"]
    assert found["reason"].tolist() == ["the clock changed by -25.0 %: in cycles the change is -17.5 %"]


def test_where_code_and_clock_both_changed_the_verdict_says_both():
    found = told([at(2.0e9, 1.0)], [at(1.8e9, 1.4)]).pairs
    assert found["verdict"].tolist() == ["SLOWER"]
    assert found["reason"].tolist() == ["the clock changed by -10.0 %: in cycles the change is +26.0 %"]


def test_an_impossible_row_does_not_stand_for_its_side_where_another_can():
    base = [ramp(1.0, kernel="sound"), ramp(0.1, kernel="wrong", flags="above the chip's peak rate")]
    found = told(base, [ramp(1.0, kernel="mine")], ignored=("kernel",)).pairs
    assert found["kernel"].tolist() == ["sound"]
    assert found["ratio"].tolist() == pytest.approx([1.0])


def test_intervals_without_width_around_one_value_prove_nothing():
    exact = ramp(1.0, samples_s=None, time_median_s=1.0, time_low_s=1.0, time_high_s=1.0)
    assert told([exact], [exact]).pairs["verdict"].tolist() == ["UNCLEAR"]


def test_a_side_without_rows_is_not_said_to_be_another_chip():
    assert not [note for note in told([], [ramp(1.0)]).notes if "chips differ" in note]
