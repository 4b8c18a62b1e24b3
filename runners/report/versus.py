"""A comparison made ready for the page: its words, a picture of the changes that matter, and every pair for the table with filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chipassay.results.compare.comparison import PAIR_COLUMNS, VERDICTS, Comparison
from chipassay.results.schema import COLUMNS, KEY_NAMES, TYPES, Row

from .forest import Change, Forest, forest
from .grid import Shown
from .packed import block, packed
from .shape import shape
from .table import kernel_words

if TYPE_CHECKING:
    import pandas

    from ..comparison.view import View

DRAWN = 40
"""Pairs in the picture."""
PAIRS_AT_MOST = 200_000
"""Pairs in the page: 30 MB. Of more, those that are SAME are left out first; ``compare --format csv`` has all."""
TOP = 10
"""Broken rows told above the table."""
NAMES = ("ratio", "ratio_low", "ratio_high", "threshold", "verdict", "row")
_CAST: dict[str, Any] = {"int": int, "bool": bool, "float": float, "str": str}


@dataclass(frozen=True)
class Versus:
    """One comparison on the page. ``number`` keeps the ids of several apart."""

    number: int
    view: View
    forest: Forest
    pairs: str
    """The JSON block."""
    count: int
    left_out: int


def versus(comparison: Comparison, number: int) -> Versus:
    """Everything the page says of one comparison."""
    # Imported late: the words of comparisons are built on this room's.
    from ..comparison.view import view

    pairs, left_out = _shown_pairs(comparison.pairs)
    rows = case_rows(pairs)
    return Versus(
        number=number,
        view=view(comparison, TOP),
        forest=forest(_changes(comparison, pairs, rows)),
        pairs=pairs_block(pairs, rows, f"pairs-{number}"),
        count=len(pairs),
        left_out=left_out,
    )


def plain(column: pandas.Series) -> list[Any]:
    """A column's values as Python's own, None where missing; each different value is looked at once."""
    codes, values = column.factorize()
    own = [value.item() if hasattr(value, "item") else value for value in values]
    return [None if code < 0 else own[code] for code in codes]


def case_rows(pairs: pandas.DataFrame) -> list[Row]:
    """The case of each pair as a row: what the words for shapes are made for."""
    names = [name for name in KEY_NAMES if name in pairs.columns]
    columns = []
    for name in names:
        cast = _CAST[TYPES[name]]
        columns.append([None if value is None else cast(value) for value in plain(pairs[name])])
    return [Row(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)] if names else [Row()] * len(pairs)


def pairs_block(pairs: pandas.DataFrame, rows: Sequence[Row], name: str) -> str:
    """All pairs as a JSON block for ``grid.js``."""
    csv = [column for column in (*KEY_NAMES, *PAIR_COLUMNS) if column in pairs.columns]
    columns = {column: packed(plain(pairs[column])) for column in csv}
    empty = {"text": [None]}, packed([None])
    columns = {column: values for column, values in columns.items() if values not in empty}
    columns["~case"] = packed(_case(row) for row in rows)
    columns["~kernel"] = packed(kernel_words(row) for row in rows)
    docs = {column.name: str(column.metadata["doc"]) for column in COLUMNS} | dict(PAIR_COLUMNS)
    shown = [
        Shown("verdict", "verdict", ("verdict",)),
        Shown("new chip", "text", ("new_chip",)) if _several(columns, "new_chip") else None,
        Shown("which chip", "number", ("device_index",)) if _several(columns, "device_index") else None,
        Shown("operation", "text", ("op",)),
        Shown("case", "case", ("~case",)),
        Shown("dtype", "text", ("dtype",)),
        Shown("kernel", "text", ("~kernel",)),
        Shown("base", "seconds", ("base_time_s",)),
        Shown("new", "seconds", ("new_time_s",)),
        Shown("change", "change", ("ratio", "ratio_low", "ratio_high")),
        Shown("95 % interval", "interval", ("ratio_low", "ratio_high")),
        Shown("clock", "change", ("clock_ratio", "~none", "~none")) if "clock_ratio" in columns else None,
        Shown("to know", "text", ("reason",)) if "reason" in columns else None,
    ]
    facets = [("verdict", "verdict"), ("op", "operation"), ("dtype", "dtype"), ("kind", "kind"), ("new_chip", "chip"), ("broken", "broken")]
    return block(
        {
            "name": "pairs",
            "file": name,
            "count": len(pairs),
            "columns": columns,
            "shown": [one.data() for one in shown if one is not None],
            "facets": [{"column": column, "label": label} for column, label in facets if _several(columns, column)],
            "searched": [column for column in ("verdict", "op", "~case", "dtype", "~kernel", "reason", "new_chip") if column in columns],
            "csv": [column for column in csv if column in columns],
            "docs": {column: docs[column].replace("`", "") for column in csv if column in columns},
        }
    )


def _shown_pairs(pairs: pandas.DataFrame) -> tuple[pandas.DataFrame, int]:
    """The pairs that travel in the page, and how many do not. Slower ones come first, worst first, then the fastest; in the other verdicts
    the order of the base is kept, and what is the SAME comes last and is left out first."""
    import pandas

    order = [*(verdict for verdict in VERDICTS if verdict != "SAME"), "SAME"]
    place = pairs["verdict"].map({verdict: position for position, verdict in enumerate(order)}).fillna(len(order)).astype(int)
    ratio = pandas.to_numeric(pairs["ratio"], errors="coerce").astype(float)
    within = ratio.where(pairs["verdict"] == "FASTER", 0.0).where(pairs["verdict"] != "SLOWER", -ratio)
    kept = pandas.DataFrame({"place": place, "within": within}).reset_index(drop=True).sort_values(["place", "within"], kind="stable")
    return pairs.iloc[kept.index[:PAIRS_AT_MOST]], max(0, len(pairs) - PAIRS_AT_MOST)


def _several(columns: dict[str, Any], name: str) -> bool:
    return "at" in columns.get(name, {})


def _case(row: Row) -> str | None:
    return " ".join(filter(None, (shape(row), row.variant))) or None


def _changes(comparison: Comparison, pairs: pandas.DataFrame, rows: Sequence[Row]) -> list[Change]:
    """The pairs of the picture: slower ones, worst first; then the fastest; then what is unclear, then the largest of the rest."""
    import pandas

    numbers = {name: pandas.to_numeric(pairs[name], errors="coerce") for name in ("ratio", "ratio_low", "ratio_high", "threshold")}
    usable = (numbers["ratio"] > 0) & (numbers["ratio_low"] > 0) & (numbers["ratio_high"] < float("inf"))
    usable &= pairs["verdict"] != "NOT-COMPARABLE"
    table = pandas.DataFrame({**numbers, "verdict": pairs["verdict"], "row": range(len(pairs))})[usable.fillna(False).astype(bool)]
    slower = table[table["verdict"] == "SLOWER"].sort_values("ratio", ascending=False, kind="stable")
    faster = table[table["verdict"] == "FASTER"].sort_values("ratio", kind="stable")
    others = [table[table["verdict"] == verdict].sort_values("ratio", ascending=False, kind="stable") for verdict in ("UNCLEAR", "SAME")]
    # Faster ones have two fifths of the picture at most; what they leave goes to the slower ones, and the other way round.
    first = slower.head(DRAWN - min(len(faster), DRAWN * 2 // 5))
    second = faster.head(DRAWN - len(first))
    chosen = pandas.concat([first, second, *others]).head(DRAWN)
    chosen = chosen.assign(
        place=chosen["verdict"].map({verdict: place for place, verdict in enumerate(("SLOWER", "UNCLEAR", "SAME", "FASTER"))})
    )
    chosen = chosen.sort_values(["place", "ratio"], ascending=[True, False], kind="stable")
    return [
        Change(_label(rows[place]), float(ratio), float(low), float(high), float(threshold), str(verdict))
        for ratio, low, high, threshold, verdict, place in zip(*(chosen[name].tolist() for name in NAMES), strict=True)
    ]


def _label(row: Row) -> str:
    return " ".join(filter(None, ((row.op or "unknown").replace("_", " "), _case(row), row.dtype, kernel_words(row))))
