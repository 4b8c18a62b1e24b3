"""The array libraries: same seed same values, exact on the host, refilled with the same kind of values."""

from __future__ import annotations

import numpy as np
import pytest

from chipassay.kernels.arrays import Arrays, copy_random_pieces
from chipassay.kernels.arrays_numpy import NUMPY_DTYPES
from chipassay.kernels.arrays_torch import TORCH_DTYPES
from chipassay.kernels.backends import installed, make_arrays

needs_torch = pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
EACH = pytest.mark.parametrize(
    ("backend", "dtype"),
    [("numpy", dtype) for dtype in NUMPY_DTYPES if dtype != "int32"]
    + [pytest.param("torch", dtype, marks=needs_torch) for dtype in TORCH_DTYPES if dtype != "int32"],
)


def values(arrays: Arrays, dtype: str, seed: int) -> np.ndarray:
    return arrays.float64(arrays.normal((50, 40), dtype, seed))


@EACH
def test_the_seed_decides_the_values(backend: str, dtype: str) -> None:
    arrays = make_arrays(backend, "cpu")
    assert np.array_equal(values(arrays, dtype, 1), values(arrays, dtype, 1))
    assert not np.array_equal(values(arrays, dtype, 1), values(arrays, dtype, 2))


def looks_normal(sample: np.ndarray, dtype: str) -> bool:
    """Mean and spread of 2000 values within five standard errors; int8 is uniform over -8..7."""
    mean, spread = (-0.5, 256**0.5 / 12**0.5) if dtype == "int8" else (0.0, 1.0)
    return bool(abs(sample.mean() - mean) < 5 * spread / 2000**0.5 and abs(sample.std() / spread - 1) < 0.1)


@EACH
def test_values_are_normal_and_refilled_ones_too(backend: str, dtype: str) -> None:
    arrays = make_arrays(backend, "cpu")
    array = arrays.normal((50, 40), dtype, 0)
    before = arrays.float64(array).copy()
    assert looks_normal(before, dtype)
    arrays.refill(array)
    once = arrays.float64(array).copy()
    arrays.refill(array)
    twice = arrays.float64(array)
    assert looks_normal(once, dtype)
    assert looks_normal(twice, dtype)
    assert not np.array_equal(before, once)
    assert not np.array_equal(once, twice)


@EACH
def test_unwritten_values_are_none_that_a_kernel_makes(backend: str, dtype: str) -> None:
    arrays = make_arrays(backend, "cpu")
    poison = arrays.float64(arrays.unwritten((3, 4), dtype))
    assert poison.shape == (3, 4)
    assert (poison == -128).all() if dtype == "int8" else np.isnan(poison).all()


@needs_torch
def test_tf32_values_have_ten_mantissa_bits_before_and_after_a_refill() -> None:
    arrays = make_arrays("torch", "cpu")
    tf32, fp32 = arrays.normal((1000,), "tf32", 0), arrays.normal((1000,), "fp32", 0)
    for _ in range(2):
        assert not (tf32.numpy().view(np.uint32) & 0x1FFF).any()
        assert (fp32.numpy().view(np.uint32) & 0x1FFF).any()
        arrays.refill(tf32)
        arrays.refill(fp32)


@pytest.mark.parametrize(("length", "block_length"), [(1, 1), (1, 8), (7, 8), (1000, 8), (1000, 64), (64, 64)])
def test_pieces_of_a_random_block_fill_everything(length: int, block_length: int) -> None:
    flat, block = np.zeros(length), np.arange(1.0, block_length + 1)
    copy_random_pieces(flat, block, np.random.default_rng(0))
    assert (flat > 0).all()


def test_numpy_has_no_bf16_and_says_what_has() -> None:
    assert make_arrays("numpy", "cpu").refuses("bf16") == "NumPy has no bf16; use the torch backend"


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown backend 'jax'; known: torch, triton, cupy, numpy"):
        make_arrays("jax", "cpu")


@pytest.mark.parametrize("backend", ["numpy", pytest.param("torch", marks=needs_torch)])
def test_an_int32_output_is_refilled_with_fresh_values(backend: str) -> None:
    arrays = make_arrays(backend, "cpu")
    array = arrays.unwritten((50, 40), "int32")
    arrays.refill(array)
    once = arrays.float64(array).copy()
    arrays.refill(array)
    assert len(np.unique(once)) > 3
    assert not np.array_equal(once, arrays.float64(array))


@EACH
def test_wide_values_are_the_exact_ones_and_stay_in_the_library(backend: str, dtype: str) -> None:
    arrays = make_arrays(backend, "cpu")
    array = arrays.normal((50, 40), dtype, 1)
    wide = arrays.wide(array)
    assert isinstance(wide, type(array))
    assert np.array_equal(np.asarray(wide), arrays.float64(array))
    assert float(arrays.xp.sum(wide - arrays.from_host(arrays.float64(array)))) == 0.0


@pytest.mark.parametrize("backend", ["numpy", pytest.param("torch", marks=needs_torch)])
def test_integers_fill_their_range(backend: str) -> None:
    arrays = make_arrays(backend, "cpu")
    found = arrays.float64(arrays.integers((1000,), 3, 7, seed=1))
    assert set(found) == {3.0, 4.0, 5.0, 6.0}
    assert np.array_equal(found, arrays.float64(arrays.integers((1000,), 3, 7, seed=1)))
