"""Which rows measure the memory and not the cache, although the cache was evicted before: what is written may stay in it."""

from __future__ import annotations

from collections.abc import Sequence

from .operations import STREAM_OPS
from .schema import Row

BEYOND_CACHE = 4.0
"""Bytes moved over the size of the last-level cache: at least four times it (McCalpin, run rules of STREAM)."""
HARDLY_CACHED = 1 / 16
"""Below this share of the cache a call's time is its overhead, not its bytes."""


def beyond_cache(row: Row) -> bool:
    """Whether the row moved too much to find it in the cache. A row that does not know its cache is believed, unless it says ``warm``.

    >>> beyond_cache(Row(op="adam", bytes=2.0**20, cache="cold", last_level_cache_bytes=2**25))
    False
    """
    return row.cache != "warm" and (row.bytes or 0.0) >= BEYOND_CACHE * (row.last_level_cache_bytes or 0)


def measures_memory(row: Row) -> bool:
    """Whether the row's bandwidth is called the memory's.

    >>> measures_memory(Row(op="copy", bytes=2.0**20, cache="cold", last_level_cache_bytes=2**25))
    False
    """
    return row.op in STREAM_OPS and beyond_cache(row)


def measures_overhead(row: Row) -> bool:
    """Whether the row moves so little that its time shows what a call costs."""
    cache_bytes = row.last_level_cache_bytes or 0
    return row.op in STREAM_OPS and row.cache != "warm" and (row.bytes or 0.0) <= HARDLY_CACHED * cache_bytes


def cold_first(rows: Sequence[Row]) -> list[Row]:
    """The rows without those that found their data in the cache; all of them where there are no others.

    >>> [row.cache for row in cold_first([Row(cache="cold"), Row(cache="warm")])]
    ['cold']
    """
    return [row for row in rows if row.cache != "warm"] or list(rows)
