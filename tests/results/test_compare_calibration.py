"""How often verdicts are wrong: on simulated noise without a change, and with a change of known size."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from .comparing import OPPOSITE, noisy, row, verdicts, visited


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


def test_visits_count_for_the_kinds_that_have_one_run_although_another_kind_has_several():
    rng = np.random.default_rng(15)
    copies = [[replace(one, op="copy", flops=None) for one in noisy(rng, 1, run=run)] for run in ("a", "a2", "b", "b2")]
    false = 0
    for _ in range(20):
        sides = [[*visited(rng, 10, "a", 0.02), *copies[0], *copies[1]], [*visited(rng, 10, "b", 0.02), *copies[2], *copies[3]]]
        found = verdicts(*sides)[1].pairs
        false += bool(set(OPPOSITE) & set(found.loc[found["op"] == "matmul", "verdict"]))
    assert false <= 1
