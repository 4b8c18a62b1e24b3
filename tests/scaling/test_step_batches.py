"""Many plans at once are what each is alone, in whatever order and company, and no machine is given another's times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chipassay.results.profile import Quantity
from chipassay.scaling.models import Transformer
from chipassay.scaling.plan import Plan
from chipassay.scaling.plans import COLUMNS, Plans
from chipassay.scaling.step import KINDS, step

from .random_plans import SHARED, group_of_64, random_plans
from .toy_models import GPT, MODELS
from .toys import MEASURED, machine_of, step_of, toy_group, with_profile


@pytest.mark.parametrize("shared", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("model", [GPT, MODELS["experts and shared ones"]], ids=["dense", "experts"])
def test_each_plan_of_a_batch_takes_what_it_takes_alone(model: Transformer, shared: Plan) -> None:
    plans = random_plans(model, shared, 100, seed=7)
    group, machine = group_of_64()
    together = step(model, plans, machine, group)
    for index in range(len(plans)):
        alone = step(model, Plans.of([plans.plan(index)]), machine, group)
        for kind in KINDS:
            assert alone.parts_s[kind].item() == pytest.approx(together.parts_s[kind][index], rel=1e-9, abs=1e-15), plans.plan(index)


def test_the_order_of_the_plans_and_their_company_do_not_matter() -> None:
    model = MODELS["experts and shared ones"]
    plans = random_plans(model, SHARED["as it is"], 300, seed=11)
    group, machine = group_of_64()
    once = step(model, plans, machine, group).step_time_s
    order = np.random.default_rng(3).permutation(len(plans))
    assert step(model, plans.take(order), machine, group).step_time_s == pytest.approx(once[order], rel=1e-12)
    assert step(model, plans.take(slice(0, 7)), machine, group).step_time_s == pytest.approx(once[:7], rel=1e-9)


def test_the_parts_of_a_batch_sum_to_its_steps() -> None:
    plans = random_plans(GPT, SHARED["as it is"], 300, seed=5)
    group, machine = group_of_64()
    result = step(GPT, plans, machine, group)
    assert np.sum(list(result.parts_s.values()), axis=0) == pytest.approx(result.step_time_s, rel=1e-12)
    assert all(np.all(np.isfinite(seconds) & (seconds >= 0)) for seconds in result.parts_s.values())


def test_a_plan_of_a_batch_comes_back_as_it_went_in() -> None:
    plans = random_plans(MODELS["experts"], SHARED["as it is"], 50, seed=2)
    again = Plans.of([plans.plan(index) for index in range(len(plans))])
    assert all(np.array_equal(getattr(again, name), getattr(plans, name)) for name in COLUMNS)


@pytest.mark.parametrize(
    "field",
    [{"attention": "unfused"}, {"fused": False}, {"dtype": "fp8"}],
    ids=["attention", "fusion", "dtype"],
)
def test_what_is_remembered_of_one_setting_is_not_taken_for_another(field: dict[str, Any]) -> None:
    group = with_profile(toy_group(2), peak_flops_per_s={"fp8_e4m3": Quantity(4e14, MEASURED)})
    plain, other = Plan(global_batch=64, dp=2), Plan(global_batch=64, dp=2, **field)
    machine, narrow = machine_of(group), machine_of(group, other.dtype)
    before = step(GPT, Plans.of([plain]), machine, group).step_time_s.item()
    between = step(GPT, Plans.of([other]), narrow, group).step_time_s.item()
    assert step(GPT, Plans.of([plain]), machine, group).step_time_s.item() == before != between


def test_two_machines_of_one_name_have_their_own_times() -> None:
    plan = Plan(global_batch=64, dp=2)
    slow, fast = toy_group(2), toy_group(2, rate=2e14)
    first = step_of(GPT, plan, slow).step_time_s.item()
    second = step_of(GPT, plan, fast).step_time_s.item()
    assert second < first
    assert step_of(GPT, plan, slow).step_time_s.item() == first


def test_two_models_that_differ_in_one_size_have_their_own_times() -> None:
    plan, group = Plan(global_batch=64, dp=2), toy_group(2)
    machine = machine_of(group)
    times = [step(model, Plans.of([plan]), machine, group).step_time_s.item() for model in (GPT, replace(GPT, ffn_hidden=8192))]
    assert times[0] < times[1]
