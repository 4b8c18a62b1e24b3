"""Activations, the optimiser's step and the embedding gather: what they count and what their checks let through."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from chipassay.kernels.activation import GeluCase, SwigluCase
from chipassay.kernels.adam import AdamCase
from chipassay.kernels.adam.case import BETA1, BETA2, EPSILON, LEARNING_RATE, STEP, WEIGHT_DECAY
from chipassay.kernels.arrays_numpy import NumpyArrays
from chipassay.kernels.backends import installed, make_arrays, why_not
from chipassay.kernels.gather import GatherCase
from chipassay.kernels.kernel import Target, kernels
from chipassay.kernels.memory import checking

ARRAYS = NumpyArrays()


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "BLOCK_ELEMENTS", 700)


def test_bytes_are_what_a_pass_must_move() -> None:
    assert GeluCase(elements=10, dtype="bf16").bytes == 2 * 2 * 10
    assert SwigluCase(elements=10, dtype="bf16").bytes == 3 * 2 * 10
    assert AdamCase(elements=10, dtype="fp32").bytes == 10 * (4 * 4 + 3 * 4)  # p, g, m, v read, p, m, v written
    assert AdamCase(elements=10, dtype="bf16").bytes == 10 * (2 + 2 + 4 + 4 + 2 + 4 + 4)
    assert GatherCase(rows=10, table_rows=1000, width=7, dtype="fp32").bytes == 10 * (2 * 7 * 4 + 8)


def gelu_by_tanh(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_by_erf(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in x.astype(np.float64)])


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_gelu_is_the_approximation_by_tanh_and_not_erf(dtype: str) -> None:
    case = GeluCase(elements=5000, dtype=dtype)
    inputs = (x,) = case.make_inputs(ARRAYS, seed=0)
    right = gelu_by_tanh(x).astype(x.dtype)
    assert case.check(ARRAYS, inputs, right, seed=0).passed
    assert not case.check(ARRAYS, inputs, gelu_by_erf(x).astype(x.dtype), seed=0).passed
    assert not case.check(ARRAYS, inputs, (x / (1 + np.exp(-1.702 * x))).astype(x.dtype), seed=0).passed
    assert not case.check(ARRAYS, inputs, np.maximum(x, 0), seed=0).passed
    right[4999] = case.make_output(ARRAYS)[4999]
    assert not case.check(ARRAYS, inputs, right, seed=0).passed


def test_a_gelu_by_an_approximate_tanh_fails_in_fp32() -> None:
    """tanh.approx.f32 has a relative error of up to 2^-11 (PTX ISA)."""
    case = GeluCase(elements=5000, dtype="fp32")
    inputs = (x,) = case.make_inputs(ARRAYS, seed=0)
    argument = math.sqrt(2 / math.pi) * (x + 0.044715 * x.astype(np.float64) ** 3)
    rough = 0.5 * x * (1 + np.tanh(argument) * (1 + 2.0**-12))
    assert not case.check(ARRAYS, inputs, rough.astype(np.float32), seed=0).passed


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_swiglu_gates_with_its_first_array(dtype: str) -> None:
    case = SwigluCase(elements=5000, dtype=dtype)
    inputs = a, b = case.make_inputs(ARRAYS, seed=0)

    def silu(x: np.ndarray) -> np.ndarray:
        return x * (0.5 + 0.5 * np.tanh(x.astype(np.float64) / 2))  # the logistic function by tanh

    once, twice = (silu(a) * b).astype(a.dtype), silu(a).astype(a.dtype) * b
    assert case.check(ARRAYS, inputs, once, seed=0).passed
    assert case.check(ARRAYS, inputs, twice, seed=0).passed
    assert not case.check(ARRAYS, inputs, (silu(b) * a).astype(a.dtype), seed=0).passed
    assert not case.check(ARRAYS, inputs, silu(a).astype(a.dtype), seed=0).passed
    once[0] = case.make_output(ARRAYS)[0]
    assert not case.check(ARRAYS, inputs, once, seed=0).passed


def adamw(inputs: tuple[np.ndarray, ...], **changes: Any) -> tuple[np.ndarray, ...]:
    """The published algorithm, word by word, in float64."""
    at = {"lr": LEARNING_RATE, "wd": WEIGHT_DECAY, "b1": BETA1, "b2": BETA2, "eps": EPSILON, "t": STEP, "corrected": True, **changes}
    p, g, m, v = (array.astype(np.float64) for array in inputs)
    m = at["b1"] * m + (1 - at["b1"]) * g
    v = at["b2"] * v + (1 - at["b2"]) * g**2
    m_hat, v_hat = (m / (1 - at["b1"] ** at["t"]), v / (1 - at["b2"] ** at["t"])) if at["corrected"] else (m, v)
    with np.errstate(invalid="ignore"):
        new = p - at["lr"] * m_hat / (np.sqrt(v_hat) + at["eps"]) - at["lr"] * at["wd"] * p
    return tuple(made.astype(kept.dtype) for made, kept in zip((new, m, v), (inputs[0], *inputs[2:]), strict=True))


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_adam_is_one_step_of_adamw(dtype: str) -> None:
    case = AdamCase(elements=5000, dtype=dtype)
    inputs = p, g, m, v = case.make_inputs(ARRAYS, seed=1)
    assert (m.dtype, v.dtype) == (np.float32, np.float32)
    right = adamw(inputs)
    assert case.check(ARRAYS, inputs, right, seed=0).passed
    wrongs: tuple[dict[str, Any], ...] = (
        {"corrected": False}, {"t": STEP + 1}, {"wd": 0.0}, {"wd": 0.2}, {"b1": 0.95}, {"b2": 0.999}, {"lr": 0.11}, {"eps": 0.0},
    )  # fmt: skip
    for wrong in wrongs:
        assert not case.check(ARRAYS, inputs, adamw(inputs, **wrong), seed=0).passed, wrong
    coupled = adamw((p, (g + WEIGHT_DECAY * p).astype(g.dtype), m, v), wd=0.0)  # Adam with L2, not AdamW
    assert not case.check(ARRAYS, inputs, coupled, seed=0).passed
    assert not case.check(ARRAYS, inputs, (p, m, v), seed=0).passed  # no step at all
    second = adamw((right[0], g, right[1], right[2]))
    assert not case.check(ARRAYS, inputs, second, seed=0).passed
    for which in range(3):
        for place in (0, 1, 4999):
            unwritten = [array.copy() for array in right]
            unwritten[which][place] = np.nan
            assert not case.check(ARRAYS, inputs, tuple(unwritten), seed=0).passed


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed, and its kernels ask for its version")
@pytest.mark.parametrize("name", [k.name for k in kernels("adam")])
def test_adam_kernels_stay_in_bounds_over_many_steps(name: str) -> None:
    case = AdamCase(elements=1000, dtype="fp32")
    (kernel,) = (k for k in kernels("adam") if k.name == name)
    reason = why_not(kernel.backend, Target("cpu")) or kernel.refuses(case, Target("cpu"))
    if reason is not None:
        pytest.skip(reason)
    arrays = make_arrays(kernel.backend, "cpu")
    inputs, output = case.make_inputs(arrays, 0), case.make_output(arrays)
    call = kernel.prepare(case, arrays, inputs, output)
    for _ in range(300):
        case.refresh(arrays, output)
        p, m, v = (arrays.float64(array) for array in call())
    gradients = arrays.float64(inputs[1])
    assert m == pytest.approx(gradients, rel=1e-3, abs=1e-5)
    assert v == pytest.approx(gradients**2, rel=1e-3, abs=1e-5)
    # The step settles at lr / (1 - b1^t) sqrt(1 - b2^t) = 0.164, weight decay takes 1 %: the parameters stay below 16.4 and the start.
    assert np.abs(p).max() < 17 + np.abs(arrays.float64(inputs[0])).max()


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16", "int8"])
def test_a_gather_counts_every_element_that_differs(dtype: str) -> None:
    case = GatherCase(rows=50, table_rows=200, width=33, dtype=dtype)
    inputs = table, ids = case.make_inputs(ARRAYS, seed=0)
    right = np.stack([table[i] for i in ids])
    assert case.check(ARRAYS, inputs, right, seed=0).error == 0
    assert not case.check(ARRAYS, inputs, table[(ids + 1) % 200], seed=0).passed
    right[49, 32] = case.make_output(ARRAYS)[49, 32]
    assert case.check(ARRAYS, inputs, right, seed=0).error == 1


def test_a_gather_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="gather of 0 rows from 5 rows of 3 elements: there must be at least 1 of each"):
        GatherCase(rows=0, table_rows=5, width=3, dtype="fp32")
