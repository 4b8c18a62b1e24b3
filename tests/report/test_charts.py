"""What the charts show, without drawing them: series, roofs, fits, thinning, ticks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chipassay.results.profile import Evidence, Quantity
from chipassay.results.schema import Row
from chipassay.runners.report import charts
from chipassay.runners.report.draw import MAX_TICKS, ticks_of
from chipassay.runners.report.plot import Axis, Plot, Point, Series, failures, limited, thin
from chipassay.runners.report.roofline import best_bandwidth, roofline
from chipassay.runners.report.style import MARKERS, PALETTE, looks
from chipassay.runners.report.table import marks, tables

from . import sample


def test_the_fitted_curve_is_drawn_through_the_measured_points() -> None:
    for plot in (charts.matmul, charts.attention):
        for series in plot(sample.rows(), sample.profile()).series:
            assert series.model, series.label
            for point in series.points:
                nearest = min(series.model, key=lambda xy: abs(xy[0] - point.x))
                assert point.y == pytest.approx(nearest[1], rel=0.12)


def test_the_link_fit_counts_the_bus_factor() -> None:
    assert charts.bus_factor(2) == 1.0
    assert charts.bus_factor(8) == 1.75
    (series,) = charts.all_reduce_bandwidth(sample.rows(), sample.profile()).series
    assert series.model[-1][1] == pytest.approx(sample.LINK_BUSBW, rel=0.02)
    (times,) = charts.all_reduce_time(sample.rows(), sample.profile()).series
    assert times.model[0][1] == pytest.approx(sample.LINK_LATENCY_S, rel=0.001)


def test_error_bars_are_the_rates_at_the_95th_and_5th_percentile_of_time() -> None:
    row = Row(op="matmul", status="ok", dtype="fp32", flops=2e9, rate_flops_per_s=2e9, time_p05_s=0.5, time_p95_s=2.0)
    (series,) = charts.matmul([row], None).series
    assert series.points == (Point(1000.0, 2e9, 1e9, 4e9),)


def test_rows_that_are_not_ok_are_never_drawn() -> None:
    plot = charts.matmul(sample.rows(), sample.profile())
    assert "fp16" not in {series.label for series in plot.series}
    assert sum(len(series.points) for series in plot.series) == sum(r.op == "matmul" and r.status == "ok" for r in sample.rows())
    assert any("1 incorrect" in note for note in plot.notes)


def test_curves_of_another_chip_are_not_drawn_through_these_points() -> None:
    plot = charts.matmul(sample.rows(), replace(sample.profile(), chip_id="another"))
    assert not any(series.model for series in plot.series)


def test_equal_peaks_share_one_roof_and_measured_memory_is_solid() -> None:
    roofs = roofline(sample.rows(), sample.profile()).roofs
    assert [(roof.tag, roof.dashed) for roof in roofs if roof.sloped] == [("copy", False), ("datasheet", True)]
    assert [roof.tag for roof in roofs if not roof.sloped] == ["fp64", "fp32", "bf16, fp16"]
    for roof in roofs:
        if not roof.sloped:
            assert roof.line[0][0] == pytest.approx(roof.line[0][1] / sample.PEAK_BANDWIDTH)


def test_a_peak_that_is_not_published_says_so() -> None:
    profile = replace(sample.profile(), peak_flops_per_s={"fp32": Quantity(1e12, Evidence("derived", "clock times lanes"))})
    (label,) = [roof.label for roof in roofline(sample.rows(), profile).roofs if not roof.sloped]
    assert label == "fp32 peak 1.00 TFLOP/s, derived"


def test_a_warm_cache_is_not_memory_bandwidth() -> None:
    cold = Row(op="copy", status="ok", chip_id="c", cache="cold", bandwidth_bytes_per_s=1e9)
    assert best_bandwidth([cold, replace(cold, cache="warm", bandwidth_bytes_per_s=9e9)], "c") == ("copy", 1e9)


def test_two_very_different_chips_get_a_logarithmic_bandwidth_axis() -> None:
    rows = [r for r in sample.rows() if r.op == "copy"]
    fast = [replace(r, chip_id="fast", bandwidth_bytes_per_s=(r.bandwidth_bytes_per_s or 0) * 50) for r in rows]
    assert charts.memory(rows, None).y.base is None
    assert charts.memory([*rows, *fast], None).y.base == 10


def test_thinning_keeps_the_ends_and_the_shape() -> None:
    points = [Point(float(i), float(i)) for i in range(1, 30_000)]
    kept = thin(points, limit=500)
    assert len(kept) <= 500
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert thin(points[:10], limit=500) == tuple(points[:10])


def test_too_many_series_are_left_out_and_counted() -> None:
    axis = Axis("x", str)
    series = tuple(Series(f"s{i}", f"h{i}", "c", tuple(Point(1.0, 1.0) for _ in range(i + 1))) for i in range(15))
    plot = limited(Plot("p", "t", "d", axis, axis, series))
    assert [s.label for s in plot.series] == [f"s{i}" for i in range(3, 15)]
    assert plot.notes == ("3 smaller series are left out of this chart; the CSV has them.",)


def test_reasons_are_counted_commonest_first_and_long_lists_end() -> None:
    rows = [Row(status="error", reason=f"r{i}") for i in range(5)] + [Row(status="skipped", reason="no chip")] * 6
    assert failures(rows) == "6 skipped (no chip), 5 error (r0; r1; r2; and 2 more reasons)"


@pytest.mark.parametrize("base", [2, 10])
@pytest.mark.parametrize("decades", [0.4, 1.0, 2.2, 5.0, 11.0])
def test_ticks_are_few_round_and_inside(base: int, decades: float) -> None:
    low, high = 30.0, 30.0 * 10**decades
    ticks = ticks_of(Axis("x", str, base), low, high)
    assert all(low <= t <= high for t in ticks)
    assert 1 <= len(ticks) <= MAX_TICKS + 2
    assert ticks == sorted(set(ticks))


def test_linear_ticks_begin_at_zero() -> None:
    assert ticks_of(Axis("y", str, None), 0.0, 63e9) == [0.0, 20e9, 40e9, 60e9]


def test_a_dtype_keeps_its_colour_from_chart_to_chart() -> None:
    alone = looks([("bf16", "c")])["bf16", "c"]
    among = looks([("fp32", "c"), ("bf16", "c"), ("fp64", "c")])["bf16", "c"]
    assert alone.colour == among.colour == looks([("bf16, causal", "c")])["bf16, causal", "c"].colour
    assert {look.marker for look in looks([(d, "c") for d in ("fp32", "bf16", "fp64")]).values()} <= set(MARKERS)
    assert alone.colour in PALETTE


def test_faster_than_the_peak_is_marked() -> None:
    assert marks(Row(peak_fraction=1.2)) == ("above peak",)
    assert marks(Row(peak_fraction=0.99, time_median_s=1.0, time_p05_s=0.95, time_p95_s=1.1)) == ()
    assert marks(Row(time_median_s=1.0, time_p05_s=0.9, time_p95_s=1.2)) == ("wide spread",)


def test_left_out_rows_are_counted_and_failures_come_first() -> None:
    rows = [Row(op="copy", status="ok", elements=i) for i in range(100)] + [Row(op="copy", status="error")] * 3
    rows += [Row(op="triad", status="ok")] * 4
    copy, triad = tables(rows, limit=20)
    assert (len(copy.lines), copy.left_out) == (16, 87)
    assert (len(triad.lines), triad.left_out) == (4, 0)
    assert sum(line.status == "error" for line in copy.lines) == 3


def test_warm_rows_stay_out_of_a_chart_that_has_cold_ones() -> None:
    cold = [row for row in sample.rows() if row.op == "matmul" and row.status == "ok"]
    warm = [replace(row, cache="warm", rate_flops_per_s=1e15) for row in cold]
    assert charts.matmul([*cold, *warm], None).series == charts.matmul(cold, None).series
    assert charts.matmul(warm, None).series


def test_a_share_of_a_peak_that_no_vendor_published_says_so_in_the_table() -> None:
    rows = [replace(row, peak_fraction=0.5, peak_evidence=level) for row in sample.rows()[:1] for level in ("derived", "published")]
    texts = str(tables(rows))
    assert "50.0 % (derived)" in texts
    assert texts.count("50.0 %") > texts.count("50.0 % (derived)")
