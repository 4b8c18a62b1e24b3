"""The model of a matrix product: times worked out by hand, growth with size, limits, and what the cache is taken to hold."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from chipassay.results.evidence import Evidence
from chipassay.results.profile import Profile, load_profile
from chipassay.results.shape_models.correction import M_KNOTS, NK_KNOTS, Correction
from chipassay.results.shape_models.product import HeldOut, ProductModel, Tile

EXAMPLE = Evidence("assumed", "example")
PLAIN = ProductModel(1e14, 1e12, 1e-6, EXAMPLE, sharpness=1e6)
"""100 TFLOP/s, 1 TB/s, 1 us; the p-norm is a maximum."""
TILED = replace(PLAIN, multiprocessors=10, tiles=(Tile(128, 128, 1.0),), launch_s=0.0, bandwidth_bytes_per_s=1e18)
"""10 multiprocessors of 10 TFLOP/s; memory never counts."""
A_TILE_1024_DEEP_S = 2 * 128 * 128 * 1024 / 1e13


def test_without_tiles_time_is_launch_and_flops_at_the_rate():
    assert PLAIN.time_s(4096, 4096, 4096) == pytest.approx(1e-6 + 2 * 4096**3 / 1e14)


def test_a_product_of_few_flops_a_byte_takes_the_time_of_its_bytes():
    assert PLAIN.time_s(1, 8192, 8192) == pytest.approx(1e-6 + 2 * (8192 + 8192**2 + 8192) / 1e12)


def test_a_tile_that_is_begun_is_paid_in_full():
    assert TILED.time_s(1, 1, 1024) == pytest.approx(A_TILE_1024_DEEP_S)
    assert TILED.time_s(128, 128, 1024) == pytest.approx(A_TILE_1024_DEEP_S)
    assert TILED.time_s(1280, 128, 1024) == pytest.approx(A_TILE_1024_DEEP_S)


def test_one_tile_more_than_the_chip_holds_takes_a_wave_more():
    assert TILED.time_s(1281, 128, 1024) == pytest.approx(2 * A_TILE_1024_DEEP_S)


def test_the_depth_is_counted_in_whole_steps():
    deep = replace(TILED, step_k=64)
    assert deep.time_s(128, 128, 65) == deep.time_s(128, 128, 128)


def test_the_best_tile_is_taken():
    both = replace(TILED, tiles=(Tile(128, 128, 1.0), Tile(32, 32, 0.5)))
    # 16 small tiles at half the rate take two waves of a sixteenth of the work each: 2 x 2 / 16 of the large tile's time.
    assert both.time_s(128, 128, 1024) == pytest.approx(A_TILE_1024_DEEP_S / 4)


def test_a_split_product_fills_the_chip_and_pays_for_adding_up():
    split = replace(TILED, splits=(2,), split_s=1e-7)
    # One tile on ten multiprocessors: ten parts of 102.4 deep, and 1e-7 s to add them up.
    assert split.time_s(128, 128, 1024) == pytest.approx(A_TILE_1024_DEEP_S * math.ceil(102.4) / 1024 + 1e-7, rel=0.01)
    dear = replace(split, split_s=1.0)
    assert dear.time_s(128, 128, 1024) == pytest.approx(A_TILE_1024_DEEP_S)


def test_groups_are_tiles_of_one_launch():
    assert TILED.time_s(128, 128, 1024, groups=10) == pytest.approx(A_TILE_1024_DEEP_S)
    assert TILED.time_s(128, 128, 1024, groups=11) == pytest.approx(2 * A_TILE_1024_DEEP_S)


def test_long_products_lose_the_clock_that_power_takes():
    hot = replace(PLAIN, slowdown=0.2, slowdown_after_s=1e-6, launch_s=0.0)
    base = PLAIN.time_s(16384, 16384, 16384) - 1e-6
    share = 1 / (1 + (3 * 2 * 16384**2 / 1e12) / (2 * 16384**3 / 1e14))
    assert hot.time_s(16384, 16384, 16384) == pytest.approx(base * (1 + 0.2 * share), rel=1e-3)


def test_the_cache_gives_what_little_passes_between_two_uses():
    cached = replace(PLAIN, cache_bytes=1e8, cache_speedup=4.0, cache_steepness=50.0, cold=False, launch_s=0.0)
    moved = 2 * (16 + 16 * 1024 + 1024 * 1024 + 16 * 1024 - 16)
    assert cached.time_s(16, 1024, 1024) == pytest.approx(moved / 4e12, rel=1e-3)
    rotating = replace(cached, rotation_bytes=3e8)
    small = 2 * (2 * 16 * 1024)
    assert rotating.time_s(16, 1024, 1024) == pytest.approx((small / 4 + 2 * 1024 * 1024) / 1e12, rel=1e-3)


def test_of_cold_calls_only_outputs_wait_in_the_cache():
    cold = replace(PLAIN, cache_bytes=1e8, cache_speedup=4.0, cache_steepness=50.0, launch_s=0.0)
    assert cold.time_s(1024, 1, 1024) == pytest.approx((2 * 1024**2 + 2 * 1024 + 2 * 1024 / 4) / 1e12, rel=1e-3)


def test_converting_to_fp8_is_paid_by_the_element():
    fp8 = replace(PLAIN, quantise_s=1e-6, quantise_s_per_byte=1e-12)
    assert fp8.time_s(4096, 128, 1024) - PLAIN.time_s(4096, 128, 1024) == pytest.approx(1e-6 + 4096 * 1024 * 1e-12)


def test_layouts_take_their_factor_and_unknown_ones_none():
    slower = replace(PLAIN, layouts={"tn": 1.1})
    assert slower.time_s(512, 512, 512, layout="tn") == pytest.approx(1.1 * slower.time_s(512, 512, 512))
    assert slower.time_s(512, 512, 512, layout="nn") == slower.time_s(512, 512, 512)


def test_arrays_broadcast_and_large_ones_are_the_same_as_one_by_one():
    m = np.arange(1, 70_001, dtype=float)
    times = TILED.time_s(m, 256, 512)
    assert times.shape == m.shape
    for i in (0, 40_000, 69_999):
        assert times[i] == TILED.time_s(m[i], 256, 512)
    assert TILED.time_s(np.ones((3, 1)), np.ones((1, 4)), 64).shape == (3, 4)


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("wrong", [0, -1, math.nan])
def test_a_product_of_nothing_is_refused_and_not_told_as_nan(axis, wrong):
    sizes = [np.array([64.0, 128.0]) for _ in range(4)]
    sizes[axis][1] = wrong
    with pytest.raises(ValueError, match="m, n, k and groups must be above 0"):
        TILED.time_s(*sizes)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_more_of_anything_never_takes_less(axis):
    model = replace(TILED, tiles=(Tile(128, 256, 1.0), Tile(64, 64, 0.6)), splits=(2, 4), split_s=1e-6, bandwidth_bytes_per_s=1e12)
    sizes = [np.full(200, 512.0)] * 3
    sizes[axis] = np.arange(64.0, 64.0 * 201, 64.0)
    assert np.all(np.diff(model.time_s(*sizes)) >= -1e-12)


def test_a_correction_is_bilinear_between_its_knots_and_flat_beyond():
    flat = tuple((0.0,) * len(NK_KNOTS) for _ in M_KNOTS)
    one = tuple(tuple(0.1 * i for _ in NK_KNOTS) for i, _ in enumerate(M_KNOTS))
    nk = tuple((0.0,) * len(NK_KNOTS) for _ in NK_KNOTS)
    correction = Correction(mn=one, mk=flat, nk=nk)
    half = 2.0 ** ((M_KNOTS[1] + M_KNOTS[2]) / 2)
    sizes = np.array([2.0 ** M_KNOTS[1], half, 2.0 ** (M_KNOTS[-1] + 3)])
    assert correction.log_factor(sizes, np.full(3, 300.0), np.full(3, 300.0)) == pytest.approx([0.1, 0.15, 0.1 * (len(M_KNOTS) - 1)])
    corrected = replace(PLAIN, correction=correction)
    assert corrected.time_s(half, 300, 300) == pytest.approx(math.exp(0.15) * PLAIN.time_s(half, 300, 300))


def test_shapes_beyond_what_was_fitted_are_told():
    fitted = replace(PLAIN, fitted_range={"m": (128.0, 8192.0), "flops": (1e9, 1e12)})
    assert not fitted.extrapolates(1024, 1024, 1024)
    assert fitted.extrapolates(64, 8192, 8192)
    assert fitted.extrapolates(8192, 8192, 8192)


def test_a_profile_keeps_every_part_of_the_model(tmp_path):
    zeros = tuple((0.0, 0.25) for _ in range(2))
    correction = Correction(zeros, zeros, zeros, m_knots=(0.0, 15.0), nk_knots=(5.0, 16.0))
    model = replace(
        TILED, splits=(2, 3), layouts={"nn": 1.01}, correction=correction, held_out=HeldOut(0.03, 0.1, 20, 1e9), spread=0.05, points=60
    )
    path = tmp_path / "profile.json"
    Profile("toy", "Toy", products={"bf16": model}).save(path)
    assert load_profile(path).products["bf16"] == model
    assert json.loads(path.read_text())["products"]["bf16"]["tiles"][0]["rows"] == 128
