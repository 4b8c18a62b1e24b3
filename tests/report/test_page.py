"""The report page as a reader gets it: self-contained, safe, complete, the same each time."""

from __future__ import annotations

import builtins
import csv
import json
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chipassay.results.errors import ChipassayError, FileError
from chipassay.results.schema import Row
from chipassay.runners.report import Card, Summary, write_report
from chipassay.runners.report.page import hash_source, render
from chipassay.runners.report.table import MAX_ROWS

from . import sample
from .reading import Page

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def text() -> str:
    return render(sample.rows(), sample.profile(), sample.summary())


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_every_element_is_closed_and_the_page_has_its_six_charts(page: Page) -> None:
    assert page.open == []
    assert page.tags.count("figure") == 6
    assert page.tags.count("figcaption") == 6


def test_nothing_is_fetched_from_elsewhere(text: str, page: Page) -> None:
    assert all(target == "data:," or target.startswith(("#", "data:text/csv;")) for target in page.targets)
    assert all("//" not in reference for reference in page.references)
    assert not {"img", "iframe", "object", "embed", "video", "audio", "base"} & set(page.tags)
    assert "@import" not in text
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "http" not in style


def test_ids_are_unique_across_all_drawings_and_every_reference_finds_its_own(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    wanted = {target.removeprefix("#") for target in page.targets if target.startswith("#")} | set(page.references)
    assert wanted
    assert wanted <= set(page.ids)


def test_a_reason_with_markup_is_shown_as_text(page: Page) -> None:
    assert page.scripts == 1
    assert page.handlers == []
    assert page.says(sample.INJECTION)


def test_only_the_shipped_script_may_run(text: str) -> None:
    script = re.search(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert script is not None
    assert f"script-src {hash_source(script.group(1))}".replace("'", "&#39;") in text


def test_markup_in_every_name_that_a_machine_reports_stays_text() -> None:
    bad = '"><script>alert(1)</script>$x^2$\udcff'
    rows = [
        replace(r, chip_id=bad, device_name=bad, kernel=bad, libraries=f"{bad}={bad}", driver=bad, dtype=bad) for r in sample.rows()[:3]
    ]
    rows += [replace(rows[0], chip_id="other", op=bad, status=bad)]
    summary = Summary(cards=(Card(bad, bad, bad),), sentence=bad, inputs=((bad, "assumed", bad),))  # type: ignore[arg-type]
    page = Page(render(rows, replace(sample.profile(), name=bad, chip_id=bad), summary))
    assert page.scripts == 1
    assert page.open == []


def test_a_broken_name_can_be_written_to_a_file(tmp_path: Path) -> None:
    write_report([replace(sample.rows()[0], device_name="chip \udcff")], None, None, tmp_path / "r.html")
    assert "chip " in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_every_row_is_in_a_plain_table_for_readers_without_scripts(page: Page) -> None:
    assert page.body_rows == len(sample.rows())


def test_failures_are_shown_with_their_status_and_reason(page: Page) -> None:
    assert page.says("skipped emulated dtype torch has no fast fp16 matmul on this CPU")
    assert page.says("out of memory needs 68 GiB, 12 GiB are free")
    assert page.says("incorrect largest error 0.31, 0.02 allowed")


def test_full_precision_is_in_the_title(text: str) -> None:
    row = next(r for r in sample.rows() if r.status == "ok")
    assert f'title="{row.time_median_s!r} s"' in text
    assert f'title="{row.rate_flops_per_s!r} per s"' in text


def test_the_summary_stands_before_the_charts_and_shows_the_evidence_of_every_input(page: Page) -> None:
    said = " ".join("".join(page.text).split())
    assert said.index(sample.summary().sentence) < said.index("Roofline")
    for given in sample.summary().inputs:
        assert page.says(f"{given.what}{given.level}{given.source}")
    for card in sample.summary().cards:
        assert page.says(f"{card.title} {card.value} {card.note}{card.evidence}")


def test_versions_and_method_are_told(page: Page) -> None:
    assert page.says("numpy 2.1.0, torch 2.6.0")
    assert page.says("linux 6.8")
    assert page.says("method version1")


def test_what_another_tool_does_not_measure_is_no_gap_of_its_results() -> None:
    page = Page(render([replace(r, tool="nccl-tests") for r in sample.rows() if r.op == "all_reduce"], None, None))
    assert page.says("bus bandwidth against message size")
    assert not page.says("No matmul was measured")
    assert not page.says("No attention was measured")


def test_parts_that_are_missing_say_why() -> None:
    rows = [r for r in sample.rows() if r.op == "matmul"]
    rows += [replace(r, op="all_reduce", status="skipped", reason="one rank only") for r in rows[:2]]
    page = Page(render(rows, None, None))
    assert page.says("No attention was measured: the rows hold none")
    assert page.says("No copy or triad was measured: the rows hold none")
    assert page.says("No all-reduce has a number: 2 skipped (one rank only).")
    assert page.says("No exchange rate was computed")
    assert page.says("No profile was given, so no compute roof is drawn.")


def test_an_empty_table_still_makes_a_page() -> None:
    page = Page(render([], None, None))
    assert page.says("Nothing measured")
    assert page.open == []


def test_the_same_input_gives_the_same_page(text: str) -> None:
    assert render(sample.rows(), sample.profile(), sample.summary()) == text


def test_a_users_matplotlib_settings_do_not_show_in_the_page(text: str) -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}):
        assert render(sample.rows(), sample.profile(), sample.summary()) == text


