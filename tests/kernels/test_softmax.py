"""Softmax and cross-entropy: what they count, and that their checks pass right results of other origin and fail wrong ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chipassay.kernels.arrays_numpy import NumpyArrays
from chipassay.kernels.cross_entropy import CrossEntropyCase
from chipassay.kernels.memory import checking
from chipassay.kernels.softmax import SoftmaxCase

ARRAYS = NumpyArrays()


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "BLOCK_ELEMENTS", 1000)


def test_bytes_are_what_a_pass_must_move() -> None:
    sizes: dict[str, Any] = {"rows": 10, "width": 100, "dtype": "bf16"}
    assert SoftmaxCase(**sizes).bytes == 2 * 2 * 1000
    assert CrossEntropyCase(**sizes).bytes == 2 * 1000 + 10 * (8 + 4)  # logits, targets in int64, losses in fp32
    assert CrossEntropyCase(**sizes, direction="backward").bytes == 2 * 2 * 1000 + 10 * 8


@pytest.mark.parametrize("case", [SoftmaxCase, CrossEntropyCase])
def test_impossible_cases_are_refused(case: Any) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        case(rows=3, width=0, dtype="fp32")
    with pytest.raises(ValueError, match="'forward' or 'backward'"):
        CrossEntropyCase(rows=3, width=3, dtype="fp32", direction="up")


def log_softmax(x: np.ndarray) -> np.ndarray:
    """By NumPy's own logaddexp, in float64."""
    wide = x.astype(np.float64)
    return wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (2, 50), (7, 3000)])
def test_a_right_softmax_passes_and_one_wrong_element_fails(dtype: str, rows: int, width: int) -> None:
    case = SoftmaxCase(rows=rows, width=width, dtype=dtype)
    inputs = case.make_inputs(ARRAYS, seed=2)
    right = np.exp(log_softmax(inputs[0])).astype(inputs[0].dtype)
    assert case.check(ARRAYS, inputs, right, seed=0).passed
    for value in (np.nan, np.inf, 2 * right[-1, -1] + 1e-3):
        wrong = right.copy()
        wrong[-1, -1] = value
        assert not case.check(ARRAYS, inputs, wrong, seed=0).passed


def test_a_softmax_that_does_not_take_off_the_maximum_overflows_and_fails() -> None:
    case = SoftmaxCase(rows=1, width=200, dtype="fp32")
    inputs = case.make_inputs(ARRAYS, seed=2)
    with np.errstate(over="ignore", invalid="ignore"):
        powers = np.exp(inputs[0])
        assert not case.check(ARRAYS, inputs, powers / powers.sum(axis=1, keepdims=True), seed=0).passed


def test_a_softmax_over_columns_or_without_its_last_element_fails() -> None:
    case = SoftmaxCase(rows=50, width=50, dtype="fp32")
    inputs = case.make_inputs(ARRAYS, seed=2)
    columns = np.exp(log_softmax(inputs[0].T)).T.astype(np.float32)
    assert not case.check(ARRAYS, inputs, columns, seed=0).passed
    short = np.zeros_like(inputs[0])
    short[:, :-1] = np.exp(log_softmax(inputs[0][:, :-1]))
    assert not case.check(ARRAYS, inputs, short, seed=0).passed


def test_a_softmax_in_a_narrower_dtype_fails() -> None:
    case = SoftmaxCase(rows=5, width=200, dtype="fp32")
    inputs = case.make_inputs(ARRAYS, seed=2)
    assert not case.check(ARRAYS, inputs, np.exp(log_softmax(inputs[0])).astype(np.float16).astype(np.float32), seed=0).passed


def losses(x: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return -np.take_along_axis(log_softmax(x), targets[:, None], axis=1)[:, 0]


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_loss_is_that_of_its_target_and_of_every_logit(dtype: str) -> None:
    case = CrossEntropyCase(rows=40, width=900, dtype=dtype)
    inputs = x, targets = case.make_inputs(ARRAYS, seed=2)
    right = losses(x, targets).astype(np.float32)
    assert case.check(ARRAYS, inputs, right, seed=0).passed
    assert not case.check(ARRAYS, inputs, losses(x, (targets + 1) % 900).astype(np.float32), seed=0).passed
    assert not case.check(ARRAYS, inputs, losses(x[:, :-1], targets % 899).astype(np.float32), seed=0).passed
    assert not case.check(ARRAYS, inputs, right.astype(np.float16).astype(np.float32), seed=0).passed
    with np.errstate(over="ignore"):
        unshifted = np.log(np.exp(x.astype(np.float32)).sum(1)) - x[np.arange(40), targets]
    assert not case.check(ARRAYS, inputs, unshifted.astype(np.float32), seed=0).passed
    right[39] = case.make_output(ARRAYS)[39]
    assert not case.check(ARRAYS, inputs, right, seed=0).passed


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_the_gradient_of_the_logits_is_softmax_less_one_at_the_target(dtype: str) -> None:
    case = CrossEntropyCase(rows=40, width=900, direction="backward", dtype=dtype)
    inputs = x, targets = case.make_inputs(ARRAYS, seed=2)
    shares = np.exp(log_softmax(x))
    index = np.arange(40)

    def less_one(targets: np.ndarray, rows: np.ndarray = index) -> np.ndarray:
        made = shares.copy()
        made[rows, targets] -= 1
        return made.astype(x.dtype)

    right = less_one(targets)
    assert case.check(ARRAYS, inputs, right, seed=0).passed
    assert not case.check(ARRAYS, inputs, shares.astype(x.dtype), seed=0).passed
    assert not case.check(ARRAYS, inputs, less_one((targets + 1) % 900), seed=0).passed
    assert not case.check(ARRAYS, inputs, less_one(targets[:-1], index[:-1]), seed=0).passed
    assert not case.check(ARRAYS, inputs, (right / 40).astype(x.dtype), seed=0).passed
    right[39, 899] = case.make_output(ARRAYS)[39, 899]
    assert not case.check(ARRAYS, inputs, right, seed=0).passed


def test_the_gradient_is_the_derivative_of_the_summed_losses() -> None:
    case = CrossEntropyCase(rows=3, width=20, direction="backward", dtype="fp64")
    _, targets = inputs = case.make_inputs(ARRAYS, seed=2)
    step = 1e-5
    numeric = np.zeros_like(inputs[0])
    for i, j in np.ndindex(3, 20):
        for sign in (1, -1):
            moved = inputs[0].copy()
            moved[i, j] += sign * step
            numeric[i, j] += sign * losses(moved, targets).sum() / (2 * step)
    exact = np.exp(log_softmax(inputs[0]))
    exact[np.arange(3), targets] -= 1
    assert case.check(ARRAYS, inputs, exact, seed=0).passed
    assert numeric == pytest.approx(exact, abs=1e-8)
