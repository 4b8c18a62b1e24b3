"""The interval: wider on weaker evidence, by the parts that rest on it, and never less than the model's own error."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import pytest

from chipassay.results.link import Segment
from chipassay.results.profile import Curve, Evidence, Level
from chipassay.scaling.cluster import Group
from chipassay.scaling.machine import Input, Machine
from chipassay.scaling.plan import Plan
from chipassay.scaling.step import KINDS
from chipassay.scaling.uncertainty import (
    LEVEL_SIGMA,
    MODEL_SIGMA,
    TOGETHER,
    Z80,
    curve_sigma,
    input_sigma,
    input_sigmas,
    interval_s,
    log_sigma,
    regime,
)

from .toys import MEASURED, machine_of, toy_group, toy_link, with_profile

PLAN = Plan(global_batch=64, dp=8)


def breakdown(**seconds: float) -> dict[str, float]:
    return {**dict.fromkeys(KINDS, 0.0), **seconds}


def made(**fields: Any) -> tuple[Machine, Group]:
    """Toy chips whose curves have points enough to count as measured."""
    group = toy_group(8)
    curves = {
        "matmul": {"bf16": Curve(0.0, 1e14, MEASURED, points=9)},
        "attention": {"bf16": Curve(0.0, 5e13, MEASURED, points=9)},
        "memory": Curve(0.0, 1e12, MEASURED, points=9),
    }
    group = with_profile(group, **{**curves, **fields})
    return machine_of(group), group


def test_the_quantile_leaves_a_tenth_on_either_side() -> None:
    assert NormalDist().inv_cdf(0.9) == pytest.approx(Z80, abs=1e-4)


def test_every_kind_of_the_breakdown_rests_on_one_group_of_inputs() -> None:
    kinds = [kind for group in TOGETHER for kind in group]
    assert sorted(kinds) == sorted(KINDS)
    machine, group = made()
    assert set(input_sigmas(machine, group, PLAN)) == set(KINDS)


def test_weaker_evidence_is_less_sure() -> None:
    levels: tuple[Level, ...] = ("measured", "published", "derived", "assumed")
    assert [LEVEL_SIGMA[level] for level in levels] == sorted(LEVEL_SIGMA.values())


def test_a_step_of_one_kind_is_as_sure_as_its_input() -> None:
    machine, group = made()
    assert input_sigma(breakdown(matmul=3.0), machine, group, PLAN) == pytest.approx(LEVEL_SIGMA["measured"])
    assert input_sigma(breakdown(offload=3.0), machine, group, PLAN) == pytest.approx(LEVEL_SIGMA["assumed"])


def test_independent_inputs_partly_cancel_and_shared_ones_do_not() -> None:
    """Half of the step each: of two inputs with an error of 5 %, 5 / sqrt(2) %; of one, 5 %."""
    machine, group = made()
    apart = input_sigma(breakdown(matmul=1.0, memory_bound=1.0), machine, group, PLAN)
    together = input_sigma(breakdown(matmul=1.0, recompute=1.0), machine, group, PLAN)
    assert apart == pytest.approx(0.05 / math.sqrt(2))
    assert together == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"matmul": 1.0}, "compute"),
        ({"matmul": 0.8, "host": 0.2}, "host"),
        ({"matmul": 0.7, "tensor_parallel": 0.15, "pipeline_bubble": 0.15}, "network"),
        ({"matmul": 0.9, "data_parallel": 0.1}, "compute"),
        ({"matmul": 9.0, "host": 0.5}, "compute"),
        ({"matmul": 0.5, "data_parallel": 0.3, "host": 0.2}, "host"),
    ],
)
def test_what_rules_a_step_is_told_by_its_breakdown(seconds: dict[str, float], expected: str) -> None:
    assert regime(breakdown(**seconds)) == expected


@pytest.mark.parametrize("seconds", [{"matmul": 1.0}, {"matmul": 0.8, "host": 0.2}, {"matmul": 0.5, "data_parallel": 0.5}])
def test_no_interval_is_narrower_than_the_models_own_error(seconds: dict[str, float]) -> None:
    machine, group = made()
    parts = breakdown(**seconds)
    assert log_sigma(parts, machine, group, PLAN) > MODEL_SIGMA[regime(parts)]


def test_the_interval_lies_around_the_step_by_the_same_factor_either_way() -> None:
    machine, group = made()
    parts = breakdown(matmul=2.0)
    low, high = interval_s(2.0, parts, machine, group, PLAN)
    assert low < 2.0 < high
    assert math.sqrt(low * high) == pytest.approx(2.0)
    assert math.log(high / 2.0) == pytest.approx(Z80 * math.hypot(MODEL_SIGMA["compute"], 0.05))


@pytest.mark.parametrize("level", ["published", "derived", "assumed"])
def test_the_interval_widens_with_weaker_evidence(level: Any) -> None:
    machine, group = made()
    weaker, of = made(matmul={"bf16": Curve(0.0, 1e14, Evidence(level, "less sure"), points=9)})
    parts = breakdown(matmul=1.0)
    assert log_sigma(parts, weaker, of, PLAN) > log_sigma(parts, machine, group, PLAN)


def test_a_measured_line_through_two_points_counts_as_derived() -> None:
    assert curve_sigma(Curve(0.0, 1e14, MEASURED, points=2)) == LEVEL_SIGMA["derived"]
    assert curve_sigma(Curve(0.0, 1e14, MEASURED, points=3)) == LEVEL_SIGMA["measured"]


def test_the_scatter_of_a_fit_adds_its_standard_error() -> None:
    assert curve_sigma(Curve(0.0, 1e14, MEASURED, points=4, spread=0.2)) == pytest.approx(math.hypot(0.05, 0.1))


def test_a_links_own_error_of_large_messages_counts() -> None:
    line = Segment(0.0, 1e-5, 1e11, 0.0, 2e-12)  # a fifth of 1 / busbw
    link = replace(toy_link(), segments=(line,))
    assert curve_sigma(link) == pytest.approx(math.hypot(0.05, 0.2))


def test_traffic_beyond_a_node_is_as_sure_as_the_network() -> None:
    machine, group = made()
    group = replace(group, inputs=(Input("network between nodes", "some", Evidence("assumed", "a guess")),))
    inside, beyond = (input_sigmas(machine, group, Plan(global_batch=64, tp=tp, dp=8)) for tp in (8, 16))
    assert inside["tensor_parallel"] == LEVEL_SIGMA["derived"]  # one line without points
    short, long = (input_sigmas(machine, group, Plan(global_batch=64, tp=2, cp=cp)) for cp in (4, 8))
    assert short["context_parallel"] == short["tensor_parallel"]
    assert long["context_parallel"] == LEVEL_SIGMA["assumed"]
    assert beyond["tensor_parallel"] == inside["data_parallel"] == LEVEL_SIGMA["assumed"]
