"""A profile as charts: what is drawn, from what, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from chipassay.results.profile import Curve, Evidence, Link, Profile, Quantity
from chipassay.results.shape_models.product import ProductModel
from chipassay.runners.report import profile_plots

MEASURED = Evidence("measured", "one run")
CHIP = Profile(
    "chip-a",
    "Chip A",
    products={"bf16": ProductModel(4e14, 2e12, 0.0, MEASURED, spread=0.05)},
    memory=Curve(1e-6, 2e12, MEASURED, spread=0.02),
    links=tuple(Link("all_reduce", "nccl", ranks, 1e-5, 1e11 * ranks, MEASURED) for ranks in (2, 8)),
    peak_flops_per_s={"bf16": Quantity(5e14, MEASURED), "fp32": Quantity(5e13, MEASURED)},
    peak_bandwidth_bytes_per_s=Quantity(2.5e12, MEASURED),
)


def test_a_chart_stands_only_where_something_is_known():
    names = [plot.name for plot in profile_plots.profile_plots(CHIP)]
    assert names == ["profile-products", "profile-roofline", "profile-memory", "profile-links"]
    assert profile_plots.profile_plots(Profile("x", "X")) == []


def test_products_are_drawn_with_their_interval_below_the_datasheet_line_of_their_dtype():
    plot = profile_plots.products(CHIP)
    (series,) = plot.series
    (roof,) = plot.roofs  # nothing is known in fp32
    assert roof.line[0][1] == 5e14
    for point in series.points:
        assert point.y < 5e14
        assert (point.low / point.y, point.high / point.y) == pytest.approx((0.9066, 1.1030), abs=1e-3)


def test_peaks_are_called_by_their_evidence():
    """A CPU has no datasheet with peaks: its own are derived from clock and lanes."""
    assert [roof.label for roof in profile_plots.products(CHIP).roofs] == ["bf16 peak 500.0 TFLOP/s, measured"]
    sheet, lanes = Evidence("published", "a datasheet"), Evidence("derived", "clock times lanes")
    for evidence, word in ((sheet, "datasheet"), (lanes, "derived")):
        known = replace(CHIP, peak_flops_per_s={"bf16": Quantity(5e14, evidence)}, peak_bandwidth_bytes_per_s=Quantity(2.5e12, evidence))
        labels = [roof.label for plot in profile_plots.profile_plots(known) for roof in plot.roofs if roof.dashed]
        assert len(labels) == 4
        assert all(label.endswith(f", {word}") for label in labels)


def test_the_line_through_squares_rises_to_the_rate_of_the_model():
    (series,) = profile_plots.products(CHIP).series
    rates = [y for _, y in series.model]
    assert all(after >= before * (1 - 1e-9) for before, after in pairwise(rates))
    assert rates[-1] == pytest.approx(4e14, rel=0.01)


def test_narrow_products_are_in_the_roofline_and_lie_under_its_memory_slope():
    plot = profile_plots.roofline(CHIP)
    points = [point for series in plot.series for point in series.points]
    assert min(point.x for point in points) < 1.01  # one row: a FLOP a byte
    assert all(point.y <= 2e12 * point.x * 1.001 for point in points)
    assert min(point.x for point in points) < min(point.x for point in profile_plots.products(CHIP).series[0].points)


def test_dtypes_with_one_peak_share_its_line():
    twin = replace(
        CHIP,
        products={"bf16": CHIP.products["bf16"], "fp16": CHIP.products["bf16"]},
        peak_flops_per_s={"bf16": Quantity(5e14, MEASURED), "fp16": Quantity(5e14, MEASURED)},
    )
    assert len(profile_plots.products(twin).roofs) == 1
    assert [series.label for series in profile_plots.products(twin).series] == ["bf16", "fp16"]


def test_bus_bandwidth_of_each_group_rises_to_what_the_link_approaches():
    found = {series.label: series.points[-1].y for series in profile_plots.links(CHIP).series}
    assert found == pytest.approx({"all_reduce 2": 2e11, "all_reduce 8": 8e11}, rel=0.01)
