"""`chipassay report` from the command line: several files, other tools' files, a base to compare with, what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from chipassay.results.schema import Row
from chipassay.results.table import TableWriter
from chipassay.runners.cli import main
from chipassay.runners.report.summary import Summary

from . import sample
from .reading import Page

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

NCCL_TESTS = """\
# nThread 1 nGpus 2 minBytes 8 maxBytes 134217728 step: 2(factor) warmup iters: 5 iters: 20 agg iters: 1 validate: 1 graph: 0
# Using devices
#  Rank  0 Group  0 Pid   1234 on      box device  0 [0x07] NVIDIA A100-SXM4-40GB
#  Rank  1 Group  0 Pid   1234 on      box device  1 [0x0f] NVIDIA A100-SXM4-40GB
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
     1048576        262144     float     sum      -1    25.12   41.74   41.74      0    25.01   41.93   41.93      0
"""


def written(path: Path, rows: Sequence[Row]) -> Path:
    with TableWriter(path) as table:
        for row in rows:
            table.append(row)
    return path


@pytest.fixture
def rows() -> list[Row]:
    """A few rows with raw samples."""
    chosen = [row for row in sample.rows() if row.status == "ok" and row.op in ("matmul", "copy")][:8]
    return [replace(row, samples_s=tuple((row.time_median_s or 1.0) * (1 + 0.001 * (i % 5)) for i in range(30))) for row in chosen]


def slower(rows: Sequence[Row], factor: float) -> list[Row]:
    return [
        replace(
            row, run_id="later", time_median_s=(row.time_median_s or 0.0) * factor, samples_s=tuple(s * factor for s in row.samples_s or ())
        )
        for row in rows
    ]


def test_a_base_makes_a_comparison_with_verdicts_in_the_page(tmp_path: Path, rows: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    base, new = written(tmp_path / "base.csv", rows), written(tmp_path / "new.csv", slower(rows, 1.5))
    out = tmp_path / "r.html"
    assert main(["report", str(new), "--base", str(base), "-o", str(out), "--no-check", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"report": str(out), "rows": len(rows), "comparisons": 1, "check": None}
    page = Page(out.read_text(encoding="utf-8"))
    assert page.says(f"SLOWER {len(rows)}")
    assert set(page.blocks) == {"data-rows", "data-pairs-1"}


def test_the_check_of_the_rows_is_in_the_page_unless_it_is_left_out(tmp_path: Path, rows: list[Row]) -> None:
    path, out = written(tmp_path / "a.csv", rows), tmp_path / "r.html"
    assert main(["report", str(path), "-o", str(out)]) == 0
    assert "check" in Page(out.read_text(encoding="utf-8")).ids
    assert main(["report", str(path), "-o", str(out), "--no-check"]) == 0
    assert "check" not in Page(out.read_text(encoding="utf-8")).ids


def test_other_tools_files_stand_beside_ours(tmp_path: Path, rows: list[Row]) -> None:
    log = tmp_path / "all_reduce_perf.log"
    log.write_text(NCCL_TESTS, encoding="utf-8")
    out = tmp_path / "r.html"
    assert main(["report", str(written(tmp_path / "a.csv", rows)), str(log), "-o", str(out), "--no-check"]) == 0
    page = Page(out.read_text(encoding="utf-8"))
    assert page.says("NVIDIA A100-SXM4-40GB")
    assert page.says("all-reduce nccl nccl-tests")
    assert page.says("mean time")


def test_rows_that_all_failed_still_make_a_page_that_says_why(tmp_path: Path) -> None:
    rows = [replace(row, status="error", reason="the driver went away", time_median_s=None) for row in sample.rows()[:3]]
    out = tmp_path / "r.html"
    assert main(["report", str(written(tmp_path / "a.csv", rows)), "-o", str(out), "--no-check"]) == 0
    assert Page(out.read_text(encoding="utf-8")).says("the driver went away")


def test_a_base_that_is_not_there_is_named(tmp_path: Path, rows: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.csv", rows)
    assert main(["report", str(path), "--base", str(tmp_path / "gone.csv"), "-o", str(tmp_path / "r.html")]) == 2
    assert "gone.csv" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_a_run_keeps_its_measurements_when_the_report_cannot_be_written(tmp_path: Path) -> None:
    from chipassay.runners.commands.report import write_page

    told = write_page(sample.rows()[:2], sample.profile(), Summary(), tmp_path / "gone" / "r.html")
    assert told is not None
    assert told.startswith("not written: ")
