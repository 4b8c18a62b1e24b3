"""What the checks of attention compare where not everything is affordable, and that they stay within their budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.kernels.arrays_numpy import NumpyArrays
from chipassay.kernels.attention import AttentionCase, DecodeCase, check, exact_gradients, sampling

from .attention_reference import output

ARRAYS = NumpyArrays()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(length=st.integers(1, 5000), wanted=st.integers(0, 500), seed=st.integers(0, 100))
def test_no_stretch_of_rows_longer_than_two_runs_goes_unseen(length: int, wanted: int, seed: int) -> None:
    rows = sampling.rows_to_compare(length, wanted, np.random.default_rng(seed))
    run = -(-length // max(wanted, sampling.FEWEST_ROWS))
    assert rows[0] == 0
    assert rows[-1] == length - 1
    assert np.diff(rows, prepend=-1).max() <= 2 * run


@settings(max_examples=100, deadline=None, derandomize=True)
@given(groups=st.integers(1, 500), wanted=st.floats(0, 600), seed=st.integers(0, 100))
def test_groups_are_distinct_ascending_and_as_many_as_wanted(groups: int, wanted: float, seed: int) -> None:
    chosen = sampling.groups_to_compare(groups, wanted, np.random.default_rng(seed))
    assert len(chosen) == min(groups, max(1, int(wanted)))
    assert (np.diff(chosen) > 0).all()
    assert 0 <= chosen[0] <= chosen[-1] < groups
    covered = np.concatenate([np.arange(part.start, part.stop) for part in sampling.runs(chosen, 7)])
    assert (covered == chosen).all()


def test_a_wrong_tile_fails_wherever_it_lies_though_only_some_rows_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    case = AttentionCase(batch=1, heads=1, kv_heads=1, seq_q=1000, seq_kv=100, head_dim=8, dtype="fp32")
    inputs = case.make_inputs(ARRAYS, 0)
    right: np.ndarray = output(case, inputs).astype(np.float32)
    monkeypatch.setattr(sampling, "HOST", sampling.Effort(pairs=50 * 100, block=2**12))  # 50 rows: runs of 20
    assert case.check(ARRAYS, inputs, right, 0).passed
    for start in range(0, 960, 31):
        wrong = right.copy()
        wrong[0, 0, start : start + 40] *= 0.5  # plausible: no larger than a value
        assert not case.check(ARRAYS, inputs, wrong, 0).passed


def test_an_unwritten_element_fails_in_a_head_of_which_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    case = DecodeCase(batch=8, heads=4, kv_heads=4, seq_kv=50, head_dim=8, dtype="fp32")
    inputs = case.make_inputs(ARRAYS, 0)
    right: np.ndarray = output(case, inputs).astype(np.float32)
    monkeypatch.setattr(sampling, "HOST", sampling.Effort(pairs=100, block=2**12))
    assert case.check(ARRAYS, inputs, right, 0).passed
    for b in range(8):
        wrong = right.copy()
        wrong[b, 2, 0, 3] = np.nan
        assert not case.check(ARRAYS, inputs, wrong, 0).passed


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    "shape",
    [
        {"batch": 2, "heads": 8, "kv_heads": 2, "seq_q": 300, "seq_kv": 300, "causal": True},
        {"batch": 40, "heads": 4, "kv_heads": 4, "seq_q": 60, "seq_kv": 60},
        {"batch": 1, "heads": 2, "kv_heads": 1, "seq_q": 1000, "seq_kv": 1000, "causal": True, "window": 50},
    ],
)
def test_the_work_is_bounded_whatever_the_case(shape: dict[str, Any], direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = sampling.Effort(pairs=40_000, block=2**12)
    computed = []
    real = check.weights_of

    def counting(*args: Any) -> Any:
        found = real(*args)
        computed.append(found.weights.size)
        return found

    monkeypatch.setattr(sampling, "HOST", budget)
    monkeypatch.setattr(check, "weights_of", counting)
    monkeypatch.setattr(exact_gradients, "weights_of", counting)
    case = AttentionCase(**shape, head_dim=8, dtype="fp32", direction=direction)
    made = case.make_output(ARRAYS)
    case.check(ARRAYS, case.make_inputs(ARRAYS, 0), made, 0)
    # Whole heads, rows of the others, and rows before the keys that are compared each take the budget, or are stretched. A block
    # computes all keys that any of its rows sees.
    assert sum(computed) <= 3 * (1 + sampling.STRETCH) * budget.pairs
