"""The one figure of a row that a limit or an expectation is of, whatever tool it came from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chipassay.results import units
from chipassay.results.beyond_cache import BEYOND_CACHE
from chipassay.results.catalogue import Chip
from chipassay.results.link import bus_factor
from chipassay.results.operations import limited_by
from chipassay.results.schema import Row

RATE, BANDWIDTH, BUSBW = "rate_flops_per_s", "bandwidth_bytes_per_s", "busbw_bytes_per_s"
LAST_CACHE_BYTES = {"rocm": 256 * 2**20}
"""Where neither row nor catalogue knows the last-level cache: the MI300X has 256 MB of Infinity Cache behind its L2, and no other known
chip of its kind has more."""


@dataclass(frozen=True)
class Figure:
    """``metric``: the column of the results table that ``value`` is of."""

    metric: str
    value: float

    @property
    def words(self) -> str:
        """With its unit."""
        return in_words(self.metric, self.value)


def in_words(metric: str, value: float) -> str:
    """A value of a metric for people.

    >>> in_words("busbw_bytes_per_s", 4.8e11)
    '480.0 GB/s'
    """
    return units.rate(value) if metric == RATE else units.bandwidth(value)


def flops_of(row: Row) -> float | None:
    """FLOPs of one call; of a plain product by its edges where the row does not say.

    >>> flops_of(Row(op="matmul", m=2, n=3, k=4))
    48.0
    """
    if row.flops is not None:
        return row.flops or None
    return 2.0 * row.m * row.n * row.k if row.op == "matmul" and row.m and row.n and row.k else None


def figure(row: Row) -> Figure | None:
    """The rate of arithmetic, the bus bandwidth of a collective, the bandwidth of the others; None where the row holds none.

    >>> figure(Row(op="copy", status="ok", bytes=8e9, time_median_s=1.0)).words
    '8.00 GB/s'
    """
    if row.status != "ok":
        return None
    kind, time_s = limited_by(row), row.time_median_s
    value: float | None
    if kind == "compute":
        metric, value, work = RATE, row.rate_flops_per_s, flops_of(row)
    elif kind == "collective":
        metric, value, work = BUSBW, row.busbw_bytes_per_s, None
        # A tool that tells a time and no bandwidth does so on purpose: it is another time (nccl-tests -C).
        told = row.tool is None or row.algbw_bytes_per_s is not None
        if row.size_bytes and (row.group_size or 0) > 1 and row.op and told:
            work = row.size_bytes * bus_factor(row.op, row.group_size or 2)
    elif kind == "overhead":
        return None
    else:
        metric, value, work = BANDWIDTH, row.bandwidth_bytes_per_s, row.bytes
    if value is None and work and time_s:
        value = work / time_s
    return Figure(metric, value) if value is not None and value > 0 and math.isfinite(value) else None


def cache_bytes(row: Row, chip: Chip | None) -> float:
    """The last-level cache: what the row says, else the most that it can be."""
    if row.last_level_cache_bytes is not None:
        return float(row.last_level_cache_bytes)
    return max((chip.last_cache_bytes or 0.0) if chip else 0.0, LAST_CACHE_BYTES.get(row.device_kind or "", 0))


def beyond_cache(row: Row, chip: Chip | None) -> bool:
    """Whether so much was moved that the memory must have been at work. Tools that do not tell a size are believed.

    >>> beyond_cache(Row(op="copy", bytes=2.0**20, last_level_cache_bytes=2**25), None)
    False
    """
    if row.bytes is None:
        return row.cache != "warm" and row.tool is not None
    return row.cache != "warm" and row.bytes >= BEYOND_CACHE * cache_bytes(row, chip)


def host_copy(row: Row) -> bool:
    """Whether the row is a copy between host and device that nothing shares the link with, from memory the device reads by itself.

    >>> host_copy(Row(op="transfer", path="host_to_device", host_memory="pinned", bytes=2.0**30))
    True
    """
    alone = row.variant is None or not {"ways=both", "gpus=all"} & set(row.variant.split(";"))
    pinned = row.host_memory == "pinned" or (row.host_memory is None and row.tool is not None)
    large = row.bytes is None or row.bytes >= LARGE_COPY_BYTES
    return row.op == "transfer" and row.path in ("host_to_device", "device_to_host") and alone and pinned and large


LARGE_COPY_BYTES = 16 * 2**20
"""At 25 GB/s 0.7 ms: a copy's fixed cost of some 10 us no longer counts."""


def chips_of_copy(row: Row) -> tuple[str, str] | None:
    """The two chips that a device-to-device copy went between; None for a copy within one, or with more of them.

    >>> chips_of_copy(Row(op="transfer", path="device_to_device", variant="from=0;to=1"))
    ('0', '1')
    """
    if row.op != "transfer" or row.path != "device_to_device" or not row.variant:
        return None
    parts = dict(part.partition("=")[::2] for part in row.variant.split(";"))
    ends = parts.get("from", ""), parts.get("to", "")
    return ends if set(parts) == {"from", "to"} and all(end.isdecimal() for end in ends) else None
