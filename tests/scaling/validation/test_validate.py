"""Runs against predictions: errors, refusals, summaries, rankings and ratios; and how far off the shipped table is."""

from __future__ import annotations

import math
import re
from dataclasses import MISSING, fields, replace
from random import Random

import numpy as np
import pytest

from chipassay.scaling import constants, uncertainty
from chipassay.scaling.memory import memory_by_kind
from chipassay.scaling.validation.core import predicted_step_s
from chipassay.scaling.validation.fit import calibrated, errors_of, fit, model_sigmas, set_to
from chipassay.scaling.validation.left_out import ALL, leave_one_source_out, read_left_out
from chipassay.scaling.validation.rows import Run, read_runs
from chipassay.scaling.validation.summary import by_regime, by_source, chip_ratios, headline, plan_rankings, spearman, summarise
from chipassay.scaling.validation.validate import Outcome, case_of, machine_of, outcome_of, validate_run

from .runs import run_of


def outcome(tmp_path, measured, predicted, low=None, high=None, **cells):
    run = run_of(tmp_path, **cells)
    return Outcome(run, "a100-sxm-80gb", measured, predicted, low or predicted * 0.9, high or predicted * 1.1, plan=f"plan {predicted}")


def test_a_run_that_says_everything_is_predicted_near_its_time(tmp_path) -> None:
    found = validate_run(run_of(tmp_path))
    assert found.error is not None
    assert abs(found.error) < 0.10
    assert found.low_s is not None
    assert found.high_s is not None
    assert found.low_s < found.predicted_step_s < found.high_s
    assert found.reason == ""


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"chip": "Quantum 9000"}, "'Quantum 9000' is not known"),
        ({"dtype": "bf61"}, "the dtype 'bf61' is not known: fp8, bf16, fp16, tf32, fp32 are"),
        ({"model_family": "ResNet-50", "measured_metric": "images_per_s_total"}, "not a transformer"),
        ({"tp": "5", "num_chips": "5"}, "no tp and pp divide 5 chips"),
    ],
)
def test_a_run_that_cannot_be_predicted_comes_back_with_its_reason(tmp_path, cells, reason) -> None:
    found = validate_run(run_of(tmp_path, **cells))
    assert not found.usable
    assert reason in found.reason


def test_a_suspect_run_is_predicted_and_never_scored(tmp_path) -> None:
    found = validate_run(run_of(tmp_path, score="no"))
    assert found.usable
    assert not found.scored


def test_the_error_of_a_throughput_is_that_of_the_step_it_implies(tmp_path) -> None:
    step, rate = outcome(tmp_path, 2.0, 2.2), outcome(tmp_path, 2.0, 2.2, measured_metric="tokens_per_s_per_gpu", measured_value="1100")
    assert step.error == rate.error == pytest.approx(0.10)
    assert rate.in_metric(2.2) == pytest.approx(1000)  # a step a tenth longer is a rate of 1 / 1.1
    assert step.in_metric(2.2) == pytest.approx(1.42 * 1.1)


def test_what_a_source_leaves_open_widens_the_interval(tmp_path) -> None:
    case = case_of(run_of(tmp_path))
    group, choices = case.tries[0]
    widths = []
    for count in (0, 4):
        one = predicted_step_s(case.model, group, machine_of(group, "fp16"), choices.plans, count)
        widths.append(one.high_s / one.low_s)
    assert widths[1] > widths[0]


