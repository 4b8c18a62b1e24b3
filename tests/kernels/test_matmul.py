"""The matmul case: what it counts and what its check lets through."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from chipassay.kernels.arrays_numpy import NumpyArrays
from chipassay.kernels.matmul import MatmulCase, check
from chipassay.kernels.matmul.check import GROUP

ARRAYS = NumpyArrays()


@pytest.fixture(autouse=True, params=["whole", "sampled"])
def _by_both_tests_of_the_check(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products are compared whole, large ones by samples and signed sums: all that follows holds for both, over many blocks."""
    monkeypatch.setattr(check, "WHOLE_FLOPS", 0.0 if request.param == "sampled" else 2.0**40)
    monkeypatch.setattr(check, "BLOCK_ELEMENTS", 60_000)


def test_flops_are_two_for_each_term() -> None:
    assert MatmulCase(m=4096, n=4096, k=4096, dtype="bf16").flops == 137_438_953_472


@pytest.mark.parametrize(
    ("dtype", "bytes_"), [("fp64", 8 * 26), ("fp32", 4 * 26), ("tf32", 4 * 26), ("fp16", 2 * 26), ("bf16", 2 * 26), ("int8", 20 + 4 * 6)]
)
def test_bytes_count_each_operand_once_and_an_int8_product_as_int32(dtype: str, bytes_: int) -> None:
    assert MatmulCase(m=2, n=3, k=4, dtype=dtype).bytes == bytes_


def test_fp32_says_that_it_is_ieee_and_no_other_dtype_can() -> None:
    assert MatmulCase(m=1, n=1, k=1, dtype="fp32").columns()["math_mode"] == "ieee"
    assert "math_mode" not in MatmulCase(m=1, n=1, k=1, dtype="bf16").columns()
    with pytest.raises(ValueError, match="write dtype='tf32'"):
        MatmulCase(m=1, n=1, k=1, dtype="fp32", math_mode="tf32")


def test_impossible_shapes_and_layouts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        MatmulCase(m=0, n=1, k=1, dtype="fp32")
    with pytest.raises(ValueError, match="use one of nn, nt, tn"):
        MatmulCase(m=1, n=1, k=1, dtype="fp32", layout="tt")


@pytest.mark.parametrize("layout", ["nn", "nt", "tn"])
def test_operands_have_the_shape_of_the_product_in_every_layout(layout: str) -> None:
    case = MatmulCase(m=2, n=3, k=4, dtype="fp32", layout=layout)
    inputs = case.make_inputs(ARRAYS, seed=0)
    a, b = case.operands(inputs)
    assert (a.shape, b.shape) == ((2, 4), (4, 3))
    assert all(stored.flags["C_CONTIGUOUS"] for stored in inputs)
    assert [stored.shape for stored in inputs] == [(4, 2) if layout == "tn" else (2, 4), (3, 4) if layout == "nt" else (4, 3)]


