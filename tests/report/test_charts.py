"""What the charts show, without drawing them: series, roofs, fits, thinning, ticks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chipassay.results.profile import Evidence, Profile, Quantity
from chipassay.results.schema import Row
from chipassay.results.shape_models.product import ProductModel
from chipassay.runners.report import charts, charts_between, charts_memory
from chipassay.runners.report.draw import MAX_TICKS, ticks_of
from chipassay.runners.report.fits import overlaid, profiles_of
from chipassay.runners.report.plot import Axis, Plot, Point, Series, failures, limited, thin
from chipassay.runners.report.roofline import best_bandwidth, roofline, rooflines
from chipassay.runners.report.shape import shape
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
    (series,) = charts_between.collectives(sample.rows(), sample.profile())[0].series
    assert series.model[-1][1] == pytest.approx(sample.LINK_BUSBW, rel=0.02)
    (times,) = charts_between.collectives(sample.rows(), sample.profile())[1].series
    assert times.model[0][1] == pytest.approx(sample.LINK_LATENCY_S, rel=0.001)


def test_error_bars_are_the_rates_at_the_95th_and_5th_percentile_of_time() -> None:
    row = Row(op="matmul", status="ok", dtype="fp32", flops=2e9, rate_flops_per_s=2e9, time_median_s=1.0, time_p05_s=0.5, time_p95_s=2.0)
    (series,) = charts.matmul([row], None).series
    assert series.points == (Point(1000.0, 2e9, 1e9, 4e9),)


def test_rows_that_are_not_ok_are_never_drawn() -> None:
    plot = charts.matmul(sample.rows(), sample.profile())
    assert "fp16" not in {series.label for series in plot.series}
    drawn = {(r.m, r.n, r.k, r.layout, r.dtype) for r in sample.rows() if r.op == "matmul" and r.status == "ok"}
    assert sum(len(series.points) for series in plot.series) == len(drawn)
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


def test_the_roofline_says_how_near_products_come_to_the_model_of_their_shapes() -> None:
    """A model of 1e14 FLOP/s and no overhead: a row at 9e13 reaches 90 %, one at 5e13 50 %."""
    model = ProductModel(1e14, 1e15, 0.0, Evidence("measured", "a run"))
    profile = Profile("chip", "Chip", products={"bf16": model})
    case = {"op": "matmul", "dtype": "bf16", "chip_id": "chip", "status": "ok", "m": 4096, "n": 4096, "cache": "cold", "bytes": 1e8}
    rates, work = {4096: 9e13, 8192: 5e13, 2048: 9e13}, 2.0 * 4096**2
    rows = [Row(**case, k=k, flops=work * k, rate_flops_per_s=rate, time_median_s=work * k / rate) for k, rate in rates.items()]
    (told,) = [note for note in roofline(rows, profile).notes if "model of shapes" in note]
    assert told.startswith("Products reach 90.0 % of what the profile's model of shapes expects (median of 3)")
    assert told.endswith("the least 50.0 % (bf16 4096 x 4096 x 8192).")


def test_a_known_chip_without_a_profile_of_the_users_has_the_roofs_that_ship() -> None:
    row = Row(op="matmul", dtype="bf16", chip_id="b100-sxm-192gb", status="ok", m=8192, n=8192, k=8192, flops=2.0 * 8192**3, bytes=4e8,
              rate_flops_per_s=1.2e15, time_median_s=9e-4, cache="cold")  # fmt: skip
    (plot,) = rooflines([row], [])
    # NVIDIA's Blackwell datasheet: 1.8 PFLOP/s of dense bf16.
    (peak,) = [roof.line[0][1] for roof in plot.roofs if not roof.sloped and "bf16" in roof.label]
    assert peak == pytest.approx(1.8e15, rel=0.03)


def test_a_warm_cache_is_not_memory_bandwidth() -> None:
    cold = Row(op="copy", status="ok", chip_id="c", cache="cold", bandwidth_bytes_per_s=1e9)
    assert best_bandwidth([cold, replace(cold, cache="warm", bandwidth_bytes_per_s=9e9)], "c") == ("copy", 1e9)


def test_two_very_different_chips_get_a_logarithmic_bandwidth_axis() -> None:
    rows = [r for r in sample.rows() if r.op == "copy"]
    fast = [replace(r, chip_id="fast", bandwidth_bytes_per_s=(r.bandwidth_bytes_per_s or 0) * 50) for r in rows]
    assert charts_memory.memory(rows, None).y.base is None
    assert charts_memory.memory([*rows, *fast], None).y.base == 10


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


def product(**columns: object) -> Row:
    row = next(r for r in sample.rows() if r.op == "matmul" and r.status == "ok" and r.dtype == "bf16" and r.m == 1024)
    return replace(row, **columns)  # type: ignore[arg-type]


def test_each_case_is_one_dot_its_fastest_kernel() -> None:
    slow = product(kernel="slow", time_median_s=1.0, rate_flops_per_s=2.0 * 1024**3)
    (series,) = charts.matmul([slow, product()], None).series
    assert [point.y for point in series.points] == [product().rate_flops_per_s]


def test_narrow_products_and_graph_replays_stay_out_of_the_matmul_chart() -> None:
    plot = charts.matmul([product(), product(m=16, flops=2.0 * 16 * 1024**2), product(launch="graph", rate_flops_per_s=1e15)], None)
    assert [len(series.points) for series in plot.series] == [1]
    assert "1 rows of narrow products (an edge below 128) are in the table alone." in plot.notes


def test_fp8_with_finer_scales_or_faster_sums_is_a_series_beside_the_plain_one() -> None:
    kinds = [("per_tensor", None), ("row_wise", None), ("per_tensor", "fast_accum")]
    rows = [product(dtype="fp8_e4m3", scaling=scaling, math_mode=mode) for scaling, mode in kinds]
    assert [s.label for s in charts.matmul(rows, None).series] == ["fp8_e4m3", "fp8_e4m3, fast accum", "fp8_e4m3, scales row wise"]


def test_attention_of_several_kinds_is_told_apart_and_the_curve_goes_through_the_plain_one() -> None:
    plain = [replace(r, head_dim=128) for r in sample.rows() if r.op == "attention" and r.dtype == "bf16" and r.status == "ok"]
    others = [{"direction": "backward"}, {"window": 512}, {"head_dim": 64}, {"head_dim": 192, "head_dim_v": 128}, {"causal": False}]
    rows = plain + [replace(r, **other) for r in plain for other in others]  # type: ignore[arg-type]
    series = {s.label: s for s in charts.attention(rows, sample.profile()).series}
    assert set(series) == {
        "bf16, causal, d128", "bf16, causal, d128, backward", "bf16, causal, d128, window 512", "bf16, causal, d64",
        "bf16, causal, d192/128", "bf16, d128",
    }  # fmt: skip
    assert [name for name, s in series.items() if s.model] == ["bf16, causal, d128"]


def moving(op: str, **columns: object) -> Row:
    row = next(r for r in sample.rows() if r.op == "copy")
    return replace(row, op=op, kernel=f"k.{op}", **columns)  # type: ignore[arg-type]


def test_operations_that_wait_for_memory_have_a_chart_beside_the_memorys_own() -> None:
    rows = [moving("copy"), moving("read"), moving("adam"), moving("softmax", direction="backward", launch="stream")]
    assert [s.label for s in charts_memory.memory(rows, None).series] == ["copy", "read"]
    assert [s.label for s in charts_memory.waiting_for_memory(rows).series] == ["adam", "softmax backward"]


def test_transfers_are_a_series_for_each_direction_and_kind_of_host_memory() -> None:
    rows = [moving("transfer", path=p, host_memory="pinned") for p in ("host_to_device", "device_to_host")]
    assert [s.label for s in charts_memory.transfer(rows).series] == ["device to host pinned", "host to device pinned"]
    assert "No transfer was measured" in (charts_memory.transfer([]).missing or "")


def test_a_launch_table_tells_the_time_of_one_kernel() -> None:
    row = Row(op="launch", status="ok", kernel="triton.store", launch="graph", bytes=1024.0, time_median_s=256 * 1.5e-6)
    (table,) = tables([row])
    assert "time per kernel" in table.headings
    assert "1.50 us" in [cell.text for cell in table.lines[0].cells]
    assert "triton.store graph" in [cell.text for cell in table.lines[0].cells]


def test_a_table_shows_the_figure_of_what_limits_its_operation() -> None:
    figures = {
        "batched_matmul": "rate", "decode": "bandwidth", "adam": "bandwidth", "transfer": "bandwidth", "all_gather": "bus bandwidth"
    }  # fmt: skip
    rows = [Row(op=op, flops=1e9, rate_flops_per_s=1.0, group_size=2 if op == "all_gather" else None) for op in figures]
    assert {table.op: table.headings[5] for table in tables(rows)} == figures


def test_the_share_of_the_roofline_has_a_column_where_it_is_known() -> None:
    (with_it,) = tables([Row(op="matmul", status="ok", roofline_fraction=0.875)])
    (without,) = tables([Row(op="matmul", status="ok")])
    assert with_it.headings[7] == "share of roofline"
    assert with_it.lines[0].cells[7].text == "87.5 %"
    assert len(without.headings) == len(with_it.headings) - 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Row(m=16, n=32, k=64, layout="nt", scaling="row_wise"), "16 x 32 x 64 nt row wise"),
        (Row(m=16, n=32, k=64, layout="nt", scaling="per_tensor", math_mode="fast_accum"), "16 x 32 x 64 nt per tensor fast accum"),
        (Row(m=16, n=32, k=64, groups=8), "8 of 16 x 32 x 64"),
        (Row(m=4096, n=32, k=64, groups=8, split="uneven"), "4096 x 32 x 64, 8 experts uneven"),
        (Row(batch=1, heads=8, kv_heads=8, seq_q=64, seq_kv=64, head_dim=192, head_dim_v=128), "b1 h8 s64 d192/128"),
        (Row(batch=1, heads=8, kv_heads=2, seq_q=64, seq_kv=64, head_dim=64, causal=True, window=16), "b1 h8/2 s64 d64 causal window 16"),
        (Row(rows=4096, width=128256, direction="backward"), "4,096 rows of 128,256 backward"),
        (Row(rows=4096, width=512, table_rows=50257), "4,096 rows of 512 from 50,257"),
        (Row(path="device_to_device", elements=1000), "device to device 1,000 elements"),
    ],
)
def test_every_axis_of_a_case_shows_in_its_shape(row: Row, words: str) -> None:
    assert shape(row) == words


def test_the_rows_own_flags_are_shown_as_marks() -> None:
    assert marks(Row(flags="above the clock's peak; a stale cache")) == ("above the clock's peak", "a stale cache")


def test_only_arithmetic_and_its_two_memory_bound_neighbours_stand_in_the_roofline() -> None:
    ops = ("matmul", "grouped_matmul", "triad", "decode", "adam", "rms_norm", "launch")
    rows = [moving(op, flops=1e9, rate_flops_per_s=1e9) for op in ops]
    assert {series.label.split()[1] for series in roofline(rows, None).series} == {"matmul", "grouped_matmul", "triad", "decode"}


def test_each_chip_of_several_has_its_own_line_through_its_own_points() -> None:
    slow = [replace(row, chip_id="other", rate_flops_per_s=(row.rate_flops_per_s or 0.0) / 4, time_median_s=(row.time_median_s or 0.0) * 4)
            for row in sample.rows(seed=2) if row.status == "ok" and row.op == "matmul"]  # fmt: skip
    rows = [*sample.rows(), *slow]
    profiles = profiles_of(rows, None)
    assert [profile.chip_id for profile in profiles] == [sample.CHIP, "other"]
    plot = overlaid([charts.matmul(rows, profile) for profile in profiles], profiles)
    ends = {series.label: series.model[-1][1] for series in plot.series if series.hue == "bf16"}
    assert ends["bf16 on example-cpu-8c"] / ends["bf16 on other"] == pytest.approx(4.0, rel=0.05)
    assert [note.split(":")[0] for note in plot.notes if "Lines" in note] == [sample.CHIP, "other"]


def test_a_profile_that_was_given_or_a_single_chip_is_not_fitted_again() -> None:
    assert profiles_of(sample.rows(), sample.profile()) == [sample.profile()]
    assert profiles_of(sample.rows(), None) == []
    nothing = [replace(row, chip_id="other", status="error") for row in sample.rows()]
    assert [profile.chip_id for profile in profiles_of([*sample.rows(), *nothing], None)] == [sample.CHIP]
