"""Data for collectives: every order of summation gives the same exact sum in every dtype."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.collectives.exact import EXACT_INTEGERS_UP_TO, exact_share, exact_sum
from chipassay.collectives.pattern import patterns

torch = pytest.importorskip("torch")
TORCH = {"fp64": torch.float64, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(TORCH)), st.integers(1, 40), st.integers(0, 1000), st.randoms())
def test_any_order_and_grouping_of_the_ranks_gives_the_exact_sum(dtype, ranks, seed, source):
    elements = 37
    parts = [torch.from_numpy(exact_share(r, ranks, elements, dtype, seed)).to(TORCH[dtype]) for r in range(ranks)]
    while len(parts) > 1:
        # Any binary tree over any order, rounding to the dtype after each addition, as a ring or a tree would.
        a, b = parts.pop(source.randrange(len(parts))), parts.pop(source.randrange(len(parts)))
        parts.append(a + b)
    assert torch.equal(parts[0], torch.from_numpy(exact_sum(elements, dtype, seed)).to(TORCH[dtype]))


@pytest.mark.parametrize("dtype", sorted(TORCH))
def test_every_share_and_sum_is_held_exactly_by_the_dtype(dtype):
    for values in (exact_sum(500, dtype, 3), exact_share(1, 3, 500, dtype, 3)):
        assert (torch.from_numpy(values).to(TORCH[dtype]).double().numpy() == values).all()
        assert values.max() <= EXACT_INTEGERS_UP_TO[dtype]
        assert values.min() >= 0


def test_a_missing_doubled_or_shifted_contribution_shows():
    shares = [exact_share(r, 4, 1000, "fp32", 5) for r in range(4)]
    expected = exact_sum(1000, "fp32", 5)
    assert (sum(shares) == expected).all()
    assert (sum(shares[1:]) != expected).any()
    assert (sum(shares) + shares[0] != expected).any()
    assert (np.roll(shares[0], 1) + sum(shares[1:]) != expected).any()


def test_all_reduce_moves_twice_the_message_less_one_part_per_rank():
    # nccl-tests, doc/PERFORMANCE.md: 2 (n - 1) / n.
    all_reduce = patterns()["all_reduce"]
    assert [all_reduce.bus_factor(n) for n in (2, 4, 8)] == [1.0, 1.5, 1.75]
