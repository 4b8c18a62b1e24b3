"""Rows as columns: what a comparison needs of them, a million at a time, read from our CSVs or taken from rows.

A column of few different values is read as categories, so that each value is checked once and not once a row. Whatever looks wrong in
the fast reading is read again by ``table.iterate_rows``, whose error names line and column.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from ..cells import from_text
from ..errors import FileError, InputError
from ..schema import KEY_NAMES, SCHEMA_VERSION, TYPES, Row
from ..table import iterate_rows

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
"""Raw samples: a part in ten million is far below what any clock tells them apart by, and a million rows hold a hundred million."""
Ints = NDArray[np.int64]

METHOD_NAMES = ("tool", "method_version", "data", "time_statistic", "clock_source", "native")
"""Columns that two rows must agree in to be comparable at all."""
WORDS = (
    *("schema_version", "run_id", "chip_id", "device_index", *KEY_NAMES, *METHOD_NAMES),
    *("status", "reason", "flags", "throttled", "throttle_reasons", "clock_method", "peak_evidence", "round_count"),
)
"""Columns of few different values."""
NUMBERS = (
    *("time_median_s", "time_low_s", "time_high_s", "clock_hz", "peak_fraction"),
    *("bandwidth_bytes_per_s", "busbw_bytes_per_s", "flops", "bytes"),
)
STRICT_BELOW_BYTES = 2**22
"""Smaller files are read row by row: that takes a second at most."""
CHUNK_ROWS = 50_000
BATCH_CELLS = 10_000
"""Cells of samples parsed at once: with 128 samples each that is 30 MB of text."""
BLOCK_BYTES = 2**24
"""Of a file looked at at once."""
EXACT: dict[str, Any] = {} if int(pandas.__version__.partition(".")[0]) >= 3 else {"float_precision": "round_trip"}
"""Floats to the last bit: the default from pandas 3 on, which warns of the option."""


@dataclass(frozen=True)
class Columns:
    """``frame``: one line a row, WORDS as categories of their typed values, NUMBERS as floats with NaN for unknown, and ``file``, the
    position of its file in ``files``. Line i has the samples ``samples_s[starts[i]:starts[i + 1]]``, in time order."""

    name: str
    files: tuple[str, ...]
    frame: pandas.DataFrame
    samples_s: Singles
    starts: Ints

    def __len__(self) -> int:
        return len(self.frame)


def read_columns(paths: Sequence[str | Path], name: str | None = None) -> Columns:
    """Our CSVs as columns. ``name``: what to call them; None: the paths.

    Raises FileError as ``table.iterate_rows`` does, InputError when together they hold no row.
    """
    called = name or ", ".join(map(str, paths))
    parts = [_read(Path(path)) for path in paths]
    found = joined(*parts, name=called) if len(parts) != 1 else parts[0]
    if not len(found):
        raise InputError(f"{called}: no row in there; measure some with `chipassay run`")
    return found


def _read(path: Path) -> Columns:
    try:
        large = path.stat().st_size >= STRICT_BELOW_BYTES
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of a results CSV") from error
    fast = _read_fast(path) if large else None
    return fast if fast is not None else columns_of_rows(iterate_rows(path), str(path))


def columns_of_rows(rows: Iterable[Row], name: str) -> Columns:
    """Rows as columns."""
    words: dict[str, list[Any]] = {column: [] for column in WORDS}
    numbers: dict[str, list[float]] = {column: [] for column in NUMBERS}
    samples: list[Singles] = []
    counts = [0]
    for row in rows:
        for column, values in words.items():
            values.append(getattr(row, column))
        for column, floats in numbers.items():
            value = getattr(row, column)
            floats.append(np.nan if value is None else float(value))
        samples.append(np.asarray(row.samples_s or (), dtype=np.float32))
        counts.append(len(samples[-1]))
    frame = {column: pandas.Series(pandas.Categorical(pandas.Series(values, dtype=object))) for column, values in words.items()}
    frame |= {column: pandas.Series(values, dtype=np.float64) for column, values in numbers.items()}
    frame["file"] = pandas.Series(np.zeros(len(samples), dtype=np.int64))
    flat: Singles = np.concatenate(samples) if samples else np.zeros(0, dtype=np.float32)
    return Columns(name, (name,), pandas.DataFrame(frame), flat, np.cumsum(counts, dtype=np.int64))


def joined(*parts: Columns, name: str | None = None) -> Columns:
    """Several as one, in order."""
    frames: list[pandas.DataFrame] = []
    files: list[str] = []
    for part in parts:
        frames.append(part.frame.assign(file=part.frame["file"] + len(files)))
        files += part.files
    frame = {column: _joined_column([part[column] for part in frames]) for column in frames[0]} if frames else {}
    counts = np.concatenate([np.diff(part.starts) for part in parts]) if parts else np.zeros(0, dtype=np.int64)
    return Columns(
        name=name or ", ".join(part.name for part in parts),
        files=tuple(files),
        frame=pandas.DataFrame(frame),
        samples_s=np.concatenate([part.samples_s for part in parts]) if parts else np.zeros(0, dtype=np.float32),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def _joined_column(parts: Sequence[pandas.Series]) -> pandas.Series:
    if not isinstance(parts[0].dtype, pandas.CategoricalDtype):
        return pandas.concat(list(parts), ignore_index=True)
    values = dict.fromkeys(value for part in parts for value in part.cat.categories)
    known = pandas.Index(list(values), dtype=object)
    # The last place of each table is that of code -1, an unknown value.
    tables = [np.append(known.get_indexer(part.cat.categories), -1) for part in parts]
    codes = np.concatenate([table[part.cat.codes.to_numpy()] for table, part in zip(tables, parts, strict=True)])
    return pandas.Series(pandas.Categorical.from_codes(codes, categories=known))


def _read_fast(path: Path) -> Columns | None:
    """A large file; None where anything is unusual and the strict reader has to say what."""
    try:
        header = _header(path)
        if header is None:
            return None
        words, numbers = [n for n in WORDS if n in header], [n for n in NUMBERS if n in header]
        samples = ["samples_s"] if "samples_s" in header else []
        last = header[-1]
        read_csv: Any = pandas.read_csv  # its stubs are those of one version
        chunks = read_csv(
            path,
            usecols=list(dict.fromkeys([*words, *numbers, *samples, last])),
            dtype={
                **dict.fromkeys([*words, last, *samples], "category"),
                **dict.fromkeys(samples, object),
                **dict.fromkeys(numbers, np.float64),
            },
            na_values={n: [""] for n in numbers},
            keep_default_na=False,
            chunksize=CHUNK_ROWS,
            engine="c",
            **EXACT,
            encoding="utf-8",
            skip_blank_lines=False,
        )
        parts = [_typed(chunk, words, numbers, bool(samples), last) for chunk in chunks]
    except (ValueError, UnicodeDecodeError, pandas.errors.ParserError):
        return None
    if not parts or any(part is None for part in parts):
        return None
    found = joined(*(part for part in parts if part is not None), name=str(path))
    return Columns(str(path), (str(path),), found.frame.assign(file=np.zeros(len(found), dtype=np.int64)), found.samples_s, found.starts)


def _header(path: Path) -> list[str] | None:
    """The names in the first line of a file that has nothing unusual about it, as far as can be told without reading cells."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.find(b"\n")
        if end < 0 or content[-1:] != b"\n" or content.find(b"\0") >= 0 or content.find(b"\r") >= 0:
            return None
        header = content[:end].decode("utf-8").split(",")
        usual = {"op", "status"} <= set(header) and len(set(header)) == len(header)
        if not usual or not all(name in TYPES or name.startswith("x_") for name in header) or not _rectangular(content, len(header)):
            return None
    return header


