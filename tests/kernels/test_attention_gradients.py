"""The check of attention's gradients: right ones pass, each mistake that a kernel can make fails, in all dtypes and under all masks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from chipassay.kernels.arrays_numpy import NumpyArrays
from chipassay.kernels.attention import AttentionCase, sampling
from chipassay.kernels.backends import make_arrays

from .attention_reference import gradients, output

ARRAYS = NumpyArrays()
SHAPE: dict[str, Any] = {"batch": 1, "heads": 4, "kv_heads": 2, "seq_q": 150, "seq_kv": 150, "head_dim": 16, "direction": "backward"}
MASKS: dict[str, dict[str, Any]] = {"full": {}, "causal": {"causal": True}, "window": {"causal": True, "window": 37}}
EFFORTS = {
    "whole": sampling.HOST,
    "some heads whole": sampling.Effort(pairs=30_000, block=2**14),
    "no head whole": sampling.Effort(pairs=4_000, block=2**12),
}
EVERYWHERE = pytest.mark.parametrize(("dtype", "mask", "effort"), list(itertools.product(("fp64", "fp32", "fp16"), MASKS, EFFORTS)))


def passes(case: AttentionCase, inputs: tuple[np.ndarray, ...], found: tuple[np.ndarray, ...]) -> bool:
    kind = inputs[0].dtype
    return case.check(ARRAYS, inputs, tuple(x.astype(kind) for x in found), seed=0).passed


def make(dtype: str, mask: str, **change: Any) -> tuple[AttentionCase, tuple[np.ndarray, ...]]:
    case = AttentionCase(**{**SHAPE, **change}, dtype=dtype, **MASKS[mask])
    return case, case.make_inputs(ARRAYS, seed=3)


@pytest.fixture
def _effort(effort: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "HOST", EFFORTS[effort])


def test_the_reference_is_the_derivative_of_the_forward_pass() -> None:
    shape = {"batch": 1, "heads": 4, "kv_heads": 2, "seq_q": 9, "seq_kv": 9, "head_dim": 5, "head_dim_v": 3}
    case = AttentionCase(**shape, causal=True, window=4, direction="backward", dtype="fp64")
    inputs = case.make_inputs(ARRAYS, seed=0)
    found, step = gradients(case, inputs), 1e-6
    for index, gradient in enumerate(found):
        for place in np.ndindex(gradient.shape):
            loss = []
            for sign in (1, -1):
                moved = [x.copy() for x in inputs]
                moved[index][place] += sign * step
                loss.append(float((output(case, tuple(moved)) * inputs[3]).sum()))
            assert (loss[0] - loss[1]) / (2 * step) == pytest.approx(gradient[place], abs=1e-7)


@EVERYWHERE
@pytest.mark.usefixtures("_effort")
def test_the_right_gradients_pass(dtype: str, mask: str, effort: str) -> None:
    case, inputs = make(dtype, mask)
    assert passes(case, inputs, gradients(case, inputs))


MISTAKES: dict[str, dict[str, Any]] = {
    "no scale in dQ": {"dq_factor": 16**0.5},
    "no scale in dK": {"dk_factor": 16**0.5},
    "no delta in dQ": {"delta_in_dq": False},
    "no delta in dK": {"delta_in_dk": False},
    "a tile of queries missing in dK and dV": {"queries_left_out": slice(64, 128)},
    "the ragged last queries missing in dK and dV": {"queries_left_out": slice(136, 150)},
    "a tile of keys missing in dQ": {"keys_left_out": slice(64, 128)},
    "the ragged last keys missing in dQ": {"keys_left_out": slice(136, 150)},
    "only the first head of each group": {"summed": "first"},
    "heads grouped in the other order": {"summed": "interleaved"},
}


@EVERYWHERE
@pytest.mark.usefixtures("_effort")
def test_each_mistake_fails(dtype: str, mask: str, effort: str) -> None:
    case, inputs = make(dtype, mask)
    passed = [name for name, mistake in MISTAKES.items() if passes(case, inputs, gradients(case, inputs, **mistake))]
    assert not passed


@EVERYWHERE
@pytest.mark.usefixtures("_effort")
def test_one_unwritten_element_anywhere_fails(dtype: str, mask: str, effort: str) -> None:
    case, inputs = make(dtype, mask)
    right = tuple(x.astype(inputs[0].dtype) for x in gradients(case, inputs))
    for index, place in itertools.product(range(3), ((0, 0, 0, 0), (0, 1, 37, 5), (0, 1, 149, 15))):
        wrong = [x.copy() for x in right]
        wrong[index][place] = case.make_output(ARRAYS)[index][place]
        assert not passes(case, inputs, tuple(wrong))


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.usefixtures("_effort")
def test_a_mask_or_window_off_by_one_fails(dtype: str, effort: str) -> None:
    case, inputs = make(dtype, "causal")
    assert not any(passes(case, inputs, gradients(case, inputs, diagonal=diagonal)) for diagonal in (-1, 1, 150))
    case, inputs = make(dtype, "window")
    assert not any(passes(case, inputs, gradients(case, inputs, window=window)) for window in (36, 38, 150))


@pytest.mark.parametrize("mask", MASKS)
def test_tf32_passed_off_as_fp32_fails(mask: str) -> None:
    case, inputs = make("fp32", mask)
    bits = tuple((x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for x in inputs)
    assert not passes(case, inputs, gradients(case, bits))


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
def test_one_wrong_element_fails_where_all_are_compared(dtype: str) -> None:
    case, inputs = make(dtype, "causal")
    right = gradients(case, inputs)
    for index in range(3):
        wrong = [x.copy() for x in right]
        wrong[index][0, 1, 101, 7] += 0.5 * np.abs(wrong[index]).mean()
        assert not passes(case, inputs, tuple(wrong))


@pytest.mark.parametrize("mask", MASKS)
def test_in_bf16_right_gradients_pass_and_a_forgotten_delta_or_tile_fails(mask: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    arrays, case = make_arrays("torch", "cpu"), AttentionCase(**SHAPE, dtype="bf16", **MASKS[mask])
    inputs = case.make_inputs(arrays, 3)
    exact = tuple(x.double().numpy() for x in inputs)

    def check(**mistake: Any) -> bool:
        found = tuple(torch.from_numpy(x).to(torch.bfloat16) for x in gradients(case, exact, **mistake))
        return case.check(arrays, inputs, found, seed=0).passed

    assert check()
    assert not any(check(**mistake) for mistake in MISTAKES.values())


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
def test_wider_queries_than_values_and_unequal_lengths_pass(dtype: str) -> None:
    case, inputs = make(dtype, "full", seq_q=70, seq_kv=130, head_dim=48, head_dim_v=16)
    assert passes(case, inputs, gradients(case, inputs))
