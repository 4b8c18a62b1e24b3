"""The attention case: what it counts and what its check lets through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chipassay.kernels.arrays_numpy import NumpyArrays
from chipassay.kernels.attention import AttentionCase

ARRAYS = NumpyArrays()
SHAPE: dict[str, Any] = {"batch": 2, "heads": 4, "kv_heads": 2, "seq_q": 200, "seq_kv": 200, "head_dim": 32}


def test_flops_are_two_matmuls_and_half_of_them_if_causal() -> None:
    # FlashAttention-2 (arXiv 2307.08691) section 4.1: 4 * seqlen^2 * head dimension * heads, here batch 1, 16 heads of 128, 2048 positions
    shape = {"batch": 1, "heads": 16, "kv_heads": 16, "seq_q": 2048, "seq_kv": 2048, "head_dim": 128, "dtype": "bf16"}
    assert AttentionCase(**shape).flops == 34_359_738_368
    assert AttentionCase(**shape, causal=True).flops == 17_179_869_184


def test_bytes_count_fewer_keys_and_values_with_grouped_heads() -> None:
    shape = {"batch": 2, "heads": 8, "seq_q": 10, "seq_kv": 30, "head_dim": 4, "dtype": "fp16"}
    assert AttentionCase(kv_heads=8, **shape).bytes == 2 * 4 * 2 * (2 * 8 * 10 + 2 * 8 * 30)
    assert AttentionCase(kv_heads=2, **shape).bytes == 2 * 4 * 2 * (2 * 8 * 10 + 2 * 2 * 30)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kv_heads": 3}, "multiple of kv_heads"),
        ({"causal": True, "seq_kv": 100}, "must be equal"),
        ({"direction": "sideways"}, "use one of forward, backward"),
        ({"window": 8}, "set causal=true"),
        ({"window": 0, "causal": True}, "1 or more"),
        ({"head_dim_v": 0}, "below 1"),
        ({"head_dim": 0}, "below 1"),
        ({"math_mode": "tf32"}, "write dtype='tf32'"),
    ],
)
def test_a_case_that_means_nothing_or_two_things_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        AttentionCase(**{**SHAPE, "dtype": "fp32", **change})


def reference(case: AttentionCase, inputs: tuple[np.ndarray, ...], *, scale: float | None = None, diagonal: int = 0) -> np.ndarray:
    """Whole attention in float64; ``diagonal`` moves the causal mask."""
    q, k, v = (x.astype(np.float64) for x in inputs)
    k, v = (np.repeat(x, case.heads // case.kv_heads, axis=1) for x in (k, v))
    scores = q @ k.swapaxes(-1, -2) * (case.scale if scale is None else scale)
    if case.causal:
        scores = np.where(np.tril(np.ones((case.seq_q, case.seq_kv), dtype=bool), diagonal), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def make(dtype: str, causal: bool) -> tuple[AttentionCase, tuple[np.ndarray, ...], type]:
    case = AttentionCase(**SHAPE, dtype=dtype, causal=causal)
    inputs = case.make_inputs(ARRAYS, seed=1)
    return case, inputs, inputs[0].dtype.type


EACH = pytest.mark.parametrize(("dtype", "causal"), [(d, c) for d in ("fp64", "fp32", "fp16") for c in (False, True)])


@EACH
def test_the_right_attention_passes(dtype: str, causal: bool) -> None:
    case, inputs, kind = make(dtype, causal)
    assert case.check(ARRAYS, inputs, reference(case, inputs).astype(kind), seed=0).passed


@EACH
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 2, 37, 5), (1, 3, 199, 31)])
def test_one_unwritten_element_anywhere_fails(dtype: str, causal: bool, place: tuple[int, ...]) -> None:
    case, inputs, kind = make(dtype, causal)
    output: np.ndarray = reference(case, inputs).astype(kind)
    output[place] = case.make_output(ARRAYS)[place]
    assert not case.check(ARRAYS, inputs, output, seed=0).passed


@EACH
def test_a_wrong_scale_fails(dtype: str, causal: bool) -> None:
    case, inputs, kind = make(dtype, causal)
    assert not case.check(ARRAYS, inputs, reference(case, inputs, scale=case.scale * 1.1).astype(kind), seed=0).passed


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
@pytest.mark.parametrize("diagonal", [-1, 1, 200])
def test_a_causal_mask_off_by_one_or_missing_fails(dtype: str, diagonal: int) -> None:
    case, inputs, kind = make(dtype, causal=True)
    with np.errstate(invalid="ignore"):
        wrong: np.ndarray = reference(case, inputs, diagonal=diagonal).astype(kind)
    if diagonal == -1:
        wrong[:, :, 0] = inputs[2].repeat(2, axis=1)[:, :, 0]  # the first row has no one to see: leave it right
    assert not case.check(ARRAYS, inputs, wrong, seed=0).passed


@EACH
def test_heads_grouped_in_the_other_order_fail(dtype: str, causal: bool) -> None:
    case, inputs, kind = make(dtype, causal)
    swapped = (inputs[0], inputs[1][:, ::-1], inputs[2][:, ::-1])
    assert not case.check(ARRAYS, inputs, reference(case, swapped).astype(kind), seed=0).passed


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
def test_a_forgotten_tile_of_keys_fails(dtype: str) -> None:
    case, inputs, kind = make(dtype, causal=False)
    q, k, v = inputs
    fewer = AttentionCase(**{**SHAPE, "seq_kv": 192}, dtype=dtype)
    wrong: np.ndarray = reference(fewer, (q, k[:, :, :192], v[:, :, :192])).astype(kind)
    assert not case.check(ARRAYS, inputs, wrong, seed=0).passed


def test_tf32_passed_off_as_fp32_fails() -> None:
    case, inputs, kind = make("fp32", causal=False)
    bits = [(x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for x in inputs]
    assert not case.check(ARRAYS, inputs, reference(case, (bits[0], bits[1], bits[2])).astype(kind), seed=0).passed


def test_an_element_larger_than_every_value_fails_in_a_row_that_is_not_sampled() -> None:
    case, inputs, kind = make("fp32", causal=False)
    right: np.ndarray = reference(case, inputs).astype(kind)
    for row in range(20, 60):  # at most four of them are sampled
        wrong = right.copy()
        wrong[1, 1, row, 3] = 7.0
        assert not case.check(ARRAYS, inputs, wrong, seed=0).passed
