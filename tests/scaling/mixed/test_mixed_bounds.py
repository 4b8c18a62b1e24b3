"""What pools are screened by is no more than what the exact cuts of their layers take, and not far from it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from chipassay.scaling.cluster import Cluster
from chipassay.scaling.mixed.candidates import Limits, pools_of
from chipassay.scaling.mixed.choices import ideal_rate
from chipassay.scaling.mixed.enumerate import together_s
from chipassay.scaling.mixed.kinds import kinds_of, labels
from chipassay.scaling.mixed.pools import Solver
from chipassay.scaling.mixed.screen import least_turn_s
from chipassay.scaling.mixed.splits import Split, Taker, batch_shares
from chipassay.scaling.mixed.tables import Tables
from chipassay.scaling.plan import Plan

from ..toy_models import DENSE
from ..toys import toy_fabric, toy_group

MODEL = replace(DENSE, name="small", layers=6, hidden=512, heads=8, kv_heads=8, ffn_hidden=1024, vocab=65536, seq_len=512)
BATCH = 12


def chips(count, *, name="toy", nic=20e9, **more):
    fabric = toy_fabric(nics=4, nic=nic, latency_s=1e-6)
    return toy_group(count, chip_id=name, per_node=4, fabric=fabric, **{"memory_bytes": 80e9, **more})


def tables_of(*groups, model=MODEL):
    settings = Plan(global_batch=BATCH, zero_stage=1, sequence_parallel=True, host="graph")
    return Tables(model, kinds_of(Cluster(groups))[0], settings)


@pytest.mark.parametrize("order", [(0,), (0, 1), (1, 0), (0, 1, 2)])
def test_no_cut_of_a_pool_is_faster_than_its_bounds(order):
    tables = tables_of(
        chips(3, name="a", memory_bytes=2.3e9), chips(4, name="b", rate=4e13, memory_bytes=3e9), chips(2, name="c", rate=2e13)
    )
    solver, shard = Solver(tables, BATCH), sum(kind.count for kind in tables.kinds)
    near = []
    for size in (1, 3):
        rows, _ = pools_of(tables, order, size, BATCH, every=True)
        for row in range(0, len(rows or ()), max(1, len(rows or ()) // 150)):
            cuts = solver.cuts(rows.pool(row), shard)
            if cuts:  # others do not fit, or only as far as the screen knows
                assert rows.slowest_s[row] <= min(cut.slowest_s for cut in cuts) * (1 + 1e-9)
                assert rows.sum_s[row] <= min(cut.sum_s for cut in cuts) * (1 + 1e-9)
                near.append(rows.slowest_s[row] / min(cut.slowest_s for cut in cuts))
    assert len(near) > 10
    assert np.median(near) > 0.85


def test_screening_drops_no_pool_that_may_beat_the_limit_unless_there_are_too_many():
    tables = tables_of(chips(4, name="a"), chips(4, name="b", rate=4e13))
    rates = tuple(ideal_rate(tables, kind) for kind in (0, 1))
    every, _ = pools_of(tables, (0, 1), 1, BATCH, every=False)
    some, _ = pools_of(tables, (0, 1), 1, BATCH, False, Limits(float("inf"), rates))
    none, _ = pools_of(tables, (0, 1), 1, BATCH, False, Limits(0.0, rates))
    assert len(some) == len(every)
    assert none is None


def test_the_least_turn_counts_what_does_not_fit_elsewhere():
    """Eight layers on a fast stage that has room for two and a slow one: six of them stay with the slow one, whatever the speeds."""
    column = [np.array([value]) for value in (1.0, 2.0)]
    stages, nothing, wide = [np.array([1.0])] * 2, [np.array([0.0])] * 2, [np.array([8.0])] * 2
    assert least_turn_s(stages, column, nothing, wide, 8)[0] == pytest.approx(8 / 1.5)
    assert least_turn_s(stages, column, nothing, [np.array([2.0]), np.array([8.0])], 8)[0] == pytest.approx(12.0)


def test_pools_together_take_no_less_than_the_bound_in_whole_microbatches():
    times = itertools.product((1.0, 1.7), (2.0, 5.3), (1, 3), (1, 2), (5, 12, 40))
    for fast, slow, replicas, size, sequences in times:
        takers = [Taker(replicas, size, (Split(fast, 2 * fast, (1,)),)), Taker(1, 1, (Split(slow, slow, (1,)),))]
        parts = [tuple(np.array([one]) for one in (t.replicas * t.microbatch, t.splits[0].slowest_s, t.splits[0].sum_s)) for t in takers]
        exact = batch_shares(takers, sequences)
        if exact is not None:
            assert together_s(sequences, parts)[0] <= exact[0] * (1 + 1e-9)


def test_groups_of_one_chip_are_named_apart():
    far, near = toy_fabric(nics=1), replace(toy_fabric(), name="near")
    one = toy_group(8, per_node=8, fabric=far)
    groups = [one, toy_group(8, per_node=8, fabric=near), toy_group(8, per_node=4, fabric=near), toy_group(8, chip_id="other")]
    assert labels(groups) == ("toy@toy", "toy@near in nodes of 8", "toy@near in nodes of 4", "other")
    assert labels([one, one]) == ("toy@toy in nodes of 8 no. 1", "toy@toy in nodes of 8 no. 2")
