"""Shipped profiles made again from their sources, and the rules by which unmeasured chips follow from measured ones."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

from chipassay.results.catalogue import find_chip
from chipassay.results.errors import InputError
from chipassay.results.evidence import Evidence
from chipassay.results.shape_models.product import ProductModel, Tile
from chipassay.results.shipped import PROFILES
from chipassay.runners.fitting.shapes import ProductShapes
from chipassay.runners.shipped.__main__ import main
from chipassay.runners.shipped.careful import UNKNOWN_SIGMA, Careful, careful, corrected, launch_gap_s
from chipassay.runners.shipped.fields import differing
from chipassay.runners.shipped.gemm_tables import gemm_table
from chipassay.runners.shipped.products import scaled_to_best
from chipassay.runners.shipped.recipes import RECIPES
from chipassay.runners.shipped.relatives import OTHER_UNITS_SIGMA, SAME_UNITS_SIGMA, product_by_rule, same_units
from chipassay.runners.shipped.rounding import rounded

needs_tables = pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None or importlib.util.find_spec("pyarrow") is None,
    reason="the extra aiconfigurator is not installed: its tables are a source",
)

A100_BF16 = ProductModel(
    rate_flops_per_s=250e12,
    bandwidth_bytes_per_s=1.6e12,
    launch_s=3e-6,
    evidence=Evidence("published", "a table"),
    multiprocessors=108,
    tiles=(Tile(128, 128, 0.8), Tile(256, 128, 1.0)),
    tile_start_s=1e-6,
    quantise_s=2e-6,
    points=100,
    spread=0.08,
)
EDGE = np.array([512.0, 4096.0, 8192.0])


@needs_tables
@pytest.mark.parametrize("chip_id", ["ascend-910b-313t", "p100-pcie-16gb"])
def test_a_rebuilt_profile_is_the_shipped_one(chip_id: str, capsys: pytest.CaptureFixture[str]):
    assert main([chip_id, "--check"]) == 0, capsys.readouterr().out


@needs_tables
def test_a_profile_that_was_changed_by_hand_is_told_with_its_fields(tmp_path, capsys: pytest.CaptureFixture[str]):
    data = json.loads((PROFILES / "ascend-910b-313t.json").read_text(encoding="utf-8"))
    data["memory"]["rate"] *= 1.5
    (tmp_path / "ascend-910b-313t.json").write_text(json.dumps(data), encoding="utf-8")
    assert main(["ascend-910b-313t", "--check", "--out", str(tmp_path)]) == 1
    assert "memory.rate: " in capsys.readouterr().out


@needs_tables
def test_rebuilding_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        assert main(["ascend-910b-313t", "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "a" / "ascend-910b-313t.json").read_bytes() == (tmp_path / "b" / "ascend-910b-313t.json").read_bytes()


def test_a_chip_without_a_recipe_is_an_error_that_names_those_with_one(capsys: pytest.CaptureFixture[str]):
    assert main(["gaudi2", "--check"]) == InputError.exit_code
    assert "h100-sxm-80gb" in capsys.readouterr().err


def test_parents_are_built_before_their_children():
    seen: set[str] = set()
    for recipe in RECIPES:
        assert set(recipe.parents) <= seen, recipe.chip_id
        seen.add(recipe.chip_id)


def test_the_a800_computes_as_the_a100_and_is_less_certain():
    a100, a800 = find_chip("a100-sxm-80gb"), find_chip("a800-sxm-80gb")
    assert same_units(a800, a100, "bf16")
    found = product_by_rule(A100_BF16, a100, a800, "bf16")
    assert found is not None
    assert found.time_s(EDGE, EDGE, EDGE) == pytest.approx(A100_BF16.time_s(EDGE, EDGE, EDGE))
    assert found.spread == pytest.approx(np.hypot(0.08, SAME_UNITS_SIGMA))
    assert (found.points, found.evidence.level) == (0, "derived")
    assert "a100-sxm-80gb" in found.evidence.source


def test_another_chip_keeps_the_shares_of_its_own_datasheet():
    a100, h100 = find_chip("a100-sxm-80gb"), find_chip("h100-sxm-80gb")
    found = product_by_rule(A100_BF16, a100, h100, "bf16")
    assert found is not None
    assert found.rate_flops_per_s / 989.4e12 == pytest.approx(250 / 312)
    assert found.bandwidth_bytes_per_s / 3.35e12 == pytest.approx(1.6e12 / 2.039e12)
    assert found.multiprocessors == 132
    assert found.spread == pytest.approx(np.hypot(0.08, OTHER_UNITS_SIGMA))


def test_the_h800_keeps_the_h100s_share_of_one_teraflop_in_fp64():
    h100, h800 = find_chip("h100-sxm-80gb"), find_chip("h800-sxm-80gb")
    found = product_by_rule(replace(A100_BF16, rate_flops_per_s=60e12), h100, h800, "fp64")
    assert found is not None
    assert found.rate_flops_per_s == pytest.approx(60 / 66.9 * 1e12)


def test_a_chip_whose_datasheet_tells_no_peak_gets_no_model():
    assert product_by_rule(A100_BF16, find_chip("a100-sxm-80gb"), find_chip("kunlun-p800"), "bf16") is None


def test_an_unmeasured_relative_reaches_its_own_best_published_figure():
    h20 = find_chip("h20-96gb")
    model = product_by_rule(A100_BF16, find_chip("a100-sxm-80gb"), h20, "bf16")
    assert model is not None
    found = scaled_to_best(model, h20, "bf16")
    edges = np.array([1024.0, 2048.0, 4096.0, 8192.0, 16384.0])
    assert (2 * edges**3 / found.time_s(edges, edges, edges)).max() == pytest.approx(142.3e12, rel=0.01)  # published.csv


def shapes(seconds: ProductModel, edge: np.ndarray) -> ProductShapes:
    return ProductShapes(edge, edge, edge, replace(seconds, quantise_s=0.0).time_s(edge, edge, edge))


def test_a_table_that_is_5_percent_too_fast_is_found_out_and_slowed_down():
    edge = np.array([4096.0, 8192.0, 16384.0])
    true = replace(A100_BF16, rate_flops_per_s=A100_BF16.rate_flops_per_s / 1.05)
    found = careful(A100_BF16, shapes(true, edge), "careful figures")
    assert found.factor == pytest.approx(1.05, abs=0.005)
    model = corrected(A100_BF16, found, 5e-6, "a stream")
    assert model.rate_flops_per_s == pytest.approx(A100_BF16.rate_flops_per_s / 1.05, rel=0.005)
    assert (model.launch_s, model.quantise_s, model.spread) == (5e-6, 0.0, 0.08)
    assert "a table" in model.evidence.source
    assert "1.05" in model.evidence.source


def test_a_table_that_is_slower_than_careful_figures_is_left_as_it_is_and_said_so():
    model = corrected(A100_BF16, Careful(0.9, 3, "careful figures"), 5e-6, "a stream")
    assert model.rate_flops_per_s == A100_BF16.rate_flops_per_s
    assert "0.900 of careful" in model.evidence.source


def test_without_a_careful_figure_the_interval_is_wider():
    found = careful(A100_BF16, None, "")
    assert found.factor is None
    assert corrected(A100_BF16, found, 5e-6, "a stream").spread == pytest.approx(np.hypot(0.08, UNKNOWN_SIGMA))


def test_the_launch_gap_is_what_small_products_take_longer_in_a_stream():
    small = np.array([64.0, 128.0, 256.0])
    assert launch_gap_s(A100_BF16, shapes(replace(A100_BF16, launch_s=6e-6), small)) == pytest.approx(3e-6, rel=0.1)


@needs_tables
def test_a_table_gives_each_shape_once_in_seconds():
    table = gemm_table("h200-sxm-141gb", "bf16")
    assert table is not None
    each = np.stack([table.shapes.m, table.shapes.n, table.shapes.k], axis=1)
    assert len(np.unique(each, axis=0)) == len(each) > 30_000
    here = (each == 8192).all(axis=1)
    # 8192 cubed takes 1.36 ms at 805 TFLOP/s: the table's own number, in milliseconds.
    assert table.shapes.time_s[here] == pytest.approx([1.364e-3], rel=0.01)
    assert gemm_table("p100-pcie-16gb", "bf16") is None


def test_numbers_keep_six_digits_and_everything_else_stays():
    assert rounded(A100_BF16) == A100_BF16
    assert rounded(replace(A100_BF16, launch_s=1.23456789e-6)).launch_s == 1.23457e-6


def test_two_profiles_differ_where_a_number_moved_by_more_than_the_tolerance():
    assert differing({"a": [1.0, 2.0]}, {"a": [1.001, 2.0]}) == []
    assert differing({"a": [1.0, 2.0]}, {"a": [1.0, 2.2]}) == ["a.1: 2.0, rebuilt 2.2"]
    assert differing({"a": {}}, {"a": {"b": True}}) == ["a.b: nothing, rebuilt True"]


def test_the_h20_with_watts_to_spare_hardly_slows_down():
    h100, h20 = find_chip("h100-sxm-80gb"), find_chip("h20-96gb")
    found = product_by_rule(replace(A100_BF16, slowdown=0.2), h100, h20, "bf16")
    assert found is not None
    # 700 W for 989 TFLOP/s against 400 W for 148: 3.8 times the watts for a FLOP.
    assert found.slowdown == pytest.approx(0.2 * (700 / 989.4) / (h20.power_w / 148), rel=1e-6)
