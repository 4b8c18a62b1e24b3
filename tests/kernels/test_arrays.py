"""The array libraries: same seed same values, exact on the host, refilled with the same kind of values."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from chipassay.kernels import arrays as arrays_module
from chipassay.kernels.arrays import FAST_FLOAT64_FLOPS_PER_S, Arrays, copy_random_pieces, float64_speed
from chipassay.kernels.arrays_numpy import NUMPY_DTYPES
from chipassay.kernels.arrays_torch import TORCH_DTYPES
from chipassay.kernels.backends import installed, make_arrays
from chipassay.results.catalogue import Chip, load_chips

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


def test_growing_pieces_fill_everything_with_few_copies() -> None:
    class Counted(np.ndarray):
        copies = 0

        def __setitem__(self, where: object, values: object) -> None:
            Counted.copies += 1
            super().__setitem__(where, values)  # type: ignore[call-overload]

    block = np.random.default_rng(1).standard_normal(2**6)
    flat = np.zeros(2**15).view(Counted)  # as many times the block as 2 GB of bf16
    copy_random_pieces(flat, block, np.random.default_rng(0), growing=True)
    assert set(np.asarray(flat)) <= set(block)
    assert abs(np.asarray(flat).mean() - block.mean()) < 0.2
    assert Counted.copies < 20


@needs_torch
def test_a_device_without_fp64_has_its_checks_computed_on_the_host() -> None:
    assert make_arrays("torch", "mps").float64_speed == "host"


@pytest.mark.parametrize(("call_s", "speed"), [(1e-9, "fast"), (1e-6, "slow")])  # 8192 FLOPs: 8 TFLOP/s or 8 GFLOP/s
def test_a_product_tells_how_fast_a_chip_is_in_fp64(call_s: float, speed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(arrays_module, "PROBE_SIDE", 16)
    monkeypatch.setattr(arrays_module, "time", SimpleNamespace(perf_counter=lambda: next(ticks) * call_s))
    assert float64_speed(make_arrays("numpy", "cpu")) == speed


@pytest.mark.parametrize("chip", [chip for chip in load_chips().values() if "fp64" in chip.peak_flops_per_s], ids=lambda chip: chip.id)
def test_no_chip_of_the_catalogue_is_in_between(chip: Chip) -> None:
    share = chip.peak_flops_per_s["fp64"] / FAST_FLOAT64_FLOPS_PER_S
    assert share < 0.8 or share > 1.6


@pytest.mark.parametrize("backend", ["numpy", pytest.param("torch", marks=needs_torch)])
def test_on_a_cpu_checks_compute_on_the_host(backend: str) -> None:
    assert make_arrays(backend, "cpu").float64_speed == "host"


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
