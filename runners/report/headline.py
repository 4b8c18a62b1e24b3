"""The headline table: the best that each operation and dtype achieved, against the chip's peak and against what is expected of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from chipassay.results.best import best_rows
from chipassay.results.beyond_cache import beyond_cache, cold_first
from chipassay.results.catalogue import load_chips
from chipassay.results.operations import limited_by, place
from chipassay.results.profile import Level
from chipassay.results.schema import Row
from chipassay.results.units import bandwidth, rate, seconds, share

from ..check.expected import expectation
from ..check.finding import Expectation
from .shape import shape, unusual_arithmetic
from .table import FIGURES, kernel_words
from .words_between import pattern_words

SHOWN_AT_MOST = 120
"""Lines; benchmarks of other tools may have thousands of names."""
UNITS: dict[str, Callable[[float], str]] = {"flops_per_s": rate, "bytes_per_s": bandwidth, "time": seconds}


@dataclass(frozen=True)
class Headline:
    """One line: the best of a kind of case on one chip. ``level`` and ``source`` are those of the expected value."""

    chip: str
    operation: str
    dtype: str
    case: str
    achieved: str
    of_peak: str
    peak_share: float | None
    peak_level: str
    expected: str = ""
    bounds: str = ""
    """Between which values a row of a healthy chip lies."""
    of_expected: str = ""
    verdict: str = ""
    level: Level | None = None
    source: str = ""


def headlines(rows: Sequence[Row]) -> list[Headline]:
    """The lines in the order of telling, chip by chip."""
    groups: dict[tuple[str, tuple[int, str], str, str, str], list[Row]] = {}
    for row in rows:
        if row.status == "ok" and row.beside is None and (row.time_median_s or FIGURES[limited_by(row)].of(row)):
            key = (row.chip_id or "unknown chip", place(row.op or ""), row.op or "unknown", _kind(row), row.dtype or "")
            groups.setdefault(key, []).append(row)
    order = {chip: position for position, chip in enumerate(dict.fromkeys(key[0] for key in groups))}
    found = []
    for key in sorted(groups, key=lambda key: (order[key[0]], *key[1:])):
        best = _best(groups[key])
        if best is not None:
            found.append(_line(best))
    return found


def _kind(row: Row) -> str:
    """What tells rows of an operation and dtype so far apart that one best of them would mean nothing."""
    backward = row.direction if row.direction not in (None, "forward") else None
    scaling = None if row.scaling is None else f"scales {row.scaling.replace('_', ' ')}"
    launch = row.launch if limited_by(row) == "overhead" else None
    transport = row.backend if limited_by(row) == "collective" else None
    path = None if row.path is None else row.path.replace("_", " ")
    # Where there is no time there is no case to be fastest in: a tool that tells bandwidths alone (nvbandwidth) has a line for each test.
    measured_by = row.tool if row.time_median_s else row.kernel
    return " ".join(filter(None, (backward, scaling, unusual_arithmetic(row), path, row.host_memory, launch, transport, measured_by)))


def _best(group: Sequence[Row]) -> Row | None:
    """The best correct row; what came out of a cache or is above a physical limit does not count where there is anything else."""
    kind = limited_by(group[0])
    if kind == "memory":
        group = list(filter(beyond_cache, group)) or cold_first(group)
    elif kind == "collective":
        ranks = max(row.group_size or 0 for row in group)
        group = [row for row in cold_first(group) if row.group_size == ranks and row.launch != "graph"] or list(group)
    else:
        group = cold_first(group)
    figure = FIGURES[kind].of
    known = [row for row in best_rows(group) or group if figure(row)]
    if not known:
        return min(best_rows(group), key=lambda row: row.time_median_s or 0.0, default=None)
    choose = min if kind == "overhead" else max
    return choose(known, key=lambda row: figure(row) or 0.0)


def _line(row: Row) -> Headline:
    figure = FIGURES[limited_by(row)]
    value = figure.of(row)
    peak, level = _peak_share(row, value)
    of_peak = "" if peak is None else share(peak)
    name = pattern_words(row.op) if limited_by(row) == "collective" else (row.op or "unknown").replace("_", " ")
    line = Headline(
        chip=row.chip_id or "unknown chip",
        operation=" ".join(filter(None, (name, _kind(row)))),
        dtype=row.dtype or "",
        case=", ".join(filter(None, (shape(row), row.variant, kernel_words(row)))),
        achieved=seconds(row.time_median_s or 0.0) if not value else figure.text(value) + (" a kernel" if figure.measure == "s" else ""),
        of_peak=of_peak,
        peak_share=peak,
        peak_level=level,
    )
    expected = expectation(row)
    return line if expected is None else _held_against(line, row, expected)


def _held_against(line: Headline, row: Row, expected: Expectation) -> Headline:
    """The line with what should be seen, and how the row compares. The share is of speed: below 100 % is slower, also for times."""
    value = getattr(row, expected.metric, None)
    is_time = expected.metric.startswith("time")
    words = next((words for ending, words in UNITS.items() if ending in expected.metric), "{:.4g}".format)
    bounds = f"{words(expected.low)} to {words(expected.high)}" if math.isfinite(expected.high) else f"{words(expected.low)} and more"
    line = replace(line, expected=words(expected.value), bounds=bounds, level=expected.level, source=expected.source)
    if not isinstance(value, int | float) or not value or not expected.value:
        return line
    slow, fast = (value > expected.high, value < expected.low) if is_time else (value < expected.low, value > expected.high)
    of_expected = expected.value / value if is_time else value / expected.value
    return replace(line, of_expected=share(of_expected), verdict="below" if slow else "above" if fast else "in range")


def _peak_share(row: Row, value: float | None) -> tuple[float | None, str]:
    """The row's own share of its peak; of a row that has none (another tool's) the share of the catalogue's peak."""
    if row.peak_fraction is not None:
        return row.peak_fraction, row.peak_evidence or "assumed"
    chip = load_chips().get(row.chip_id or "")
    if chip is None or not value:
        return None, ""
    kind = limited_by(row)
    peak = (
        chip.peak_flops_per_s.get(row.dtype or "") if kind == "compute" else chip.memory_bandwidth_bytes_per_s if kind == "memory" else None
    )
    return (value / peak, chip.evidence.level) if peak else (None, "")
