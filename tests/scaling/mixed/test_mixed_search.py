"""The search against every plan there is on small clusters, and against what it must keep to whatever the numbers are."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from chipassay.scaling.cluster import Cluster, parse_cluster
from chipassay.scaling.errors import NoPlanFits
from chipassay.scaling.machine import prepare
from chipassay.scaling.mixed.evaluate import cost
from chipassay.scaling.mixed.even import fits
from chipassay.scaling.mixed.kinds import kinds_of
from chipassay.scaling.mixed.pools import Solver
from chipassay.scaling.mixed.records import MixedPipeline, MixedPlan, MixedPrediction, MixedStage
from chipassay.scaling.mixed.search import plan_mixed
from chipassay.scaling.mixed.tables import Tables
from chipassay.scaling.plan import Plan
from chipassay.scaling.search import search

from ..toy_models import DENSE
from ..toys import toy_fabric, toy_group

SMALL = replace(DENSE, name="small", layers=4, hidden=512, heads=8, kv_heads=8, ffn_hidden=1024, vocab=4096, seq_len=512)
SHARED = Plan(global_batch=1, sequence_parallel=True, host="graph")


def cluster_of(*groups):
    return Cluster(tuple(groups))


def chips(count, *, rate=1e14, memory_bytes=80e9, name="toy", **more):
    more.setdefault("fabric", toy_fabric(nics=4, nic=20e9, latency_s=1e-6))
    return toy_group(count, rate=rate, memory_bytes=memory_bytes, chip_id=name, per_node=4, **more)


def cuts(layers, stages):
    for cut in itertools.product(range(layers + 1), repeat=stages):
        if sum(cut) == layers and all(cut[1:-1]) and (stages > 1 or cut[0]):
            yield cut


def every_pipeline(counts, microbatch):
    """Stages on one kind, or through both kinds in either order: each kind one TP degree and at most its chips."""
    for kinds in ((0,), (1,), (0, 1), (1, 0)):
        blocks = [[(kind, tp, n) for tp in (1, 2) for n in range(1, counts[kind] // tp + 1)] for kind in kinds]
        for chosen in itertools.product(*blocks):
            stages = [(kind, tp) for kind, tp, n in chosen for _ in range(n)]
            for cut in cuts(SMALL.layers, len(stages)):
                yield tuple(MixedStage(kind, tp, n) for (kind, tp), n in zip(stages, cut, strict=True))


def every_plan(tables, counts, batch, most_pipelines=2):
    """All plans of one or two pipelines without recomputation, with any share of the batch."""
    pipelines = [(stages, size) for size in (1, 2) if size <= batch for stages in every_pipeline(counts, size)]
    for many in range(1, most_pipelines + 1):
        for chosen in itertools.combinations_with_replacement(pipelines, many):
            used = [sum(stage.tp for stages, _ in chosen for stage in stages if stage.kind == kind) for kind in (0, 1)]
            if any(one > count for one, count in zip(used, counts, strict=True)):
                continue
            for shares in itertools.product(range(1, batch + 1), repeat=many):
                if sum(share * size for share, (_, size) in zip(shares, chosen, strict=True)) == batch:
                    made = (MixedPipeline(stages, size, share) for share, (stages, size) in zip(shares, chosen, strict=True))
                    yield MixedPlan(tuple(made), tables.settings)


@pytest.mark.parametrize(
    ("fast", "slow", "counts", "batch"),
    [
        ({}, {"rate": 4e13}, (1, 1), 3),
        ({}, {"rate": 2e13, "memory_bytes": 1.56e9}, (1, 1), 4),
        ({"memory_bytes": 1.62e9}, {"rate": 5e13}, (1, 2), 3),
        ({"fabric": toy_fabric(nics=1, nic=1e8)}, {"rate": 6e13}, (2, 1), 4),
    ],
    ids=["two speeds", "little memory on the slow", "little memory on the fast", "a slow network"],
)
def test_no_plan_is_faster_than_the_one_found(fast, slow, counts, batch):
    cluster = cluster_of(chips(counts[0], name="fast", **fast), chips(counts[1], name="slow", **slow))
    answer = plan_mixed(SMALL, cluster, batch, settings=SHARED, every=True)
    kinds, _ = kinds_of(cluster)
    tables = Tables(SMALL, kinds, replace(SHARED, global_batch=batch, zero_stage=1))
    costed = [(plan, cost(tables, plan)) for plan in every_plan(tables, counts, batch)]
    best = min(one.step_time_s for plan, one in costed if fits(tables, plan, one))
    found = [answer.best, answer.all_kinds, *answer.without]
    common = [o.prediction.common_cost_s for o in found if o is not None and isinstance(o.prediction, MixedPrediction)]
    alone = [o.prediction.step_time_s for o in found if o is not None and not isinstance(o.prediction, MixedPrediction)]
    # What plans of one kind alone reach by further means (sharded weights, recomputation) may be faster still.
    assert min([*common, *alone]) <= best * (1 + 1e-9)
    assert answer.bound_s <= best * (1 + 1e-9)


@st.composite
def clusters(draw):
    """Two or three kinds, a few chips of each."""
    return [
        chips(
            draw(st.integers(1, 3)),
            rate=draw(st.sampled_from((1e13, 4e13, 1e14))),
            memory_bytes=draw(st.sampled_from((1.7e9, 2.5e9, 80e9))),
            fabric=toy_fabric(nics=4, nic=draw(st.sampled_from((1e8, 2e10)))),
            name=name,
        )
        for name in ("one", "other", "third")[: draw(st.integers(2, 3))]
    ]


SEARCHES = settings(derandomize=True, deadline=None, max_examples=3, suppress_health_check=[HealthCheck.too_slow])


def best_of(groups, batch=12):
    """The best plan of a cluster; None: nothing fits."""
    try:
        return plan_mixed(SMALL, cluster_of(*groups), batch, settings=SHARED).best
    except NoPlanFits:
        return None


@SEARCHES
@given(clusters(), st.randoms(use_true_random=False))
def test_the_order_of_the_kinds_changes_nothing(groups, random):
    there = best_of(groups)
    random.shuffle(groups)
    back = best_of(groups)
    assert (there is None and back is None) or (there.step_time_s, there.text) == (back.step_time_s, back.text)


@SEARCHES
@given(clusters())
def test_no_part_of_the_cluster_is_faster_alone(groups):
    assume(best_of(groups) is not None)
    answer = plan_mixed(SMALL, cluster_of(*groups), 12, settings=SHARED)
    for group in groups:
        if 12 % group.count == 0 and group.profile.memory_bytes.value > 2e9:
            alone = search(SMALL, group, prepare(group.profile), 12, settings=replace(SHARED, global_batch=12, sequence_parallel=False))
            assert answer.best.step_time_s <= alone.best.step_time_s * (1 + 1e-9)
    assert all(answer.best.step_time_s <= option.step_time_s for option in answer.without)
    assert answer.even_split is None or answer.best.step_time_s <= answer.even_split.step_time_s * (1 + 1e-9)


@SEARCHES
@given(clusters(), st.integers(0, 1), st.sampled_from((8, 12, 17)))
def test_one_chip_more_never_makes_the_best_plan_slower(groups, which, batch):
    before = best_of(groups, batch)
    groups[which] = groups[which].with_count(groups[which].count + 1)
    after = best_of(groups, batch)
    assert before is None or after.step_time_s <= before.step_time_s * (1 + 1e-9)


def test_of_every_plan_one_chip_more_never_makes_the_best_slower():
    """By the common cost, for which the search of every plan is exact: all plans of fewer chips are among those of more."""
    spans = [{"memory_bytes": 2.5e9}, {"rate": 4e13}]
    costs = []
    for counts in ((1, 1), (2, 1), (2, 2)):
        groups = [chips(count, name=name, **span) for count, name, span in zip(counts, "ab", spans, strict=True)]
        answer = plan_mixed(SMALL, cluster_of(*groups), 3, settings=SHARED, every=True)
        costs.append(answer.bound_s)
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("useless", [{"rate": 1e9}, {"memory_bytes": 1e6}], ids=["no speed", "no memory"])
def test_a_useless_chip_is_left_out(useless):
    answer = plan_mixed(SMALL, cluster_of(chips(4, name="good"), chips(4, name="useless", **useless)), 12, settings=SHARED)
    assert answer.best.kinds == ("good",)
    assert any("leave out useless" in note for note in answer.notes)


@pytest.mark.parametrize("calls", [0, 1, 30])
def test_an_interrupted_search_tells_the_best_so_far_or_goes_on_to_the_caller(monkeypatch, calls):
    real, made = Solver.plan, []

    def interrupted_later(*arguments):
        made.append(1)
        if len(made) == calls + 1:
            raise KeyboardInterrupt
        return real(*arguments)

    question = (SMALL, cluster_of(chips(4, name="fast"), chips(4, name="slow", rate=5e13)), 12)
    monkeypatch.setattr(Solver, "plan", interrupted_later)
    answer = plan_mixed(*question, settings=SHARED, best_so_far=True)
    assert answer.interrupted
    assert answer.advice == ""
    assert answer.tried >= answer.solved
    assert any("interrupted" in note for note in answer.notes)
    assert answer.best.step_time_s == min(option.step_time_s for option in [answer.best, *answer.without])
    made.clear()
    with pytest.raises(KeyboardInterrupt):
        plan_mixed(*question, settings=SHARED)
    monkeypatch.undo()
    assert answer.bound_s <= plan_mixed(*question, settings=SHARED).best.prediction.common_cost_s


def test_interrupted_before_anything_is_known_of_the_rest_no_bound_and_no_advice_are_told(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("chipassay.scaling.mixed.search.even_split", interrupted)
    answer = plan_mixed(SMALL, cluster_of(chips(4, name="fast"), chips(4, name="slow", rate=5e13)), 12, settings=SHARED, best_so_far=True)
    assert (answer.bound_s, answer.advice, answer.best.kinds) == (0.0, "", ("fast",))


def test_the_progress_of_a_search_is_told():
    told = []
    plan_mixed(SMALL, cluster_of(chips(2, name="one"), chips(2, name="two")), 4, settings=SHARED, report=lambda *args: told.append(args))
    done, totals, _ = zip(*told, strict=True)
    assert list(done) == list(range(len(told)))
    assert set(totals) == {len(told)}


def test_a_slow_network_to_the_older_chips_leaves_them_out():
    slow = chips(4, rate=5e13, name="far", fabric=toy_fabric(nics=1, nic=1e7))
    answer = plan_mixed(SMALL, cluster_of(chips(4, name="near"), slow), 12, settings=SHARED)
    assert answer.best.kinds == ("near",)
    assert answer.all_kinds is None or answer.all_kinds.step_time_s > answer.best.step_time_s


@pytest.mark.parametrize("batch", [64, 256])
def test_identical_chips_by_two_names_do_what_one_kind_does(batch):
    model = replace(DENSE, layers=16)
    groups = [chips(8, name=name, memory_bytes=20e9) for name in ("one", "other")]
    whole = chips(16, memory_bytes=20e9)
    answer = plan_mixed(model, cluster_of(*groups), batch, settings=SHARED)
    alone = search(model, whole, prepare(whole.profile), batch, settings=replace(SHARED, global_batch=batch, sequence_parallel=False))
    assert answer.best.step_time_s == pytest.approx(alone.best.step_time_s, rel=0.02)


def test_groups_of_the_same_chips_are_one_kind():
    answer = plan_mixed(SMALL, cluster_of(chips(2), chips(2)), 12, settings=SHARED)
    whole = plan_mixed(SMALL, cluster_of(chips(4)), 12, settings=SHARED)
    assert answer.best.kinds == ("toy",)
    assert answer.best.step_time_s == whole.best.step_time_s


@pytest.mark.parametrize(("counts", "used"), [((2, 4), 6), ((3, 4), 6)], ids=["in three stages", "on fewer chips"])
def test_there_is_an_even_split_of_numbers_that_divide_badly(counts, used):
    groups = [chips(count, name=name) for count, name in zip(counts, "ab", strict=True)]
    assert sum(plan_mixed(SMALL, cluster_of(*groups), 8, settings=SHARED).even_split.chips) == used


def test_a_good_mix_does_most_of_what_its_parts_do_together():
    """Published claims for good mixes are 0.90 to 0.98 of the summed throughput of the parts (``heterogeneous_runs.csv``)."""
    answer = plan_mixed("gpt3-1.3b", parse_cluster("8xa100-sxm-80gb+8xv100-sxm2-32gb"), 1024)
    assert 0.90 <= answer.best.tokens_per_s / answer.separate_tokens_per_s <= 1.0


def test_chips_without_bf16_are_told():
    answer = plan_mixed("gpt3-1.3b", parse_cluster("8xa100-sxm-80gb+8xv100-sxm2-32gb"), 64)
    assert any("loss scaling" in note for note in answer.notes)
    assert isinstance(answer.all_kinds.prediction, MixedPrediction)
    assert answer.all_kinds.prediction.dtypes == ("bf16", "fp16")


def test_kinds_that_nothing_joins_work_alone():
    answer = plan_mixed("gpt3-1.3b", parse_cluster("4xa100-sxm-80gb@none+4xv100-sxm2-32gb@none"), 64)
    assert answer.best.kinds == ("a100-sxm-80gb",)
    assert answer.all_kinds is None


@pytest.mark.parametrize("counts", [(32, 40), (48, 50)])
def test_numbers_that_divide_badly_are_never_slower_than_fewer_that_divide_well(counts):
    fewer, more = (plan_mixed("gpt3-1.3b", f"{n}xa800-sxm-80gb+{n}xv100-sxm2-32gb", 128).best for n in counts)
    assert more.tokens_per_s >= fewer.tokens_per_s * 0.999


@pytest.mark.parametrize(("rate", "nic", "batch"), [(1e14, 1e8, 7), (2e13, 1e7, 13), (2e13, 1e8, 31)])
def test_a_second_node_behind_a_slow_network_never_makes_the_best_plan_slower(rate, nic, batch):
    """Pipelines with uneven shares of the batch in one node alone are looked at, too: their gradients do not take the network."""
    fabric = toy_fabric(nics=4, nic=nic)
    one, two = (best_of([chips(count, rate=rate, memory_bytes=5e9, fabric=fabric)], batch) for count in (4, 8))
    assert two.step_time_s <= one.step_time_s * (1 + 1e-9)


def test_one_chip_more_where_most_plans_do_not_fit_is_not_slower():
    """Most of the plans that look fast do not fit on these chips; they are not what the number of plans to solve is spent on."""

    def groups(of_the_fast):
        near, far = toy_fabric(nics=4, nic=2e10), toy_fabric(nics=4, nic=1e9)
        yield chips(2, rate=1e13, memory_bytes=1.7e9, fabric=near, name="b")
        yield chips(of_the_fast, rate=4e13, memory_bytes=1.7e9, fabric=near, name="c")
        yield chips(5, rate=1e13, memory_bytes=5e9, fabric=far, name="a")

    fewer, more = (best_of(list(groups(count)), 31) for count in (2, 3))
    assert more.step_time_s < fewer.step_time_s


def test_a_model_with_experts_that_does_not_fit_is_told_what_mixed_plans_do_not_do():
    with pytest.raises(NoPlanFits, match="keeps the experts together"):
        plan_mixed("deepseek-v3", "8xh800-sxm-80gb+8xa800-sxm-80gb", 16)
