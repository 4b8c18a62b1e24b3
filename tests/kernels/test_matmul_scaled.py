"""fp8 products: what their scales mean, which sums pass for exact enough, and what is seen as wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="NumPy has no fp8: needs torch")

from chipassay.kernels.arrays_torch import TorchArrays
from chipassay.kernels.matmul import MatmulCase, check

ARRAYS = TorchArrays("cpu")
SHAPE = {"m": 70, "n": 300, "k": 96}
SCALINGS = ("per_tensor", "row_wise")
DTYPES = ("fp8_e4m3", "fp8_e5m2")


@pytest.fixture(autouse=True, params=["whole", "sampled"])
def _by_both_tests_of_the_check(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "WHOLE_FLOPS", 0.0 if request.param == "sampled" else 2.0**40)
    monkeypatch.setattr(check, "BLOCK_ELEMENTS", 60_000)


def made(case: MatmulCase, seed: int = 3) -> tuple[tuple[Any, ...], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The inputs, and A, B and their scales in float64 on the host."""
    inputs = case.make_inputs(ARRAYS, seed)
    scales = case.scales(inputs)
    assert scales is not None
    a, b, scale_a, scale_b = (ARRAYS.float64(x) for x in (*case.operands(inputs), *scales))
    return inputs, a, b, scale_a, scale_b


def passes(case: MatmulCase, inputs: tuple[Any, ...], output: np.ndarray) -> bool:
    return case.check(ARRAYS, inputs, ARRAYS.torch.from_numpy(output).bfloat16(), seed=0).passed


def test_scales_are_named_in_the_row_and_only_fp8_has_them() -> None:
    assert MatmulCase(dtype="fp8_e4m3", **SHAPE).columns()["scaling"] == "per_tensor"
    assert "scaling" not in MatmulCase(dtype="bf16", **SHAPE).columns()
    with pytest.raises(ValueError, match="only fp8 has scales"):
        MatmulCase(dtype="bf16", scaling="per_tensor", **SHAPE)
    with pytest.raises(ValueError, match="use one of per_tensor, row_wise"):
        MatmulCase(dtype="fp8_e4m3", scaling="blocks", **SHAPE)


def test_fast_accumulation_is_named_in_the_row_and_only_fp8_has_it() -> None:
    assert MatmulCase(dtype="fp8_e4m3", math_mode="fast_accum", **SHAPE).columns()["math_mode"] == "fast_accum"
    for dtype in ("bf16", "fp64"):
        with pytest.raises(ValueError, match="only fp8 has it"):
            MatmulCase(dtype=dtype, math_mode="fast_accum", **SHAPE)
    with pytest.raises(ValueError, match="use 'fast_accum' or leave it out"):
        MatmulCase(dtype="fp8_e4m3", math_mode="quick", **SHAPE)


def test_bytes_count_one_byte_an_input_two_an_output_and_four_a_scale() -> None:
    products = 70 * 96 + 96 * 300 + 2 * 70 * 300
    assert MatmulCase(dtype="fp8_e4m3", **SHAPE).bytes == products + 4 * 2
    assert MatmulCase(dtype="fp8_e5m2", scaling="row_wise", **SHAPE).bytes == products + 4 * (70 + 300)


def test_e5m2_is_a_gradient_times_a_weight_in_e4m3() -> None:
    case = MatmulCase(dtype="fp8_e5m2", **SHAPE)
    a, b = case.operands(case.make_inputs(ARRAYS, 0))
    assert (str(a.dtype), str(b.dtype)) == ("torch.float8_e5m2", "torch.float8_e4m3fn")


@pytest.mark.parametrize(("scaling", "shapes"), [("per_tensor", [(1,), (1,)]), ("row_wise", [(70, 1), (1, 300)])])
def test_scales_have_the_shapes_that_libraries_want_and_differ(scaling: str, shapes: list[tuple[int, ...]]) -> None:
    _, _, _, scale_a, scale_b = made(MatmulCase(dtype="fp8_e4m3", scaling=scaling, **SHAPE))
    assert [scale_a.shape, scale_b.shape] == shapes
    together = np.concatenate([scale_a.ravel(), scale_b.ravel()])
    assert together.min() >= 0.5
    assert together.max() <= 1.5
    assert len(np.unique(together)) > 0.8 * len(together)


