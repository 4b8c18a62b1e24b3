"""Read, copy, scale and triad: what they count and what their checks let through."""

from __future__ import annotations

import numpy as np
import pytest

from chipassay.kernels.arrays_numpy import NumpyArrays
from chipassay.kernels.backends import make_arrays
from chipassay.kernels.memory import CopyCase, ReadCase, ScaleCase, TriadCase, checking

ARRAYS = NumpyArrays()


def test_a_copy_moves_two_arrays_and_computes_nothing() -> None:
    case = CopyCase(elements=10, dtype="bf16")
    assert (case.bytes, case.flops, case.limited_by) == (40, 0, "memory")


def test_a_triad_moves_three_arrays_and_computes_twice_an_element() -> None:
    case = TriadCase(elements=10, dtype="fp64")
    assert (case.bytes, case.flops, case.limited_by) == (240, 20, "memory")


def test_no_elements_are_refused() -> None:
    with pytest.raises(ValueError, match="copy of 0 elements: there must be at least 1"):
        CopyCase(elements=0, dtype="fp32")


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16", "int8"])
@pytest.mark.parametrize("place", [0, 511, 999])
def test_a_copy_counts_every_element_that_differs(dtype: str, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "BLOCK_ELEMENTS", 256)  # several blocks and a ragged one
    case = CopyCase(elements=1000, dtype=dtype)
    inputs = case.make_inputs(ARRAYS, seed=0)
    output = inputs[0].copy()
    assert case.check(ARRAYS, inputs, output, seed=0).passed
    output[place] = case.make_output(ARRAYS)[place]
    assert case.check(ARRAYS, inputs, output, seed=0).error == 1
    assert not case.check(ARRAYS, inputs, output, seed=0).passed


def test_a_copy_in_a_narrower_dtype_fails() -> None:
    case = CopyCase(elements=1000, dtype="fp32")
    inputs = case.make_inputs(ARRAYS, seed=0)
    assert not case.check(ARRAYS, inputs, inputs[0].astype(np.float16).astype(np.float32), seed=0).passed


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
def test_a_triad_is_right_fused_or_not_and_wrong_with_one_element_unwritten(dtype: str) -> None:
    case = TriadCase(elements=5000, dtype=dtype)
    inputs = case.make_inputs(ARRAYS, seed=0)
    a, b = inputs
    scalar = a.dtype.type(0.4)
    twice_rounded = a + scalar * b
    once_rounded = (a.astype(np.float64) + 0.4 * b.astype(np.float64)).astype(a.dtype)
    assert case.check(ARRAYS, inputs, twice_rounded, seed=0).passed
    assert case.check(ARRAYS, inputs, once_rounded, seed=0).passed
    once_rounded[4999] = case.make_output(ARRAYS)[4999]
    assert not case.check(ARRAYS, inputs, once_rounded, seed=0).passed


@pytest.mark.parametrize("wrong", ["operands swapped", "scalar 0.41", "narrow", "no product"])
def test_a_wrong_triad_fails(wrong: str) -> None:
    case = TriadCase(elements=1000, dtype="fp32")
    inputs = case.make_inputs(ARRAYS, seed=0)
    a, b = inputs
    outputs = {
        "operands swapped": b + 0.4 * a,
        "scalar 0.41": a + 0.41 * b,
        "narrow": (a + 0.4 * b).astype(np.float16).astype(np.float32),
        "no product": a.copy(),
    }
    assert not case.check(ARRAYS, inputs, outputs[wrong].astype(np.float32), seed=0).passed


def test_a_read_moves_one_array_and_adds_each_element() -> None:
    case = ReadCase(elements=10, dtype="bf16")
    assert (case.bytes, case.flops, case.limited_by) == (20, 10, "memory")


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
def test_a_read_may_add_in_any_order_and_sees_one_element_too_few_or_too_many(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "BLOCK_ELEMENTS", 256)
    case = ReadCase(elements=1000, dtype=dtype)
    inputs = case.make_inputs(ARRAYS, seed=0)
    sums = case.make_output(ARRAYS)
    values = inputs[0].astype(sums.dtype)
    sums[:7] = [values[i::7].sum() for i in range(7)]
    assert case.check(ARRAYS, inputs, sums[:7], seed=0).passed
    assert case.check(ARRAYS, inputs, values[::-1].cumsum()[-1:], seed=0).passed
    assert not case.check(ARRAYS, inputs, sums[:8], seed=0).passed  # the eighth was not written
    assert not case.check(ARRAYS, inputs, sums[:6], seed=0).passed
    for place in (0, 511, 999):
        assert not case.check(ARRAYS, inputs, np.delete(values, place).sum(keepdims=True), seed=0).passed
        assert not case.check(ARRAYS, inputs, np.append(values, values[place]).sum(keepdims=True), seed=0).passed


def test_a_read_that_adds_in_bf16_or_fp16_fails() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    arrays = make_arrays("torch", "cpu")
    for dtype, elements in (("bf16", 100_000), ("fp16", 1_000_001)):
        case = ReadCase(elements=elements, dtype=dtype)
        (a,) = inputs = case.make_inputs(arrays, seed=0)
        narrow = a.cumsum(0, dtype=a.dtype)[-1:]
        assert not case.check(arrays, inputs, narrow, seed=0).passed
        assert case.check(arrays, inputs, a.sum(0, keepdim=True, dtype=torch.float32), seed=0).passed


def test_the_sums_of_a_read_are_exact_in_fp32_up_to_180_gigabytes() -> None:
    case = ReadCase(elements=1 << 16, dtype="fp32")
    values = ARRAYS.wide(case.make_inputs(ARRAYS, seed=0)[0])
    assert set(np.unique(values)) == set(range(-15, 16, 2))
    elements = 180e9 / 2  # of a 16-bit format
    assert 6 * np.std(values) * elements**0.5 < 2**24


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
def test_a_scale_is_right_and_wrong_with_one_element_unwritten(dtype: str) -> None:
    case = ScaleCase(elements=5000, dtype=dtype)
    inputs = case.make_inputs(ARRAYS, seed=0)
    scaled = inputs[0] * inputs[0].dtype.type(0.4)
    assert case.check(ARRAYS, inputs, scaled, seed=0).passed
    scaled[4999] = case.make_output(ARRAYS)[4999]
    assert not case.check(ARRAYS, inputs, scaled, seed=0).passed
    assert not case.check(ARRAYS, inputs, inputs[0] * inputs[0].dtype.type(0.41), seed=0).passed


def test_a_scale_in_a_narrower_dtype_fails() -> None:
    case = ScaleCase(elements=1000, dtype="fp32")
    inputs = case.make_inputs(ARRAYS, seed=0)
    assert not case.check(ARRAYS, inputs, (inputs[0] * np.float32(0.4)).astype(np.float16).astype(np.float32), seed=0).passed
