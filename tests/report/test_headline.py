"""The table of best achieved: which row stands for its kind, against what, and how the check's findings reach their rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chipassay.results.schema import Row
from chipassay.runners.check.finding import Expectation, Finding, Severity, Verdict
from chipassay.runners.report import headline
from chipassay.runners.report.findings import remarks, sentence, told
from chipassay.runners.report.headline import Headline, headlines
from chipassay.runners.report.page import render

from .reading import Page

PRODUCT = Row(
    op="matmul", status="ok", chip_id="h100-sxm-80gb", m=4096, n=4096, k=4096, dtype="bf16", kernel="torch.mm", cache="cold",
    time_median_s=2e-4, flops=1.374e11, rate_flops_per_s=6.87e14, peak_fraction=0.695, peak_evidence="published",
)  # fmt: skip
COPY = Row(op="copy", status="ok", chip_id="h100-sxm-80gb", dtype="fp32", time_median_s=1e-3, bytes=2e9, bandwidth_bytes_per_s=2e12)
REDUCE = Row(
    op="all_reduce", status="ok", chip_id="h100-sxm-80gb", dtype="bf16", backend="nccl", group_size=8, size_bytes=2**30, time_median_s=4e-3,
    busbw_bytes_per_s=4.7e11,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headline, "expectation", lambda row: None)


def expecting(monkeypatch: pytest.MonkeyPatch, metric: str, value: float, low: float, high: float) -> None:
    expected = Expectation(metric, value, low, high, "published", "a table")
    monkeypatch.setattr(headline, "expectation", lambda row: expected)


def one(*rows: Row) -> Headline:
    (line,) = headlines(rows)
    return line


def test_the_fastest_correct_row_out_of_cache_stands_for_its_kind() -> None:
    slow = replace(PRODUCT, kernel="slow", m=512, rate_flops_per_s=1e14)
    wrong = replace(PRODUCT, kernel="wrong", status="incorrect", rate_flops_per_s=9e14)
    warm = replace(PRODUCT, kernel="warm", cache="warm", rate_flops_per_s=9e14)
    line = one(slow, wrong, PRODUCT, warm)
    assert (line.achieved, line.of_peak, line.case) == ("687.0 TFLOP/s", "69.5 %", "4096 x 4096 x 4096, torch.mm cold")


def test_a_row_above_a_physical_limit_does_not_head_the_table() -> None:
    impossible = replace(PRODUCT, kernel="odd", rate_flops_per_s=2e15, time_median_s=7e-5, flags="above the datasheet peak")
    assert one(impossible, PRODUCT).achieved == "687.0 TFLOP/s"


def test_kinds_that_mean_something_else_have_lines_of_their_own_in_the_order_of_telling() -> None:
    rows = [
        REDUCE,
        COPY,
        PRODUCT,
        replace(PRODUCT, dtype="fp16"),
        replace(PRODUCT, tool="nvbench"),
        replace(REDUCE, op="send_recv", group_size=2),
    ]
    lines = headlines([*rows, replace(PRODUCT, chip_id="other")])
    assert [(line.chip, line.operation, line.dtype) for line in lines] == [
        ("h100-sxm-80gb", "matmul", "bf16"),
        ("h100-sxm-80gb", "matmul", "fp16"),
        ("h100-sxm-80gb", "matmul nvbench", "bf16"),
        ("h100-sxm-80gb", "copy", "fp32"),
        ("h100-sxm-80gb", "all-reduce nccl", "bf16"),
        ("h100-sxm-80gb", "send/receive nccl", "bf16"),
        ("other", "matmul", "bf16"),
    ]


def test_a_tool_that_tells_bandwidths_and_no_times_has_a_line_for_each_of_its_tests() -> None:
    both = Row(op="transfer", status="ok", path="device_to_device", tool="nvbandwidth", kernel="both ways", bandwidth_bytes_per_s=7.6e11)
    slow, fast = (replace(both, kernel="one way", variant=f"from={n};to=1", bandwidth_bytes_per_s=n * 1e11) for n in (3, 4))
    lines = [(line.operation, line.achieved) for line in headlines([both, slow, fast])]
    assert lines == [("transfer device to device both ways", "760.0 GB/s"), ("transfer device to device one way", "400.0 GB/s")]


def test_collectives_are_told_of_the_largest_group() -> None:
    assert one(replace(REDUCE, group_size=2, busbw_bytes_per_s=9e11), REDUCE).achieved == "470.0 GB/s"


def test_a_row_without_a_share_of_its_own_is_held_against_the_catalogues_peak() -> None:
    # 989.4 TFLOP/s dense bf16 and 3.35 TB/s: NVIDIA H100 datasheet, SXM5.
    line = one(replace(PRODUCT, peak_fraction=None, peak_evidence=None))
    assert (line.of_peak, line.peak_level) == ("69.4 %", "published")
    assert one(COPY).of_peak == "59.7 %"
    assert one(replace(COPY, chip_id="unheard-of")).of_peak == ""


@pytest.mark.parametrize(("low", "high", "verdict"), [(6.5e14, 7.5e14, "in range"), (6.9e14, 7.5e14, "below"), (6e14, 6.5e14, "above")])
def test_what_is_expected_stands_beside_with_its_evidence(monkeypatch: pytest.MonkeyPatch, low: float, high: float, verdict: str) -> None:
    expecting(monkeypatch, "rate_flops_per_s", 7e14, low, high)
    line = one(PRODUCT)
    assert (line.expected, line.of_expected, line.verdict, line.level, line.source) == (
        "700.0 TFLOP/s",
        "98.1 %",
        verdict,
        "published",
        "a table",
    )


def test_a_time_twice_the_expected_one_is_half_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    expecting(monkeypatch, "time_median_s", 2e-3, 1.5e-3, 2.5e-3)
    line = one(REDUCE)
    assert (line.expected, line.of_expected, line.verdict) == ("2.00 ms", "50.0 %", "below")


def test_the_page_shows_the_columns_of_the_expected_only_where_something_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    assert "where the expected is from" not in render([PRODUCT], None, None)
    expecting(monkeypatch, "rate_flops_per_s", 7e14, 6.9e14, 7.5e14)
    page = Page(render([PRODUCT], None, None))
    assert page.says("where the expected is from")
    assert page.says("98.1 % below")
    assert page.says("published 690.0 TFLOP/s to 750.0 TFLOP/s: a table")


def finding(severity: Severity, row: Row | None = None) -> Finding:
    return Finding("rule", severity, f"seen: {severity}", "a cause", "a mend", row)


def test_findings_reach_their_rows_worst_first_also_when_the_row_is_another_object() -> None:
    rows = [COPY, PRODUCT]
    verdict = Verdict((finding("note", replace(PRODUCT)), finding("impossible", PRODUCT), finding("note", REDUCE)), (), 2, 2, 0)
    assert {place: [remark.severity for remark in found] for place, found in remarks(rows, verdict).items()} == {1: ["impossible", "note"]}
    assert remarks(rows, None) == {}


def test_the_verdict_is_told_in_one_sentence_worst_first() -> None:
    verdict = Verdict((finding("note", COPY), finding("warning", COPY), finding("warning", COPY)), (finding("fault"),), 1200, 1000, 60)
    expected = "1 fault, 2 warnings, 1 note: 1,000 of 1,200 rows were held against something, 60 of them against an expected value."
    assert sentence(verdict) == expected
    assert [finding.severity for _, finding in told(verdict)] == ["warning", "warning", "note"]


def test_the_check_stands_near_the_top_with_cause_and_mend_and_marks_the_rows() -> None:
    pytest.importorskip("matplotlib")
    verdict = Verdict((finding("warning", PRODUCT),), (finding("fault"),), 2, 2, 1)
    page = Page(render([PRODUCT, COPY], None, None, verdict=verdict))
    text = " ".join("".join(page.text).split())
    assert text.index("seen: fault") < text.index("Best achieved, against peak")
    assert page.says("Likely: a cause Try: a mend")
    assert "seen: warning" in page.blocks["data-rows"]
