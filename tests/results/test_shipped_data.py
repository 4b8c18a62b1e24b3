"""All data that ships is in order, and what would not be is found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from chipassay.results import data_check
from chipassay.results.data_check import collectives_problems, kernels_problems, problems, text_problems
from chipassay.results.errors import FileError
from chipassay.results.published_cases import (
    COLLECTIVES_CSV,
    KERNELS_CSV,
    load_published_collectives,
    load_published_kernels,
)
from chipassay.results.rows_check import row_problems, rows_problems
from chipassay.results.schema import Row
from chipassay.results.table import TableWriter
from chipassay.runners.suites import load_suite, names
from chipassay.scaling.models import load_model, preset_names

from .changed_tables import changed


def test_all_shipped_data_is_in_order() -> None:
    assert problems() == []


def test_every_preset_is_a_model() -> None:
    assert len(preset_names()) >= 25
    for name in preset_names():
        assert load_model(name).parameters > 1e8


def test_every_suite_loads_and_asks_a_gpu_for_something() -> None:
    for name in names():
        load_suite(name, "cpu")  # a CPU has no siblings to be compared
        assert load_suite(name, "cuda").wanted, name


def test_the_long_tables_stay_small() -> None:
    assert all(path.stat().st_size < 700_000 for path in data_check.DATA.glob("*.csv"))


def test_products_of_deepbench_are_row_by_row() -> None:
    """Its sheets lay matrices column by column: M = 5124, N = 700, K = 2048, NN is our 700 x 5124 x 2048."""
    found = [row for row in load_published_kernels() if "DeepBench" in row.source]
    assert len(found) == 1600
    p100 = [row for row in found if row.chip_id == "p100-pcie-16gb" and row.dtype == "fp32"]
    first = p100[0]  # the sheet's first line: 1760, 16, 1760, N, N, 0.055 ms, 1.802 TFLOP/s
    assert (first.m, first.n, first.k, first.layout, first.time_s, first.rate_flops_per_s) == (16, 1760, 1760, "nn", 5.5e-5, 1.802e12)
    assert {row.layout for row in found} == {"nn", "nt", "tn"}


def test_reference_points_are_in_the_tables() -> None:
    """Figures as their sources print them: 8 GPUs of a DGX-1V 122 GB/s (GTC24), an H200 node 480 (ml-engineering), BabelStream on H100."""
    busbw = {(row.chip_id or row.chip_name, row.busbw_bytes_per_s) for row in load_published_collectives() if row.group_size == 8}
    assert {("V100-SXM", 1.22e11), ("h200-sxm-141gb", 4.8e11), ("h800-sxm-80gb", 2.15e11)} <= busbw
    assert ("h100-sxm-80gb", "triad", 2.97e12) in {(row.chip_id, row.op, row.bandwidth_bytes_per_s) for row in load_published_kernels()}


@pytest.mark.parametrize(("value", "words"), [("3e14", "above the dense peak"), ("9e11", "rate x time is not 2 m n k")])
def test_a_rate_that_cannot_be_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, words: str) -> None:
    path = changed(KERNELS_CSV, tmp_path, "rate_flops_per_s", value, "p100-pcie-16gb,,matmul,fp32")
    monkeypatch.setattr(data_check, "KERNELS_CSV", path)
    assert any(words in problem for problem in kernels_problems())


def test_a_bus_bandwidth_without_its_factor_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = changed(COLLECTIVES_CSV, tmp_path, "busbw_bytes_per_s", "2.04e10", "a100-sxm-80gb,,all_reduce,,4,1")
    monkeypatch.setattr(data_check, "COLLECTIVES_CSV", path)
    assert len(list(collectives_problems())) == 1


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("chip_id", "p100", "'p100' is not one of"),
        ("source", "", "empty, but every row needs it"),
        ("dtype", "float", "'float' is not one of"),
        ("m", "1_6", "not a number: '1_6'"),
        ("rate_flops_per_s", "-1", "not a finite number of at least 0"),
        ("evidence", "guessed", "'guessed' is not one of published"),
    ],
)
def test_a_cell_that_is_not_of_its_column_is_named(tmp_path: Path, column: str, value: str, words: str) -> None:
    with pytest.raises(FileError, match=words) as caught:
        load_published_kernels(changed(KERNELS_CSV, tmp_path, column, value, "p100-pcie-16gb,,matmul,fp32"))
    assert caught.value.field == column


def test_formulas_and_rows_that_stand_twice_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("id,note\n1,=cmd()\n2,a\n2,a\n3,\x1b[2J\n")
    monkeypatch.setattr(data_check, "DATA", tmp_path)
    found = "\n".join(text_problems())
    assert "row 2: '=cmd()' begins like a formula" in found
    assert "row 4: stands there twice" in found
    assert "row 5: '\\\\x1b[2J'" in found


GOOD = Row(
    op="all_reduce",
    status="ok",
    chip_id="v100-sxm2-16gb",
    measured_at_utc="2026-01-02T03:04:05Z",
    size_bytes=1000,
    group_size=4,
    sample_count=3,
    samples_s=(1.0, 2.0, 3.0),
    time_min_s=1.0,
    time_p05_s=1.1,
    time_p25_s=1.5,
    time_median_s=2.0,
    time_p75_s=2.5,
    time_p95_s=2.9,
    time_low_s=1.0,
    time_high_s=3.0,
    flops=10.0,
    rate_flops_per_s=5.0,
    bytes=20.0,
    bandwidth_bytes_per_s=10.0,
    algbw_bytes_per_s=500.0,
    busbw_bytes_per_s=750.0,  # 2 (4 - 1) / 4 of it
)


def test_a_row_that_agrees_with_itself_is_in_order() -> None:
    assert list(row_problems(GOOD)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chip_id": "v101"}, "'v101' is no chip"),
        ({"measured_at_utc": "yesterday"}, "not ISO 8601"),
        ({"time_p95_s": 1.9}, "time_p75_s 2.5 is above time_p95_s 1.9"),
        ({"time_p05_s": 2.2}, "time_p05_s 2.2 is above time_p25_s 1.5"),
        ({"time_low_s": 2.1}, "time_low_s 2.1 is above time_median_s 2"),
        ({"sample_count": 2}, "samples_s has 3 of 2 samples"),
        ({"rate_flops_per_s": 6.0}, "rate_flops_per_s is 6, its inputs give 5"),
        ({"bandwidth_bytes_per_s": 11.0}, "bandwidth_bytes_per_s is 11"),
        ({"algbw_bytes_per_s": 501.0}, "algbw_bytes_per_s is 501"),
        ({"busbw_bytes_per_s": 500.0}, "busbw_bytes_per_s is 500, its inputs give 750"),
        ({"status": "error"}, "is error without a reason"),
        ({"time_median_s": None}, "is ok without a time"),
    ],
)
def test_a_row_that_contradicts_itself_is_told(changes: dict[str, object], words: str) -> None:
    assert any(words in problem for problem in row_problems(dataclasses.replace(GOOD, **changes)))  # type: ignore[arg-type]


def test_a_case_that_stands_twice_in_a_run_is_told(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "rows.csv") as table:
        table.extend([GOOD, GOOD])
    assert [words.split(": ")[1] for words in rows_problems(tmp_path / "rows.csv")] == ["the same case of the same run stands here twice"]
