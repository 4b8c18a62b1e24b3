"""What the page shows of collectives: every pattern, changes of protocol, the link's limit, pairs, ranks and overlap."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from chipassay.results.profile import Evidence, Link, Load, Overlap, Profile, Segment
from chipassay.results.schema import Row
from chipassay.runners.report import Summary, charts_memory
from chipassay.runners.report.charts_between import collectives
from chipassay.runners.report.heat import SHOWN_AT_MOST, draw_heat, pair_heats
from chipassay.runners.report.page import render, sections
from chipassay.runners.report.sheets import sheets
from chipassay.runners.report.table import tables
from chipassay.runners.report.words_between import bad_links

from .reading import Page

MEASURED = Evidence("measured", "a run")
CHANGE_BYTES = 2.0**20
LINK = Link(
    "all_reduce", "nccl", 8, 1e-4, 2e11, MEASURED, 16, 0.03, "inside", "stream",
    (Segment(8.0, 1e-5, 5e10), Segment(CHANGE_BYTES, 1e-4, 2e11)), 8.0, 2.0**30,
)  # fmt: skip
PROFILE = Profile(
    "h100-sxm-80gb",
    "H100",
    links=(LINK,),
    overlaps=(Overlap("all_reduce", "nccl", 8, 2**26, "8192x8192x8192 bf16", MEASURED, 1.2, 1.25),),
    loads=(Load("all_reduce", "nccl", 2, 4, 1.15, MEASURED, "inside", 1.1, 1.2, 3),),
)


def row(op: str, size_bytes: int, ranks: int = 8, **more: object) -> Row:
    time_s = LINK.time_s(size_bytes)
    given = {
        "op": op, "status": "ok", "size_bytes": size_bytes, "group_size": ranks, "backend": "nccl", "cache": "cold", "launch": "stream",
        "dtype": "bf16", "in_place": True, "chip_id": "h100-sxm-80gb", "node_count": 1, "kernel": f"torch.distributed.{op}",
        "time_median_s": time_s, "busbw_bytes_per_s": size_bytes * 1.75 / time_s, "algbw_bytes_per_s": size_bytes / time_s,
        "fastest_rank_time_s": time_s, "median_rank_time_s": time_s, "slowest_rank_time_s": 1.5 * time_s, "straggler_rank": 3,
        "straggler_ratio": 1.3, "flags": "one rank is slow",
    }  # fmt: skip
    return Row(**{**given, **more})


SWEEP = [row("all_reduce", 2**e) for e in range(3, 31, 3)]


def test_patterns_share_charts_by_family_and_only_those_that_were_measured_stand_there() -> None:
    rows = [
        *SWEEP,
        row("all_gather", 2**20),
        row("reduce_scatter", 2**20),
        row("gather_to_root", 2**20),
        row("barrier", 0),
        row("my_own", 2**20),
    ]
    plots = {plot.name: plot for plot in collectives(rows, None)}
    assert list(plots) == [f"{kind}{family}" for family in ("", "-sharded", "-rooted", "-other") for kind in ("busbw", "latency")]
    assert {series.label for series in plots["busbw-sharded"].series} == {"all-gather, nccl, 8 ranks", "reduce-scatter, nccl, 8 ranks"}
    assert [plot.name for plot in collectives([], None)] == ["busbw", "latency"]
    assert "two or more ranks" in (collectives([], None)[0].missing or "")


def test_the_line_is_torn_where_the_protocol_changes_and_the_place_is_marked_and_named() -> None:
    bandwidth, times = collectives(SWEEP, PROFILE)
    for plot in (bandwidth, times):
        (series,) = plot.series
        assert [x for x, _ in series.breaks] == [CHANGE_BYTES]
        assert sum(math.isnan(y) for _, y in series.model) == 1
    for point in times.series[0].points:
        x, y = min((xy for xy in times.series[0].model if not math.isnan(xy[1])), key=lambda xy: abs(math.log(xy[0] / point.x)))
        assert y == pytest.approx(point.y * LINK.time_s(x) / LINK.time_s(point.x), rel=1e-9)
    assert any("changes near 1 MiB" in note for note in bandwidth.notes)


def test_the_chips_link_is_drawn_as_a_limit_for_groups_in_a_node_over_it_alone() -> None:
    (roof,) = collectives(SWEEP, PROFILE)[0].roofs
    assert roof.line[0][1] == 450e9
    assert "published" in roof.label
    assert collectives([replace(r, backend="gloo") for r in SWEEP], None)[0].roofs == ()
    assert collectives([replace(r, node_count=2) for r in SWEEP], None)[0].roofs == ()
    assert collectives(SWEEP, PROFILE)[1].roofs == ()


def test_groups_graphs_and_places_are_series_of_their_own_and_busy_ones_stay_out() -> None:
    other = [{"members": "0-3", "group_size": 4}, {"node_count": 2, "group_size": 16}, {"launch": "graph"}]
    busy = [{"members": "0-3|4-7", "group_size": 4}, {"beside": "matmul 8x8x8 bf16"}]
    rows = [*SWEEP, *(replace(r, **change) for r in SWEEP for change in other + busy)]  # type: ignore[arg-type]
    series = collectives(rows, None)[0].series
    assert {s.label for s in series} == {"nccl, 8 ranks", "nccl, 4 ranks", "nccl, 16 ranks across nodes", "nccl, 8 ranks, graph"}
    assert {len(s.points) for s in series} == {len(SWEEP)}


def test_a_collective_gather_is_not_the_gather_of_one_chip() -> None:
    rows = [row("gather", 2**20), Row(op="gather", status="ok", rows=8, width=8, bandwidth_bytes_per_s=1e9, time_median_s=1.0, bytes=8.0)]
    assert [len(s.points) for s in charts_memory.waiting_for_memory(rows).series] == [1]
    assert {table.op for table in tables(rows)} == {"gather", "gather between ranks"}


def pairs(count: int, slow: tuple[int, int] | None = None) -> list[Row]:
    """Every pair within 4 % of 100 GB/s, one a third of that."""
    rows = []
    for a in range(count):
        for b in range(a + 1, count):
            busbw = 1e11 * (0.98 + 0.01 * ((a + 3 * b) % 5)) / (3 if (a, b) == slow else 1)
            rows.append(row("send_recv", 2**26, 2, members=f"{a},{b}", busbw_bytes_per_s=busbw))
    return rows


def test_the_bad_link_is_framed_in_the_heat_map_and_named_in_words() -> None:
    bandwidth, _ = pair_heats(pairs(8, slow=(2, 5)))
    assert bandwidth.marked == {(2, 5), (5, 2)}
    assert "the link between ranks 2 and 5 is 3.0 times slower" in bandwidth.notes[0]
    assert bandwidth.notes[0] in bandwidth.description
    assert len(bad_links(pairs(8, slow=(2, 5)))) == 1
    healthy, _ = pair_heats(pairs(8))
    assert healthy.marked == frozenset()
    assert healthy.notes[0] == "No link, rank or node stands out from the others."


def test_a_heat_map_holds_every_value_as_text_and_is_darker_where_it_is_worse() -> None:
    svg = draw_heat(pair_heats(pairs(8, slow=(2, 5)))[0])
    cells = {(int(a), int(b)): float(opacity) for opacity, a, b in re.findall(r'fill-opacity="([\d.]+)"><title>(\d+) and (\d+): ', svg)}
    assert len(cells) == 8 * 7
    assert max(cells, key=lambda pair: cells[pair]) in {(2, 5), (5, 2)}
    assert 'role="img"' in svg
    assert "http" not in svg


def test_many_ranks_are_drawn_in_blocks_with_the_worst_of_each() -> None:
    (bandwidth, _) = pair_heats(pairs(SHOWN_AT_MOST + 6, slow=(20, 41)))
    assert len(bandwidth.labels) == 35
    worst = min(value for line in bandwidth.values for value in line if value is not None)
    assert bandwidth.values[10][20] == worst
    assert (10, 20) in bandwidth.marked


def test_pairs_stand_in_the_heat_map_and_not_in_the_chart_of_sizes() -> None:
    rows = [*pairs(4), *(row("send_recv", 2**e) for e in (10, 20, 26))]
    plots = {plot.name: plot for plot in collectives(rows, None)}
    assert [series.label for series in plots["busbw-exchange"].series] == ["nccl, 8 ranks"]
    names = [plot.name for _, _, found in sections(rows, None) for plot in found]
    assert "pairs-busbw-send_recv-nccl" in names


def test_patterns_measured_in_pairs_alone_have_no_empty_chart_beside_the_heat_map() -> None:
    assert [plot.name for plot in collectives([*SWEEP, *pairs(4)], None)] == ["busbw", "latency"]


def test_each_chip_has_a_heat_map_of_its_own_under_a_name_that_needs_no_escaping() -> None:
    other = [replace(r, chip_id="other", backend='"><b>', busbw_bytes_per_s=(r.busbw_bytes_per_s or 0.0) / 2) for r in pairs(4)]
    heats = pair_heats([*pairs(4), *other])
    assert [heat.name for heat in heats[::2]] == ["pairs-busbw-send_recv-nccl", "pairs-busbw-send_recv-b-2"]
    assert [heat.title.split(",")[0].split(" on ")[1] for heat in heats[::2]] == ["h100-sxm-80gb", "other"]
    assert all(value is None or value < 0.6e11 for line in heats[2].values for value in line)


def test_ranks_overlap_and_load_are_tables() -> None:
    found = {sheet.title: sheet for sheet in sheets(SWEEP, PROFILE)}
    (line,) = found["Ranks against each other"].lines
    assert line[0] == "all-reduce, nccl, 8 ranks"
    assert line[1] == "1 GiB"
    assert line[5:] == ("1.50", "rank 3, 1.30 times the median")
    (overlap,) = found["Compute and communication at the same time"].lines
    assert overlap[2:] == ("8192x8192x8192 bf16", "1.20 x", "1.25 x", "76.0 %", "measured")
    (load,) = found["Groups at the same time"].lines
    assert load == ("all-reduce, nccl, 2 ranks", "4", "1.15 x", "1.10 x to 1.20 x", "3", "measured")
    assert sheets([], None) == []


def test_the_page_holds_them_all_and_stays_whole() -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    rows = [*SWEEP, row("all_gather", 2**20), row("all_gather", 2**24), *pairs(8, slow=(2, 5))]
    page = Page(render(rows, PROFILE, Summary(warnings=("Straggler: <rank> 3.",))))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {"chart-busbw", "chart-latency-sharded", "chart-pairs-busbw-send_recv-nccl", "together"} <= set(page.ids)
    assert set(page.references) <= set(page.ids)
    assert page.says("Straggler: <rank> 3.")
    assert page.says("the link between ranks 2 and 5")
    assert page.says("Compute and communication at the same time")
