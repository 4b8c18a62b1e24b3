"""The page in a real browser: what a reader clicks, types, hears and saves. Skipped where there is no Chromium."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chipassay.results.cells import to_text
from chipassay.results.schema import NAMES, Row
from chipassay.results.table import read_rows
from chipassay.results.units import bandwidth, rate, seconds, share
from chipassay.runners.check.finding import Finding, Verdict
from chipassay.runners.comparison.words import change, interval
from chipassay.runners.report import write_report
from chipassay.runners.report.grid import LEFT_OUT
from chipassay.runners.report.page import TEMPLATES
from chipassay.runners.report.visible import visible

from . import sample
from .browser import Browser, found
from .pairs_sample import comparison

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
pytestmark = pytest.mark.skipif(found() is None, reason="no Chromium is installed")

HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>\u2028\u202e\U000e0041\xad=cmd()\x07'\"&amp;{{7*7}}"
ROWS = [row for turn in range(5) for row in (replace(row, run_id=f"r-{turn}") for row in sample.rows())]
COPIES = [row for row in ROWS if row.op == "copy"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as one:
        yield one


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    finding = Finding("sibling", "warning", "12 % slower than its siblings", row=COPIES[0])
    write_report(ROWS, sample.profile(), sample.summary(), path, verdict=Verdict((finding,), (), len(ROWS), len(ROWS), 0))
    return path


@pytest.fixture
def page(browser: Browser, path: Path) -> Iterator[Browser]:
    """The page, opened anew; at the end nothing may have been complained about."""
    browser.complaints.clear()
    browser.size(1280, 900)
    browser.open(path)
    yield browser
    assert browser.complaints == []


def said(page: Browser) -> str:
    return str(page.run("document.querySelector('.said').textContent"))


def column(page: Browser, name: str) -> list[str]:
    """The texts of one column of the table of rows."""
    script = """(() => {
        const grid = document.querySelector('.grid-of-rows');
        const place = [...grid.querySelectorAll('thead th')].findIndex((one) => one.textContent === NAME);
        return [...grid.querySelectorAll('tbody tr')].map((row) => row.cells[place].textContent);
    })()"""
    return list(page.run(script.replace("NAME", json.dumps(name))))


def click(page: Browser, text: str, where: str = "button") -> None:
    page.run(f"[...document.querySelectorAll({json.dumps(where)})].find((one) => one.textContent.startsWith({json.dumps(text)})).click()")


def choose(page: Browser, label: str, option: str) -> None:
    script = """(() => {
        const own = [...document.querySelectorAll('.filters label')].find((one) => one.textContent.startsWith(LABEL + ' '));
        const select = own.querySelector('select');
        select.value = [...select.options].find((one) => one.textContent.startsWith(OPTION)).value;
        select.dispatchEvent(new Event('change'));
    })()"""
    page.run(script.replace("LABEL", json.dumps(label)).replace("OPTION", json.dumps(option)))


def search(page: Browser, text: str) -> None:
    page.run("document.querySelector('input[type=search]').focus()")
    page.type(text)
    page.run("new Promise((done) => setTimeout(done, 300))")


def test_every_row_can_be_reached_by_turning_pages(page: Browser) -> None:
    assert said(page) == f"1 to 100 of {len(ROWS)} rows"
    lines = len(column(page, "operation"))
    while not page.run("[...document.querySelectorAll('.controls button')].find((one) => one.textContent === 'Next').disabled"):
        click(page, "Next")
        lines += len(column(page, "operation"))
    assert lines == len(ROWS)
    assert said(page).endswith(f"to {len(ROWS)} of {len(ROWS)} rows")


def test_a_click_on_a_heading_sorts_all_rows_and_a_second_one_turns_the_order(page: Browser) -> None:
    times = sorted(row.time_median_s for row in ROWS if row.time_median_s is not None)
    click(page, "time", "thead button")
    assert column(page, "time") == [seconds(value) for value in times[:100]]
    click(page, "time", "thead button")
    assert column(page, "time") == [seconds(value) for value in reversed(times)][:100]
    assert page.run("[...document.querySelectorAll('.grid-of-rows th[aria-sort]')].map((one) => one.ariaSort + one.textContent)") == [
        "descendingtime"
    ]


def test_rows_without_a_value_stay_last_in_both_directions(page: Browser) -> None:
    choose(page, "operation", "matmul")
    missing = sum(row.time_median_s is None for row in ROWS if row.op == "matmul")
    page.run("document.querySelector('.controls select').value = '1000'")
    page.run("document.querySelector('.controls select').dispatchEvent(new Event('change'))")
    for _ in range(2):
        click(page, "time", "thead button")
        shown = column(page, "time")
        assert [text == "" for text in shown] == [False] * (len(shown) - missing) + [True] * missing


def test_filters_by_list_and_by_text_work_together_and_are_announced(page: Browser) -> None:
    choose(page, "operation", "copy")
    assert said(page) == f"1 to {len(COPIES)} of {len(COPIES)} of {len(ROWS)} rows"
    assert set(column(page, "operation")) == {"copy"}
    search(page, "R-3 torch.COPY")
    assert said(page) == f"1 to 6 of 6 of {len(ROWS)} rows"
    search(page, " nowhere")
    assert said(page) == "No rows match these filters."
    assert page.run("document.querySelector('.said').getAttribute('aria-live')") == "polite"
    click(page, "Clear filters")
    assert said(page) == f"1 to 100 of {len(ROWS)} rows"


def test_a_finding_is_a_mark_on_its_row_and_a_filter(page: Browser) -> None:
    choose(page, "check", "warning")
    assert said(page) == f"1 to 1 of 1 of {len(ROWS)} rows"
    assert "12 % slower than its siblings" in column(page, "status and notes")[0]


def test_the_download_is_a_results_csv_of_the_rows_that_are_shown_in_their_order(page: Browser, tmp_path: Path) -> None:
    choose(page, "operation", "copy")
    click(page, "time", "thead button")
    click(page, "time", "thead button")
    click(page, "Download these rows")
    (tmp_path / "rows.csv").write_text(page.saved("rows.csv"), encoding="utf-8")
    saved = read_rows(tmp_path / "rows.csv")
    carried = [name for name in NAMES if name not in LEFT_OUT]
    expected = sorted(COPIES, key=lambda row: -(row.time_median_s or 0.0))
    assert [[getattr(row, name) for name in carried] for row in saved] == [[getattr(row, name) for name in carried] for row in expected]


def test_the_numbers_behind_a_picture_are_saved_as_csv(page: Browser) -> None:
    page.run("document.querySelector('#chart-matmul a.save').click()")
    lines = list(csv.reader(io.StringIO(page.saved("matmul.csv"))))
    assert lines[0] == ["series", "what", "geometric mean of m, n, k", "FLOP/s", "low", "high"]
    rates = {row.rate_flops_per_s for row in sample.rows() if row.op == "matmul" and row.status == "ok"}
    drawn = {float(line[3]) for line in lines if line[1] == "measured"}
    assert drawn
    assert drawn <= rates | {row.rate_flops_per_s for row in ROWS}


def test_more_columns_can_be_shown_and_sorted_by(page: Browser) -> None:
    page.run("document.querySelector('.more').open = true")
    click(page, " sample_count", ".more label")
    assert set(column(page, "sample_count")) == {"50", ""}
    click(page, "sample_count", "thead button")
    assert column(page, "sample_count")[0] == "50"


def test_headings_are_worked_by_keyboard_and_keep_the_focus(page: Browser) -> None:
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    page.run("[...document.querySelectorAll('.grid-of-rows thead button')].find((one) => one.textContent === 'operation').focus()")
    for key, order in (("Enter", "ascending"), (" ", "descending")):
        page.press(key)
        assert page.run("document.activeElement.textContent") == "operation"
        assert page.run("document.activeElement.parentNode.getAttribute('aria-sort')") == order
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_tab_reaches_everything_in_the_order_of_the_page_and_is_held_nowhere(page: Browser) -> None:
    page.run("window.seen = []; addEventListener('focusin', (event) => seen.push(event.target))")
    stops = "[...document.querySelectorAll('a[href], button:not(:disabled), select, input, summary, [tabindex=\"0\"]')]"
    stops += ".filter((one) => one.checkVisibility())"
    for _ in range(page.run(f"{stops}.length")):
        page.press("Tab")
    assert page.run(f"{stops}.map((one) => seen.indexOf(one))") == list(range(page.run("seen.length")))


@pytest.mark.parametrize("width", [320, 390, 768])
def test_the_page_never_scrolls_sideways(page: Browser, width: int) -> None:
    page.size(width, 800)
    assert page.run("document.documentElement.scrollWidth") <= width


def test_on_paper_folded_parts_are_open_controls_are_gone_and_all_rows_stand(page: Browser) -> None:
    page.size(720, 1000, media="print")
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("[...document.querySelectorAll('details:not(.more)')].every((one) => one.open)")
    assert page.run("[...document.querySelectorAll('nav, .filters, .controls')].every((one) => getComputedStyle(one).display === 'none')")
    assert len(column(page, "operation")) == len(ROWS)
    assert page.run("document.documentElement.scrollWidth") <= 720  # a sheet of A4 or Letter
    page.run("dispatchEvent(new Event('afterprint'))")
    assert len(column(page, "operation")) == 100
    assert page.pdf().startswith(b"%PDF")


def test_nothing_is_loaded_beside_the_page_itself(page: Browser) -> None:
    assert page.run("performance.getEntriesByType('resource').map((one) => one.name)") == []


def test_the_scripts_formatters_write_numbers_as_the_rest_of_the_package_does(page: Browser) -> None:
    numbers = [m * 10.0**e for e in range(-10, 19) for m in (1.0, 1.2345, 9.994, 9.996, 99.96, 999.94, 999.96)]
    script = (TEMPLATES / "format.js").read_text(encoding="utf-8")
    told: Any = page.run(
        f"(() => {{ {script}\nreturn {json.dumps(numbers)}.map((x) => [engineering(x, 'FLOP/s'), engineering(x, 'B/s'), seconds(x)]) }})()"
    )
    assert told == [[rate(x), bandwidth(x), seconds(x)] for x in numbers]
    small = [x / 64 + 0.001 for x in range(1, 300)]
    told = page.run(f"(() => {{ {script}\nreturn {json.dumps(small)}.map((x) => [percent(x), change(x)]) }})()")
    assert told == [[share(x), change(x)] for x in small]
    told = page.run(f"(() => {{ {script}\nreturn {json.dumps(small)}.map((x) => interval(x, x * 1.3)) }})()")
    assert told == [interval(x, x * 1.3) for x in small]
    assert page.run(f"(() => {{ {script}\nreturn printable({json.dumps(HOSTILE)}) }})()") == visible(HOSTILE)
    texts = ["=1", "'=1", "+", "-1", "@x", "\uff1d1", "it's", "a,b", 'a"b', "'a"]
    told = page.run(f"(() => {{ {script}\nreturn {json.dumps(texts)}.map(csvCell) }})()")
    assert [next(csv.reader([cell]))[0] for cell in told] == [to_text(text) for text in texts]
    assert page.run(f"(() => {{ {script}\nreturn [null, 0.1, 1e21, 1/0, -1/0].map(csvCell) }})()") == ["", "0.1", "1e+21", "inf", "-inf"]


def test_hostile_names_are_shown_as_text_and_come_back_whole_in_the_download(browser: Browser, tmp_path: Path) -> None:
    names = ("chip_id", "device_name", "op", "kernel", "dtype", "libraries", "driver", "reason", "variant", "tool", "backend")
    bad = dict.fromkeys(names, HOSTILE)
    rows = [replace(row, **bad) for row in ROWS[:3]]  # type: ignore[arg-type]
    pair = replace(rows[0], group_size=2, m=None, n=None, k=None, size_bytes=8, busbw_bytes_per_s=1e9)
    rows += [replace(pair, members=f"{a},{b}") for a in range(4) for b in range(a + 1, 4)]
    write_report(rows, None, None, tmp_path / "bad.html")
    browser.complaints.clear()
    browser.size(1280, 900)
    browser.open(tmp_path / "bad.html")
    assert browser.complaints == []
    assert browser.run("document.images.length") == 0
    assert browser.run("document.scripts.length") == 2  # the data and the one that reads it
    one_line = HOSTILE.replace("\u2028", " | ").replace("\x07", "\\x07")  # as in a results CSV, where a row is a line that steers nothing
    assert column(browser, "operation") == [visible(one_line)] * len(rows)
    assert "\u202e" not in browser.run("document.title + document.body.innerText")
    click(browser, "Download these rows")
    text = browser.saved("rows.csv")
    assert "\n=" not in text
    saved = list(csv.DictReader(io.StringIO(text)))
    assert {line["op"] for line in saved} == {one_line}


def test_the_pairs_of_a_comparison_are_filtered_by_verdict_and_saved(browser: Browser, tmp_path: Path) -> None:
    pairs = comparison()
    write_report((), None, None, tmp_path / "versus.html", comparisons=[pairs])
    browser.complaints.clear()
    browser.open(tmp_path / "versus.html")
    slower = pairs.pairs[pairs.pairs["verdict"] == "SLOWER"]
    choose(browser, "verdict", "SLOWER")
    assert said(browser) == f"1 to {len(slower)} of {len(slower)} of {len(pairs.pairs)} pairs"
    click(browser, "change", ".grid-of-rows thead button")
    assert column(browser, "change") == [change(ratio) for ratio in sorted(slower["ratio"])]
    click(browser, "Download these pairs")
    saved = list(csv.DictReader(io.StringIO(browser.saved("pairs-1.csv"))))
    assert [float(line["ratio"]) for line in saved] == sorted(slower["ratio"])
    assert {line["verdict"] for line in saved} == {"SLOWER"}
    for width in (320, 390):
        browser.size(width, 800)
        assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.complaints == []


def test_numbers_that_are_missing_or_infinite_do_not_break_the_table(browser: Browser, tmp_path: Path) -> None:
    rows = [Row(op="copy", status="incorrect", error=math.inf), Row(op="copy", status="ok", time_median_s=2.0, elements=2**60), Row()]
    write_report(rows, None, None, tmp_path / "few.html")
    browser.complaints.clear()
    browser.open(tmp_path / "few.html")
    assert browser.complaints == []
    assert column(browser, "time") == ["", "2.00 s", ""]
    click(browser, "Download these rows")
    saved = list(csv.DictReader(io.StringIO(browser.saved("rows.csv"))))
    assert [line["error"] for line in saved] == ["inf", "", ""]
    assert [line["elements"] for line in saved] == ["", str(2**60), ""]
