"""The splits of layers and of a batch against every possible one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.scaling.mixed.splits import Split, Taker, batch_shares, layer_splits

SECONDS = st.integers(1, 9).map(float)


@st.composite
def stages(draw):
    """Convex curves of a few stages, some of which run out of memory."""
    layers = draw(st.integers(2, 6))
    count = draw(st.integers(1, min(3, layers)))
    curves = []
    for _ in range(count):
        steps = sorted(draw(st.lists(SECONDS, min_size=layers, max_size=layers)))
        curve = np.cumsum([draw(SECONDS), *steps])
        curve[1 + draw(st.integers(1, layers)) :] = np.inf
        curves.append(curve)
    return np.array(curves), layers


def every_cut(curves, layers):
    """All (slowest, sum, layers) with a layer or more on each stage."""
    for cut in itertools.product(range(1, layers + 1), repeat=len(curves)):
        times = [curve[n] for curve, n in zip(curves, cut, strict=True)]
        if sum(cut) == layers and np.all(np.isfinite(times)):
            yield max(times), sum(times), cut


@settings(derandomize=True, deadline=None, max_examples=150)
@given(stages(), st.integers(1, 20))
def test_no_cut_of_the_layers_is_faster(pipeline, microbatches):
    curves, layers = pipeline
    every = [(microbatches - 1) * slowest + total for slowest, total, _ in every_cut(curves, layers)]
    found = layer_splits(curves, layers)
    assert bool(found) == bool(every)
    if every:
        assert min(split.time_s(microbatches) for split in found) == pytest.approx(min(every))
        for split in found:
            assert (split.slowest_s, split.sum_s, split.layers) in list(every_cut(curves, layers))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(stages(), st.integers(1, 20))
def test_cuts_for_many_microbatches_alone_lose_nothing_there(pipeline, microbatches):
    curves, layers = pipeline
    every, some = layer_splits(curves, layers), layer_splits(curves, layers, least_microbatches=microbatches)
    if every:
        assert min(s.time_s(microbatches) for s in some) == min(s.time_s(microbatches) for s in every)


def test_layers_that_do_not_fit_have_no_cut():
    assert layer_splits(np.array([[0.0, 1.0, np.inf], [0.0, np.inf, np.inf]]), 2) == ()


@st.composite
def takers(draw):
    found = []
    for _ in range(draw(st.integers(1, 3))):
        slowest = draw(SECONDS)
        splits = [Split(slowest, slowest + draw(SECONDS), (1,))]
        if draw(st.booleans()):
            splits.append(Split(slowest + 2, splits[0].sum_s - 0.5, (1,)))
        found.append(Taker(draw(st.integers(1, 2)), draw(st.sampled_from((1, 2, 3, 4))), tuple(splits)))
    return found


@settings(derandomize=True, deadline=None, max_examples=150)
@given(takers(), st.integers(1, 24))
def test_no_share_of_the_batch_is_faster(some, sequences):
    replicas = [taker for taker in some for _ in range(taker.replicas)]
    counts = [range(1, sequences // taker.microbatch + 1) for taker in replicas]
    every = [
        max(taker.time_s(count) for taker, count in zip(replicas, share, strict=True))
        for share in itertools.product(*counts)
        if sum(taker.microbatch * count for taker, count in zip(replicas, share, strict=True)) == sequences
    ]
    found = batch_shares(some, sequences)
    assert (found is None) == (not every)
    if found is not None:
        time_s, shares = found
        assert time_s == pytest.approx(min(every))
        assert sum(share.replicas * share.microbatches * some[share.taker].microbatch for share in shares) == sequences
        assert [sum(s.replicas for s in shares if s.taker == i) for i in range(len(some))] == [taker.replicas for taker in some]
