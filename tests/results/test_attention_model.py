"""The time of attention by its shape: known answers of simple models, what must grow, what the limits are, and what JSON keeps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.evidence import Evidence
from chipassay.results.profile import Profile, load_profile
from chipassay.results.shape_models.attention import AttentionModel
from chipassay.results.shape_models.product import HeldOut

ASSUMED = Evidence("assumed", "example")
FAST_MEMORY = 1e30
"""Bytes take no time."""
PLAIN = AttentionModel(rate_flops_per_s=1e12, bandwidth_bytes_per_s=FAST_MEMORY, launch_s=0.0, evidence=ASSUMED, multiprocessors=4)
LIKE_A_GPU = AttentionModel(
    rate_flops_per_s=6e14,
    bandwidth_bytes_per_s=3e12,
    launch_s=8e-6,
    evidence=ASSUMED,
    multiprocessors=132,
    tile_rows={"64": 192, "128": 128},
    tile_start_s=2e-6,
    tile_start_keys=10.0,
    packs=True,
    most_splits=32,
    split_s=1e-6,
    imbalance=0.3,
    sharpness=1.2,
    cache_bytes=2e7,
    cache_speedup=3.0,
    slowdown=0.2,
    slowdown_after_s=1e-2,
    append_passes=1.5,
    append_s_per_token=4e-9,
    head_dim_shares={"64": 0.75, "128": 1.0, "256": 1.1},
    causal_share=0.95,
    backward={"64": 2.5, "128": 2.9},
    points=12156,
    spread=0.08,
    held_out=HeldOut(0.04, 0.13, 2800, 1e9),
    fitted_range={"seq_q": (16.0, 16384.0), "flops": (1e6, 1e13)},
)


def test_full_attention_without_a_mask_takes_its_flops_over_the_rate():
    # 4 heads of 2 x 512 queries: 16 tiles on 4 multiprocessors, 4 waves without a rest.
    flops = 4 * 2 * 2 * 512 * 512 * 128
    assert PLAIN.time_s(2, 2, 512, 512, 128, causal=False) == pytest.approx(flops / 1e12)


def test_a_wave_that_is_not_full_takes_as_long_as_a_full_one():
    one_tile_s = 4 * 128 * 1024 * 128 / (1e12 / 4)
    times_s = PLAIN.time_s(1, [1, 4, 5, 8, 9], 128, 1024, 128, causal=False)
    assert times_s == pytest.approx(np.array([1, 1, 2, 2, 3]) * one_tile_s)


def test_a_mask_leaves_half_of_the_keys_and_half_a_tile():
    # 64 programs on 4 multiprocessors: the work decides, tiles of 128, 256, ... 2048 keys.
    keys = sum(range(128, 2049, 128))
    work = 64 * 4 * 128 * keys * 128
    assert PLAIN.time_s(4, 16, 2048, 2048, 128, causal=True) == pytest.approx(work / 1e12)


def test_the_longest_tile_decides_where_there_are_few():
    longest_s = 4 * 128 * 256 * 128 / (1e12 / 4)
    assert PLAIN.time_s(1, 1, 256, 256, 128, causal=True) == pytest.approx(longest_s)
    waiting = replace(PLAIN, imbalance=0.5)
    work_s = 16 * 4 * 128 * (128 + 256) * 128 / 1e12
    assert waiting.time_s(1, 16, 256, 256, 128, causal=True) == pytest.approx(work_s + 0.5 * longest_s)


def test_queries_at_the_end_of_longer_keys_see_nearly_all_of_them():
    # The last 128 of 4096 positions: one tile, all keys.
    assert PLAIN.time_s(1, 4, 128, 4096, 128, causal=True) == PLAIN.time_s(1, 4, 128, 4096, 128, causal=False)


def test_a_window_makes_long_sequences_linear():
    times_s = PLAIN.time_s(1, 64, np.array([2, 4, 8]) * 2**16, np.array([2, 4, 8]) * 2**16, 128, window=1024)
    assert times_s[1] / times_s[0] == pytest.approx(2, rel=0.02)
    assert times_s[2] / times_s[1] == pytest.approx(2, rel=0.02)
    # A tile sees the window and itself.
    per_tile = 1024 + 128
    assert times_s[2] == pytest.approx(64 * 2**19 * per_tile * 4 * 128 / 1e12, rel=0.01)


def test_a_window_wider_than_the_sequence_is_none():
    assert PLAIN.time_s(1, 64, 4096, 4096, 128, window=8192) == pytest.approx(PLAIN.time_s(1, 64, 4096, 4096, 128))


def test_bytes_are_those_of_queries_and_outputs_and_of_the_heads_that_are_shared():
    slow = replace(PLAIN, rate_flops_per_s=1e30, bandwidth_bytes_per_s=1e9)
    assert slow.time_s(2, 8, 512, 512, 64) == pytest.approx(2 * 2 * 512 * 64 * (8 + 8 + 8 + 8) / 1e9)
    assert slow.time_s(2, 8, 512, 512, 64, kv_heads=2) == pytest.approx(2 * 2 * 512 * 64 * (8 + 8 + 2 + 2) / 1e9)
    fp8 = replace(slow, element_bytes=1.0)
    assert fp8.time_s(2, 8, 512, 512, 64) == pytest.approx(2 * 512 * 64 * (8 + 2 * 8 + 8 + 8) / 1e9)


def test_arithmetic_and_bytes_overlap_as_sharp_as_told():
    flops_s, bytes_s = 4 * 8 * 512 * 512 * 128 / 1e12, 2 * 512 * 128 * 4 * 8 / 1e10
    added = replace(PLAIN, bandwidth_bytes_per_s=1e10, sharpness=1.0, launch_s=1e-5)
    assert added.time_s(1, 8, 512, 512, 128, causal=False) == pytest.approx(1e-5 + flops_s + bytes_s)
    assert replace(added, sharpness=1e3).time_s(1, 8, 512, 512, 128, causal=False) == pytest.approx(1e-5 + max(flops_s, bytes_s))


def test_one_query_for_each_sequence_reads_keys_and_values():
    one = replace(LIKE_A_GPU, cache_bytes=0.0, slowdown=0.0, launch_s=0.0, sharpness=1e3)
    batch, kv_heads, seq_kv = 64, 8, 32768
    expected_s = 2 * 2 * batch * kv_heads * seq_kv * 128 / 3e12
    assert one.time_s(batch, 32, 1, seq_kv, 128, kv_heads=kv_heads, causal=False) == pytest.approx(expected_s, rel=0.001)


def test_splitting_the_keys_of_one_tile_uses_all_multiprocessors_at_a_price():
    whole_s = 4 * 128 * 8192 * 128 / (1e12 / 4)
    split = replace(PLAIN, most_splits=4, split_s=1e-6)
    assert PLAIN.time_s(1, 1, 128, 8192, 128) == pytest.approx(whole_s)
    assert split.time_s(1, 1, 128, 8192, 128) == pytest.approx(whole_s / 4 + 1e-6)


def test_heads_that_share_keys_fill_one_tile():
    packed = replace(PLAIN, packs=True)
    tile_s = 4 * 128 * 1024 * 128 / (1e12 / 4)
    # 8 heads of 16 queries on 4 multiprocessors: 2 waves of nearly empty tiles, or one full tile of one multiprocessor.
    assert PLAIN.time_s(1, 8, 16, 1024, 128, kv_heads=1, causal=False) == pytest.approx(2 * tile_s)
    assert packed.time_s(1, 8, 16, 1024, 128, kv_heads=1, causal=False) == pytest.approx(tile_s)


def test_a_small_footprint_moves_at_the_speed_of_the_cache():
    slow = replace(PLAIN, rate_flops_per_s=1e30, bandwidth_bytes_per_s=1e9, cache_bytes=1e9, cache_speedup=4.0)
    without = replace(slow, cache_speedup=1.0)
    small, large = (1, 1, 128, 128, 64), (64, 64, 65536, 65536, 64)
    assert slow.time_s(*small) == pytest.approx(without.time_s(*small) / 4, rel=1e-3)
    assert slow.time_s(*large) == pytest.approx(without.time_s(*large), rel=1e-3)


def test_large_sequences_reach_the_rate():
    flops = 0.5 * 4 * 4 * 32 * 131072**2 * 128
    unslowed = replace(LIKE_A_GPU, slowdown=0.0)
    assert flops / float(unslowed.time_s(4, 32, 131072, 131072, 128)) == pytest.approx(6e14 * 0.95, rel=0.01)
    slowed = float(LIKE_A_GPU.time_s(4, 32, 131072, 131072, 128) / unslowed.time_s(4, 32, 131072, 131072, 128))
    assert slowed == pytest.approx(1.2, rel=0.01)


def test_head_sizes_lie_on_the_line_between_known_ones_and_small_ones_take_as_long_as_the_smallest():
    shares = replace(PLAIN, head_dim_shares={"64": 0.5, "128": 1.0, "256": 1.2})
    rates = [4 * 64 * 4096 * 4096 * d / float(shares.time_s(1, 64, 4096, 4096, d, causal=False)) for d in (64, 96, 128, 192, 256, 512)]
    assert rates == pytest.approx([0.5e12, 0.75e12, 1e12, 1.1e12, 1.2e12, 1.2e12])
    assert shares.time_s(1, 64, 4096, 4096, 32) == pytest.approx(shares.time_s(1, 64, 4096, 4096, 64))


def test_tiles_of_a_head_size_in_between_are_those_of_the_next_larger_one():
    tiles = replace(PLAIN, tile_rows={"64": 192, "128": 64})
    tile_s = 4 * np.array([192, 64, 64, 64]) * 1024 * np.array([64, 96, 128, 256]) / (1e12 / 4)
    assert tiles.time_s(1, 1, 32, 1024, [64, 96, 128, 256], causal=False) == pytest.approx(tile_s)


def test_a_serving_framework_writes_its_cache_besides():
    model = replace(PLAIN, bandwidth_bytes_per_s=1e9, append_passes=2.0, append_s_per_token=1e-6)
    extra_s = model.time_s(2, 8, 512, 512, 64, kv_heads=2, appends=True) - model.time_s(2, 8, 512, 512, 64, kv_heads=2)
    # K of a token has 128 elements: a quarter of a block of 512 threads.
    assert extra_s == pytest.approx(2 * 512 * (1e-6 / 4 + 2 * 2 * 2 * 2 * 64 / 1e9))


def test_the_backward_pass_is_a_multiple_of_the_forward_pass():
    forward_s = LIKE_A_GPU.time_s(1, 32, 4096, 4096, 128)
    assert LIKE_A_GPU.time_s(1, 32, 4096, 4096, 128, direction="backward") == pytest.approx(2.9 * forward_s)
    ratios = LIKE_A_GPU.time_s(1, 32, 4096, 4096, [32, 96, 256], direction="backward") / LIKE_A_GPU.time_s(1, 32, 4096, 4096, [32, 96, 256])
    assert ratios == pytest.approx([2.5, 2.7, 2.9])
    with pytest.raises(ValueError, match="no backward pass"):
        PLAIN.time_s(1, 32, 4096, 4096, 128, direction="backward")
    with pytest.raises(ValueError, match="'sideways' is neither"):
        PLAIN.time_s(1, 32, 4096, 4096, 128, direction="sideways")


def test_arrays_broadcast_and_give_what_single_shapes_give():
    batch, seq = np.array([[1], [8]]), np.array([128, 1024, 8192])
    times_s = LIKE_A_GPU.time_s(batch, 32, seq, seq, 128, kv_heads=8)
    assert times_s.shape == (2, 3)
    assert times_s[1, 2] == LIKE_A_GPU.time_s(8, 32, 8192, 8192, 128, kv_heads=8)


SIZES = st.integers(min_value=0, max_value=14).map(lambda power: 2**power)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    batch=st.integers(1, 300),
    kv_heads=st.integers(1, 16),
    shared=st.sampled_from([1, 2, 4, 8, 16]),
    seq=st.integers(2, 20000),
    more=st.sampled_from(["batch", "kv_heads", "seq"]),
    dim=st.sampled_from([64, 96, 128, 256]),
    causal=st.booleans(),
)
def test_more_work_never_takes_less_time(batch, kv_heads, shared, seq, more, dim, causal):
    def time_s(batch, kv_heads, seq):
        return float(LIKE_A_GPU.time_s(batch, kv_heads * shared, seq, seq, dim, kv_heads=kv_heads, causal=causal))

    sizes = {"batch": batch, "kv_heads": kv_heads, "seq": seq}
    assert time_s(**{**sizes, more: sizes[more] + 1}) >= time_s(**sizes) * (1 - 1e-9)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(batch=SIZES, heads=st.integers(1, 128), seq=SIZES, dim=st.integers(16, 512), causal=st.booleans())
def test_times_are_finite_and_at_least_what_the_rate_and_the_launch_need(batch, heads, seq, dim, causal):
    seconds = float(LIKE_A_GPU.time_s(batch, heads, seq, seq, dim, causal=causal))
    flops = 4 * batch * heads * seq * seq * dim * (0.5 if causal else 1.0)
    assert math.isfinite(seconds)
    assert seconds >= 8e-6 + flops / (6e14 * 1.1)


def test_what_was_fitted_tells_what_extrapolates():
    assert LIKE_A_GPU.extrapolates(1, 8, 131072, 131072, 128)
    assert not LIKE_A_GPU.extrapolates(1, 8, 4096, 4096, 128)
    # Each size alone was fitted, but nothing of so many FLOPs: 4 x 64 x 4096^2 x 128, halved under a mask.
    few = replace(LIKE_A_GPU, fitted_range={"seq_q": (1.0, 1e6), "flops": (1.0, 3e11)})
    assert few.extrapolates(1, 64, 4096, 4096, 128, causal=False)
    assert not few.extrapolates(1, 64, 4096, 4096, 128)


@pytest.mark.parametrize("name", ["batch", "heads", "kv_heads", "seq_q", "seq_kv", "head_dim"])
@pytest.mark.parametrize("wrong", [0, -1, math.nan])
def test_attention_of_nothing_is_refused_and_not_told_as_nan(name, wrong):
    sizes = {"batch": 1, "heads": 8, "kv_heads": 8, "seq_q": 64, "seq_kv": 64, "head_dim": 64, name: wrong}
    with pytest.raises(ValueError, match="kv_heads, seq_q, seq_kv, dim must be above 0"):
        LIKE_A_GPU.time_s(**sizes)


def test_a_profile_keeps_every_parameter(tmp_path):
    profile = Profile("h100-sxm-80gb", "H100", attentions={"bf16": LIKE_A_GPU, "fp16": PLAIN})
    profile.save(tmp_path / "p.json")
    assert load_profile(tmp_path / "p.json").attentions == profile.attentions
