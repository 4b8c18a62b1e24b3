"""Data for collectives: every order of summation gives the same exact sum in every dtype, and mistakes show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.collectives.exact import EXACT_INTEGERS_UP_TO, exact_message, exact_share, exact_sum

torch = pytest.importorskip("torch")
TORCH = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
    "int8": torch.int8,
}


def added(one, other):
    """In the dtype itself. torch adds no fp8: fp32 holds every fp8 sum, so rounding it is one rounding, as a chip's."""
    if one.element_size() > 1 or one.dtype == torch.int8:
        return one + other
    return (one.float() + other.float()).to(one.dtype)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(TORCH)), st.integers(2, 64), st.integers(0, 1000), st.randoms())
def test_any_order_and_grouping_of_the_ranks_gives_the_exact_sum(dtype, ranks, seed, source):
    elements = 37
    parts = [torch.from_numpy(exact_share(r, ranks, elements, dtype, seed)).to(TORCH[dtype]) for r in range(ranks)]
    while len(parts) > 1:
        # Any binary tree over any order, rounding to the dtype after each addition, as a ring, a tree or a switch would.
        parts.append(added(parts.pop(source.randrange(len(parts))), parts.pop(source.randrange(len(parts)))))
    assert (parts[0].double().numpy() == exact_sum(elements, dtype, seed)).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(TORCH)), st.integers(2, 64), st.integers(0, 1000))
def test_no_subset_of_the_ranks_can_leave_what_the_dtype_holds(dtype, ranks, seed):
    # The largest and the smallest sum of any subset: all positive shares, all negative ones.
    shares = np.array([exact_share(r, ranks, 50, dtype, seed) for r in range(ranks)])
    top = min(EXACT_INTEGERS_UP_TO[dtype], 2**48)
    assert shares.clip(min=0).sum(axis=0).max() <= top
    assert shares.clip(max=0).sum(axis=0).min() >= -top


@pytest.mark.parametrize("dtype", sorted(TORCH))
def test_everything_is_held_exactly_by_the_dtype(dtype):
    for values in (exact_sum(500, dtype, 3), exact_share(1, 3, 500, dtype, 3), exact_message(1, 500, dtype, 3)):
        assert (torch.from_numpy(values).to(TORCH[dtype]).double().numpy() == values).all()
        assert np.abs(values).max() <= EXACT_INTEGERS_UP_TO[dtype]
        assert not np.signbit(values[values == 0]).any(), "one bit pattern for zero"


@pytest.mark.parametrize("dtype", sorted(TORCH))
def test_sums_are_of_both_signs_and_never_zero(dtype):
    sums = exact_sum(1000, dtype, 3)
    assert (sums > 0).sum() > 400
    assert (sums < 0).sum() > 400
    assert (sums != 0).all()


@pytest.mark.parametrize("dtype", sorted(TORCH))
@pytest.mark.parametrize("ranks", [2, 3, 8, 64])
def test_every_rank_adds_and_takes_away_somewhere(dtype, ranks):
    for rank in range(ranks):
        shares = exact_share(rank, ranks, 4000, dtype, 3)
        assert (shares > 0).any()
        assert (shares < 0).any()


MISTAKES = {
    "a missing share": lambda shares: sum(shares[1:]),
    "a share twice": lambda shares: sum(shares) + shares[0],
    "one share for another": lambda shares: sum(shares) + shares[0] - shares[1],
    "a share one element off": lambda shares: np.roll(shares[0], 1) + sum(shares[1:]),
    "a lost sign": lambda shares: abs(shares[0]) + sum(shares[1:]),
    "a turned sign": lambda shares: sum(shares[1:]) - shares[0],
    "the sum without its sign": lambda shares: abs(sum(shares)),
    "nothing added": lambda shares: shares[0],
    "the largest": lambda shares: np.max(shares, axis=0),
    "the mean": lambda shares: sum(shares) / len(shares),
}


@pytest.mark.parametrize("dtype", sorted(TORCH))
@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_a_mistake_in_the_sum_shows(dtype, mistake):
    shares = [exact_share(r, 4, 1000, dtype, 5) for r in range(4)]
    assert (sum(shares) == exact_sum(1000, dtype, 5)).all()
    assert (MISTAKES[mistake](shares) != exact_sum(1000, dtype, 5)).mean() > 0.1


def test_sums_in_a_dtype_too_small_show():
    # fp32 data added up in bf16 or fp16, as a library that cuts corners might.
    for dtype, narrow in (("fp32", torch.bfloat16), ("fp32", torch.float16), ("fp64", torch.float32), ("fp16", torch.bfloat16)):
        parts = [torch.from_numpy(exact_share(r, 4, 1000, dtype, 5)).to(narrow) for r in range(4)]
        assert ((parts[0] + parts[1] + parts[2] + parts[3]).double().numpy() != exact_sum(1000, dtype, 5)).mean() > 0.5


@pytest.mark.parametrize("dtype", sorted(TORCH))
def test_messages_of_different_ranks_differ_in_most_elements(dtype):
    assert (exact_message(0, 1000, dtype, 0) != exact_message(1, 1000, dtype, 0)).mean() > 0.9
