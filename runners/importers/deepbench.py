"""DeepBench's published spreadsheets (``results/**/*.xlsx`` of baidu-research/DeepBench): dense products and all-reduce.

Its sheets stack tables under each other, each begun by its title in column A. Convolutions, recurrent layers and sparse products have
no operation here and are counted as unmapped.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError, InputError
from chipassay.results.schema import Row

from .importer import Hints, Imported, Importer, chip_columns, provenance, repeats_apart
from .unmapped import Unmapped

TOOL = "deepbench"
PRODUCTS, ALL_REDUCE = "Dense Matrix Multiplication", "All-Reduce"

MARK = PRODUCTS.encode()
MARK_WITHIN = 2**22
"""Bytes of each part of a workbook that are searched for the title of its first table; the real ones' texts have 5,000."""

FLOPS_TOLERANCE = 0.02
"""The sheets print the rate beside the time: where the two differ by more, one of them was not measured on this shape, and the row
says so. Times are cut to whole microseconds, which stays within it from 50 us on."""

MICROSECOND_MS = 1e-3

ROWS, COLUMNS = 10_000, 64
"""What is read of a sheet; the real ones have 384 rows of 22 columns. A cell far out would else make a million rows of 16,384."""

MEND = "give a spreadsheet as DeepBench publishes it (results/*/*.xlsx)"

Cells = tuple[Any, ...]


@dataclass(frozen=True)
class Line:
    """One line of a table: where it stands, its title, what the columns are called, the cells."""

    sheet: str
    number: int
    title: str
    precision: str
    columns: Mapping[str, int]
    cells: Cells

    @property
    def where(self) -> str:
        return f"{self.sheet}, row {self.number}"

    def cell(self, begin: str) -> Any:
        """The cell of the column whose name begins so; None where there is no such column."""
        place = next((place for name, place in self.columns.items() if name.startswith(begin)), None)
        return None if place is None or place >= len(self.cells) else self.cells[place]

    def number_at(self, begin: str) -> float | None:
        """A positive number, or None: an empty cell, a word, a spreadsheet's error."""
        value = self.cell(begin)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf else None

    def whole_at(self, begin: str) -> int | None:
        value = self.number_at(begin)
        return int(value) if value is not None and value == int(value) else None


def recognises(path: Path, head: bytes) -> bool:
    """A zip archive with a workbook inside whose texts, kept apart or in the sheets, name DeepBench's first table."""
    if not head.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [name for name in archive.namelist() if name == "xl/sharedStrings.xml" or name.startswith("xl/worksheets/")]
            return any(MARK in archive.open(name).read(MARK_WITHIN) for name in parts)
    except Exception:  # a damaged archive fails in a dozen ways; whatever it is, it is not known here
        return False


def read(path: Path, hints: Hints) -> Imported:
    """One row a product and all-reduce with a time. Raises FileError for what is no workbook, InputError without openpyxl."""
    sheets = _sheets(path)
    specs = _specs(sheets)
    common = {**provenance(path, TOOL, None), **_machine(specs, hints), "time_statistic": "mean", "status": "ok"}
    unmapped, rows = Unmapped(), []
    for line in _lines(sheets):
        if line.title == PRODUCTS:
            row = _product(line, common, unmapped)
        elif line.title == ALL_REDUCE:
            row = _all_reduce(line, common, unmapped, hints)
        else:
            row = None
            unmapped.add(f"{line.title}: no such operation here", line.where)
        if row is not None:
            rows.append(row)
    if not rows and not unmapped.sentences():
        raise FileError(path, "is a workbook without any table of DeepBench", mend=MEND)
    return Imported(repeats_apart(rows), unmapped.sentences())


def _sheets(path: Path) -> dict[str, list[Cells]]:
    """Every sheet's cells, as values: formulas by the result that was saved with them. Nothing is evaluated."""
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(f"{path}: reading spreadsheets needs openpyxl; pip install chipassay[deepbench]") from error
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of an existing file") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of extensions that openpyxl leaves out: looks, not cells
            book = openpyxl.load_workbook(io.BytesIO(content), data_only=True, read_only=True)
            return {sheet.title: list(sheet.iter_rows(values_only=True, max_row=ROWS, max_col=COLUMNS)) for sheet in book.worksheets}
    except Exception as error:  # zip, XML and openpyxl itself fail each in their own ways
        raise FileError(path, f"is no whole workbook ({type(error).__name__})", mend=MEND) from error


def _specs(sheets: Mapping[str, Sequence[Cells]]) -> dict[str, str]:
    """The sheet that describes the machine: name -> text, in the spelling of the sheet but for its letters' case."""
    lines = [cells for title, sheet in sheets.items() if "spec" in title.lower() for cells in sheet]
    filled = [[str(cell).strip() for cell in cells if cell is not None] for cells in lines]
    return {cells[0].lower(): " ".join(cells[1].split()) for cells in filled if len(cells) > 1 and cells[1] not in ("", "-")}


def _machine(specs: Mapping[str, str], hints: Hints) -> dict[str, Any]:
    device_name = next((specs[name] for name in ("gpu model", "cpu model", "cpu") if name in specs), None)
    kind = "rocm" if "rocm version" in specs else "cuda" if "cuda version" in specs else "cpu" if device_name else None
    versions = {name.removesuffix(" version").replace(" ", "-"): value for name, value in specs.items() if name.endswith(" version")}
    boards = ("linux-kernel", "bios", "hca")
    return {
        **chip_columns(hints, device_name, kind),
        "driver": specs.get("nvidia driver"),
        "libraries": ";".join(f"{name}={value.replace(';', ',')}" for name, value in versions.items() if name not in boards) or None,
        "clock_source": "host",  # std::chrono around all calls, in every program of code/
    }


