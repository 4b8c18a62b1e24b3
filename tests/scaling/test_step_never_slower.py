"""What must never slow a step: a faster part of the machine, better software, less to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.profile import Quantity
from chipassay.scaling.models import Transformer
from chipassay.scaling.plan import RECOMPUTES, Plan
from chipassay.scaling.plans import Plans
from chipassay.scaling.step import step

from .random_plans import CHIPS, SHARED, group_of_64, random_plans
from .toy_models import GPT, MODELS
from .toys import MEASURED, machine_of, toy_fabric, toy_group, with_profile

KNOBS = {
    "products": ("rate", 1e13, 1e16),
    "memory": ("bandwidth", 1e11, 1e14),
    "links in the node": ("busbw", 1e9, 1e13),
}
MODEL = MODELS["experts and shared ones"]


def room(plans: Plans) -> Any:
    """Strictly never slower; but what a pipeline's sends and weights gathered for each microbatch hide behind is not told apart."""
    return np.where((plans.zero_stage >= 2) & (plans.pp > 1), 0.02, 1e-9)


def toy_times(plans: Plans, model: Transformer, **chip: Any) -> Any:
    group = toy_group(CHIPS, **chip)
    return step(model, plans, machine_of(group), group).step_time_s


@pytest.mark.parametrize("shared", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("model", [GPT, MODEL], ids=["dense", "experts"])
@pytest.mark.parametrize("knob", KNOBS.values(), ids=KNOBS)
@settings(derandomize=True, deadline=None, max_examples=12)
@given(place=st.floats(0, 1), factor=st.sampled_from([1.1, 2.0, 100.0]))
def test_a_faster_part_of_the_machine_never_slows_a_step(
    knob: tuple[str, float, float], model: Transformer, shared: Plan, place: float, factor: float
) -> None:
    name, low, high = knob
    value = low * (high / low) ** place
    plans = random_plans(model, shared, 100, seed=13)
    before, after = (toy_times(plans, model, **{name: it}) for it in (value, value * factor))
    worse = np.flatnonzero(after > before * (1 + room(plans)))
    assert not len(worse), plans.plan(int(worse[0]))


@pytest.mark.parametrize("field", ["nic", "nics", "latency_s"])
@settings(derandomize=True, deadline=None, max_examples=12)
@given(place=st.floats(0, 1))
def test_a_faster_network_never_slows_a_step(field: str, place: float) -> None:
    base = {"nics": 4, "nic": 1e9 * 100**place, "latency_s": 1e-5}
    better = {**base, field: base[field] / 3 if field == "latency_s" else base[field] * 2}
    plans = random_plans(MODEL, SHARED["as it is"], 100, seed=17)
    before, after = (toy_times(plans, MODEL, fabric=toy_fabric(**how)) for how in (base, better))
    worse = np.flatnonzero(after > before * (1 + 1e-9))
    assert not len(worse), plans.plan(int(worse[0]))


def compared(shared: Plan, name: str, first: Any, second: Any, model: Transformer = GPT, seed: int = 19) -> tuple[Plans, Any, Any]:
    """Steps of random plans with a shared field at two values, on real chips."""
    plans = random_plans(model, shared, 150, seed)
    group, machine = group_of_64()
    one, two = (step(model, replace(plans, settings=replace(shared, **{name: value})), machine, group) for value in (first, second))
    return plans, one.step_time_s, two.step_time_s


@pytest.mark.parametrize(
    ("name", "faster", "slower"),
    [
        ("fused", True, False),
        ("attention", "flash", "flash2"),
        ("attention", "flash2", "flash1"),
        ("host", "graph", "eager"),
        ("overlap_dp", True, False),
        ("overlap_tp", True, False),
        ("overlap_pp", True, False),
    ],
)
@pytest.mark.parametrize("model", [GPT, MODEL], ids=["dense", "experts"])
def test_better_software_is_never_slower(name: str, faster: Any, slower: Any, model: Transformer) -> None:
    plans, better_s, worse_s = compared(Plan(global_batch=64), name, faster, slower, model)
    wrong = np.flatnonzero(better_s > worse_s * (1 + 1e-9))
    assert not len(wrong), plans.plan(int(wrong[0]))


def test_flash_attention_is_never_slower_than_the_scores_through_memory() -> None:
    plans, better_s, worse_s = compared(Plan(global_batch=64), "attention", "flash", "unfused", replace(GPT, seq_len=4096))
    wrong = np.flatnonzero(better_s > worse_s)
    assert not len(wrong), plans.plan(int(wrong[0]))


@pytest.mark.parametrize("attention", ["flash", "unfused"])
@pytest.mark.parametrize(("less", "more"), [("none", "selective"), ("none", "operators"), ("operators", "full"), ("selective", "full")])
def test_recomputing_more_is_never_faster(attention: Any, less: Any, more: Any) -> None:
    plans = random_plans(GPT, Plan(global_batch=64, attention=attention), 150, seed=23)
    group, machine = group_of_64()
    codes = (np.full(len(plans), RECOMPUTES.index(kind)) for kind in (less, more))
    a, b = (step(GPT, replace(plans, recompute=code), machine, group).step_time_s for code in codes)
    assert np.all(a <= b * (1 + 1e-9))


def test_more_microbatches_of_one_size_are_never_faster() -> None:
    plans = random_plans(MODEL, SHARED["as it is"], 150, seed=29)
    group, machine = group_of_64()
    before, after = (step(MODEL, replace(plans, global_batch=plans.global_batch * more), machine, group).step_time_s for more in (1, 2))
    assert np.all(after > before)
    assert np.all(after < 2 * before * (1 + 1e-9))


def test_sequence_parallelism_never_adds_memory_bound_work() -> None:
    plans = random_plans(MODEL, SHARED["as it is"], 150, seed=31)
    group, machine = group_of_64()
    off, on = (step(MODEL, replace(plans, sequence_parallel=np.full(len(plans), how)), machine, group).parts_s for how in (0, 1))
    assert np.all(on["memory_bound"] <= off["memory_bound"] * (1 + 1e-12))
    assert np.all((on["memory_bound"] < off["memory_bound"]) | (plans.tp == 1))


def test_a_faster_link_to_the_host_never_slows_a_step() -> None:
    shared = Plan(global_batch=64, offload="optimizer")
    plans = random_plans(GPT, shared, 100, seed=37)
    times = []
    for rate in (10e9, 20e9, 40e9):
        group = with_profile(toy_group(CHIPS), host_link_bytes_per_s={"host_to_device pinned": Quantity(rate, MEASURED)})
        times.append(step(GPT, plans, machine_of(group), group).step_time_s)
    assert np.all(times[0] > times[1])
    assert np.all(times[1] > times[2])
