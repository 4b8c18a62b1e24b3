"""Rows to single numbers: launches, copies to and from the host, power under load, and the peaks that rates are held against."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from chipassay.results.catalogue import Chip
from chipassay.results.operations import fills_matrix_unit, time_per_kernel_s
from chipassay.results.profile import Evidence, Quantity
from chipassay.results.schema import Row

from .normalise_rows import evidence_of

HOST_PATHS = ("host_to_device", "device_to_host")
LARGE_COPY_BYTES = 2**24
"""Below, a copy's time is partly its call: at 50 GB/s these take 0.3 ms, a call some 10 us."""


def launches(rows: Sequence[Row]) -> dict[str, Quantity]:
    """``stream``, ``graph`` (``call`` on a CPU) -> seconds a kernel, in the row with the most kernels in one call."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.launch and time_per_kernel_s(row):
            grouped[row.launch].append(row)
    most = {launch: max(group, key=lambda row: row.bytes or 0.0) for launch, group in sorted(grouped.items())}
    return {launch: Quantity(time_per_kernel_s(row) or 0.0, evidence_of([row])) for launch, row in most.items()}


def host_links(rows: Sequence[Row]) -> dict[str, Quantity]:
    """``host_to_device pinned``, ... -> bandwidth of the largest copy, where one is large."""
    return _of_largest(
        [row for row in rows if row.op == "transfer" and row.path in HOST_PATHS and (row.bytes or 0.0) >= LARGE_COPY_BYTES],
        lambda row: " ".join(word for word in (row.path, row.host_memory) if word),
        lambda row: (row.bytes or 0.0) / (row.time_median_s or 1.0),
        lambda row: row.bytes or 0.0,
    )


def sustained_power(rows: Sequence[Row]) -> dict[str, Quantity]:
    """Operation and dtype -> watts while its largest case ran back to back, by the fastest of its kernels."""
    sustained = [row for row in rows if row.op and row.dtype and row.sustained_power_w and fills_matrix_unit(row)]
    return _of_largest(
        sorted(sustained, key=lambda row: row.time_median_s or float("inf")),
        lambda row: f"{row.op}{f' {row.direction}' if row.direction else ''} {row.dtype}",
        lambda row: row.sustained_power_w or 0.0,
        lambda row: row.flops or row.bytes or 0.0,
    )


def _of_largest(
    rows: Sequence[Row], name: Callable[[Row], str], value: Callable[[Row], float], work: Callable[[Row], float]
) -> dict[str, Quantity]:
    largest: dict[str, Row] = {}
    for row in rows:
        if name(row) not in largest or work(row) > work(largest[name(row)]):
            largest[name(row)] = row
    return {key: Quantity(value(row), evidence_of([row])) for key, row in sorted(largest.items())}


def peaks(rows: Sequence[Row], chip: Chip | None) -> Mapping[str, Quantity]:
    """dtype -> dense datasheet peak; of a CPU, which is in no datasheet, the one that the rows were held against."""
    if chip is not None:
        return {dtype: Quantity(peak, chip.evidence) for dtype, peak in chip.peak_flops_per_s.items()}
    source = Evidence("derived", "cores x FLOPs per cycle x measured clock, as when the rows were measured")
    return {
        row.dtype: Quantity(row.rate_flops_per_s / row.peak_fraction, source)
        for row in rows
        if row.op == "matmul" and row.dtype and row.rate_flops_per_s and row.peak_fraction
    }