def _lines(sheets: Mapping[str, Sequence[Cells]]) -> Iterator[Line]:
    """The lines of all tables that hold numbers. A table begins with its title in column A; the next line of words names its columns."""
    for sheet, lines in sheets.items():
        if "spec" in sheet.lower():
            continue
        title, precision = "", ""
        columns: dict[str, int] = {}
        for number, cells in enumerate(lines, 1):
            first = str(cells[0]).strip() if cells and cells[0] is not None else ""
            if first.lower() == "precision":
                precision = " ".join(str(cell) for cell in cells[1:] if cell is not None)
                continue
            if first:
                title, columns = first, {}
            words = {str(cell).strip(): place for place, cell in enumerate(cells) if place > 0 and isinstance(cell, str)}
            numbers = sum(isinstance(cell, int | float) for cell in cells[1:])
            if title and not columns and len(words) > 1 and not numbers:
                columns = words
            elif title and numbers > 1:
                yield Line(sheet, number, title, precision, columns, cells)


def _dtype(precision: str) -> str | None:
    """The element type of products, from the sheet's words for it; None for words that are not known."""
    words = precision.lower()
    if "int8" in words:
        return "int8"
    if "16 bit inputs" in words:
        return "fp16"
    return "fp32" if words.strip() == "float" else None


def _product(line: Line, common: Mapping[str, Any], unmapped: Unmapped) -> Row | None:
    """C = op(A) op(B), all three column by column as BLAS has them (rocBLAS, cuBLAS, MKL, gemmlowp: code/*/gemm_bench*).

    Row by row that is C' = op(B)' op(A)': M and N change places, and so do the two letters of the layout.
    """
    rows, columns, terms = (line.whole_at(name) for name in ("M", "N", "K"))
    time_ms, dtype = line.number_at("Time (msec)"), _dtype(line.precision)
    letters = [str(line.cell(f"{matrix} Transpose") or "").strip().lower() for matrix in "BA"]
    if time_ms is None:
        unmapped.add("product without a time", line.where)
        return None
    if dtype is None:
        unmapped.add(f"product of unknown precision {line.precision[:60]!r}", line.where)
        return None
    if rows is None or columns is None or terms is None or not set(letters) <= {"n", "t"}:
        unmapped.add("product without whole M, N, K and transposes of N or T", line.where)
        return None
    time_s, flops = time_ms * 1e-3, 2.0 * rows * columns * terms
    notes = [f"column by column, M={rows} N={columns} K={terms}", line.precision]
    flags = []
    printed = next((p * s for n, s in (("TERAFLOPS", 1e12), ("GIGAFLOPS", 1e9)) if (p := line.number_at(n)) is not None), None)
    if printed is not None and abs(printed * time_s / flops - 1) > FLOPS_TOLERANCE:
        flags.append(f"the sheet prints {printed / 1e12:.4g} TFLOP/s, which is not 2 M N K over its time")
    if line.number_at("Padded Kernels"):
        notes.append("sides padded to multiples of 4")
    remark = next((cell for cell in line.cells[1:] if isinstance(cell, str) and cell.startswith("(")), None)
    if remark:
        notes.append(f"remark in the sheet: {remark}")
    return Row(
        **common,
        op="matmul",
        m=columns,
        n=rows,
        k=terms,
        layout="".join(letters),
        dtype=dtype,
        math_mode="ieee" if dtype == "fp32" else None,
        kernel="DeepBench gemm",
        chip_count=1,
        node_count=1,
        fabric="single",
        time_median_s=time_s,
        flops=flops,
        rate_flops_per_s=flops / time_s,
        flags=";".join(flags) or None,
        reason="; ".join(notes),
    )


def _all_reduce(line: Line, common: Mapping[str, Any], unmapped: Unmapped, hints: Hints) -> Row | None:
    """All-reduce of fp32. The sheet's own rate counts every chip's message; it is not used."""
    from chipassay.collectives.pattern import patterns

    elements, ranks, time_ms = line.whole_at("Size # floats"), line.whole_at("#"), line.number_at("Mean All Reduce Time (msec)")
    if elements is None or ranks is None or time_ms is None:
        unmapped.add("all-reduce without size, chips or time", line.where)
        return None
    way = str(line.cell("Selected Algorithm") or "").strip()
    # One process a node where the heading says so; else the column beside the chips, which has no heading, holds the servers.
    counted = next(name for name in line.columns if name.startswith("#"))
    beside = line.cells[line.columns[counted] + 1]
    nodes = ranks if "node" in counted else beside if isinstance(beside, int) else hints.node_count
    size_bytes, time_s = 4 * elements, time_ms * 1e-3
    algbw = size_bytes / time_s
    return Row(
        **common,
        op="all_reduce",
        dtype="fp32",
        elements=elements,
        size_bytes=size_bytes,
        group_size=ranks,
        chip_count=ranks,
        node_count=nodes,
        fabric="network" if nodes is not None and nodes > 1 else hints.fabric,
        backend=(re.split(r"[\s\d]", way.lower(), maxsplit=1)[0] or None) if way else None,
        kernel=way or None,
        time_median_s=time_s,
        algbw_bytes_per_s=algbw,
        busbw_bytes_per_s=algbw * patterns()["all_reduce"].bus_factor(ranks),
    )


IMPORTER = Importer("deepbench", "spreadsheets of DeepBench (.xlsx; needs chipassay[deepbench])", recognises, read)