@pytest.mark.parametrize("layout", ["nn", "nt", "tn"])
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_right_product_passes_and_one_that_forgets_a_scale_fails(dtype: str, scaling: str, layout: str) -> None:
    case = MatmulCase(dtype=dtype, scaling=scaling, layout=layout, **SHAPE)
    inputs, a, b, scale_a, scale_b = made(case)
    assert passes(case, inputs, (a * scale_a) @ (b * scale_b))
    for wrong in (a @ b, (a * scale_a) @ b, a @ (b * scale_b)):
        assert not passes(case, inputs, wrong)


def test_scales_of_rows_on_the_wrong_axis_fail() -> None:
    case = MatmulCase(dtype="fp8_e4m3", scaling="row_wise", m=128, n=128, k=128)
    inputs, a, b, scale_a, scale_b = made(case)
    product = a @ b
    assert passes(case, inputs, product * scale_a * scale_b)
    assert not passes(case, inputs, product * scale_a.T * scale_b.T)
    assert not passes(case, inputs, (a * scale_a.T) @ (b * scale_b))
    assert not passes(case, inputs, product * np.roll(scale_a, 1, axis=0) * scale_b)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_unwritten_elements_and_nan_fail(scaling: str) -> None:
    case = MatmulCase(dtype="fp8_e4m3", scaling=scaling, **SHAPE)
    inputs, a, b, scale_a, scale_b = made(case)
    assert not case.check(ARRAYS, inputs, case.make_output(ARRAYS), seed=0).passed
    output = (a * scale_a) @ (b * scale_b)
    output[41, 299] = np.nan
    assert not passes(case, inputs, output)


def cut(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return np.trunc(values / unit) * unit


def fp8_tensor_core(a: np.ndarray, b: np.ndarray, promoted_every: int) -> np.ndarray:
    """A B as Hopper sums it (DeepSeek-V3 technical report, section 3.3.2): 32 products and the sum so far are aligned to the largest
    of them, cut to 13 bits behind its leading one and added; every so many products (0: never) the sum moves to an exact one."""

    def unit(values: np.ndarray) -> np.ndarray:
        return 2.0 ** (np.floor(np.log2(np.maximum(np.abs(values), 1e-30))) - 13)

    total = np.zeros((len(a), b.shape[1]))
    running = np.zeros_like(total)
    for start in range(0, a.shape[1], 32):
        products = a[:, start : start + 32, None] * b[None, start : start + 32, :]
        largest = unit(np.maximum(np.abs(products).max(axis=1), np.abs(running)))
        running = cut(products, largest[:, None, :]).sum(axis=1) + cut(running, largest)
        running = cut(running, unit(running))
        if promoted_every and (start + 32) % promoted_every == 0:
            total, running = total + running, np.zeros_like(running)
    return total + running


@pytest.mark.parametrize("k", [16, 64, 512, 4096])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_as_tensor_cores_make_them_pass(dtype: str, k: int) -> None:
    for mode, promoted_every in ((None, 128), (None, 512), ("fast_accum", 0)):
        case = MatmulCase(dtype=dtype, m=30, n=50, k=k, math_mode=mode)
        inputs, a, b, scale_a, scale_b = made(case)
        assert passes(case, inputs, fp8_tensor_core(a, b, promoted_every) * scale_a * scale_b)


def test_fast_sums_do_not_pass_for_promoted_ones() -> None:
    case = MatmulCase(dtype="fp8_e4m3", m=30, n=50, k=16384)
    inputs, a, b, scale_a, scale_b = made(case)
    assert passes(case, inputs, fp8_tensor_core(a, b, 128) * scale_a * scale_b)
    assert not passes(case, inputs, fp8_tensor_core(a, b, 0) * scale_a * scale_b)


@pytest.mark.parametrize("k", [256, 2048])
@pytest.mark.parametrize("mode", [None, "fast_accum"])
def test_sums_kept_in_bf16_fail(mode: str | None, k: int) -> None:
    case = MatmulCase(dtype="fp8_e4m3", m=30, n=50, k=k, math_mode=mode)
    inputs, a, b, scale_a, scale_b = made(case)
    total = ARRAYS.torch.zeros(30, 50, dtype=ARRAYS.torch.bfloat16)
    for term in range(k):
        total += ARRAYS.torch.from_numpy(np.outer(a[:, term], b[term])).bfloat16()
    assert not passes(case, inputs, ARRAYS.float64(total) * scale_a * scale_b)
