"""The planner against brute force: every legal plan by itself, as one prediction, on clusters small enough to try them all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from chipassay.results.errors import InputError
from chipassay.results.prices import given_price
from chipassay.results.profile import Quantity
from chipassay.scaling.cluster import Group
from chipassay.scaling.energy import energy_of
from chipassay.scaling.models import Experts, Transformer
from chipassay.scaling.plan import ORDER, Plan
from chipassay.scaling.planner.planner import plan_best
from chipassay.scaling.planner.space import ORDERS as ALL_ORDERS
from chipassay.scaling.planner.space import SCHEDULES, Space
from chipassay.scaling.predict import Prediction, predict_ready
from chipassay.scaling.ready import ready

from .toy_models import DENSE
from .toys import MEASURED, toy_fabric, toy_group, with_profile

SMALL = replace(DENSE, layers=4, heads=4, kv_heads=4, head_dim=256, seq_len=1024)
ROUTED = replace(SMALL, name="small routed", ffn_hidden=2048, experts=Experts(count=2, active=1, ffn_hidden=2048))
PRICE = given_price("toy", 2.0)
DEGREES = (1, 2, 3, 4)
ORDERS = (ORDER, "tp-cp-ep-pp-dp")


def cluster(memory_gb: float = 80.0) -> Group:
    """Four chips in two nodes, on a network slow enough for orders of ranks to matter."""
    group = toy_group(4, per_node=2, fabric=toy_fabric(nics=1, nic=5e9, latency_s=5e-6), busbw=5e10, latency_s=5e-6)
    return with_profile(group, memory_bytes=Quantity(memory_gb * 1e9, MEASURED), power_w=Quantity(400.0, MEASURED))


def every_plan(model: Transformer, batch: int, space: Space) -> Iterator[Plan]:
    """All plans of the space by nested loops over their fields, legal or not. Partly filled nodes are no choice of the planner's."""
    experts = model.experts.count if model.experts else 1
    columns = {
        "tp": DEGREES, "pp": DEGREES, "cp": (1, 2, 4), "dp": DEGREES, "ep": range(1, experts + 1), "microbatch": (1, 2, 4, 8),
        "zero_stage": range(4), "interleave": (1, 2), "sequence_parallel": (0, 1),
    }  # fmt: skip
    chosen = [(space.columns[name],) if name in space.columns else values for name, values in columns.items()]
    repeats = [("none", 1.0), *itertools.product(("selective", "operators", "full"), space.shares)]
    for values in itertools.product(*chosen):
        named = dict(zip(columns, values, strict=True))
        if named["tp"] * named["pp"] * named["cp"] * named["dp"] not in (1, 2, 4) or (named["tp"] == 1 and named["sequence_parallel"]):
            continue
        if named["zero_stage"] and "zero_stage" not in space.columns and named["dp"] * named["cp"] == 1:
            continue  # there is nothing to shard over
        for schedule, order, overlap, (kind, share) in itertools.product(space.schedules, space.orders, space.overlap_tp, repeats):
            fields: dict[str, Any] = {**named, "sequence_parallel": bool(named["sequence_parallel"]), "recompute": kind}
            yield Plan(global_batch=batch, schedule=schedule, order=order, overlap_tp=overlap, recompute_share=share, **fields)


def brute_force(model: Transformer, group: Group, batch: int, space: Space) -> list[Prediction]:
    """Every plan that is legal and fits, predicted by itself."""
    machine, found = ready(group), []
    for plan in every_plan(model, batch, space):
        try:
            prediction = predict_ready(model, replace(plan, dtype=machine.dtype), machine, group.with_count(plan.chips))
        except InputError:
            continue
        if prediction.fits:
            found.append(prediction)
    return found


def value(prediction: Prediction, objective: str, group: Group) -> float:
    """By hand: seconds, USD or joules per token."""
    if objective == "energy":
        return energy_of(prediction, group.profile).joules_per_token
    seconds = prediction.step_time_s / (prediction.plan.global_batch * SMALL.seq_len)
    return seconds * prediction.chips * 2.0 / 3600 if objective == "cost" else seconds


ONE_WAY = Space(full=True, shares=(0.5,), orders=ORDERS, schedules=("1f1b",))
CASES = {
    "pipelines in every schedule": (SMALL, 8, replace(ONE_WAY, schedules=SCHEDULES, columns={"zero_stage": 1, "tp": 1, "cp": 1})),
    "tensors and sequences": (
        SMALL, 4, replace(ONE_WAY, shares=(0.5, 1.0), overlap_tp=(False, True), columns={"pp": 1, "microbatch": 1, "zero_stage": 1}),
    ),
    "orders of ranks": (
        SMALL, 8, replace(ONE_WAY, orders=ALL_ORDERS, columns={"microbatch": 1, "zero_stage": 1, "interleave": 1, "recompute": 0}),
    ),
    "sharding": (SMALL, 8, replace(ONE_WAY, columns={"tp": 1, "cp": 1, "interleave": 1})),
    "experts": (ROUTED, 4, replace(ONE_WAY, columns={"tp": 1, "zero_stage": 1, "interleave": 1})),
}  # fmt: skip


@cache
def everything_of(name: str, memory_gb: float) -> list[Prediction]:
    model, batch, space = CASES[name]
    return brute_force(model, cluster(memory_gb), batch, space)


@pytest.mark.parametrize("memory_gb", [80.0, 4.2], ids=["much memory", "little memory"])
@pytest.mark.parametrize("name", CASES)
def test_no_plan_of_all_is_better_than_the_planner_s(name: str, memory_gb: float) -> None:
    model, batch, space = CASES[name]
    group, everything = cluster(memory_gb), everything_of(name, memory_gb)
    assert len(everything) > 20
    for objective in ("time", "cost", "energy"):
        answer = plan_best(model, group, batch, objective=objective, space=space, price=PRICE)
        best = min(value(found, objective, group) for found in everything)
        assert answer.proven
        assert answer.best.value == pytest.approx(value(answer.best.prediction, objective, group), rel=1e-12)
        assert answer.best.value == pytest.approx(best, rel=1e-9), objective


def test_the_case_with_little_memory_leaves_plans_out() -> None:
    assert 0 < len(everything_of("sharding", 4.2)) < len(everything_of("sharding", 80.0))


@pytest.mark.parametrize("against", ["chips", "cost", "memory"])
def test_the_front_is_that_of_all_plans(against: str) -> None:
    space = Space(full=True, shares=(1.0,), orders=(ORDER,), columns={"pp": 1, "microbatch": 1, "cp": 1}, schedules=("1f1b",))
    group = cluster()
    everything = brute_force(SMALL, group, 4, space)

    def second(found: Prediction) -> float:
        if against == "chips":
            return found.chips
        return found.memory_total_bytes if against == "memory" else value(found, "cost", group)

    points = {(found.step_time_s, second(found)) for found in everything}
    expected = sorted(p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points))
    answer = plan_best(SMALL, group, 4, space=space, price=PRICE, against=against)  # type: ignore[arg-type]
    shown = [(one.prediction.step_time_s, second(one.prediction)) for one in answer.front]
    # Times that differ in their last digits may stand for one another.
    distinct = [expected[0]]
    for point in expected[1:]:
        if not np.allclose(point[0], distinct[-1][0], rtol=1e-9):
            distinct.append(point)
    assert np.allclose(np.array(shown)[:, 0], np.array(distinct)[:, 0], rtol=1e-9)
    assert len(shown) == len(distinct)
