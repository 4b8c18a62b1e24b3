"""A comparison on the page: the picture of its changes, and every pair for the table with filters."""

from __future__ import annotations

import csv
import json
import math
import re
import struct
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pandas")
pytest.importorskip("jinja2")

from chipassay.results.schema import KEY_NAMES, case_key
from chipassay.runners.report import versus as versus_of
from chipassay.runners.report.forest import HEIGHT, WIDTH, Change, forest
from chipassay.runners.report.page import render
from chipassay.runners.report.versus import DRAWN, case_rows, versus

from . import sample
from .pairs_sample import TURNS, comparison
from .reading import Page


def change(ratio: float, low: float, high: float, threshold: float = 0.05, verdict: str = "SLOWER") -> Change:
    return Change("matmul", ratio, low, high, threshold, verdict)


def places(drawing: str, kind: str) -> list[float]:
    """The x coordinates in the path of a class."""
    (path,) = re.findall(rf'<path class="{kind}" d="([^"]*)"', drawing)
    return [float(x) for x in re.findall(r"[MH]([\d.]+)", path)]


def test_equal_factors_lie_at_equal_distances_from_the_middle() -> None:
    slower, faster = forest([change(1.5, 1.25, 2.0), change(1 / 1.5, 0.5, 1 / 1.25)]).lines
    assert places(slower.drawing, "dot")[0] - WIDTH / 2 == pytest.approx(WIDTH / 2 - places(faster.drawing, "dot")[0], abs=0.2)
    low, high = places(slower.drawing, "bar")
    assert (low - WIDTH / 2) / (high - WIDTH / 2) == pytest.approx(math.log(1.25) / math.log(2), abs=0.01)
    assert places(slower.drawing, "one") == [WIDTH / 2]


def test_the_band_is_as_wide_as_the_threshold() -> None:
    drawn = forest([change(1.2, 1.19, 1.21, threshold=0.03), change(1.2, 1.19, 1.21, threshold=0.10)]).lines
    widths = [float(re.search(r'class="band".*?width="([\d.]+)" height="' + f"{HEIGHT:g}", line.drawing)[1]) for line in drawn]  # type: ignore[index]
    assert widths[1] / widths[0] == pytest.approx(math.log(1.10) / math.log(1.03), rel=0.03)


def test_an_interval_beyond_the_axis_ends_in_an_arrow_at_its_edge() -> None:
    (wide,) = forest([change(20.0, 0.5, 90.0)]).lines
    assert places(wide.drawing, "bar")[1] == WIDTH
    assert places(wide.drawing, "tip") == [WIDTH]
    (usual,) = forest([change(1.2, 1.1, 1.3)]).lines
    assert "tip" not in usual.drawing


def test_ticks_stand_in_order_on_the_axis_with_the_middle_named() -> None:
    for ratio in (1.001, 1.05, 1.3, 2.5, 7.0, 50.0):
        ticks = forest([change(ratio, ratio * 0.99, ratio * 1.01)]).ticks
        shares = [place for place, _ in ticks]
        assert shares == sorted(shares)
        assert all(0 <= share <= 1 for share in shares)
        assert dict(ticks)[0.5] == "same"
        assert len(ticks) >= 3


def test_the_pictures_csv_holds_the_numbers() -> None:
    link = forest([change(1.2, 1.1, 1.3, verdict="UNCLEAR")]).link
    lines = list(csv.DictReader(b64decode(link.split(",")[1]).decode().splitlines()))
    assert lines == [{"case": "matmul", "ratio": "1.2", "ratio_low": "1.1", "ratio_high": "1.3", "threshold": "0.05", "verdict": "UNCLEAR"}]


def test_the_table_begins_with_the_slowest_then_the_fastest_and_ends_with_what_is_the_same() -> None:
    columns = json.loads(versus(comparison(), 1).pairs)["columns"]
    verdicts = [columns["verdict"]["text"][code] for code in b64decode(columns["verdict"]["at"])]
    assert list(dict.fromkeys(verdicts)) == ["SLOWER", "FASTER", "UNCLEAR", "NOT-COMPARABLE", "SAME"]
    ratios = struct.unpack(f"<{len(verdicts)}d", b64decode(columns["ratio"]["numbers"]))
    slower, faster = ([ratio for ratio, verdict in zip(ratios, verdicts, strict=True) if verdict == kind] for kind in ("SLOWER", "FASTER"))
    assert slower == sorted(slower, reverse=True)
    assert faster == sorted(faster)


def test_the_case_of_a_pair_is_the_case_of_its_row() -> None:
    rows = [row for row in sample.rows() if row.status == "ok"]
    assert [case_key(row) for row in case_rows(comparison(rows).pairs)] == [case_key(row) for row in rows]