def test_labels_in_drawings_are_text_that_follows_light_and_dark(text: str) -> None:
    drawing = text[text.index('<svg viewBox="0 0 331') : text.index("</svg>", text.index('<svg viewBox="0 0 331'))]
    assert "datasheet</text>" in drawing
    assert "currentColor" in drawing
    assert "var(--blue)" in drawing
    assert "<metadata" not in drawing
    assert not re.search(r"(fill|stroke): #", drawing)


def test_all_rows_travel_in_the_page_and_the_plain_tables_count_what_they_leave_out() -> None:
    base = sample.rows()
    rows = [
        replace(row, run_id=f"r-{i}", flops=row.flops and row.flops * (1 + i / 1000), m=row.m and row.m + i)
        for i in range(6_000 // len(base) + 1)
        for row in base
    ]
    page = Page(render(rows, sample.profile(), sample.summary()))
    assert page.body_rows == MAX_ROWS
    assert page.says(f"{len(rows) - MAX_ROWS:,} rows are left out here")
    assert json.loads(page.blocks["data-rows"])["count"] == len(rows)


def test_points_that_would_lie_on_top_of_each_other_are_counted() -> None:
    row = next(row for row in sample.rows() if row.op == "matmul" and row.status == "ok")
    rows = [replace(row, m=1024 + i, flops=(row.flops or 1.0) * (1 + i / 1000)) for i in range(1000)]
    assert Page(render(rows, None, None)).says("of 1,000 points are drawn; the others would lie on top of these.")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone.*cannot be written"):
        write_report(sample.rows()[:1], None, None, tmp_path / "gone" / "r.html")


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_missing_extra_names_its_install_line(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == library:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ChipassayError, match=rf"{library}.*pip install 'chipassay\[report\]'"):
        render(sample.rows(), sample.profile(), None)


def test_two_chips_are_told_apart_everywhere() -> None:
    rows = sample.rows()
    page = Page(render([*rows, *(replace(row, chip_id="other-chip") for row in rows)], sample.profile(), None))
    assert page.says("bf16 on example-cpu-8c")
    assert page.says("bf16 on other-chip")
    assert page.body_rows == 2 * len(rows)


def test_a_row_with_nothing_but_an_operation_does_not_break_the_page() -> None:
    page = Page(
        render(
            [Row(op="matmul", status="ok"), Row(), Row(op="attention", status="ok", flops=0.0, rate_flops_per_s=float("nan"))], None, None
        )
    )
    assert page.body_rows == 3


def test_the_page_can_be_walked_by_its_structure(page: Page) -> None:
    assert [page.tags.count(tag) for tag in ("main", "header", "nav", "h1")] == [1, 1, 1, 1]
    assert page.headings[0] == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    first_link = next(attributes for tag, attributes in page.attributes if tag == "a")
    assert (first_link["class"], first_link["href"]) == ("skip", "#content")
    assert page.tags.count("table") == page.tags.count("caption")
    assert all(attributes.get("lang") == "en" for tag, attributes in page.attributes if tag == "html")
    cells = [attributes for tag, attributes in page.attributes if tag == "th"]
    assert all(attributes.get("scope") in ("col", "row") for attributes in cells)


def test_every_drawing_has_a_name_and_a_description_or_is_hidden_from_those_who_listen(page: Page) -> None:
    drawings = [attributes for tag, attributes in page.attributes if tag == "svg"]
    named = [attributes for attributes in drawings if attributes.get("role") == "img"]
    assert len(named) == page.tags.count("figure")
    assert all(len((attributes["aria-labelledby"] or "").split()) == 2 for attributes in named)
    assert all(attributes.get("aria-hidden") == "true" for attributes in drawings if attributes not in named)


def test_each_picture_offers_its_numbers(page: Page) -> None:
    links = {attributes["download"]: attributes["href"] or "" for tag, attributes in page.attributes if "download" in attributes}
    assert len(links) == page.tags.count("figure")
    text = b64decode(links["latency.csv"].split(",")[1]).decode()
    lines = list(csv.DictReader(text.splitlines()))
    measured = {(float(line["message size"]), float(line["time"])) for line in lines if line["what"] == "measured"}
    assert measured
    assert measured <= {(row.size_bytes, row.time_median_s) for row in sample.rows() if row.op == "all_reduce"}
    assert {line["what"] for line in lines} == {"measured", "fit"}


def test_hidden_characters_are_spelled_out_everywhere() -> None:
    bad = "chip\u202e\x00\u2066\u200b"
    rows = [replace(row, chip_id=bad, device_name=bad, kernel=bad, libraries=bad, reason=bad) for row in sample.rows()]
    text = render(rows, replace(sample.profile(), name=bad, chip_id=bad), None)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", text)
    assert "<title>chipassay report: chip\\u202e\\x00\\u2066\\u200b</title>" in text


def test_rows_of_other_tools_say_which_statistic_they_are_and_by_what_they_were_measured() -> None:
    rows = [replace(row, tool="nccl-tests", tool_version="2.17", time_statistic="mean") for row in sample.rows() if row.op == "all_reduce"]
    page = Page(render(rows, None, None))
    assert page.says("measured bynccl-tests")
    assert page.says("ok mean time")


def test_a_drawing_for_each_chip_of_several_with_its_own_roofs() -> None:
    rows = sample.rows()
    page = Page(render([*rows, *(replace(row, chip_id="h100-sxm-80gb") for row in rows)], sample.profile(), None))
    assert {"chart-roofline-1", "chart-roofline-2"} <= set(page.ids)
    assert page.says("Roofline of h100-sxm-80gb")
    assert page.says("bf16, fp16 peak 989.4 TFLOP/s, datasheet")
    assert page.says("bf16, fp16 peak 1.02 TFLOP/s, datasheet")
