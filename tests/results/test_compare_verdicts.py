"""Verdicts: calibrated on simulated noise, antisymmetric, and never given where rows cannot be compared."""

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
from chipassay.results.schema import KEY_NAMES, Row

OPPOSITE = {"FASTER": "SLOWER", "SLOWER": "FASTER"}


def row(case=0, samples=(1e-3,) * 12, **more):
    given = {
        "op": "matmul", "m": case, "n": 8, "k": 8, "dtype": "fp32", "kernel": "torch.mm", "run_id": "a", "chip_id": "chip", "cache": "cold",
        "status": "ok", "method_version": 2, "data": "normal", "flops": 1e9, "bytes": 1e6,
    }  # fmt: skip
    if samples is not None:
        given |= {"samples_s": tuple(samples), "time_median_s": float(np.median(samples))}
    return Row(**{**given, **more})


def verdicts(base, new, chosen=None):
    found = compare(columns_of_rows(base, "base"), columns_of_rows(new, "new"), chosen or Settings())
    return found.pairs["verdict"].tolist(), found


def noisy(rng, cases, count=30, *, change=0.0, noise=0.03, run="a", shift=0.0, tail=False, drift=0.0):
    """Rows of one run: log-normal noise around each case's own time, all of the run's cases shifted alike."""
    kick = rng.standard_t(3, (cases, count)) / math.sqrt(3) if tail else rng.standard_normal((cases, count))
    logs = change + shift + noise * kick + drift * np.linspace(-0.5, 0.5, count)
    return [row(case, 1e-3 * (1 + case % 7) * np.exp(logs[case]), run_id=run) for case in range(cases)]


def alarmed(base, new, cases=50):
    """Of the comparisons that the rows make, ``cases`` pairs each, the share with any alarm: judged by the pairs' own numbers, corrected
    here by Benjamini and Hochberg's procedure as their paper gives it."""
    pairs = verdicts(base, new)[1].pairs
    p, ratio, low, high = (pairs[name].to_numpy().reshape(-1, cases) for name in ("p_value", "ratio", "ratio_low", "ratio_high"))
    passing = np.sort(p, axis=1) <= 0.01 * np.arange(1, cases + 1) / cases
    most = np.where(passing, np.sort(p, axis=1), -1.0).max(axis=1, keepdims=True)
    return (((p <= most) & ((low > 1) | (high < 1)) & (np.abs(np.log(ratio)) > math.log(1.03))).any(axis=1)).mean()


@pytest.mark.parametrize(
    "how",
    [{}, {"tail": True}, {"count": 60, "drift": 0.03}, {"count": 8}, {"noise": 0.2}],
    ids=["log-normal 3 %", "heavy tails", "drift within the run", "8 samples", "20 % noise"],
)
def test_of_comparisons_in_which_nothing_changed_under_one_in_a_hundred_has_a_false_alarm(how):
    rng = np.random.default_rng(5)
    assert alarmed(noisy(rng, 300 * 50, **how), noisy(rng, 300 * 50, run="b", **how)) <= 0.01


def test_runs_that_shift_by_two_per_cent_raise_no_alarm_when_they_are_pooled():
    rng = np.random.default_rng(6)
    false = 0
    for _ in range(60):
        sides = [
            [one for run in range(2) for one in noisy(rng, 20, run=f"{side}{run}", shift=0.02 * rng.standard_normal())] for side in "ab"
        ]
        false += bool({"FASTER", "SLOWER"} & set(verdicts(*sides)[0]))
    assert false <= 1


def visited(rng, cases, run, shift):
    """One run of two visits, minutes apart, that the machine shifts alike for all cases."""
    visits = [noisy(rng, cases, shift=shift * rng.standard_normal()) for _ in range(2)]
    return [row(case, (*a.samples_s, *b.samples_s), run_id=run, round_count=2) for case, (a, b) in enumerate(zip(*visits, strict=True))]


def test_what_lies_between_the_visits_of_one_run_keeps_a_drifting_machine_from_raising_alarms():
    rng = np.random.default_rng(10)
    false = [bool({"FASTER", "SLOWER"} & set(verdicts(visited(rng, 20, "a", 0.02), visited(rng, 20, "b", 0.02))[0])) for _ in range(60)]
    assert sum(false) <= 1
    # The same samples, taken for those of one moment, raise one soon.
    blind = [[[replace(one, round_count=None) for one in visited(rng, 20, run, 0.02)] for run in "ab"] for _ in range(10)]
    assert {"FASTER", "SLOWER"} & {verdict for sides in blind for verdict in verdicts(*sides)[0]}


