"""Verdicts: antisymmetric, with a reason where one is needed, and never given where rows cannot be compared."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.compare.columns import columns_of_rows, joined
from chipassay.results.compare.compare import compare
from chipassay.results.compare.comparison import PAIR_COLUMNS, VERDICTS, Settings
from chipassay.results.compare.summary import best, by_op, counts, worst
from chipassay.results.schema import KEY_NAMES

from .comparing import OPPOSITE, noisy, row, verdicts

SAMPLES = st.lists(st.floats(1e-6, 1e-2), min_size=1, max_size=9)
TABLES = st.lists(st.tuples(st.integers(0, 4), st.sampled_from("ab"), SAMPLES), min_size=1, max_size=8)


@given(TABLES, TABLES)
@settings(derandomize=True, max_examples=40, deadline=None)
def test_swapping_the_sides_swaps_faster_and_slower_and_inverts_the_ratios(base, new):
    rows = [[row(case, samples, run_id=run) for case, run, samples in side] for side in (base, new)]
    there, first = verdicts(*rows)
    back, second = verdicts(*reversed(rows))
    order = first.pairs["m"].astype(int).argsort(kind="stable"), second.pairs["m"].astype(int).argsort(kind="stable")
    there, back = ([found[place] for place in places] for found, places in zip((there, back), order, strict=True))
    assert back == [OPPOSITE.get(verdict, verdict) for verdict in there]
    ratios = [found.pairs["ratio"].to_numpy()[places] for found, places in zip((first, second), order, strict=True)]
    assert ratios[1] == pytest.approx(1 / ratios[0])
    assert sorted(first.unmatched["m"]) == sorted(second.unmatched["m"])


def test_six_samples_a_side_can_tell_and_five_too_where_there_are_few_rows():
    assert verdicts([row(samples=np.linspace(1.0, 1.01, 6))], [row(samples=np.linspace(2.0, 2.01, 6))])[0] == ["SLOWER"]
    assert verdicts([row(samples=np.linspace(1.0, 1.01, 5))], [row(samples=np.linspace(2.0, 2.01, 5))])[0] == ["SLOWER"]


def test_too_few_samples_for_so_many_rows_are_told_as_such():
    """One of a hundred rows changed. The least p of 6 and 6 samples is 2 / C(12, 6) = 0.002; alpha / 100 needs 9 and 9: 2 / C(18, 9)."""
    rng = np.random.default_rng(3)
    base, new = noisy(rng, 100, 6, noise=0.001), noisy(rng, 100, 6, noise=0.001, run="b")
    new[0] = row(0, 2 * np.asarray(new[0].samples_s), run_id="b")
    found, comparison = verdicts(base, new)
    assert found[0] == "UNCLEAR"
    assert comparison.pairs["reason"][0] == "too few samples: 6 and 6 cannot tell among 100 pairs; take 9 a side"


def test_numbers_without_samples_are_unclear_unless_an_interval_or_several_runs_tell():
    def bare(time_s, run="a", **more):
        return row(samples=None, time_median_s=time_s, run_id=run, **more)

    found, comparison = verdicts([bare(1.0)], [bare(2.0)])
    assert (found, comparison.pairs["ratio"][0]) == (["UNCLEAR"], 2.0)
    assert comparison.pairs["reason"][0].startswith("no samples and no interval")
    interval = {"time_low_s": 0.99, "time_high_s": 1.01}
    assert verdicts([bare(1.0, **interval)], [bare(2.0, time_low_s=1.98, time_high_s=2.02)])[0] == ["SLOWER"]
    assert verdicts([bare(1.0, **interval)], [bare(1.001, **interval)])[0] == ["SAME"]
    runs = [[bare(time_s * (1 + 0.001 * i), run=f"{time_s}{i}") for i in range(3)] for time_s in (1.0, 2.0)]
    assert verdicts(*runs)[0] == ["SLOWER"]


@pytest.mark.parametrize(
    ("base", "new", "reason"),
    [
        ({}, {"method_version": 3}, "method version 2 against 3"),
        ({}, {"data": "zeros"}, "data normal against zeros"),
        ({}, {"tool": "nvbench"}, "tool chipassay against nvbench"),
        ({}, {"time_statistic": "mean"}, "time statistic median against mean"),
        ({"clock_source": "device"}, {"clock_source": "host"}, "clock source device against host"),
        ({}, {"native": False}, "native unknown against False"),
        ({}, {"cache": "warm"}, "cache cold against warm"),
        ({"math_mode": "ieee"}, {"math_mode": "fast_accum", "cache": "warm"}, "math mode ieee against fast_accum, cache cold against warm"),
        ({"throttled": True}, {}, "base: the chip was throttled (clock-limited)"),
        ({}, {"flags": "throttled;the clock is far below the peak's"}, "new: the clock was far below the peak's (clock-limited)"),
        ({}, {"flags": "above the chip's peak rate"}, "new: faster than is possible"),
        ({"status": "skipped", "reason": "no fp8"}, {}, "base has no number: skipped (no fp8)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rows_of_different_making_are_not_compared_and_the_reason_names_both(base, new, reason):
    found, comparison = verdicts([row(**base)], [row(samples=(2e-3,) * 12, **new)])
    assert found == ["NOT-COMPARABLE"]
    assert comparison.pairs["reason"][0].removeprefix("measured in different ways: ") == reason
    assert not comparison.pairs["broken"][0]
    assert len(comparison.unmatched) == 0


def test_a_case_that_no_longer_works_is_broken():
    found, comparison = verdicts([row()], [row(samples=None, status="incorrect", reason="off by 3")])
    assert (found, comparison.pairs["broken"].tolist()) == (["NOT-COMPARABLE"], [True])
    assert comparison.pairs["reason"][0] == "new has no number: incorrect (off by 3)"


def at_clock(clock_hz, time_s, **more):
    samples = time_s * (1 + 1e-3 * np.arange(20))
    return row(samples=samples, clock_hz=clock_hz, clock_method="device", **more)


def test_a_change_of_the_clock_is_no_change_of_the_code():
    found, comparison = verdicts([at_clock(1.98e9, 1.0)], [at_clock(1.755e9, 1.98 / 1.755)])
    assert found == ["UNCLEAR"]
    assert comparison.pairs["reason"][0] == "the clock changed by -11.4 %: in cycles nothing changed"
    assert comparison.pairs["cycles_ratio"][0] == pytest.approx(1.0)


POWER = {"throttled": True, "throttle_reasons": "power_cap", "flags": "throttled;the clock is far below the peak's"}


def test_at_the_power_limit_the_clock_that_was_read_on_the_chip_is_taken_out():
    assert verdicts([at_clock(1.4e9, 1.0, **POWER)], [at_clock(1.4e9, 1.0, **POWER)])[0] == ["SAME"]
    assert verdicts([at_clock(1.4e9, 1.0, **POWER)], [at_clock(1.4e9, 1.3, **POWER)])[0] == ["SLOWER"]
    found, comparison = verdicts([at_clock(1.6e9, 1.0)], [at_clock(1.4e9, 1.6 / 1.4, **POWER)])
    assert (found, comparison.pairs["reason"][0]) == (["UNCLEAR"], "the clock changed by -12.5 %: in cycles nothing changed")


@pytest.mark.parametrize("more", [{"throttle_reasons": "power_cap;thermal"}, {"clock_method": "driver"}, {"throttle_reasons": None}])
def test_at_other_limits_or_with_a_clock_asked_now_and_then_rows_are_not_compared(more):
    one = replace(at_clock(1.4e9, 1.0, **POWER), **more)
    assert verdicts([one], [one])[0] == ["NOT-COMPARABLE"]


def test_code_that_became_slower_at_a_lower_clock_is_slower():
    assert verdicts([at_clock(1.98e9, 1.0)], [at_clock(1.755e9, 1.3 * 1.98 / 1.755)])[0] == ["SLOWER"]


def test_the_memory_does_not_follow_the_chips_clock():
    rows = [at_clock(clock_hz, time_s, op="copy", flops=None) for clock_hz, time_s in ((1.98e9, 1.0), (1.755e9, 1.98 / 1.755))]
    assert verdicts([rows[0]], [rows[1]])[0] == ["SLOWER"]


def test_other_chips_are_compared_by_shares_of_their_peaks():
    rng = np.random.default_rng(4)
    base = [replace(one, chip_id="a100", peak_fraction=0.5, peak_evidence="published") for one in noisy(rng, 5, noise=0.002)]
    new = [
        replace(one, chip_id="h100", peak_fraction=0.8, peak_evidence="derived") for one in noisy(rng, 5, noise=0.002, change=-1.0, run="b")
    ]
    assert set(verdicts(base, new)[0]) == {"FASTER"}
    found, comparison = verdicts(base, new, Settings(normalised=True))
    assert set(found) == {"FASTER"}
    assert comparison.pairs["ratio"].tolist() == pytest.approx([0.5 / 0.8] * 5)
    assert comparison.notes[:2] == (
        "The chips differ: a100 against h100.",
        "Some shares are of a peak that is not published but derived.",
    )


def test_without_a_peak_there_is_no_share_to_compare():
    found, comparison = verdicts([row()], [row()], Settings(normalised=True))
    assert (found, comparison.pairs["reason"].tolist()) == (["NOT-COMPARABLE"], ["the peak is not known"])


def test_what_moves_together_is_told_of_the_machine():
    rng = np.random.default_rng(2)
    _, comparison = verdicts(noisy(rng, 20, noise=0.002), noisy(rng, 20, noise=0.002, run="b", change=math.log(1.08)))
    assert comparison.notes[-1] == "Everything moved together, by +8.0 % (median of 20 pairs): look at the machine before the code."


def test_one_run_a_side_is_told_to_know_nothing_of_what_lies_between_runs():
    one, two = [row()], [row(), row(run_id="b")]
    assert any(note.startswith("One run a side") for note in verdicts(one, one)[1].notes)
    assert not any(note.startswith("One run a side") for note in verdicts(two, one)[1].notes)


def test_thresholds_are_those_of_the_kind():
    rng = np.random.default_rng(1)
    rows = [noisy(rng, 3, 100, noise=0.002, change=change, run=run) for change, run in ((0.0, "a"), (math.log(1.04), "b"))]
    links = [[replace(one, op="all_reduce", m=None, size_bytes=one.m, group_size=2) for one in side] for side in rows]
    assert set(verdicts(*rows)[0]) == {"SLOWER"}
    assert set(verdicts(*links)[0]) == {"SAME"}
    assert set(verdicts(*rows, Settings(thresholds={"compute": 0.06}))[0]) == {"SAME"}


def test_a_summary_has_geometric_means_and_counts_every_verdict():
    base = [row(0, np.full(12, 1.0) + 1e-4 * np.arange(12)), row(1, np.full(12, 1.0) + 1e-4 * np.arange(12)), row(2)]
    new = [row(0, 2 * np.asarray(base[0].samples_s)), row(1, np.asarray(base[1].samples_s) / 8), row(2, data="zeros")]
    _, comparison = verdicts(base, new)
    (line,) = by_op(comparison).to_dict("records")
    assert (line["op"], line["dtype"], line["pairs"]) == ("matmul", "fp32", 3)
    assert line["geomean_ratio"] == pytest.approx(0.5)  # of 2 and 1/8: the square root of a quarter
    assert counts(comparison) == {"SLOWER": 1, "FASTER": 1, "UNCLEAR": 0, "SAME": 0, "NOT-COMPARABLE": 1}
    assert [line[verdict] for verdict in VERDICTS] == [1, 1, 0, 0, 1]
    assert (worst(comparison, 5)["m"].tolist(), best(comparison, 5)["m"].tolist()) == ([0], [1])


def test_a_comparison_has_the_columns_it_promises_even_without_a_pair():
    for new in ([row(1)], [row(0)]):
        _, comparison = verdicts([row(0)], new)
        assert list(comparison.pairs.columns) == [*KEY_NAMES, *PAIR_COLUMNS]
        assert isinstance(by_op(comparison), pandas.DataFrame)


def test_sides_tell_their_chips_runs_and_rows():
    side = joined(columns_of_rows([row(0), row(1)], "one.csv"), columns_of_rows([row(0, run_id="b")], "two.csv"), name="both")
    _, comparison = verdicts([row(0)], [row(0)])
    found = compare(side, columns_of_rows([row(0)], "new"))
    assert (found.base.name, found.base.files, found.base.chips, found.base.runs, found.base.rows) == (
        *("both", ("one.csv", "two.csv"), ("chip",)),
        *(2, 3),
    )
    assert (found.pairs["base_runs"].tolist(), found.pairs["new_runs"].tolist()) == ([2], [1])
    assert comparison.new.rows == 1


def test_the_rank_test_knows_that_sides_wholly_apart_are_as_rare_as_can_be():
    """Of the C(131, 3) ways to choose three of 131 samples one has the three highest: ties or a normal approximation change nothing."""
    rng = np.random.default_rng(16)
    base = [row(case, 1e-3 * np.exp(0.002 * rng.standard_normal(3))) for case in range(50)]
    new = [row(case, (1.3 if case == 0 else 1.0) * 1e-3 * np.exp(0.002 * rng.standard_normal(128)), run_id="b") for case in range(50)]
    found, comparison = verdicts(base, new)
    assert found[0] == "SLOWER"
    assert comparison.pairs["p_value"][0] >= 2 / math.comb(131, 3)
    tied = verdicts([row(samples=[1.0, 1.1] * 6)], [row(samples=[1.2, 1.3] * 6)])[1]
    assert tied.pairs["p_value"][0] == pytest.approx(2 / math.comb(24, 12))


def test_chips_of_one_machine_stay_apart_beside_rows_of_all_of_them():
    def side(run):
        chips = [row(0, (1e-3 * (1 + index),) * 12, device_index=index, run_id=run) for index in range(3)]
        return [*chips, row(None, op="all_reduce", size_bytes=8, group_size=3, run_id=run)]

    pairs = verdicts(side("a"), side("b"))[1].pairs
    assert pairs["base_time_s"].tolist() == pytest.approx([1e-3, 2e-3, 3e-3, 1e-3])
    assert pairs["base_runs"].tolist() == [1, 1, 1, 1]
    told_on_one = verdicts(side("a"), [row(0, run_id="b")])[1].pairs
    assert told_on_one["device_index"].isna().tolist() == [True]


def test_samples_without_spread_prove_nothing_the_same_but_may_show_a_change():
    found, comparison = verdicts([row(samples=(1e-5,) * 20)], [row(samples=(1e-5,) * 20)])
    assert (found, comparison.pairs["reason"][0][:27]) == (["UNCLEAR"], "the samples show no spread:")
    assert verdicts([row(samples=(1e-5,) * 20)], [row(samples=(2e-5,) * 20)])[0] == ["SLOWER"]


def test_code_that_a_faster_clock_makes_up_for_is_not_the_same():
    found, comparison = verdicts([at_clock(1.7e9, 1.0)], [at_clock(1.9e9, 1.0)])
    assert found == ["UNCLEAR"]
    assert comparison.pairs["reason"][0] == "the clock changed by +11.8 %: in cycles the change is +11.8 %"
    assert verdicts([at_clock(1.7e9, 1.0)], [at_clock(1.71e9, 1.0)])[0] == ["SAME"]
    assert math.isnan(verdicts([at_clock(0.0, 1.0)], [at_clock(1.9e9, 1.0)])[1].pairs["clock_ratio"][0])


@pytest.mark.parametrize(
    ("base", "new", "reason"),
    [
        ((1.0,), (2.0,), "a single sample tells no spread: take more, or several runs a side"),
        ((1.0, 1.01, 1.02, 1.03), (1.5, 1.51, 1.52, 1.53), "too few samples: 4 and 4 cannot tell among 1 pair; take 5 a side"),
        # Of the C(10, 5) orders, U of 2 or less on either side is as strange in 2 * 4: p = 8 / 252 = 0.03.
        (
            (1.0, 1.01, 1.02, 1.03, 1.25),
            (1.2, 1.21, 1.26, 1.27, 1.28),
            "a change of +23.5 % is likely, not certain: p is 0.03 after correction among 1 pair; take more samples or runs",
        ),
    ],
)
def test_the_reason_for_unclear_says_what_is_missing(base, new, reason):
    found, comparison = verdicts([row(samples=base)], [row(samples=new)])
    assert (found, comparison.pairs["reason"].tolist()) == (["UNCLEAR"], [reason])


@pytest.mark.filterwarnings("error")
def test_a_share_of_peak_needs_no_time_and_one_of_nothing_is_none():
    bare = {"samples": None, "time_median_s": None}
    _, comparison = verdicts([row(**bare, peak_fraction=0.4)], [row(**bare, peak_fraction=0.5)], Settings(normalised=True))
    assert comparison.pairs["ratio"][0] == pytest.approx(0.8)
    found, comparison = verdicts([row(peak_fraction=0.0)], [row(peak_fraction=0.5)], Settings(normalised=True))
    assert (found, comparison.pairs["reason"].tolist()) == (["UNCLEAR"], ["a side tells no time"])


@pytest.mark.filterwarnings("error")
def test_a_sample_without_end_is_no_sample():
    found, comparison = verdicts([row(samples=(math.inf,) * 6)], [row()])
    assert (found, comparison.pairs["base_samples"].tolist()) == (["UNCLEAR"], [0])


@pytest.mark.parametrize("normalised", [False, True])
def test_a_run_that_failed_takes_nothing_from_the_times_of_the_others(normalised):
    base = [row(peak_fraction=0.5), row(samples=None, status="error", run_id="b")]
    _, comparison = verdicts(base, [row(peak_fraction=0.5)], Settings(normalised=normalised))
    assert comparison.pairs["base_time_s"].tolist() == pytest.approx([1e-3])
