"""Scaling curves: strong and weak, with a plan and with the best, and the reason where a number of chips cannot run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chipassay.results.errors import InputError, UnknownName
from chipassay.scaling.cluster import make_group
from chipassay.scaling.curve import scaling_curve
from chipassay.scaling.models import load_model
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import predict
from tests.scaling.toys import toy_link, toy_profile

SHARDED = Plan(global_batch=512, dp=8, zero_stage=3, recompute="full")


def test_each_point_is_the_prediction_of_its_plan() -> None:
    curve = scaling_curve("llama3-8b", "32xh100-sxm-80gb", plan=SHARDED)
    assert [point.chips for point in curve.points] == [8, 16, 32]
    for point in curve.points:
        expected = predict("llama3-8b", f"{point.chips}xh100-sxm-80gb", replace(SHARDED, dp=point.chips))
        assert point.prediction is not None
        assert point.prediction.step_time_s == pytest.approx(expected.step_time_s)
        assert point.runs


def test_strong_scaling_keeps_the_batch_and_weak_scaling_the_batch_per_chip() -> None:
    strong = scaling_curve("llama3-8b", "64xh100-sxm-80gb", plan=SHARDED)
    weak = scaling_curve("llama3-8b", "64xh100-sxm-80gb", plan=SHARDED, weak=True)
    assert [p.prediction.plan.global_batch for p in strong.points if p.prediction] == [512] * 4
    assert [p.prediction.plan.global_batch for p in weak.points if p.prediction] == [64, 128, 256, 512]
    assert strong.points[-1].prediction == weak.points[-1].prediction


def test_efficiency_is_the_speed_of_a_chip_over_that_in_the_smallest_cluster() -> None:
    curve = scaling_curve("llama3-8b", "64xh100-sxm-80gb", plan=SHARDED)
    first, last = curve.points[0].prediction, curve.points[-1].prediction
    assert first is not None
    assert last is not None
    assert curve.points[0].efficiency == 1.0
    assert curve.points[-1].efficiency == pytest.approx(first.step_time_s / last.step_time_s / 8)


def test_without_communication_scaling_is_perfect() -> None:
    # Links and network of boundless bandwidth, no latency: twice the chips with twice the batch take the same step.
    profile = toy_profile(links=(toy_link(busbw=1e21, latency_s=0.0),), memory_bytes=1e15)
    base = make_group(64, profile, "ndr400x8", 8)
    group = replace(base, fabric=replace(base.fabric, nic_bytes_per_s_one_way=1e21, latency_s=0.0))
    curve = scaling_curve(load_model("llama3-8b"), group, [8, 16, 32, 64], plan=Plan(global_batch=64, tp=1), weak=True)
    # What is left is the wait for the slowest of more chips, where the model has it.
    assert [point.efficiency for point in curve.points] == pytest.approx([1.0] * 4, abs=0.02)


def test_each_number_runs_its_best_plan_where_none_is_given() -> None:
    curve = scaling_curve("llama3-8b", "32xh100-sxm-80gb", [8, 32], global_batch=256)
    assert all(point.runs for point in curve.points)
    assert {point.prediction.plan.global_batch for point in curve.points if point.prediction} == {256}
    assert not curve.planned


def test_more_chips_are_faster_and_less_efficient() -> None:
    plan = Plan(global_batch=1024, tp=8, pp=4, dp=32, zero_stage=1, sequence_parallel=True)
    curve = scaling_curve("llama3-70b", "1024xh100-sxm-80gb", [256, 512, 1024], plan=plan)
    speeds = [point.prediction.tokens_per_s for point in curve.points if point.prediction]
    efficiencies = [point.efficiency for point in curve.points]
    assert speeds == sorted(speeds)
    assert efficiencies == sorted(efficiencies, reverse=True)  # type: ignore[type-var]


def test_each_with_its_best_plan_more_chips_are_faster() -> None:
    # Not less efficient for certain: more chips hold more, so that each layer need be cut less.
    curve = scaling_curve("llama3-70b", "1024xh100-sxm-80gb", [256, 512, 1024], global_batch=1024)
    speeds = [point.prediction.tokens_per_s for point in curve.points if point.prediction]
    assert len(speeds) == 3
    assert speeds == sorted(speeds)


def test_a_number_that_cannot_run_says_why_and_the_next_one_is_the_base() -> None:
    curve = scaling_curve("llama3-70b", "64xh100-sxm-80gb", [8, 12, 64], plan=Plan(global_batch=64, tp=8))
    small, odd, large = curve.points
    assert "does not fit" in small.reason
    assert small.prediction is not None
    assert not small.runs
    assert odd.reason == "12 chips are no multiple of the 8 that one replica of the plan takes"
    assert (small.efficiency, odd.efficiency) == (None, None)
    assert (large.runs, large.efficiency) in ((True, 1.0), (False, None))
    assert odd.reason in curve.describe()
    searched = scaling_curve("llama3-70b", "64xh100-sxm-80gb", [1, 64], global_batch=64)
    assert "does not fit" in searched.points[0].reason
    assert searched.points[1].efficiency == 1.0


def test_a_batch_that_does_not_divide_is_a_reason_not_an_end() -> None:
    curve = scaling_curve("llama3-8b", "64xh100-sxm-80gb", [8, 24, 64], plan=replace(SHARDED, global_batch=64))
    assert "does not divide" in curve.points[1].reason
    weak = scaling_curve("llama3-8b", "64xh100-sxm-80gb", [24, 64], plan=replace(SHARDED, global_batch=100), weak=True)
    assert "leaves no whole number for 24" in weak.points[0].reason


def test_no_chips_and_unknown_chips_are_refused() -> None:
    with pytest.raises(InputError, match="of at least 1, not 0, 8"):
        scaling_curve("llama3-8b", "8xh100-sxm-80gb", [8, 0])
    with pytest.raises(InputError, match="not none"):
        scaling_curve("llama3-8b", "8xh100-sxm-80gb", [])
    with pytest.raises(UnknownName):
        scaling_curve("llama3-8b", "8xh100")
