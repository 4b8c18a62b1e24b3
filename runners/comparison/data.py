"""A comparison as data: CSV with one line a pair, and strict JSON. Written by chunks, so that a million pairs need no second copy."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from chipassay.results.cells import to_text
from chipassay.results.compare.comparison import PAIR_COLUMNS, Comparison, Settings, Side
from chipassay.results.schema import KEY_NAMES

if TYPE_CHECKING:
    import pandas

CHUNK_ROWS = 20_000
SIDES = ("base", "new")
_encoded = json.JSONEncoder(allow_nan=False).encode
"""Made once: ``json.dumps`` makes a new encoder for each of a million pairs."""


def write_csv(comparisons: Sequence[Comparison], file: TextIO) -> None:
    """One line a pair: the names of both sides, the case, and every column of PAIR_COLUMNS. Cells as in a results CSV: empty is unknown,
    floats keep every digit, text that a spreadsheet would take for a formula has a quote before it."""
    columns = [*KEY_NAMES, *PAIR_COLUMNS]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*SIDES, *columns])
    for comparison in comparisons:
        names = [to_text(side.name) for side in (comparison.base, comparison.new)]
        for chunk in _chunks(comparison.pairs):
            chunk = chunk.reindex(columns=columns)
            writer.writerows(zip(*([name] * len(chunk) for name in names), *(_texts(chunk[name]) for name in columns), strict=True))


def _texts(column: pandas.Series) -> list[str]:
    """Cells of one column as text."""
    if column.dtype.kind == "f":
        return ["" if math.isnan(value) else repr(value) for value in column.to_numpy(dtype=float, na_value=math.nan).tolist()]
    # Each different value is told once: most columns of a case have few.
    codes, values = column.factorize()
    texts = [*(to_text(_plain(value)) for value in values), ""]
    return [texts[code] for code in codes]


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's own type."""
    return value.item() if hasattr(value, "item") else value


def _chunks(frame: pandas.DataFrame) -> Iterator[pandas.DataFrame]:
    for begin in range(0, len(frame), CHUNK_ROWS):
        yield frame.iloc[begin : begin + CHUNK_ROWS]


def write_json(comparisons: Sequence[Comparison], file: TextIO) -> None:
    """``{"comparisons": [...]}``. A pair's ``case`` has the columns that are known, and only those; its other
    fields are always there, null where unknown or infinite."""
    file.write('{"comparisons": [\n')
    for position, comparison in enumerate(comparisons):
        file.write(",\n" if position else "")
        _write_one(comparison, file)
    file.write("\n]}\n")


def _write_one(comparison: Comparison, file: TextIO) -> None:
    from chipassay.results.compare.summary import counts

    fields = {
        "base": _side(comparison.base),
        "new": _side(comparison.new),
        "settings": _settings(comparison.settings),
        "counts": {name: int(count) for name, count in counts(comparison).items()},
        "notes": list(comparison.notes),
    }
    file.write("{" + "".join(f"{json.dumps(name)}: {dumped(value)},\n" for name, value in fields.items()))
    file.write('"pairs": [')
    _write_records(comparison.pairs, file)
    file.write('],\n"unmatched": [')
    _write_records(comparison.unmatched, file)
    file.write("]}")


def _write_records(frame: pandas.DataFrame, file: TextIO) -> None:
    first = True
    for chunk in _chunks(frame):
        case_names = [name for name in KEY_NAMES if name in chunk.columns and chunk[name].notna().any()]
        other_names = [str(name) for name in chunk.columns if name not in KEY_NAMES]
        cases = _values(chunk, case_names)
        others = _values(chunk, other_names)
        lines = []
        for case, other in zip(cases, others, strict=True):
            known = {name: value for name, value in zip(case_names, case, strict=True) if value is not None}
            lines.append(_encoded({"case": known, **dict(zip(other_names, other, strict=True))}))
        file.write(("\n" if first else ",\n") + ",\n".join(lines))
        first = False


def _values(frame: pandas.DataFrame, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Rows of Python's own values; missing and not finite ones are None, as strict JSON has no NaN."""
    columns = []
    for name in names:
        column = frame[name].astype(object)
        columns.append([_json(value) for value in column.where(column.notna(), None)])
    return list(zip(*columns, strict=True)) if columns else [()] * len(frame)


def _json(value: Any) -> Any:
    value = _plain(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _side(side: Side) -> dict[str, Any]:
    return {"name": side.name, "files": list(side.files), "chips": list(side.chips), "runs": side.runs, "rows": side.rows}


def _settings(settings: Settings) -> dict[str, Any]:
    return {
        "alpha": settings.alpha,
        "thresholds": dict(settings.thresholds),
        "normalised": settings.normalised,
        "ignored": list(settings.ignored),
    }


def dumped(value: Any) -> str:
    """Strict JSON of plain Python values: what is not finite becomes null.

    >>> dumped({"a": [float("nan"), 1.5]})
    '{"a": [null, 1.5]}'
    """
    return _encoded(_strict(value))


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return _json(value)