def _rectangular(content: mmap.mmap, width: int) -> bool:
    """Whether all lines together have the cells that so many lines have: pandas fills up a line with fewer and says nothing, but it does
    not take one with more."""
    begin, size = 0, len(content)
    while begin < size:
        end = content.rfind(b"\n", begin, begin + BLOCK_BYTES) + 1
        if end <= begin:
            return False  # a line longer than a block
        block = np.frombuffer(content[begin:end], dtype=np.uint8)
        commas, ends = block == ord(","), block == ord("\n")
        if content.find(b'"', begin, end) >= 0:
            outside = np.cumsum(block == ord('"'), dtype=np.int32) % 2 == 0
            commas &= outside
            ends &= outside
        if not ends[-1] or np.count_nonzero(commas) != np.count_nonzero(ends) * (width - 1):
            return False
        begin = end
    return True


def _typed(chunk: pandas.DataFrame, words: Sequence[str], numbers: Sequence[str], sampled: bool, last: str) -> Columns | None:
    """One chunk with typed values; None for a line with too few cells, an empty op or status, a newer schema.

    Raises ValueError for a cell that is not of its type.
    """
    if isinstance(chunk[last].dtype, pandas.CategoricalDtype) and chunk[last].isna().any():
        return None
    frame: dict[str, Any] = {}
    for name in WORDS:
        if name not in words:
            frame[name] = pandas.Series(pandas.Categorical([None] * len(chunk), categories=pandas.Index([], dtype=object)))
            continue
        cells = chunk[name].array
        if cells.isna().any():
            return None
        typed = np.empty(len(cells.categories), dtype=object)
        typed[:] = [from_text(name, str(text)) for text in cells.categories]
        frame[name] = pandas.Series(_of_codes(typed, np.asarray(cells.codes)))
    versions = [v for v in frame["schema_version"].cat.categories if v is not None]
    if any(v > SCHEMA_VERSION for v in versions) or frame["op"].isna().any() or frame["status"].isna().any():
        return None
    for name in NUMBERS:
        values = chunk[name].to_numpy(np.float64) if name in numbers else np.full(len(chunk), np.nan)
        if ((values < 0) | np.isinf(values)).any():
            return None
        frame[name] = pandas.Series(values)
    frame["file"] = pandas.Series(np.zeros(len(chunk), dtype=np.int64))
    flat, counts = _samples(chunk["samples_s"].tolist() if sampled else [""] * len(chunk))
    return Columns("", ("",), pandas.DataFrame(frame), flat, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def _of_codes(typed: NDArray[Any], codes: NDArray[Any]) -> pandas.Categorical:
    """A categorical of these values; equal ones become one category, None becomes missing."""
    places, kept = pandas.factorize(pandas.Series(list(typed), dtype=object), use_na_sentinel=True)
    return pandas.Categorical.from_codes(places[codes], categories=pandas.Index(list(kept), dtype=object))


def _samples(cells: list[str]) -> tuple[Singles, Ints]:
    """All samples of the cells in a row, and how many each has. Raises ValueError for what is no number."""
    counts = np.array([cell.count(" ") + 1 if cell else 0 for cell in cells], dtype=np.int64)
    parts = [_numbers(list(filter(None, cells[begin : begin + BATCH_CELLS]))) for begin in range(0, len(cells), BATCH_CELLS)]
    values = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
    if len(values) != counts.sum() or not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError("a sample is not a number")
    return values, counts


def _numbers(cells: list[str]) -> Singles:
    """The numbers in cells of numbers: pandas parses text more than twice as fast as NumPy does."""
    if not cells:
        return np.zeros(0, dtype=np.float32)
    text = io.StringIO("\n".join(cells).replace(" ", "\n"))
    read_csv: Any = pandas.read_csv
    column = read_csv(text, header=None, dtype=np.float64, engine="c", skip_blank_lines=False, **EXACT)
    if column.shape[1] != 1:
        raise ValueError("a sample is not a number")
    return column[0].to_numpy(np.float32)