def test_the_best_plan_that_fits_is_taken_where_the_row_leaves_them_open(tmp_path) -> None:
    open_ = {"tp": "", "pp": "", "dp": "", "microbatch": "", "num_chips": "64", "global_batch_seqs": "512", "year": "2024"}
    case = case_of(run_of(tmp_path, **open_))
    group, choices = case.tries[0]
    machine = machine_of(group, "fp16")
    best = predicted_step_s(case.model, group, machine, choices.plans)
    assert best.fits
    for plan in choices.plans[:: max(1, len(choices.plans) // 15)]:
        try:
            one = predicted_step_s(case.model, group, machine, [plan])
        except Exception:
            continue
        assert not one.fits or best.step_s / best.plan.global_batch <= one.step_s / plan.global_batch * (1 + 1e-9)


def test_rank_correlation_takes_ties_at_their_mean() -> None:
    # Worked by hand: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4 -> 4.5 / sqrt(4.5 x 5).
    assert spearman([1, 5, 5, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert spearman([3, 2, 1], [1, 2, 3]) == pytest.approx(-1)
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_a_summary_holds_median_ninetieth_percentile_and_bias(tmp_path) -> None:
    errors = (-0.30, -0.10, 0.0, 0.02, 0.04)
    some = [outcome(tmp_path, 1.0, 1.0 + error, id=str(n)) for n, error in enumerate(errors)]
    found = summarise("five", some)
    assert (found.n, found.bias) == (5, 0.0)
    assert found.median == pytest.approx(0.04)
    assert found.p90 == pytest.approx(0.22)  # between 0.10 and 0.30, at 0.6 of the way
    assert found.inside == pytest.approx(3 / 5)


def test_the_headline_counts_each_source_once_and_leaves_whole_trainings_out(tmp_path) -> None:
    many = [outcome(tmp_path, 1.0, 1.02, id=f"a{n}", source="A") for n in range(9)]
    one = outcome(tmp_path, 1.0, 1.20, source="B")
    hours = outcome(tmp_path, 1.0, 3.0, source="C", measured_metric="gpu_hours")
    suspect = outcome(tmp_path, 1.0, 9.0, source="D", score="no")
    assert headline([*many, one, hours, suspect]) == pytest.approx(0.11)
    assert [summary.name for summary in by_source([*many, one, hours, suspect])] == ["A", "B", "C"]
    assert headline([suspect]) is None


def test_plans_of_one_model_on_one_cluster_are_ranked(tmp_path) -> None:
    some = [outcome(tmp_path, measured, measured * 1.5, id=str(measured)) for measured in (1.0, 2.0, 3.0, 4.0, 5.0)]
    (ranking,) = plan_rankings(some)
    assert ranking.rank == pytest.approx(1.0)
    assert plan_rankings(some[:4]) == []


def test_chips_are_held_against_each_other_under_one_code_base(tmp_path) -> None:
    fast, slow = (
        outcome(tmp_path, 1.0, 1.1, id="fast", source="Code, table A"),
        outcome(tmp_path, 2.0, 2.1, id="slow", source="Code, table B"),
    )
    other = replace(slow, chip_id="v100-sxm3-32gb")
    (ratio,) = chip_ratios([fast, other])
    assert ratio.name == "a100-sxm-80gb : v100-sxm3-32gb, Code"
    assert ratio.measured == pytest.approx(2.0)
    assert ratio.predicted == pytest.approx(2.1 / 1.1)


def test_leaving_one_source_out_fits_on_the_others_alone() -> None:
    seen = []

    def refit(others):
        seen.append(tuple(others))
        return {"constant": float(len(others))}

    found = leave_one_source_out(["A", "B", "C"], refit, lambda source, values: [0.1, -0.3, 0.2])
    assert seen == [("B", "C"), ("A", "C"), ("A", "B")]
    assert [one.source for one in found] == ["A", "B", "C"]
    assert found[0].median == pytest.approx(0.2)
    assert found[0].bias == pytest.approx(0.1)


def test_a_constant_is_set_for_a_while_and_then_as_it_was() -> None:
    before = constants.STRAGGLER_SIGMA
    with set_to({"STRAGGLER_SIGMA": 0.5}):
        assert constants.STRAGGLER_SIGMA.value == 0.5
    assert constants.STRAGGLER_SIGMA is before


def test_a_fit_finds_the_constant_that_made_the_times(tmp_path) -> None:
    case = case_of(run_of(tmp_path))
    (error,) = errors_of([case], {"STRAGGLER_SIGMA": 0.2})
    made = replace(case, run=replace(case.run, measured_value=case.run.measured_value * (1 + error)))
    found = fit({"made": [made]}, {"STRAGGLER_SIGMA": 0.1})
    assert found["STRAGGLER_SIGMA"] == pytest.approx(0.2, rel=0.05)


def test_the_spread_of_the_model_is_what_intervals_need_to_hold_four_fifths(tmp_path) -> None:
    # 100 runs whose logs are off by 1 to 100 %: 82 of them lie within 1.2816 x 0.64 = 0.82, inputs being certain.
    before = uncertainty.MODEL_SIGMA["compute"]
    spread = math.exp(uncertainty.Z80 * before)
    many = [
        replace(
            outcome(tmp_path, 1.0, math.exp(n / 100), math.exp(n / 100) / spread, math.exp(n / 100) * spread, source=f"source {n // 10}"),
            regime="compute",
        )
        for n in range(1, 101)
    ]
    assert model_sigmas(many)["compute"] == pytest.approx(0.82 / 1.2816, abs=0.01)


def test_left_out_errors_were_made_with_the_constants_of_the_model() -> None:
    now = {name: one.value for name, one in calibrated().items()}
    made = next((one.constants for one in read_left_out() if one.source == ALL), {})
    assert made == pytest.approx(now, rel=1e-4), "run python -m chipassay.scaling.validation.fit --write"


@pytest.mark.slow
def test_the_shipped_table_is_predicted_as_well_as_it_was() -> None:
    # Every fourth row: seconds. Figures of when this was written, and a little more: they may shrink, not grow.
    outcomes = [validate_run(run) for run in read_runs()[::4]]
    mean = headline(outcomes)
    assert mean is not None
    assert mean < 0.25
    assert sum(one.usable for one in outcomes) > 0.9 * len(outcomes)
    assert {one.name for one in by_regime(outcomes)} >= {"compute", "network", "host"}
    ranks = sorted(one.rank for one in plan_rankings(outcomes) if one.rank is not None)
    assert ranks[len(ranks) // 2] > 0.9


def test_rows_with_anything_left_out_are_predicted_or_refused_with_a_reason() -> None:
    names = [field.name for field in fields(Run) if field.default is not MISSING and field.name != "score"]
    defaults = {field.name: field.default for field in fields(Run)}
    runs, chance = read_runs()[::29], Random(7)
    for run in runs:
        emptied = {name: defaults[name] for name in chance.sample(names, chance.choice((1, 3, 8, 15)))}
        odd = {chance.choice(("tp", "pp", "dp", "heads", "vpp_interleave", "ep", "microbatch", "num_chips")): chance.choice((1, 3, 7, 64))}
        found = validate_run(replace(run, **{**emptied, **odd}))
        assert found.usable or found.reason


SAILOR_PEAK = re.compile(r"peak mem (\d+) B")


def test_sailors_gh200_ran_in_tf32_without_dropout_as_their_memory_says() -> None:
    """Where much is held the peaks are within 15 %, but for one run (28.5 GB, where the same stages of its twin held 37.3); in 16 bit and
    with dropout they would be right, too, and the steps 2.3 times too fast."""
    off, slow = {}, []
    for run in read_runs():
        if not run.source.startswith("Sailor (SOSP 2025) validation measurements on Alps"):
            continue
        case = case_of(run)
        assert (case.dtype, case.model.dropout) == ("tf32", False)
        ((group, choices),) = case.tries
        machine = machine_of(group, case.dtype)
        plan = replace(choices.plans[0], loss="torch")
        predicted = sum(float(np.max(held)) for held in memory_by_kind(case.model, plan, machine).values())
        peak = float(SAILOR_PEAK.search(run.notes)[1])  # type: ignore[index]  # a run without its peak would fail here
        if peak > 25e9:
            off[run.id] = predicted / peak - 1
        slow.append(outcome_of(case).error)
    assert len(off) == 12
    assert sorted(abs(one) for one in off.values())[-2] < 0.16
    assert float(np.median(np.abs(slow))) < 0.25
