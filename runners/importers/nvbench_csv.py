"""nvbench's CSV: one table for all benchmarks, whose columns are the axes and whatever was told of any case.

The writer quotes nothing, so an axis value with a comma breaks its line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError
from chipassay.results.schema import Row

from .importer import Hints, Imported, provenance, repeats_apart, variant_of
from .nvbench import TOOL, case_columns, timed
from .source import integer, number, quoted, text_of
from .unmapped import Unmapped

FIRST = ["Benchmark", "Device", "Device Name"]
TOLD = re.compile(r".*\((?:sec|bytes|bytes/sec|elem/sec)\)$|Samples|Noise|BWUtil|Clock Rate|Clock Scaling|Relative IQR|.*Walltime.*|.*/s$")
"""Columns that are results. Those before ``Skipped`` that are not among them are axes, and so are later ones of whole numbers or words."""

USED = {"GPU Time (sec)", "Batch GPU (sec)", "Median GPU Time (sec)", "Min GPU Time (sec)", "GlobalMem BW (bytes/sec)", "Clock Rate"}
USED |= {"BWUtil", "Samples", "Skipped"}


def read_csv(path: Path, hints: Hints) -> Imported:
    """Raises FileError when there is no header, naming the line of a mistake."""
    unmapped = Unmapped()
    lines = text_of(path).splitlines()
    start = next((index for index, line in enumerate(lines) if line.split(",")[:3] == FIRST), None)
    if start is None:
        raise FileError(path, f"no header that begins with {','.join(FIRST)}", line=1, mend="give what nvbench wrote with --csv")
    header = lines[start].split(",")
    base = provenance(path, TOOL, None)
    rows: list[Row] = []
    try:
        table = list(csv.reader(io.StringIO("\n".join(lines[start + 1 :])), quoting=csv.QUOTE_NONE))
    except csv.Error as error:
        raise FileError(path, f"broken CSV ({error})", line=start + 2, mend="give the file as nvbench wrote it") from error
    whole = [cells for cells in table if len(cells) == len(header)]
    axes = [index for index in range(3, len(header)) if _is_axis(header, index, whole)]
    for position, cells in enumerate(table, start + 2):
        if not cells or not any(cells):
            continue
        if len(cells) != len(header):
            unmapped.add("lines with another number of cells than the header (a comma in a value, or cut short)", f"line {position}")
            continue
        rows += _rows(header, axes, cells, base, hints, f"line {position}", unmapped)
    if not rows and not unmapped.sentences():
        raise FileError(path, "no case below the header", line=start + 1, mend="give what nvbench wrote with --csv")
    return Imported(repeats_apart(rows), unmapped.sentences())


def _is_axis(header: Sequence[str], index: int, table: Sequence[Sequence[str]]) -> bool:
    name = header[index]
    if name == "Skipped" or TOLD.match(name) or name.endswith(" (pow2)"):
        return False
    skipped = header.index("Skipped") if "Skipped" in header else len(header)
    # Another benchmark's axes come after the results of the first: what has a decimal point there is a result.
    return index < skipped or all(number(cells[index]) is None or integer(cells[index]) is not None for cells in table)


def _rows(
    header: Sequence[str], axes: Sequence[int], cells: Sequence[str], base: Mapping[str, Any], hints: Hints, where: str, unmapped: Unmapped
) -> list[Row]:
    values: dict[str, str] = {}
    samples = []
    for name, text in zip(header, cells, strict=True):
        if name == "Samples" and text:
            samples.append(integer(text))
        values.setdefault(name, text)
    variant = variant_of((header[index], cells[index]) for index in axes if cells[index])
    device = {"id": values["Device"], "name": values["Device Name"]}
    common = {**base, **case_columns(values["Benchmark"], variant, device, hints)}
    if not values["Benchmark"]:
        unmapped.add("lines without a benchmark", where)
        return []
    if values.get("Skipped") == "Yes":
        return [Row(**{**common, "status": "skipped", "reason": "skipped (the CSV does not tell why)"})]
    for index, name in enumerate(header[3:], 3):
        if cells[index] and index not in axes and name not in USED and not name.endswith(" (pow2)"):
            unmapped.add(f"values of {quoted(name)}", where)
    mean_s, median_s = number(values.get("GPU Time (sec)")), number(values.get("Median GPU Time (sec)"))
    batch_s, rate = number(values.get("Batch GPU (sec)")), number(values.get("GlobalMem BW (bytes/sec)"))
    moved = None if rate is None or mean_s is None else float(round(rate * mean_s))
    rows = []
    cold_s = median_s if median_s is not None else mean_s
    if cold_s is not None:
        columns = {
            "time_median_s": cold_s,
            "time_statistic": "mean" if median_s is None else None,
            "time_min_s": number(values.get("Min GPU Time (sec)")),
            "cache": "cold",
            "clock_source": "device",
            "sample_count": samples[0] if samples else None,
            "clock_hz": number(values.get("Clock Rate")),
        }
        rows.append(timed(common, columns, moved))
    if batch_s is not None:
        columns = {"time_median_s": batch_s, "time_statistic": "mean", "cache": "warm", "clock_source": "device", "sample_count": 1}
        rows.append(timed(common, {**columns, "calls_per_sample": samples[-1] if len(samples) > 1 else None}, moved))
    if not rows:
        unmapped.add("cases without a time", where)
    return rows