def test_the_picture_shows_slower_ones_worst_first_and_faster_ones_last_and_nothing_that_is_not_comparable() -> None:
    many = [replace(row, variant=f"turn={turn}") for turn in range(10) for row in sample.rows() if row.status == "ok"]
    lines = [line.change for line in versus(comparison(many), 1).forest.lines]
    assert len(lines) == DRAWN
    slower = [line.ratio for line in lines if line.verdict == "SLOWER"]
    faster = [line.ratio for line in lines if line.verdict == "FASTER"]
    assert slower == sorted(slower, reverse=True)
    assert len(slower) + len(faster) == DRAWN
    assert min(faster) == pytest.approx(0.9)
    assert [line.verdict for line in lines] == ["SLOWER"] * len(slower) + ["FASTER"] * len(faster)


def test_what_one_side_leaves_of_the_picture_the_other_takes() -> None:
    given = comparison([replace(row, variant=f"turn={turn}") for turn in range(10) for row in sample.rows() if row.status == "ok"])
    for gone in ("SLOWER", "FASTER"):
        less = replace(given, pairs=given.pairs[given.pairs["verdict"] != gone])
        lines = versus(less, 1).forest.lines
        assert len(lines) == DRAWN
        assert len({line.change.verdict for line in lines}) == 1


def test_every_pair_with_every_column_that_is_known_travels_in_the_page() -> None:
    given = comparison()
    data = json.loads(versus(given, 1).pairs)
    assert data["count"] == len(given.pairs)
    known = [name for name in given.pairs.columns if given.pairs[name].notna().any()]
    assert data["csv"] == known
    assert {facet["column"] for facet in data["facets"]} >= {"verdict", "op", "dtype"}


def test_of_too_many_pairs_those_that_are_the_same_are_left_out_first_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    given = comparison()
    others = int((given.pairs["verdict"] != "SAME").sum())
    monkeypatch.setattr(versus_of, "PAIRS_AT_MOST", others + 1)
    found = versus(given, 1)
    assert (found.count, found.left_out) == (others + 1, len(given.pairs) - others - 1)
    data = json.loads(found.pairs)
    kept = data["columns"]["verdict"]
    codes = b64decode(kept["at"])
    assert [kept["text"][code] for code in codes].count("SAME") == 1
    assert "pairs are left out here" in render((), None, None, comparisons=[given])


def test_a_page_with_a_comparison_alone_is_whole_and_holds_its_words() -> None:
    given = comparison()
    page = Page(render((), None, None, comparisons=[given]))
    assert page.open == []
    assert page.scripts == 1
    assert set(page.blocks) == {"data-pairs-1"}
    assert page.says("before.csv: example-cpu-8c, 1 run")
    assert page.says("A note.")
    assert page.says("Without a partner (1)")
    for verdict, _ in TURNS:
        assert page.says(f"{verdict} {int((given.pairs['verdict'] == verdict).sum())}")
    assert "Nothing measured" not in "".join(page.text)


def test_two_comparisons_beside_rows_keep_their_ids_apart() -> None:
    page = Page(render(sample.rows(), sample.profile(), sample.summary(), comparisons=[comparison(), comparison()]))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {"data-rows", "data-pairs-1", "data-pairs-2"} == set(page.blocks)
    assert {target[1:] for target in page.targets if target.startswith("#")} <= set(page.ids)


def test_markup_in_a_reason_or_a_variant_stays_text() -> None:
    bad = "</script><script>alert(1)</script><!--"
    rows = [replace(row, variant=bad, kernel=bad, op=bad) for row in sample.rows()[:10]]
    page = Page(render((), None, None, comparisons=[comparison(rows, reason=bad)]))
    assert page.scripts == 1
    assert page.open == []
    assert page.handlers == []
    assert bad in json.loads(page.blocks["data-pairs-1"])["columns"]["reason"]["text"]


def test_an_empty_comparison_still_makes_a_page() -> None:
    given = comparison()
    empty = replace(given, pairs=given.pairs.iloc[:0], unmatched=given.unmatched.iloc[:0])
    page = Page(render((), None, None, comparisons=[empty]))
    assert page.open == []
    assert page.says("Nothing could be compared")


def test_key_columns_are_all_there_to_filter_and_save() -> None:
    data = json.loads(versus(comparison(), 1).pairs)
    assert {"op", "dtype", "m", "size_bytes"} <= set(data["csv"]) <= {*KEY_NAMES, *comparison().pairs.columns}


def test_the_command_for_comparisons_writes_this_page(tmp_path: Path) -> None:
    from chipassay.runners.comparison.html import write_html

    write_html([comparison()], tmp_path / "c.html")
    assert "data-pairs-1" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_what_is_unclear_but_far_apart_stands_in_the_page_as_in_the_terminal() -> None:
    """By hand: the pairs that are UNCLEAR differ by 5 % and a little, over the threshold of 3 %."""
    found = comparison()
    unclear = int((found.pairs["verdict"] == "UNCLEAR").sum())
    text = render((), None, None, comparisons=[found])
    title = f"<h3>Unclear, but apart by more than the threshold ({unclear:,})</h3>"
    assert text.count(title) == 1
    # Not in what has to be unfolded, as the reasons are.
    before = text[: text.index(title)]
    assert before.count("<details") == before.count("</details")
    assert "<summary>" in text
