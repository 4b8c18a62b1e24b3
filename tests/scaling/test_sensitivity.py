"""Sensitivity: elasticities that are known by hand, that sum to 1, and that point the right way."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.errors import InputError
from chipassay.results.fabrics import Fabric
from chipassay.results.prices import given_price
from chipassay.results.profile import Evidence
from chipassay.scaling.cluster import Group, parse_cluster
from chipassay.scaling.models import load_model
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import predict
from chipassay.scaling.scaled import INPUTS, with_own_links
from chipassay.scaling.sensitivity import CONSTANTS, Sensitivity, sensitivity
from tests.scaling.toys import toy_link, toy_profile

MODEL = load_model("llama3-8b")
GRAPH = {"host": "graph"}


def group(profile=None, count: int = 16, chips_per_node: int = 8) -> Group:
    fabric = Fabric("toy", 8, 25e9, 0.8, 1e-5, Evidence("assumed", "a toy"))
    return Group(count, profile or toy_profile(links=(toy_link(),), memory_bytes=1e15), chips_per_node, fabric, ())


def elasticity(found: Sensitivity, name: str) -> float:
    return next((one.step_elasticity for one in found.influences if one.name == name), 0.0)


def test_a_step_of_products_alone_follows_their_rate_one_to_one() -> None:
    # One chip with boundless memory bandwidth and no launches: all that is left are products, and attention.
    profile = toy_profile(overhead_s=0.0, bandwidth=1e18, memory_bytes=1e15)
    found = sensitivity(MODEL, group(profile, 1), Plan(global_batch=8, **GRAPH))
    assert elasticity(found, "matrix products") + elasticity(found, "attention") == pytest.approx(-1, abs=0.01)
    step = found.prediction
    assert elasticity(found, "attention") == pytest.approx(-step.breakdown_s["attention"] / step.step_time_s, abs=0.02)


def test_a_step_that_only_waits_for_the_network_follows_its_bandwidth() -> None:
    fast = toy_profile(rate=1e21, bandwidth=1e21, overhead_s=0.0, links=(toy_link(busbw=1e15, latency_s=0.0),), memory_bytes=1e15)
    wire = replace(group(fast).fabric, latency_s=0.0, nic_bytes_per_s_one_way=1e6)
    found = sensitivity(MODEL, replace(group(fast), fabric=wire), Plan(global_batch=16, dp=16, overlap_dp=False, **GRAPH))
    assert elasticity(found, "network bandwidth") == pytest.approx(-1, abs=0.01)
    assert found.influences[0].name == "network bandwidth"
    assert found.influences[0].better_s == pytest.approx(found.prediction.step_time_s / 1.1, rel=0.01)


@settings(derandomize=True, max_examples=12, deadline=None)
@given(
    st.sampled_from([(16, 1, 1), (2, 8, 1), (4, 2, 2), (1, 4, 4)]),
    st.sampled_from(["eager", "graph"]),
    st.sampled_from([1e13, 1e15]),
    st.sampled_from([1e9, 1e12]),
)
def test_elasticities_sum_to_one(degrees: tuple[int, int, int], host: str, rate: float, busbw: float) -> None:
    dp, tp, pp = degrees
    profile = toy_profile(rate=rate, links=(toy_link(busbw=busbw),), memory_bytes=1e15)
    found = sensitivity(MODEL, group(profile), Plan(global_batch=64, dp=dp, tp=tp, pp=pp, host=host), change=0.02)  # type: ignore[arg-type]
    signed = [one.step_elasticity * (-1 if one.better_is == "more" else 1) for one in found.influences]
    assert math.fsum(signed) == pytest.approx(1, abs=0.01)
    assert min(signed) > -0.02


def test_a_machine_twice_as_fast_in_everything_takes_half_the_time() -> None:
    slow = with_own_links(parse_cluster("16xh100-sxm-80gb").groups[0])
    plan = Plan(global_batch=128, dp=2, tp=8, recompute="full", host="graph")
    fast = slow
    for better_is, changed in INPUTS.values():
        fast = changed(fast, 2.0 if better_is == "more" else 0.5)
    assert predict(MODEL, fast, plan).step_time_s == pytest.approx(predict(MODEL, slow, plan).step_time_s / 2, rel=0.002)


def test_better_never_is_slower_and_the_most_influential_comes_first() -> None:
    found = sensitivity(MODEL, "16xh100-sxm-80gb", Plan(global_batch=128, dp=2, tp=8, recompute="full"))
    for one in found.influences:
        assert one.worse_s is not None
        assert one.better_s <= found.prediction.step_time_s * 1.0001 <= one.worse_s * 1.0002
    sizes = [abs(one.step_elasticity) for one in found.influences]
    assert sizes == sorted(sizes, reverse=True)
    assert found.influences[0].name == "matrix products"


def test_the_links_that_the_catalogue_lends_are_inputs_too() -> None:
    bare = replace(
        parse_cluster("8xh100-sxm-80gb").groups[0], profile=replace(parse_cluster("8xh100-sxm-80gb").groups[0].profile, links=())
    )
    found = sensitivity(MODEL, bare, Plan(global_batch=64, tp=8, recompute="full"))
    assert elasticity(found, "bandwidth in the node") < -0.01


def test_a_price_moves_the_cost_alone_and_the_rest_moves_the_cost_as_the_step() -> None:
    plan = Plan(global_batch=64, dp=8, zero_stage=3, recompute="full")
    found = sensitivity(MODEL, "8xh100-sxm-80gb", plan, price=given_price("h100-sxm-80gb", 2.0))
    price = next(one for one in found.influences if one.name == "price")
    assert (price.step_elasticity, price.cost_elasticity, price.better_s) == (0.0, 1.0, found.prediction.step_time_s)
    assert all(one.cost_elasticity == one.step_elasticity for one in found.influences if one.name != "price")
    assert "cost +1.000" in found.describe()
    without = sensitivity(MODEL, "8xh100-sxm-80gb", plan)
    assert all(one.cost_elasticity is None for one in without.influences)


def test_without_a_plan_the_memory_size_can_matter() -> None:
    # 16 bytes for each of 8 billion weights fill chips of 80 GB unless sharded; the best plan is searched for again each time.
    found = sensitivity(MODEL, "8xh100-sxm-80gb", global_batch=64)
    assert "memory size" in {one.name for one in found.influences}
    assert CONSTANTS not in {one.name for one in found.influences}


@pytest.mark.parametrize("change", [0.0, 1.0, -0.1, math.nan])
def test_a_change_that_is_none_is_refused(change: float) -> None:
    with pytest.raises(InputError, match="give a share above 0 and below 1"):
        sensitivity(MODEL, "8xh100-sxm-80gb", Plan(global_batch=64, dp=8), change=change)
