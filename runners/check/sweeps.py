"""Quantities of rows among others of their sweep: they need no baseline, and no factor that all rows share moves them."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from chipassay.results import units
from chipassay.results.operations import STREAM_OPS
from chipassay.results.schema import KEY_NAMES

from .figure import beyond_cache
from .quantity import Quantity, Seen, by_name, of_rows
from .table import Span, Table

SIZED = ("elements", "size_bytes")
SWEPT = (*STREAM_OPS, "read", "transfer")
"""Operations of one size beside the collectives."""
NEXT_SIZE = 8.0
"""Sizes further apart are no neighbours."""
_SAME = attrgetter("run_id", "chip_id", "host_hash", "device_index", *(name for name in KEY_NAMES if name not in SIZED))


@dataclass(frozen=True)
class Point:
    index: int
    size: float
    span: Span
    first_of_tool: bool
    """nccl-tests warms up once, not for each size: its first one carries the rest of it."""


def sweeps(table: Table) -> list[list[Point]]:
    """Rows that differ in their size alone, by size; at least two."""
    return table.once("sweeps", lambda: list(_sweeps(table)))


def _sweeps(table: Table) -> Iterator[list[Point]]:
    groups: dict[tuple[Any, ...], list[tuple[float, int]]] = defaultdict(list)
    for index, row in enumerate(table.rows):
        collective = table.kinds[index] == "collective"
        size = row.size_bytes if collective else row.bytes
        # What a cache may hold is another thing than the memory: bandwidth falls where a sweep leaves it.
        fits = collective or (row.op in SWEPT and (row.op == "transfer" or beyond_cache(row, table.chips[index])))
        if size and size > 0 and fits and row.status == "ok":
            groups[_SAME(row)].append((float(size), index))
    for members in groups.values():
        points: dict[float, Point] = {}
        for position, (size, index) in enumerate(members):
            span = table.span(index)
            if span is not None:
                points[size] = Point(index, size, span, position == 0 and table.rows[index].tool is not None)
        if len(points) > 1:
            yield [points[size] for size in sorted(points)]


def dip(table: Table) -> Iterator[Seen]:
    """Share by which bandwidth surely falls from one size of a sweep to the next (both times at the favourable end of their interval)."""
    for sweep in sweeps(table):
        for before, after in itertools.pairwise(sweep):
            most, least = after.size / after.span.low_s, before.size / before.span.high_s
            yield _against(table, after, before, 1 - most / least)


def latency_fall(table: Table) -> Iterator[Seen]:
    """Share by which the time surely falls from one size of a sweep to the next, larger one."""
    for sweep in sweeps(table):
        for before, after in itertools.pairwise(sweep):
            if not before.first_of_tool:
                yield _against(table, before, after, 1 - after.span.high_s / before.span.low_s)


def neighbour_ratio(table: Table) -> Iterator[Seen]:
    """Time over what the two neighbouring sizes make expect, on a line between them in logarithms; noise in the row's favour."""
    for sweep in sweeps(table):
        for before, here, after in zip(sweep, sweep[1:], sweep[2:], strict=False):
            if here.size <= NEXT_SIZE * before.size and after.size <= NEXT_SIZE * here.size:
                part = math.log(here.size / before.size) / math.log(after.size / before.size)
                line_s = before.span.high_s ** (1 - part) * after.span.high_s**part
                yield _against(table, here, before, here.span.low_s / line_s)


def _against(table: Table, point: Point, other: Point, value: float) -> Seen:
    def words() -> dict[str, str]:
        figure = table.figures[other.index]
        return {
            "size": units.size(point.size),
            "other": units.size(other.size),
            "time": units.seconds(point.span.time_s),
            "other_time": units.seconds(other.span.time_s),
            "other_what": figure.words if figure else units.seconds(other.span.time_s),
        }

    return Seen(value, point.index, table.names[point.index], words)


_FIELDS = ("size", "other", "time", "other_time", "other_what")

QUANTITIES: Mapping[str, Quantity] = by_name(of_rows(dip, *_FIELDS), of_rows(latency_fall, *_FIELDS), of_rows(neighbour_ratio, *_FIELDS))
