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
        "zero_stage": range(4), "interleave": (1, 2, 3), "sequence_parallel": (0, 1), "shard": (0, 2), "expert_tp": (0, 1, 2),
    }  # fmt: skip
    chosen = [(space.columns[name],) if name in space.columns else values for name, values in columns.items()]
    repeats = [("none", 1.0), *itertools.product(("selective", "operators", "full"), space.shares)]
    for values in itertools.product(*chosen):
        named = dict(zip(columns, values, strict=True))
        if named["tp"] * named["pp"] * named["cp"] * named["dp"] not in (1, 2, 4) or (named["tp"] == 1 and named["sequence_parallel"]):
            continue
        if named["zero_stage"] and "zero_stage" not in space.columns and named["dp"] * named["cp"] == 1:
            continue  # there is nothing to shard over
        if named["interleave"] > 1 and -(-model.layers // named["pp"]) % named["interleave"]:
            continue  # may run, but parts of a fullest stage that differ in length are no choice of the planner's
        if named["shard"] and (named["tp"] > 1 or not named["zero_stage"] or named["dp"] * named["cp"] <= 2):
            continue  # shards within the node of two: of TP groups one chip, of fewer replicas all
        if named["expert_tp"] and (experts == 1 or named["expert_tp"] >= named["tp"]):
            continue  # the same plan as 0
        for schedule, order, overlap, (kind, share) in itertools.product(space.schedules, space.orders, space.overlap_tp, repeats):
            fields: dict[str, Any] = {**named, "sequence_parallel": bool(named["sequence_parallel"]), "recompute": kind}
            yield Plan(global_batch=batch, schedule=schedule, order=order, overlap_tp=overlap, recompute_share=share, **fields)


def brute_force(model: Transformer, group: Group, batch: int, space: Space) -> list[Prediction]:
    """Every plan that is legal and fits with memory to spare, predicted by itself."""
    machine, found = ready(group), []
    for plan in every_plan(model, batch, space):
        try:
            prediction = predict_ready(model, replace(plan, dtype=machine.dtype), machine, group.with_count(plan.chips))
        except InputError:
            continue
        if prediction.memory_total_bytes <= (1 - space.spare) * prediction.memory_limit_bytes:
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
    "tensors of experts": (
        ROUTED, 4, replace(ONE_WAY, orders=ALL_ORDERS, columns={"microbatch": 1, "zero_stage": 1, "interleave": 1, "recompute": 0}),
    ),
    "stages that do not divide the layers": (
        replace(SMALL, layers=5), 8, replace(ONE_WAY, schedules=SCHEDULES, columns={"zero_stage": 1, "tp": 1, "recompute": 0}),
    ),
    "sequences, stages and replicas in every order": (
        SMALL, 8, replace(ONE_WAY, orders=ALL_ORDERS, columns={"tp": 1, "recompute": 0, "microbatch": 1}),
    ),
    "all dimensions, and memory to spare": (
        SMALL, 8, replace(ONE_WAY, orders=(ORDER,), spare=0.2, columns={"recompute": 0}),
    ),
}  # fmt: skip


@cache
def everything_of(name: str) -> list[Prediction]:
    model, batch, space = CASES[name]
    return brute_force(model, cluster(), batch, space)


def fitting(name: str, memory_gb: float) -> list[Prediction]:
    """Those that fit into a smaller memory too, which changes nothing else of a chip."""
    usable = (1 - CASES[name][2].spare) * memory_gb * 1e9
    return [found for found in everything_of(name) if found.memory_total_bytes <= usable]


@pytest.mark.parametrize("memory_gb", [80.0, 4.2], ids=["much memory", "little memory"])
@pytest.mark.parametrize("name", CASES)
def test_no_plan_of_all_is_better_than_the_planner_s(name: str, memory_gb: float) -> None:
    model, batch, space = CASES[name]
    group, everything = cluster(memory_gb), fitting(name, memory_gb)
    assert len(everything) > 20
    for objective in ("time", "cost", "energy"):
        answer = plan_best(model, group, batch, objective=objective, space=space, price=PRICE)
        best = min(value(found, objective, group) for found in everything)
        assert answer.proven
        assert answer.best.value == pytest.approx(value(answer.best.prediction, objective, group), rel=1e-12)
        assert answer.best.value == pytest.approx(best, rel=1e-9), objective


@pytest.mark.parametrize("name", CASES)
def test_no_plan_of_all_reaches_a_rate_on_fewer_chips_or_faster_on_as_few(name: str) -> None:
    model, batch, space = CASES[name]
    everything = everything_of(name)
    rate = sorted(found.tokens_per_s for found in everything)[2 * len(everything) // 3]
    able = [found for found in everything if found.tokens_per_s >= rate]
    fewest = min(found.chips for found in able)
    fastest = max(found.tokens_per_s for found in able if found.chips == fewest)
    answer = plan_best(model, cluster(), batch, objective="chips", space=space, tokens_per_s=rate)
    assert answer.proven
    assert answer.best.prediction.chips == fewest
    assert answer.best.prediction.tokens_per_s == pytest.approx(fastest, rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_cases_hold_what_they_are_named_for(name: str) -> None:
    """Each dimension that a case is to cover takes more than one value among the plans that run."""
    wanted = {
        "tensors of experts": ("expert_tp", "ep", "tp", "order"),
        "stages that do not divide the layers": ("pp", "interleave", "schedule", "cp"),
        "sequences, stages and replicas in every order": ("cp", "pp", "dp", "order", "interleave", "zero_stage", "shard"),
        "all dimensions, and memory to spare": ("tp", "pp", "cp", "dp", "microbatch", "zero_stage", "shard", "interleave"),
    }.get(name, ("dp",))
    plans = [found.plan for found in everything_of(name)]
    assert all(len({getattr(plan, field) for plan in plans}) > 1 for field in wanted)


def test_the_case_with_little_memory_leaves_plans_out() -> None:
    assert 0 < len(fitting("sharding", 4.2)) < len(everything_of("sharding"))


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
