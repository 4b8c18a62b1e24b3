"""The attention case: what it counts and what its check lets through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.kernels.arrays_numpy import NumpyArrays
from chipassay.kernels.attention import AttentionCase, DecodeCase, sampling

from .attention_reference import output

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


def test_the_backward_pass_counts_five_matmuls_for_two() -> None:
    # FlashAttention-2 (arXiv 2307.08691) section 4.1: the backward pass is multiplied by 2.5, for 5 matmuls to 2
    shape = {"batch": 1, "heads": 16, "kv_heads": 16, "seq_q": 2048, "seq_kv": 2048, "head_dim": 128, "dtype": "bf16"}
    assert AttentionCase(**shape, direction="backward").flops == 85_899_345_920


def test_training_with_latent_attention_counts_both_widths() -> None:
    # DeepSeek-V3 (arXiv 2412.19437, section 4.2): 128 heads, queries and keys of 128 + 64, values of 128. 8,388,608 pairs a head.
    shape = {"batch": 1, "heads": 128, "kv_heads": 128, "seq_q": 4096, "seq_kv": 4096, "head_dim": 192, "head_dim_v": 128}
    forward = AttentionCase(**shape, causal=True, dtype="bf16")
    assert forward.flops == 2 * 128 * 8_388_608 * (192 + 128) == 687_194_767_360
    assert forward.bytes == 2 * 2 * (100_663_296 + 67_108_864)
    backward = AttentionCase(**shape, causal=True, dtype="bf16", direction="backward")
    # Q, dQ, K, dK of 100,663,296 elements each; V, dV, O, dO of 67,108,864; 524,288 rows with a log-sum-exp of 4 bytes
    assert backward.bytes == 2 * 4 * (100_663_296 + 67_108_864) + 4 * 524_288 == 1_344_274_432
    assert backward.dim_v == 128


def test_decoding_with_latent_attention_reads_one_key_value_head() -> None:
    # DeepSeek-V3 absorbed: latent of 512 and 64 rotary; 128 sequences of 4096
    case = DecodeCase(batch=128, heads=128, kv_heads=1, seq_kv=4096, head_dim=576, head_dim_v=512, dtype="bf16")
    assert case.seq_q == 1
    assert case.flops == 146_028_888_064
    assert case.bytes == 2 * 128 * (128 * (576 + 512) + 4096 * (576 + 512)) == 1_176_502_272


def test_a_window_counts_its_pairs_exactly() -> None:
    # Mistral 7B (arXiv 2310.06825, table 1): window 4096, 32 heads of 128; the first 4096 rows see 1, 2, ... keys
    case = AttentionCase(batch=1, heads=32, kv_heads=8, seq_q=32768, seq_kv=32768, head_dim=128, causal=True, window=4096, dtype="bf16")
    assert case.visible_pairs == 125_831_168
    assert case.flops == 4 * 32 * 125_831_168 * 128


@settings(max_examples=50, deadline=None, derandomize=True)
@given(length=st.integers(1, 60), window=st.integers(1, 70))
def test_a_window_counts_what_each_query_sees(length: int, window: int) -> None:
    case = AttentionCase(batch=1, heads=1, kv_heads=1, seq_q=length, seq_kv=length, head_dim=1, causal=True, window=window, dtype="fp32")
    assert case.visible_pairs == sum(i - window < j <= i for i in range(length) for j in range(length))


def test_decoding_refuses_what_it_does_not_mean() -> None:
    shape: dict[str, Any] = {"batch": 1, "heads": 2, "kv_heads": 2, "seq_kv": 1, "head_dim": 8, "dtype": "fp32"}
    for change in ({"causal": True}, {"direction": "backward"}):
        with pytest.raises(ValueError, match="leave out causal"):
            DecodeCase(**shape, **change)


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


def make(dtype: str, causal: bool) -> tuple[AttentionCase, tuple[np.ndarray, ...], type]:
    case = AttentionCase(**SHAPE, dtype=dtype, causal=causal)
    inputs = case.make_inputs(ARRAYS, seed=1)
    return case, inputs, inputs[0].dtype.type


EACH = pytest.mark.parametrize(("dtype", "causal"), [(d, c) for d in ("fp64", "fp32", "fp16") for c in (False, True)])


@EACH
def test_the_right_attention_passes(dtype: str, causal: bool) -> None:
    case, inputs, kind = make(dtype, causal)
    assert case.check(ARRAYS, inputs, output(case, inputs).astype(kind), seed=0).passed


@EACH
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 2, 37, 5), (1, 3, 199, 31)])
def test_one_unwritten_element_anywhere_fails(dtype: str, causal: bool, place: tuple[int, ...]) -> None:
    case, inputs, kind = make(dtype, causal)
    wrong: np.ndarray = output(case, inputs).astype(kind)
    wrong[place] = case.make_output(ARRAYS)[place]
    assert not case.check(ARRAYS, inputs, wrong, seed=0).passed


@EACH
def test_a_wrong_scale_fails(dtype: str, causal: bool) -> None:
    case, inputs, kind = make(dtype, causal)
    assert not case.check(ARRAYS, inputs, output(case, inputs, scale=case.scale * 1.1).astype(kind), seed=0).passed


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
@pytest.mark.parametrize("diagonal", [-1, 1, 200])
def test_a_causal_mask_off_by_one_or_missing_fails(dtype: str, diagonal: int) -> None:
    case, inputs, kind = make(dtype, causal=True)
    wrong: np.ndarray = output(case, inputs, diagonal=diagonal).astype(kind)
    if diagonal == -1:
        wrong[:, :, 0] = inputs[2].repeat(2, axis=1)[:, :, 0]  # the first row has no one to see: leave it right
    assert not case.check(ARRAYS, inputs, wrong, seed=0).passed


@EACH
def test_heads_grouped_in_the_other_order_fail(dtype: str, causal: bool) -> None:
    case, inputs, kind = make(dtype, causal)
    swapped = (inputs[0], inputs[1][:, ::-1], inputs[2][:, ::-1])
    assert not case.check(ARRAYS, inputs, output(case, swapped).astype(kind), seed=0).passed


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
def test_a_forgotten_tile_of_keys_fails(dtype: str) -> None:
    case, inputs, kind = make(dtype, causal=False)
    q, k, v = inputs
    fewer = AttentionCase(**{**SHAPE, "seq_kv": 192}, dtype=dtype)
    wrong: np.ndarray = output(fewer, (q, k[:, :, :192], v[:, :, :192])).astype(kind)
    assert not case.check(ARRAYS, inputs, wrong, seed=0).passed


def test_tf32_passed_off_as_fp32_fails() -> None:
    case, inputs, kind = make("fp32", causal=False)
    bits = [(x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for x in inputs]
    assert not case.check(ARRAYS, inputs, output(case, (bits[0], bits[1], bits[2])).astype(kind), seed=0).passed


def test_an_element_larger_than_every_value_fails_in_a_row_that_is_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "HOST", sampling.Effort(pairs=1000, block=2**14))
    case, inputs, kind = make("fp32", causal=False)
    right: np.ndarray = output(case, inputs).astype(kind)
    assert case.check(ARRAYS, inputs, right, seed=0).passed
    for row in range(20, 30):  # at most some of them are sampled
        wrong = right.copy()
        wrong[1, 1, row, 3] = 7.0
        assert not case.check(ARRAYS, inputs, wrong, seed=0).passed


WINDOW = 37


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
@pytest.mark.parametrize("window", [WINDOW, WINDOW - 1, WINDOW + 1, 200])
def test_a_window_passes_and_one_off_by_one_or_missing_fails(dtype: str, window: int) -> None:
    case = AttentionCase(**SHAPE, dtype=dtype, causal=True, window=WINDOW)
    inputs = case.make_inputs(ARRAYS, seed=1)
    found: np.ndarray = output(case, inputs, window=window).astype(inputs[0].dtype)
    assert case.check(ARRAYS, inputs, found, seed=0).passed == (window == WINDOW)


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
def test_values_wider_or_narrower_than_keys_pass_and_are_told_apart(dtype: str) -> None:
    for head_dim_v in (8, 48):
        case = AttentionCase(**SHAPE, head_dim_v=head_dim_v, dtype=dtype)
        inputs = case.make_inputs(ARRAYS, seed=1)
        right: np.ndarray = output(case, inputs).astype(inputs[0].dtype)
        assert right.shape[-1] == head_dim_v
        assert case.check(ARRAYS, inputs, right, seed=0).passed
        assert not case.check(ARRAYS, inputs, right[..., ::-1], seed=0).passed


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
def test_decoding_passes_and_a_forgotten_split_of_the_cache_fails(dtype: str) -> None:
    case = DecodeCase(batch=2, heads=8, kv_heads=2, seq_kv=1000, head_dim=32, dtype=dtype)
    q, k, v = inputs = case.make_inputs(ARRAYS, seed=1)
    kind = q.dtype
    assert case.check(ARRAYS, inputs, output(case, inputs).astype(kind), seed=0).passed
    wrong: np.ndarray = output(case, (q, k[:, :, :936], v[:, :, :936])).astype(kind)
    assert not case.check(ARRAYS, inputs, wrong, seed=0).passed
