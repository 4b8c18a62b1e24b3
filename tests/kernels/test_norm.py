"""RMSNorm and LayerNorm: what they count, and that their check passes right results of other origin and fails wrong ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chipassay.kernels.arrays_numpy import NumpyArrays
from chipassay.kernels.backends import make_arrays
from chipassay.kernels.memory import checking
from chipassay.kernels.norm import LayerNormCase, RmsNormCase
from chipassay.kernels.norm.case import EPSILON

ARRAYS = NumpyArrays()


def test_bytes_are_what_a_pass_must_move() -> None:
    sizes: dict[str, Any] = {"rows": 10, "width": 100, "dtype": "bf16"}
    assert RmsNormCase(**sizes).bytes == 2 * (2 * 1000 + 100)  # x, y, w
    assert LayerNormCase(**sizes).bytes == 2 * (2 * 1000 + 200)  # and b
    assert RmsNormCase(**sizes, direction="backward").bytes == 2 * (3 * 1000 + 200)  # x, dy, dx, w, dw
    assert LayerNormCase(**sizes, direction="backward").bytes == 2 * (3 * 1000 + 300)  # and db


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"width": 0}, {"direction": "sideways"}])
def test_impossible_cases_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rms_norm"):
        RmsNormCase(**{"rows": 1, "width": 1, "dtype": "fp32", **wrong})


def layer_norm(x: np.ndarray, w: np.ndarray, b: np.ndarray, epsilon: float = EPSILON, ddof: int = 0) -> np.ndarray:
    """Textbook LayerNorm by NumPy's own mean and standard deviation, in float64."""
    x = x.astype(np.float64)
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, ddof=ddof, keepdims=True) + epsilon) * w + b


def rms_norm(x: np.ndarray, w: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.sqrt(np.square(x).mean(1, keepdims=True) + epsilon) * w


def judged(case: RmsNormCase | LayerNormCase, inputs: tuple[np.ndarray, ...], output: Any) -> bool:
    kind = inputs[0].dtype
    outputs = tuple(part.astype(kind) for part in output) if isinstance(output, tuple) else output.astype(kind)
    return case.check(ARRAYS, inputs, outputs, seed=0).passed


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize(("rows", "width"), [(1, 64), (9, 500), (4, 8192)])
def test_rms_norm_needs_its_epsilon_its_mean_and_its_weight(dtype: str, rows: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "BLOCK_ELEMENTS", 1000)
    case = RmsNormCase(rows=rows, width=width, dtype=dtype)
    inputs = x, w = case.make_inputs(ARRAYS, seed=3)
    right = rms_norm(x, w)
    assert judged(case, inputs, right)
    assert not judged(case, inputs, rms_norm(x, w, epsilon=0.0))
    assert not judged(case, inputs, rms_norm(x, w, epsilon=1e-6))
    assert not judged(case, inputs, rms_norm(x, np.ones_like(w)))
    assert not judged(case, inputs, right * width**0.5)
    right[-1, -1] = np.nan
    assert not judged(case, inputs, right)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize(("rows", "width"), [(1, 64), (9, 100)])
def test_layer_norm_takes_off_the_mean_and_divides_by_the_biased_deviation(dtype: str, rows: int, width: int) -> None:
    case = LayerNormCase(rows=rows, width=width, dtype=dtype)
    inputs = x, w, b = case.make_inputs(ARRAYS, seed=3)
    assert judged(case, inputs, layer_norm(x, w, b))
    assert not judged(case, inputs, layer_norm(x, w, b, ddof=1))
    assert not judged(case, inputs, layer_norm(x, w, b, epsilon=0.0))
    assert not judged(case, inputs, layer_norm(x, w, np.zeros_like(b)))
    assert not judged(case, inputs, rms_norm(x, w) + b)


def test_an_unbiased_deviation_is_seen_in_fp32_at_the_width_of_a_large_model() -> None:
    case = LayerNormCase(rows=4, width=8192, dtype="fp32")
    inputs = x, w, b = case.make_inputs(ARRAYS, seed=3)
    assert judged(case, inputs, layer_norm(x, w, b))
    assert not judged(case, inputs, layer_norm(x, w, b, ddof=1))


def gradients(op: str, inputs: tuple[np.ndarray, ...], **changes: float) -> tuple[np.ndarray, ...]:
    """By torch's differentiation in float64 of the textbook formula."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, w, dy = (torch.from_numpy(array.astype(np.float64)) for array in inputs)
    leaves = [x.requires_grad_(), w.requires_grad_(), torch.zeros_like(w).requires_grad_()]
    d = x - x.mean(1, keepdim=True) if op == "layer_norm" else x
    y = d / torch.sqrt(d.square().mean(1, keepdim=True) + changes.get("epsilon", EPSILON)) * w + leaves[2]
    found = torch.autograd.grad(y, leaves, dy)
    return tuple(part.numpy() for part in found[: 3 if op == "layer_norm" else 2])


@pytest.mark.parametrize("case", [RmsNormCase, LayerNormCase])
@pytest.mark.parametrize(("rows", "width"), [(1, 64), (37, 300)])
def test_gradients_must_be_those_of_the_formula(case: Any, rows: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "BLOCK_ELEMENTS", 1000)
    made = case(rows=rows, width=width, direction="backward", dtype="fp32")
    inputs = made.make_inputs(ARRAYS, seed=5)
    right = gradients(made.op, inputs)
    assert judged(made, inputs, right)
    assert not judged(made, inputs, gradients(made.op, inputs, epsilon=0.0))
    for which in range(len(right)):
        for place in (0, -1):
            wrong = [part.copy() for part in right]
            wrong[which].reshape(-1)[place] = np.nan
            assert not judged(made, inputs, tuple(wrong))
        assert not judged(made, inputs, tuple(part * (1.001 if i == which else 1.0) for i, part in enumerate(right)))


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_gradient_without_its_projection_fails(dtype: str) -> None:
    case = RmsNormCase(rows=8, width=512, direction="backward", dtype=dtype)
    inputs = x, w, dy = case.make_inputs(ARRAYS, seed=5)
    right = gradients("rms_norm", inputs)
    wide = x.astype(np.float64)
    root = 1 / np.sqrt(np.square(wide).mean(1, keepdims=True) + EPSILON)
    assert judged(case, inputs, right)
    assert not judged(case, inputs, (dy.astype(np.float64) * w * root, right[1]))


def test_a_weight_gradient_added_in_bf16_fails() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    arrays = make_arrays("torch", "cpu")
    case = RmsNormCase(rows=400, width=32, direction="backward", dtype="bf16")
    inputs = case.make_inputs(arrays, seed=1)
    dx, dw = (torch.from_numpy(part) for part in gradients("rms_norm", tuple(arrays.float64(array) for array in inputs)))
    assert case.check(arrays, inputs, (dx.bfloat16(), dw.bfloat16()), seed=0).passed
    x, _, dy = inputs
    n = x.double() / torch.sqrt(x.double().square().mean(1, keepdim=True) + EPSILON)
    narrow = torch.zeros_like(dw, dtype=torch.bfloat16)
    for row in dy.double() * n:
        narrow += row.bfloat16()
    assert not case.check(arrays, inputs, (dx.bfloat16(), narrow), seed=0).passed
