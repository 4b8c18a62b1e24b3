"""What is said of a plan that does not fit, and which plan is offered instead."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.scaling.cluster import Group, make_group
from chipassay.scaling.fits import ORDER_OF_CHANGES, fits_report, nearest_fitting
from chipassay.scaling.legal import check_plan
from chipassay.scaling.machine import Machine, prepare
from chipassay.scaling.memory import memory_by_kind
from chipassay.scaling.models import Transformer, load_model
from chipassay.scaling.plan import Plan

from . import toys

PROFILE = toys.toy_profile()
MACHINE = prepare(PROFILE)
LLAMA = load_model("llama3-8b")


def group(count: int) -> Group:
    return make_group(count, PROFILE, None, 8)


def needed(model: Transformer, plan: Plan, machine: Machine = MACHINE) -> float:
    return sum(memory_by_kind(model, plan, machine).values())


def changed(before: Plan, after: Plan) -> set[str]:
    return {name for name in ORDER_OF_CHANGES if getattr(before, name) != getattr(after, name)}


def test_a_plan_that_fits_is_said_to_fit() -> None:
    report = fits_report(LLAMA, Plan(global_batch=8, dp=8, zero_stage=3, recompute="full"), MACHINE, group(8))
    assert report.startswith("it fits: ")
    assert report.endswith("of 80.0 GB per chip")


def test_the_report_names_the_largest_part_the_shortage_and_what_to_change() -> None:
    plan = Plan(global_batch=8, dp=8, recompute="full")
    report = fits_report(LLAMA, plan, MACHINE, group(8))
    missing = (needed(LLAMA, plan) - 80e9) / 1e9
    optimizer = 12 * LLAMA.parameters / 1e9
    assert report.startswith(f"{missing:.1f} GB too much for a chip of 80.0 GB, most of it optimizer ({optimizer:.1f} GB)")
    assert report.endswith("the nearest plan that fits: zero_stage 1 (was 0)")


def test_sharding_comes_before_recomputation_and_that_before_smaller_microbatches() -> None:
    plan = Plan(global_batch=64, dp=8, zero_stage=2, microbatch=4)
    assert min(needed(LLAMA, plan), needed(LLAMA, replace(plan, zero_stage=3))) > 80e9
    assert needed(LLAMA, replace(plan, microbatch=1)) < 80e9
    assert nearest_fitting(LLAMA, plan, MACHINE, 8) == replace(plan, recompute="full")


def test_an_earlier_change_is_preferred_to_a_later_one() -> None:
    """At ZeRO-0 sharding alone, or TP alone, would do: sharding is tried first."""
    plan = Plan(global_batch=64, dp=64, recompute="full")
    assert needed(LLAMA, plan) > 80e9 > needed(LLAMA, replace(plan, tp=4, dp=16))
    found = nearest_fitting(LLAMA, plan, MACHINE, 64)
    assert found == replace(plan, zero_stage=1)


def test_no_plan_fits_a_model_without_enough_chips() -> None:
    plan = Plan(global_batch=8, dp=1, optimizer="sgd")  # whose step no host runs, so that nothing can be offloaded
    report = fits_report(load_model("gpt3-175b"), plan, MACHINE, group(1))
    assert "no plan of this batch on 1 chips fits: use more chips" in report


def test_what_no_sharding_can_do_the_host_does() -> None:
    plan = Plan(global_batch=1, microbatch=1)
    found = nearest_fitting(LLAMA, plan, MACHINE, 1)
    assert found is not None
    assert found.offload != "none"


@given(
    name=st.sampled_from(["llama3-8b", "gpt3-13b", "llama2-70b"]),
    tp=st.sampled_from([1, 2, 4, 8]),
    pp=st.sampled_from([1, 2, 4]),
    microbatch=st.sampled_from([1, 2, 8]),
    attention=st.sampled_from(["flash", "unfused"]),
)
@settings(derandomize=True, deadline=None, max_examples=40)
def test_the_plan_that_is_offered_is_legal_and_fits(name: str, tp: int, pp: int, microbatch: int, attention: str) -> None:
    model = load_model(name)
    plan = Plan(global_batch=1024, tp=tp, pp=pp, dp=64 // (tp * pp), microbatch=microbatch, attention=attention)  # type: ignore[arg-type]
    found = nearest_fitting(model, plan, MACHINE, 64)
    assert found is not None
    check_plan(found, model, 64)
    assert needed(model, found) <= MACHINE.memory_bytes
    if needed(model, plan) <= MACHINE.memory_bytes:
        assert changed(plan, found) == set()


@pytest.mark.parametrize("chips", [12, 24])
def test_chips_that_are_no_power_of_two_are_all_used(chips: int) -> None:
    found = nearest_fitting(LLAMA, Plan(global_batch=chips, dp=chips), MACHINE, chips)
    assert found is not None
    assert found.chips == chips
