"""DeepBench's spreadsheets: a small workbook in the layout of the real ones, its numbers from DeepBench_NV_P100.xlsx (da81ba7)."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.errors import FileError, InputError
from chipassay.results.schema import Row
from chipassay.runners.importers.deepbench import read
from chipassay.runners.importers.importer import Hints, recognise

openpyxl = pytest.importorskip("openpyxl", reason="openpyxl, the extra deepbench, is not installed")

PRODUCTS = [
    *([], ["Dense Matrix Multiplication", None, "M", "N", "K", "A Transpose", "B Transpose", None, "Time (msec)", "TERAFLOPS"]),
    [None, None, 1760, 16, 1760, "N", "N", None, 0.055, 1.80224],
    [None, None, 1760, 7133, 1760, "N", "T", "(both matrices are 2560x7133)", 5.014, 8.813394814519345],
]
CONVOLUTIONS = [
    *([], ["Convolution"]),
    [None, None, "W", "H", "C", "N", "K ", "R", "S", "pad_h", "pad_w", "Vertical stride", "Horizontal stride", "Forward (msec)"],
    [None, None, 700, 161, 1, 4, 32, 5, 20, 0, 0, 2, 2, 0.154],
    [None, None, 700, 161, 1, 8, 32, 5, 20, 0, 0, 2, 2, 0.27],
]
ALL_REDUCES = [
    ["All-Reduce", None, "Size # floats", "# chips / accelerator cards", None, None, "Mean All Reduce Time (msec)", None, "Gigabytes/sec"],
    [],
    [None, None, 100000, 2, None, None, 0.101933665, None, 7.848241304774041],
    [None, None, 100000, 16, 2, None, 0.46385865000000004, None, 13.797306571732573],
]
ALL_REDUCES[0].append("Selected Algorithm")
for line in ALL_REDUCES[2:]:
    line.append("NCCL 2.0 MPI")
SPECS = [["GPU Model", "NVIDIA Tesla P100"], ["CUDA Version", "8.0.88"], ["OpenMPI Version"], ["Nvidia Driver", 375.66]]


def workbook(path: Path, *lines: list[Any], precision: str = "Float", specs: list[list[Any]] = SPECS) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Results FP32"
    for cells in (["Precision", precision], *lines):
        sheet.append(cells)
    described = book.create_sheet("Specs")
    for cells in specs:
        described.append(cells)
    book.save(path)
    return path


def one(path: Path, *lines: list[Any], **others: Any) -> Row:
    (row,) = read(workbook(path, *lines, **others), Hints()).rows
    return row


def test_products_and_all_reduces_become_rows_and_the_rest_is_counted(tmp_path: Path) -> None:
    path = workbook(tmp_path / "p100.xlsx", *PRODUCTS, *CONVOLUTIONS, *ALL_REDUCES)
    importer = recognise(path)
    assert importer is not None
    assert importer.kind == "deepbench"
    imported = importer.read(path, Hints())
    assert [row.op for row in imported.rows] == ["matmul", "matmul", "all_reduce", "all_reduce"]
    assert imported.unmapped == ("Convolution: no such operation here (2 times, first in Results FP32, row 9)",)
    for row in imported.rows:
        assert (row.tool, row.device_name, row.libraries, row.driver) == ("deepbench", "NVIDIA Tesla P100", "cuda=8.0.88", "375.66")
        assert (row.time_statistic, row.device_kind, row.status) == ("mean", "cuda", "ok")


def test_a_product_has_the_time_and_rate_of_the_sheet(tmp_path: Path) -> None:
    row = one(tmp_path / "p.xlsx", *PRODUCTS[:3])
    assert (row.dtype, row.math_mode, row.time_median_s) == ("fp32", "ieee", pytest.approx(55e-6))
    assert row.rate_flops_per_s == pytest.approx(1.80224e12)
    assert row.flags is None


def test_a_remark_of_the_sheet_stays_with_its_row(tmp_path: Path) -> None:
    row = one(tmp_path / "p.xlsx", *PRODUCTS[:2], PRODUCTS[3])
    assert "(both matrices are 2560x7133)" in (row.reason or "")


def as_stored(buffer: Any, letter: str, rows: int, columns: int) -> Any:
    """The matrix (rows x columns) that a buffer holds, row by row as written (n) or transposed (t): what ``layout`` means."""
    return buffer.reshape(columns, rows).T if letter == "t" else buffer.reshape(rows, columns)


@pytest.mark.parametrize("transposes", ["NN", "NT", "TN"])
def test_column_by_column_products_are_told_row_by_row(tmp_path: Path, transposes: str) -> None:
    m, n, k = 2, 3, 4
    row = one(tmp_path / "p.xlsx", PRODUCTS[1], [None, None, m, n, k, *transposes, None, 1.0])
    assert row.m is not None
    assert row.n is not None
    assert row.k is not None
    a, b = np.arange(m * k, dtype=float).reshape(m, k), np.arange(k * n, dtype=float).reshape(k, n) - 5
    # BLAS keeps op(X) = X or X' in memory, column by column, and writes C so, too.
    in_memory = {name: (x.T if letter == "T" else x).ravel("F") for name, x, letter in zip("ab", (a, b), transposes, strict=True)}
    first, second = row.layout or ""
    ours = as_stored(in_memory["b"], first, row.m, row.k) @ as_stored(in_memory["a"], second, row.k, row.n)
    assert np.array_equal(ours.ravel("C"), (a @ b).ravel("F"))


def test_a_rate_that_does_not_follow_from_the_time_is_flagged(tmp_path: Path) -> None:
    row = one(tmp_path / "p.xlsx", PRODUCTS[1], [*PRODUCTS[2][:9], 2.5])
    assert "2.5 TFLOP/s" in (row.flags or "")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("GEMM, Conv: Int8 multiplication, 32 bit accumulation", "int8"),
        ("Int8 inputs 32 bit math", "int8"),
        ("16 bit inputs, 16 bit multiplication, 32 bit addition", "fp16"),
        ("16 bit inputs, 32 bit multiplication, 32 bit addition", "fp16"),
    ],
)
def test_the_words_for_precision_name_a_type(tmp_path: Path, precision: str, dtype: str) -> None:
    row = one(tmp_path / "p.xlsx", *PRODUCTS[:3], precision=precision)
    assert (row.dtype, row.math_mode) == (dtype, None)


def test_all_reduce_counts_bytes_and_servers(tmp_path: Path) -> None:
    small, large = read(workbook(tmp_path / "p.xlsx", *ALL_REDUCES), Hints(fabric="pcie")).rows
    assert (small.size_bytes, small.group_size, small.node_count, small.fabric) == (400_000, 2, None, "pcie")
    assert (large.group_size, large.node_count, large.fabric, large.backend, large.kernel) == (16, 2, "network", "nccl", "NCCL 2.0 MPI")
    # The sheet's rate counts the message of every chip: 16 S / t. busbw is 2 * 15 / 16 S / t.
    assert large.busbw_bytes_per_s == pytest.approx(13.797306571732573e9 / 16 * 2 * 15 / 16)


def test_lines_without_a_time_or_of_unknown_precision_are_counted(tmp_path: Path) -> None:
    imported = read(workbook(tmp_path / "p.xlsx", *PRODUCTS[:2], PRODUCTS[2][:8], ALL_REDUCES[0], ALL_REDUCES[2][:4]), Hints())
    assert [sentence.split(" (")[0] for sentence in imported.unmapped] == [
        "product without a time",
        "all-reduce without size, chips or time",
    ]
    assert read(workbook(tmp_path / "q.xlsx", *PRODUCTS, precision="posit"), Hints()).unmapped[0].startswith("product of unknown precision")


def test_the_same_product_twice_is_two_runs(tmp_path: Path) -> None:
    first, second = read(workbook(tmp_path / "p.xlsx", *PRODUCTS[:3], PRODUCTS[2]), Hints()).rows
    assert first.run_id != second.run_id


def test_a_hint_says_which_chip_where_the_name_does_not(tmp_path: Path) -> None:
    path = workbook(tmp_path / "p.xlsx", *PRODUCTS)
    assert {row.chip_id for row in read(path, Hints(chip_id="p100-pcie-16gb")).rows} == {"p100-pcie-16gb"}
    t4 = workbook(tmp_path / "t4.xlsx", *PRODUCTS, specs=[["GPU Model", "NVIDIA T4"]])
    assert {row.chip_id for row in read(t4, Hints(chip_id="p100-pcie-16gb")).rows} == {"t4-pcie-16gb"}


def test_without_openpyxl_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook(tmp_path / "p.xlsx", *PRODUCTS)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"pip install chipassay\[deepbench\]"):
        read(path, Hints())


def test_another_workbook_is_refused_and_not_recognised(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["Budget", 12, 13])
    book.save(tmp_path / "other.xlsx")
    assert recognise(tmp_path / "other.xlsx") is None
    openpyxl.Workbook().save(tmp_path / "empty.xlsx")
    with pytest.raises(FileError, match="without any table of DeepBench"):
        read(tmp_path / "empty.xlsx", Hints())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return workbook(tmp_path_factory.mktemp("whole") / "w.xlsx", *PRODUCTS, *ALL_REDUCES).read_bytes()


@settings(derandomize=True, max_examples=60, deadline=None)
@given(cut=st.integers(0, 6000), junk=st.binary(min_size=1, max_size=40), end=st.booleans())
def test_any_damage_is_a_named_error_or_a_full_read(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, cut: int, junk: bytes, end: bool
) -> None:
    path = tmp_path_factory.mktemp("damage") / "r.xlsx"
    path.write_bytes(whole[:cut] if end else whole[:cut] + junk + whole[cut + len(junk) :])
    recognise(path)
    with contextlib.suppress(FileError):
        assert len(read(path, Hints()).rows) <= 4


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04", b"\x00" * 100, io.BytesIO(b"text").getvalue()):
        (tmp_path / "r.xlsx").write_bytes(content)
        with pytest.raises(FileError, match=r"r\.xlsx: is no whole workbook"):
            read(tmp_path / "r.xlsx", Hints())
