"""The results of a sweep as a CSV that is appended to row by row: what is in it survives whatever ends the sweep."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO

from chipassay.results.errors import FileError

from ..writing import write_text

STATUSES = ("ok", "refused", "failed")
"""``refused``: the model says why there is no figure. ``failed``: something broke; done again when the sweep is run again."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row. What is asked for stands first, as the sweep writes it; empty cells are unknown, or were left to chipassay."""

    key: str
    """Of all inputs, down to the contents of the files they name, and of the version of chipassay: rows of one key are the same."""
    model: str
    seq_len: int
    cluster: str
    link: str
    """What if a chip had another link, network, memory or power."""
    batch: int | None
    """Sequences a step; empty: about four million tokens."""
    dtype: str | None
    plan: str
    price: str
    """CHIP=USD per chip and hour; empty: as the cluster's file says, or the median of quotes."""
    tokens: float | None
    status: str
    reason: str
    plan_found: str = ""
    """In the form that --plan takes; of several kinds of chips in words."""
    batch_found: int | None = None
    dtype_found: str = ""
    chips: int | None = None
    """That work."""
    step_time_s: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    """80 % interval of the step time."""
    tokens_per_s: float | None = None
    mfu: float | None = None
    """Attention counted in full; of one kind of chips alone."""
    hfu: float | None = None
    memory_bytes: int | None = None
    """Of the fullest chip; there too where a plan does not fit."""
    memory_limit_bytes: int | None = None
    evidence: str = ""
    """The weakest of what the prediction rests on."""
    usd_per_hour: float | None = None
    usd_per_million_tokens: float | None = None
    price_found: str = ""
    """The price behind the money, with its quotes."""
    days: float | None = None
    """For the tokens, without failures."""
    days_low: float | None = None
    days_high: float | None = None
    usd: float | None = None
    joules_per_token: float | None = None
    kwh: float | None = None
    """For the tokens, building included; of one kind of chips alone."""
    notes: str = ""
    """What a mix of chips has to be told of: numerics beside each other, older chips that slow it down."""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is none of {', '.join(STATUSES)}")

    @property
    def title(self) -> str:
        """What this is, for the progress."""
        parts = (self.model, self.cluster, self.link, f"batch {self.batch}" if self.batch else "", self.dtype, self.plan)
        return ", ".join(part for part in parts if part)

    @property
    def short(self) -> str:
        """The outcome in a few words."""
        if self.step_time_s is None:
            return f"{self.status}: {self.reason}"
        return f"{self.step_time_s:.4g} s a step, {self.tokens_per_s:.4g} tokens/s ({self.plan_found})"


COLUMNS = tuple(field.name for field in fields(Result))


def _cells(result: Result) -> dict[str, str]:
    return {name: _cell(getattr(result, name)) for name in COLUMNS}


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def read_results(path: Path) -> dict[str, Mapping[str, str]]:
    """The rows of a sweep's CSV by key, the later of two of one key; a last row that was cut off is left out.

    Raises FileError for a file that is none of a sweep.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the CSV of a sweep") from error
    except UnicodeDecodeError as error:
        raise FileError(path, "not text in UTF-8, so no CSV of a sweep", mend="choose another -o") from error
    return _rows(path, text)


def _rows(path: Path, text: str) -> dict[str, Mapping[str, str]]:
    whole = text[: text.rfind("\n") + 1]
    if not whole and not ",".join(COLUMNS).startswith(text):
        raise FileError(path, "no CSV of a sweep, so nothing is appended to it", mend="choose another -o")
    found: dict[str, Mapping[str, str]] = {}
    lines = csv.reader(io.StringIO(whole, newline=""))
    try:
        header = next(lines, None)
        if header is not None and tuple(header) != COLUMNS:
            raise FileError(
                path, "not the columns of a sweep of this version, so nothing is appended to it", line=1, mend="choose another -o"
            )
        for cells in lines:
            if len(cells) != len(COLUMNS):
                mend = "take the line out, and run the sweep again"
                raise FileError(path, f"{len(cells)} cells where {len(COLUMNS)} belong", line=lines.line_num, mend=mend)
            row = dict(zip(COLUMNS, cells, strict=True))
            found[row["key"]] = row
    except csv.Error as error:
        raise FileError(path, f"not CSV ({error})", line=lines.line_num, mend="choose another -o") from error
    return found


class Appender:
    """The CSV open for appending, by one sweep at a time. A row is in the file when ``append`` returns.

    Raises FileError where the file cannot be written, is another's, or another sweep is writing to it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = path.open("a+", encoding="utf-8", newline="")
        except OSError as error:
            raise FileError(path, f"cannot be written ({error.strerror})", mend="choose another -o") from error
        try:
            self._lock()
            self.rows = read_results(path)
            """Those that were there already, by key."""
            self._begin()
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FileError(self._path, "another sweep is writing to it", mend="wait for it, or choose another -o") from error

    def _begin(self) -> None:
        """Cut off a half-written last row, and write the header into a file that has none."""
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        whole = self._path.read_bytes().rfind(b"\n") + 1
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)
        if not whole:
            self._writer.writeheader()
            self._file.flush()

    def append(self, results: Iterable[Result]) -> None:
        """Write rows, and hand them to the system at once."""
        try:
            for result in results:
                self._writer.writerow(_cells(result))
            self._file.flush()
        except OSError as error:
            raise FileError(self._path, f"cannot be written ({error.strerror})", mend="make room, and run the sweep again") from error

    def __enter__(self) -> Appender:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def sort_results(path: Path, keys: Sequence[str]) -> None:
    """Write the rows again in the order of ``keys``, one a key; rows of other keys stay, after them."""
    rows = read_results(path)
    order = {key: place for place, key in enumerate(keys)}
    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows.values(), key=lambda row: order.get(row["key"], len(order))))
    write_text(path, written.getvalue())