def test_a_true_change_of_five_per_cent_is_found_in_more_than_95_of_100_rows():
    rng = np.random.default_rng(7)
    found = [v for _ in range(10) for v in verdicts(noisy(rng, 100), noisy(rng, 100, run="b", change=math.log(1.05)))[0]]
    assert found.count("SLOWER") > 0.95 * len(found)
    assert "FASTER" not in found
    # At most one in forty may pass for the same: two one-sided tests at 2.5 %, and 5 % lies beyond the threshold of 3 %.
    assert found.count("SAME") <= 0.025 * len(found)


def test_rows_that_did_not_change_are_proved_the_same_where_samples_allow_it():
    rng = np.random.default_rng(8)
    found, _ = verdicts(noisy(rng, 100, 120), noisy(rng, 100, 120, run="b"))
    assert found.count("SAME") > 95


def test_a_change_at_the_threshold_is_rarely_called_the_same():
    rng = np.random.default_rng(9)
    found = [v for _ in range(10) for v in verdicts(noisy(rng, 100), noisy(rng, 100, run="b", change=math.log(1.03)))[0]]
    assert found.count("SAME") <= 0.03 * len(found)


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


@pytest.mark.parametrize(("base_runs", "new_runs"), [(2, 2), (3, 1)])
def test_a_single_row_knows_no_more_of_what_lies_between_runs_than_its_own_runs_tell(base_runs, new_runs):
    rng = np.random.default_rng(14)
    false = 0
    for _ in range(60):
        sides = [
            noisy(rng, 1, 20, noise=0.01, run=f"{side}{run}", shift=0.02 * rng.standard_normal())
            for side, runs in (("a", base_runs), ("b", new_runs))
            for run in range(runs)
        ]
        found = verdicts([one for one in sides[:base_runs] for one in one], [one for one in sides[base_runs:] for one in one])[0]
        false += found[0] in OPPOSITE
    assert false <= 1


def test_visits_count_for_the_kinds_that_have_one_run_although_another_kind_has_several():
    rng = np.random.default_rng(15)
    copies = [[replace(one, op="copy", flops=None) for one in noisy(rng, 1, run=run)] for run in ("a", "a2", "b", "b2")]
    false = 0
    for _ in range(20):
        sides = [[*visited(rng, 10, "a", 0.02), *copies[0], *copies[1]], [*visited(rng, 10, "b", 0.02), *copies[2], *copies[3]]]
        found = verdicts(*sides)[1].pairs
        false += bool(set(OPPOSITE) & set(found.loc[found["op"] == "matmul", "verdict"]))
    assert false <= 1


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


def test_a_case_that_moved_while_the_rest_stood_together_is_certain_beside_a_drifting_machine():
    """Visits shift by 0.5 %, which two visits a side know too badly for any single row's change to be certain beside it."""
    rng = np.random.default_rng(12)
    found = []
    for _ in range(10):
        base, new = (
            [
                row(case, np.concatenate(visits), run_id=run, round_count=2)
                for case, visits in enumerate(
                    zip(
                        *([one.samples_s for one in noisy(rng, 60, noise=0.005, shift=0.005 * rng.standard_normal())] for _ in "12"),
                        strict=True,
                    )
                )
            ]
            for run in "ab"
        )
        new[7] = row(7, 1.1 * np.asarray(new[7].samples_s), run_id="b", round_count=2)
        found.append(verdicts(base, new)[0])
    assert sum(one[7] == "SLOWER" for one in found) >= 9
    assert not {verdict for one in found for place, verdict in enumerate(one) if place != 7} & {"SLOWER", "FASTER"}


def test_a_change_that_all_have_in_common_makes_none_of_them_stand_apart():
    rng = np.random.default_rng(13)
    moved = noisy(rng, 60, noise=0.002, change=math.log(1.2), run="b")
    moved[7] = row(7, np.asarray(moved[7].samples_s) / 1.2, run_id="b")  # the one that did not move is not faster
    assert verdicts(noisy(rng, 60, noise=0.002), moved)[0][7] == "SAME"