def right(case: MatmulCase, seed: int = 3) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Inputs, and the product rounded once."""
    inputs = case.make_inputs(ARRAYS, seed)
    a, b = (ARRAYS.float64(x) for x in case.operands(inputs))
    return inputs, (a @ b).astype(case.make_output(ARRAYS).dtype)


SHAPE = {"m": 300, "n": 2 * GROUP + 77, "k": 200}
DTYPES = ("fp64", "fp32", "fp16", "int8")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_right_product_passes(dtype: str) -> None:
    case = MatmulCase(dtype=dtype, **SHAPE)
    inputs, output = right(case)
    assert case.check(ARRAYS, inputs, output, seed=0).passed


@pytest.mark.parametrize(("dtype", "place"), list(itertools.product(DTYPES, [(0, 0), (150, 301), (299, 588)])))
def test_one_unwritten_element_fails(dtype: str, place: tuple[int, int]) -> None:
    case = MatmulCase(dtype=dtype, **SHAPE)
    inputs, output = right(case)
    output[place] = case.make_output(ARRAYS)[place]
    assert not case.check(ARRAYS, inputs, output, seed=0).passed


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_unwritten_output_fails(dtype: str) -> None:
    case = MatmulCase(dtype=dtype, **SHAPE)
    inputs, _ = right(case)
    assert not case.check(ARRAYS, inputs, case.make_output(ARRAYS), seed=0).passed


@pytest.mark.parametrize(("dtype", "seed"), list(itertools.product(DTYPES, range(5))))
def test_one_element_with_another_ones_value_fails(dtype: str, seed: int) -> None:
    case = MatmulCase(dtype=dtype, **SHAPE)
    inputs, output = right(case)
    row = 20 + 50 * seed
    column = int(np.argmax(output[row] != output[row, 0]))
    output[row, column] = output[row, 0] if abs(output[row, 0] - output[row, column]) > 8 else output[row, column] + 8
    assert not case.check(ARRAYS, inputs, output, seed=seed).passed


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_tile_from_another_place_fails(dtype: str) -> None:
    case = MatmulCase(dtype=dtype, **SHAPE)
    inputs, output = right(case)
    output[64:80, 64:80] = output[128:144, 128:144].copy()
    assert not case.check(ARRAYS, inputs, output, seed=0).passed


@pytest.mark.parametrize(("dtype", "value"), list(itertools.product(("fp64", "fp32", "fp16"), (np.nan, np.inf, -np.inf))))
def test_nan_and_infinity_fail(dtype: str, value: float) -> None:
    case = MatmulCase(dtype=dtype, **SHAPE)
    inputs, output = right(case)
    output[123, 321] = value
    assert not case.check(ARRAYS, inputs, output, seed=0).passed


@pytest.mark.parametrize(("dtype", "operand"), list(itertools.product(DTYPES, (0, 1))))
def test_a_transposed_operand_fails(dtype: str, operand: int) -> None:
    case = MatmulCase(m=96, n=96, k=96, dtype=dtype)
    inputs = case.make_inputs(ARRAYS, seed=1)
    wrong = [ARRAYS.float64(x) for x in inputs]
    wrong[operand] = wrong[operand].T
    output = (wrong[0] @ wrong[1]).astype(case.make_output(ARRAYS).dtype)
    assert not case.check(ARRAYS, inputs, output, seed=0).passed


def cut(values: np.ndarray, mantissa_bits: int) -> np.ndarray:
    """float32 values rounded to fewer mantissa bits (to nearest, ties away), kept as float32."""
    dropped = 23 - mantissa_bits
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << (dropped - 1))) & np.uint32(0xFFFFFFFF ^ ((1 << dropped) - 1))).view(np.float32)


@pytest.mark.parametrize(("k", "layout"), list(itertools.product((1, 7, 64, 1000, 16384), ("nn", "nt"))))
def test_tf32_passed_off_as_fp32_fails(k: int, layout: str) -> None:
    case = MatmulCase(m=40, n=60, k=k, dtype="fp32", layout=layout)
    inputs = case.make_inputs(ARRAYS, seed=k)
    a, b = (cut(x, 10).astype(np.float64) for x in case.operands(inputs))
    assert not case.check(ARRAYS, inputs, (a @ b).astype(np.float32), seed=0).passed
    a, b = case.operands(inputs)
    assert case.check(ARRAYS, inputs, a @ b, seed=0).passed


def test_fp32_passed_off_as_fp64_fails() -> None:
    case = MatmulCase(m=40, n=60, k=100, dtype="fp64")
    inputs = case.make_inputs(ARRAYS, seed=0)
    a, b = (x.astype(np.float32) for x in inputs)
    assert not case.check(ARRAYS, inputs, (a @ b).astype(np.float64), seed=0).passed


@pytest.mark.parametrize(("dtype", "mantissa_bits", "k"), [("bf16", 7, 64), ("bf16", 7, 1024), ("fp16", 10, 256), ("fp16", 10, 2048)])
def test_sums_kept_in_the_narrow_dtype_fail(dtype: str, mantissa_bits: int, k: int) -> None:
    torch = pytest.importorskip("torch", reason="NumPy has no bf16: needs torch")
    from chipassay.kernels.arrays_torch import TorchArrays

    arrays = TorchArrays("cpu")
    case = MatmulCase(m=30, n=50, k=k, dtype=dtype)
    inputs = case.make_inputs(arrays, seed=0)
    a, b = (x.float().numpy() for x in inputs)
    narrow = np.zeros((case.m, case.n), dtype=np.float32)
    for i in range(k):
        narrow = cut(narrow + np.outer(a[:, i], b[i]), mantissa_bits)
    output = torch.from_numpy(narrow).to(arrays.dtype(dtype))
    assert not case.check(arrays, inputs, output, seed=0).passed
    rounded_once = torch.from_numpy(a @ b).to(arrays.dtype(dtype))
    assert case.check(arrays, inputs, rounded_once, seed=0).passed


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "tf32"])
def test_sums_that_truncate_as_tensor_cores_do_pass(dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="NumPy has no bf16: needs torch")
    from chipassay.kernels.arrays_torch import TorchArrays

    arrays = TorchArrays("cpu")
    case = MatmulCase(m=30, n=50, k=8192, dtype=dtype)
    inputs = case.make_inputs(arrays, seed=0)
    a, b = (x.double().numpy() for x in inputs)
    total = np.zeros((case.m, case.n))
    for start in range(0, case.k, 8):  # m16n8k8: eight products an instruction, the sum cut to 24 bits towards zero
        exact = total + a[:, start : start + 8] @ b[start : start + 8]
        unit = 2.0 ** (np.floor(np.log2(np.abs(exact))) - 23)
        total = np.trunc(exact / unit) * unit
    output = torch.from_numpy(total).to(arrays.dtype(case.output_dtype))
    assert case.check(arrays, inputs, output, seed=0).passed


def test_an_int8_product_must_be_exact() -> None:
    case = MatmulCase(dtype="int8", **SHAPE)
    inputs, output = right(case)
    assert case.check(ARRAYS, inputs, output, seed=0).error == 0
    output[17, 400] += 1
    assert case.check(ARRAYS, inputs, output, seed=0).error >= 1
