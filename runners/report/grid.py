"""The big table as data for ``grid.js``: all rows, the columns it shows at first, what it filters by. No HTML is made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chipassay.results.operations import limited_by
from chipassay.results.schema import COLUMNS, Row

from .findings import Remark
from .packed import block, packed
from .shape import shape
from .table import FIGURES, kernel_words, marks

LEFT_OUT = ("schema_version", "samples_s", "sample_clocks_hz", "rank_times_s")
"""Columns that stay in the CSV: raw samples are most of a file, and none of them can be read in a table."""


@dataclass(frozen=True)
class Shown:
    """A column of the table: what it is called, how ``grid.js`` writes it, and the packed columns that it reads (the first sorts)."""

    label: str
    kind: str
    columns: tuple[str, ...]

    def data(self) -> dict[str, Any]:
        return {"label": self.label, "kind": self.kind, "columns": self.columns}


def rows_block(rows: Sequence[Row], remarks: Mapping[int, Sequence[Remark]]) -> str:
    """All rows as a JSON block. ``remarks``: what a check found, by the row's place."""
    columns = {column.name: packed(getattr(row, column.name) for row in rows) for column in COLUMNS if column.name not in LEFT_OUT}
    empty = {"text": [None]}, packed([None])
    columns = {name: column for name, column in columns.items() if column not in empty}
    own = [FIGURES[limited_by(row)] for row in rows]
    columns |= {
        "~case": packed(_case(row) for row in rows),
        "~kernel": packed(kernel_words(row) for row in rows),
        "~figure": packed(figure.of(row) for figure, row in zip(own, rows, strict=True)),
        "~unit": packed(figure.measure for figure in own),
        "~marks": packed(_marks(row, remarks.get(place, ())) for place, row in enumerate(rows)),
    }
    if remarks:
        columns["~check"] = packed(_severity(remarks.get(place, ())) for place in range(len(rows)))
        columns["~found"] = packed(
            "\t".join(f"{remark.severity}: {remark.words}" for remark in remarks.get(place, ())) or None for place in range(len(rows))
        )
    return block(
        {
            "name": "rows",
            "count": len(rows),
            "columns": columns,
            "shown": [shown.data() for shown in _shown(columns)],
            "facets": [
                {"column": name, "label": label}
                for name, label in FACETS
                if name in columns and ("at" in columns[name] or len(columns[name].get("text", ())) > 1)
            ],
            "searched": [name for name in SEARCHED if name in columns],
            "csv": [column.name for column in COLUMNS if column.name in columns],
            "docs": {column.name: str(column.metadata["doc"]).replace("`", "") for column in COLUMNS if column.name in columns},
        }
    )


FACETS = (
    ("chip_id", "chip"),
    ("device_index", "which chip"),
    ("op", "operation"),
    ("dtype", "dtype"),
    ("status", "status"),
    ("~check", "check"),
    ("tool", "tool"),
)
"""(column, name) of what can be chosen from a list."""
SEARCHED = (
    "chip_id",
    "device_name",
    "op",
    "~case",
    "variant",
    "dtype",
    "~kernel",
    "status",
    "~marks",
    "~found",
    "reason",
    "tool",
    "run_id",
)
"""Columns in which the text filter looks."""


def _shown(columns: Mapping[str, object]) -> list[Shown]:
    def several(name: str) -> bool:
        return name in columns and "at" in str(columns[name])

    shown = [
        Shown("chip", "text", ("chip_id",)) if several("chip_id") else None,
        Shown("which chip", "number", ("device_index",)) if several("device_index") else None,
        Shown("operation", "text", ("op",)),
        Shown("case", "case", ("~case",)),
        Shown("dtype", "text", ("dtype",)),
        Shown("kernel", "text", ("~kernel",)),
        Shown("tool", "text", ("tool",)),
        Shown("time", "seconds", ("time_median_s",)),
        Shown("achieved", "figure", ("~figure", "~unit")),
        Shown("share of peak", "peak", ("peak_fraction", "peak_evidence")),
        Shown("status and notes", "status", ("status", "~marks", "~found", "reason")),
        Shown("p05 to p95", "spread", ("time_p05_s", "time_p95_s")),
        Shown("share of roofline", "share", ("roofline_fraction",)),
    ]
    return [one for one in shown if one is not None and (one.columns[-1] in columns or one.columns[0] in columns)]


def _case(row: Row) -> str | None:
    return " ".join(filter(None, (shape(row), row.variant))) or None


def _marks(row: Row, remarks: Sequence[Remark]) -> str | None:
    told = {remark.words for remark in remarks}
    return "\t".join(mark for mark in marks(row) if mark not in told) or None


def _severity(remarks: Sequence[Remark]) -> str:
    return remarks[0].severity if remarks else "ok"
