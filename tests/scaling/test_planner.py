"""The planner: what must hold of its answers whatever the figures, its sentences, and how it stops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chipassay.scaling.planner.planner as planning
import chipassay.scaling.planner.weigh as weighing
from chipassay.results.errors import InputError, UnknownName
from chipassay.results.prices import given_price
from chipassay.results.profile import Quantity
from chipassay.scaling.cluster import Group
from chipassay.scaling.errors import IllegalPlan, MissingCell, NoPlanFits
from chipassay.scaling.legal import check_plan
from chipassay.scaling.models import load_model
from chipassay.scaling.plan import ORDER, Plan
from chipassay.scaling.planner.answer import NoPlanReaches, PlanAnswer, ways
from chipassay.scaling.planner.bound import Compute, least_played
from chipassay.scaling.planner.front import Front, least_of_both
from chipassay.scaling.planner.objective import OBJECTIVES
from chipassay.scaling.planner.planner import default_batch, plan_best
from chipassay.scaling.planner.space import ORDERS, Space, arrangements, base_plans, counts, space_of
from chipassay.scaling.planner.why import WORDS, why_not_best
from chipassay.scaling.plans import Plans
from chipassay.scaling.predict import predict_ready
from chipassay.scaling.ready import ready
from chipassay.scaling.step import KINDS, step

from .toy_models import DENSE, MODELS, ROUTED
from .toys import MEASURED, toy_fabric, toy_group, with_profile

PRICE = given_price("toy", 2.0)
FAST = Space(schedules=("1f1b",), orders=(ORDER,), shares=(1.0,))


def cluster(chips: int = 16, *, nic: float = 1e10, busbw: float = 1e11, memory_gb: float = 20.0) -> Group:
    group = toy_group(chips, fabric=toy_fabric(nics=8, nic=nic, latency_s=5e-6), busbw=busbw, latency_s=5e-6)
    return with_profile(group, memory_bytes=Quantity(memory_gb * 1e9, MEASURED), power_w=Quantity(400.0, MEASURED))


def planned(group: Group, batch: int | None = 64, **asked: Any) -> PlanAnswer:
    return plan_best(DENSE, group, batch, **{"space": FAST, "price": PRICE, **asked})


def test_more_chips_never_make_the_best_plan_slower() -> None:
    speeds = [planned(cluster(chips)).best.prediction.tokens_per_s for chips in (1, 2, 4, 8, 16, 24, 32, 40, 48)]
    assert speeds == sorted(speeds)
    assert speeds[-1] > 10 * speeds[0]


def test_chips_that_no_plan_can_use_are_left_out() -> None:
    answer = planned(cluster(40), batch=64)  # 40 chips divide neither the batch nor the heads
    assert answer.best.prediction.chips == 32
    assert answer.chips_available == 40


@pytest.mark.parametrize("changed", [{"busbw": 1e10}, {"nic": 1e9}], ids=["in the node", "between nodes"])
def test_a_slower_link_makes_no_plan_faster(changed: dict[str, Any]) -> None:
    space = Space(shares=(1.0,))
    fast, slow = planned(cluster(), space=space), planned(cluster(**changed), space=space)
    assert slow.best.value >= fast.best.value
    for one in slow.candidates:
        plan = one.prediction.plan
        group = cluster().with_count(plan.chips)
        assert predict_ready(DENSE, plan, ready(group), group).step_time_s <= one.prediction.step_time_s * (1 + 1e-12)


def test_by_cost_no_plan_costs_more_than_the_fastest() -> None:
    by_time, by_cost = planned(cluster(64)), planned(cluster(64), objective="cost")
    assert by_cost.best.usd_per_token is not None
    assert by_time.best.usd_per_token is not None
    assert by_cost.best.usd_per_token < by_time.best.usd_per_token
    assert by_cost.best.prediction.chips < by_time.best.prediction.chips
    assert by_time.best.usd_per_token == pytest.approx(2.0 / 3600 * 64 / by_time.best.prediction.tokens_per_s)


def test_by_chips_the_fewest_reach_the_rate_and_one_step_fewer_do_not() -> None:
    rate = 0.3 * planned(cluster(64)).best.prediction.tokens_per_s
    answer = planned(cluster(64), objective="chips", tokens_per_s=rate)
    fewest = answer.best.prediction.chips
    assert all(one.prediction.tokens_per_s >= rate for one in answer.candidates)
    assert {one.prediction.chips for one in answer.candidates} == {fewest}
    fewer = max(chips for chips in counts(DENSE, cluster(64), 64, FAST) if chips < fewest)
    assert planned(cluster(fewer)).best.prediction.tokens_per_s < rate


def test_a_rate_that_none_reaches_is_answered_with_the_fastest() -> None:
    with pytest.raises(NoPlanReaches, match=r"reaches 1e\+09 tokens/s; the fastest, on 16 chips, makes") as caught:
        planned(cluster(), tokens_per_s=1e9)
    assert caught.value.tokens_per_s == pytest.approx(planned(cluster()).best.prediction.tokens_per_s)


def test_a_rate_holds_for_the_other_objectives_too() -> None:
    rate = 0.8 * planned(cluster(64)).best.prediction.tokens_per_s
    answer = planned(cluster(64), objective="cost", tokens_per_s=rate)
    assert answer.best.prediction.tokens_per_s >= rate
    assert answer.best.value >= planned(cluster(64), objective="cost").best.value


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_plan_is_legal_fits_and_comes_in_order(objective: str) -> None:
    group = cluster()
    answer = planned(group, objective=objective, tokens_per_s=1.0 if objective == "chips" else None, top=10, space=Space())
    assert 1 < len(answer.candidates) <= 10
    for one in answer.candidates:
        check_plan(one.prediction.plan, DENSE, one.prediction.chips)
        assert one.prediction.fits
        assert one.prediction.chips <= 16
    values = [one.value for one in answer.candidates]
    assert values == sorted(values)
    assert len({one.prediction.plan for one in answer.candidates}) == len(values)


@settings(derandomize=True, max_examples=15, deadline=None)
@given(
    name=st.sampled_from(sorted(MODELS)),
    chips=st.sampled_from([4, 8, 16, 32]),
    schedule=st.sampled_from(["1f1b", "zero-bubble", "dualpipe"]),
    kind=st.sampled_from(["none", "operators", "full"]),
)
def test_no_step_is_shorter_than_its_compute(name: str, chips: int, schedule: Any, kind: Any) -> None:
    model, group = MODELS[name], cluster(chips)
    machine = ready(group)
    space = Space(settings=Plan(global_batch=32, dtype=machine.dtype), schedules=(schedule,), columns={})
    plans = base_plans(model, group, chips, 32, space, schedule)
    plans = replace(plans, recompute=np.full(len(plans), {"none": 0, "operators": 2, "full": 3}[kind]))
    least = Compute.of(model, plans, machine).least_step_s(plans)
    assert np.all(least <= step(model, plans, machine, group).step_time_s * (1 + 1e-12))
    assert np.all(least > 0)
    for index in range(0, len(plans), 1 + len(plans) // 40):
        played = predict_ready(model, plans.plan(index), machine, group).step_time_s
        assert least[index] <= played * (1 + 1e-12), plans.plan(index).describe()


@pytest.mark.parametrize("schedule", ["1f1b", "zero-bubble", "dualpipe"])
def test_no_pipeline_played_through_is_shorter_than_it_may_be(schedule: Any) -> None:
    model, group = load_model("llama2-13b"), toy_group(64, fabric=toy_fabric(latency_s=5e-6), memory_bytes=1e12)
    machine = ready(group)
    plans = base_plans(model, group, 64, 128, Space(settings=Plan(global_batch=128, dtype=machine.dtype), schedules=(schedule,)), schedule)
    plans = plans.take(plans.pp > 1)
    for index in range(0, len(plans), 1 + len(plans) // 40):
        one = plans.take(np.array([index]))
        closed = step(model, one, machine, group)
        least_s = float((closed.step_time_s * least_played(one, closed.parts_s, model.layers))[0])
        assert least_s <= predict_ready(model, one.plan(0), machine, group).step_time_s * (1 + 1e-12), one.plan(0).describe()
        assert least_s > 0.8 * closed.step_time_s[0] or schedule == "dualpipe"


def test_a_plan_has_each_order_of_ranks_once() -> None:
    plans = Plans.of([Plan(global_batch=64, tp=2, dp=4, pp=4, zero_stage=1), Plan(global_batch=64, tp=4, cp=2, dp=2, pp=2, zero_stage=1)])
    found = [(arranged.settings.order, which.tolist()) for arranged, which in arrangements(plans, Space(), 8)]
    assert [order for order, _ in found] == list(ORDERS)
    assert [sum(which[index] for _, which in found) for index in (0, 1)] == [2, 6]
    inside = [which.tolist() for _, which in arrangements(plans, Space(), 32)]
    assert inside == [[True, True], *[[False, False]] * 5]  # in one node all orders are one


def test_fixed_fields_hold_of_all_plans() -> None:
    space = space_of("tp=2, zero=1, schedule=zero-bubble, optimizer=adam-8bit, order=tp-cp-ep-pp-dp")
    for one in planned(cluster(), space=space).candidates:
        plan = one.prediction.plan
        assert (plan.tp, plan.zero_stage, plan.schedule, plan.optimizer) == (2, 1, "zero-bubble", "adam-8bit")
        assert plan.order == "tp-cp-ep-pp-dp"


def test_fixed_recomputation_holds_too() -> None:
    answer = planned(cluster(), space=space_of("recompute=full,recompute_share=0.5,dp=16"))
    assert {(one.prediction.plan.recompute, one.prediction.plan.recompute_share) for one in answer.candidates} == {("full", 0.5)}


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        ("tp=3", "has tp 3; the nearest that some have is (2|4)"),
        ("dp=16,tp=16", "together; fix fewer fields"),
        ("tpp=2", "did you mean"),
        ("recompute=ful", "not one of none"),
        ("schedule=1f1b,optimizer=adam-8bit,offload=all", "use adam or adam-bf16"),
    ],
)
def test_a_field_that_no_plan_can_have_is_answered_with_what_could(fixed: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        planned(cluster(), space=space_of(fixed))


def test_a_batch_that_nothing_divides_is_told_with_the_nearest() -> None:
    space = space_of("dp=13")
    with pytest.raises(IllegalPlan, match="dp 13"):
        planned(cluster(), space=space)


def test_what_fits_nowhere_says_what_it_would_need() -> None:
    with pytest.raises(NoPlanFits, match=r"the leanest of \d{3,} plans .* needs .* GB per chip of 0\.5 GB") as caught:
        planned(cluster(memory_gb=0.5))
    assert caught.value.needed_bytes is not None
    assert caught.value.needed_bytes > 0.5e9


def test_what_an_objective_needs_is_asked_for() -> None:
    with pytest.raises(MissingCell, match="no quote of toy is known"):
        planned(cluster(), objective="cost", price=None)
    with pytest.raises(MissingCell, match="rated power is unknown"):
        planned(with_profile(cluster(), power_w=None), objective="energy")
    with pytest.raises(UnknownName, match="did you mean time"):
        planned(cluster(), objective="tims")


def test_an_interrupt_leaves_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    real = base_plans
    done: list[int] = []

    def interrupted_later(*arguments: Any) -> Plans:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments)

    monkeypatch.setattr(weighing, "base_plans", interrupted_later)
    answer = planned(cluster(), space=Space())
    assert answer.interrupted
    assert not answer.proven
    assert answer.best.prediction.fits


def test_an_interrupt_before_anything_is_found_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> Plans:
        raise KeyboardInterrupt

    monkeypatch.setattr(weighing, "base_plans", interrupted)
    with pytest.raises(KeyboardInterrupt):
        planned(cluster())


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plan_best(ROUTED, cluster(), 64, space=Space(shares=(1.0,)), against="memory")
    monkeypatch.setattr(weighing, "SLICE", 610)
    monkeypatch.setattr(weighing, "CHUNK", 170)
    cut = plan_best(ROUTED, cluster(), 64, space=Space(shares=(1.0,)), against="memory")
    assert cut.best.value == pytest.approx(whole.best.value, rel=1e-12)
    assert [one.value for one in cut.front] == pytest.approx([one.value for one in whole.front], rel=1e-12)


@given(points=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40), cut=st.integers(0, 40))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_a_front_is_the_same_however_it_is_shown(points: list[tuple[int, int]], cut: int) -> None:
    first, second = (np.array(values, float) for values in zip(*points, strict=True))
    expected = sorted({p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)})
    kept = least_of_both(first, second)
    assert sorted({points[index] for index in kept}) == expected
    assert len(kept) == len(expected)
    front = Front()
    plans = Plans.of([Plan(global_batch=index + 1) for index in range(len(points))])
    for part in (slice(0, cut), slice(cut, None)):
        front.add(first[part], second[part], plans.take(part))
    assert list(zip(front.first.tolist(), front.second.tolist(), strict=True)) == [(float(a), float(b)) for a, b in expected]
    assert all(points[plan.global_batch - 1] == (a, b) for plan, a, b in zip(front.plans, front.first, front.second, strict=True))


def test_why_a_plan_lost_names_the_largest_differences_first() -> None:
    group = cluster(8)
    best = predict_ready(DENSE, Plan(global_batch=64, dp=8, zero_stage=1), ready(group), group)
    parts = dict(best.breakdown_s)
    more = {
        **parts,
        "pipeline_bubble": parts["pipeline_bubble"] + 1.4,
        "tensor_parallel": 0.9,
        "data_parallel": parts["data_parallel"] - 0.02,
    }
    other = replace(best, breakdown_s=more, step_time_s=sum(more.values()))
    said = why_not_best(best, other, "time", other.step_time_s / best.step_time_s)
    assert said.endswith("% slower: 1.4 s more bubble, 900 ms more tensor-parallel traffic")
    assert why_not_best(best, replace(best, memory_total_bytes=best.memory_total_bytes - 3.1e9), "time", 1.0) == (
        "as good, with 3.1 GB less memory per chip"
    )


def test_why_counts_chip_seconds_where_the_chips_differ() -> None:
    """Twice the chips, and each part of the step half as long but for 1 % of the step more bubble: 2 % more chip-seconds of it."""
    group = cluster(8)
    best = predict_ready(DENSE, Plan(global_batch=64, dp=8, zero_stage=1), ready(group), group)
    parts = {kind: seconds / 2 for kind, seconds in best.breakdown_s.items()}
    parts["pipeline_bubble"] += 0.01 * best.step_time_s
    other = replace(best, breakdown_s=parts, step_time_s=sum(parts.values()), chips=16)
    assert why_not_best(best, other, "cost", 1.02) == "2.0 % dearer, on 16 chips in place of 8: 2.0 % more bubble"


def test_every_part_of_a_step_has_words() -> None:
    assert set(WORDS) == set(KINDS)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_interrupt_while_pipelines_are_played_leaves_those_that_were(objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = planning.predict_ready, []

    def interrupted_later(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(planning, "predict_ready", interrupted_later)
    answer = planned(cluster(), objective=objective, tokens_per_s=1.0 if objective == "chips" else None)
    assert answer.interrupted
    assert not answer.proven
    assert 1 <= len(answer.candidates) <= 2


def test_an_interrupt_in_the_front_leaves_the_best_plans_and_the_front_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    played, calls = planning._candidate, []
    alone = len(planned(cluster(), top=1).candidates)
    assert alone == 1

    def interrupted_later(weighing: Any, plan: Plan) -> Any:
        if calls and calls[0] == "front":
            calls.append(plan)
            if len(calls) == 3:
                raise KeyboardInterrupt
        return played(weighing, plan)

    front = planning._front_played

    def in_front(weighing: Any) -> Any:
        calls.append("front")
        return front(weighing)

    monkeypatch.setattr(planning, "_candidate", interrupted_later)
    monkeypatch.setattr(planning, "_front_played", in_front)
    answer = planned(cluster(), against="memory")
    assert answer.interrupted
    assert answer.best.prediction.fits
    assert len(answer.front) == 1


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_plan_leaves_the_memory_free_that_is_asked_for(objective: str) -> None:
    rate = 1.0 if objective == "chips" else None
    least = {}
    for spare in (0.0, 0.05, 0.3):
        answer = planned(cluster(memory_gb=5.0), objective=objective, tokens_per_s=rate, space=replace(FAST, spare=spare))
        assert all(one.prediction.memory_total_bytes <= (1 - spare) * 5e9 for one in answer.candidates)
        assert answer.spare == spare
        least[spare] = answer.best.value if objective != "chips" else answer.best.prediction.chips
    assert least[0.0] <= least[0.05] <= least[0.3]
    assert least[0.0] < least[0.3] or objective == "chips"


def test_what_fits_only_without_anything_to_spare_says_so() -> None:
    tight = planned(cluster(), space=replace(FAST, spare=0.0), batch=16, objective="time")
    needed = min(one.prediction.memory_total_bytes for one in tight.candidates)
    fixed = replace(space_of("dp=16,zero=1,recompute=none,mbs=1,cp=1"), spare=0.0)
    only = planned(cluster(), space=fixed, batch=16).best.prediction
    assert needed <= only.memory_total_bytes
    group = cluster(memory_gb=only.memory_total_bytes / 0.98e9)
    with pytest.raises(NoPlanFits, match=r"only with less than 5\.0% of the memory to spare"):
        planned(group, space=replace(fixed, spare=0.05), batch=16)


def test_the_batch_does_not_follow_from_how_many_chips_there_are_where_these_are_looked_for() -> None:
    batches = {objective: {default_batch(DENSE, cluster(chips), objective) for chips in (8, 4096, 65536)} for objective in OBJECTIVES}
    assert all(len(batches[objective]) == 1 for objective in ("chips", "cost", "energy"))
    assert max(batches["time"]) == 65536
    few, many = (planned(cluster(chips), batch=None, objective="chips", tokens_per_s=1e4).best.prediction for chips in (64, 4096))
    assert few.plan == many.plan


def test_a_field_like_none_is_answered_with_all_that_can_be_fixed() -> None:
    with pytest.raises(InputError) as caught:
        space_of("foo=3")
    named = str(caught.value).partition("these can be fixed: ")[2].split(", ")
    assert {"tp", "zero", "vpp", "schedule", "optimizer"} <= set(named)
    assert "global_batch" not in named
    for name in named:
        with pytest.raises(InputError, match="(?i)" + f"plan field|{name}"):  # each is known: it is its value that is refused
            space_of(f"{name}=?")


def test_interleaved_stages_that_do_not_divide_the_layers_are_tried() -> None:
    """Llama 3 405B ran 126 layers on 16 stages."""
    plans = base_plans(load_model("llama3-405b"), toy_group(2048), 2048, 1024, Space(schedules=("1f1b",)), "1f1b")
    uneven = plans.take((plans.pp == 16) & (plans.interleave > 1))
    assert set(uneven.interleave.tolist()) == {2, 4, 8}


def test_the_simplest_of_the_plans_that_are_as_good_is_named() -> None:
    answer = planned(cluster(), space=Space(), top=20)
    simple = answer.candidates[answer.simplest]
    assert simple.value <= 1.012 * answer.best.value
    assert ways(simple.prediction.plan) <= ways(answer.best.prediction.plan)


def test_a_rate_that_is_made_only_in_the_middle_of_the_interval_is_told() -> None:
    fastest = planned(cluster()).best.prediction
    slow = fastest.tokens_per_s * fastest.step_time_s / fastest.high_s
    (note,) = planned(cluster(), tokens_per_s=1.01 * slow).notes
    assert note.startswith("at the slow end of its interval the first makes ")
    assert planned(cluster(), tokens_per_s=0.99 * slow).notes == ()
