"""Quantities of what is physically possible: figures as shares of the dense peak, the memory, the link, the network, PCIe."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from chipassay.collectives.wire import least_wire_bytes, wire_bytes
from chipassay.results import units
from chipassay.results.best import impossible
from chipassay.results.beyond_cache import BEYOND_CACHE
from chipassay.results.catalogue import Chip
from chipassay.results.operations import NARROW_SUMS, time_per_kernel_s
from chipassay.results.schema import Row

from .expected_links import SUPERCHIP
from .figure import beyond_cache, cache_bytes, chips_of_copy, host_copy
from .quantity import Quantity, Seen, by_name, of_rows
from .table import Table
from .transport import carrier, named_fabric, node_carrier

NARROW_TIMES = 2.0
"""Sums in fewer bits run at most at twice the dense peak (recalled: NVIDIA Ada whitepaper, appendix A, fp16 and fp8 with fp16 sums)."""
SURELY_BEYOND = 4.0
"""Where nothing tells whether a cache was warm, so many times more bytes are needed than where it was evicted."""
REREAD = ("gather",)
"""Operations that may read the same bytes again: their bandwidth may be the cache's."""
ALL_OF_S = ("all_reduce", "broadcast", "reduce")
"""Patterns whose whole message must get into every node, or into the root's; of the next ones all but the node's own part."""
BUT_OWN_PART = ("all_gather", "reduce_scatter")
FIRST_BF16, FIRST_FP8 = 8.0, 8.9
"""NVIDIA's compute capability from which bf16 and fp8 are native (CUDA C++ programming guide, arithmetic instructions)."""


def _limit(value: float, limit: float, index: int, table: Table, told: Callable[[float], str] = units.bandwidth, of: str = "") -> Seen:
    return Seen(value, index, table.names[index], lambda: {"limit": told(limit) + of})


def share_of_peak(table: Table) -> Iterator[Seen]:
    """Rate over the dense peak, at the clock that the chip ran at where that was read on the chip itself."""
    for index, row in enumerate(table.rows):
        own, chip = table.figures[index], table.chips[index]
        if own is None or table.kinds[index] != "compute":
            continue
        peak = chip.peak_flops_per_s.get(row.dtype or "") if chip else None
        if peak is None and chip is None and row.peak_fraction:
            peak = own.value / row.peak_fraction
        if not peak:
            continue
        if chip is not None and row.clock_method == "device" and row.clock_hz and chip.boost_clock_hz:
            peak *= row.clock_hz / chip.boost_clock_hz
        peak *= NARROW_TIMES if row.math_mode in NARROW_SUMS else 1.0
        yield _limit(own.value / peak, peak, index, table, units.rate)


def share_of_bandwidth(table: Table) -> Iterator[Seen]:
    """Bandwidth of what cannot come from a cache over the memory's."""
    for index, row in enumerate(table.rows):
        own, chip = table.figures[index], table.chips[index]
        within = row.op == "transfer" and row.path == "device_to_device" and row.variant is None
        if own is None or row.op in REREAD or not (table.kinds[index] == "memory" or within) or not beyond_cache(row, chip):
            continue
        if row.cache is None and row.bytes is not None and row.bytes < SURELY_BEYOND * BEYOND_CACHE * cache_bytes(row, chip):
            continue
        limit = chip.memory_bandwidth_bytes_per_s if chip else None
        if limit is None and chip is None and row.peak_fraction:
            limit = own.value / row.peak_fraction
        if limit:
            yield _limit(own.value / limit, limit, index, table)


def share_of_link(table: Table) -> Iterator[Seen]:
    """What a rank's link carried, or the least that it can have carried, over what it can."""
    for index, row in enumerate(table.rows):
        chip = table.chips[index]
        if chip is None or table.figures[index] is None:
            continue
        carried = _carried(row)
        found = carrier(row, chip) if carried else None
        if found is not None:
            yield _limit(carried / found.bytes_per_s, found.bytes_per_s, index, table, of=f" of {found.name}")


def _carried(row: Row) -> float:
    """Bytes per second that one direction of a link must have carried; 0 where that cannot be told."""
    if chips_of_copy(row):
        return row.bandwidth_bytes_per_s or 0.0
    if not row.group_size or row.group_size < 2 or not row.size_bytes or not row.op:
        return 0.0
    time_s = row.time_median_s
    if not time_s:
        return row.wire_bytes_per_s or 0.0
    known = wire_bytes(row.op, row.algorithm or "unknown", row.group_size, row.size_bytes) or 0.0
    return max(row.wire_bytes_per_s or 0.0, known / time_s, least_wire_bytes(row.op, row.group_size, row.size_bytes) / time_s)


def share_of_network(table: Table) -> Iterator[Seen]:
    """The least that must have come into a node over what the adapters that the row names can carry."""
    yield from _network(table, named=True)


def share_of_best_network(table: Table) -> Iterator[Seen]:
    """The same over the adapters of the fastest node known with this chip, for rows that do not name theirs."""
    yield from _network(table, named=False)


def _network(table: Table, named: bool) -> Iterator[Seen]:
    for index, row in enumerate(table.rows):
        chip, nodes = table.chips[index], row.node_count or 1
        if chip is None or nodes < 2 or table.figures[index] is None or not row.size_bytes or not row.time_median_s:
            continue
        share = 1.0 if row.op in ALL_OF_S else 1 - 1 / nodes if row.op in BUT_OWN_PART else 0.0
        found = node_carrier(row, chip) if share and (named_fabric(row.fabric) is not None) is named else None
        if found is not None:
            value = share * row.size_bytes / row.time_median_s / found.bytes_per_s
            yield _limit(value, found.bytes_per_s, index, table, of=f" of {found.name}")


def pcie_bytes_per_s(row: Row, chip: Chip | None) -> float | None:
    """The rate of the slot, for copies that go over it."""
    return None if chip is None or chip.form_factor.startswith(SUPERCHIP) or not host_copy(row) else chip.pcie_bytes_per_s


def share_of_pcie(table: Table) -> Iterator[Seen]:
    """Bandwidth of a large copy to or from pinned host memory over PCIe's with all lanes."""
    for index, row in enumerate(table.rows):
        own, limit = table.figures[index], pcie_bytes_per_s(row, table.chips[index])
        if own is not None and limit:
            yield _limit(own.value / limit, limit, index, table)


def flagged(table: Table) -> Iterator[Seen]:
    """1 where the row itself says that it is above a limit, and nothing here can be held against it."""
    others = {seen.index for find in (share_of_peak, share_of_bandwidth, share_of_link) for seen in find(table)}
    for index, row in enumerate(table.rows):
        if index not in others and row.flags and impossible(row):
            yield Seen(1.0, index, table.names[index], partial(dict, flags=row.flags))


def launch_share(table: Table) -> Iterator[Seen]:
    """Time of a call over what the launch of one empty kernel took on the same chip in the same way."""
    launches: dict[tuple[str | None, str | None], list[float]] = defaultdict(list)
    for row in table.rows:
        if row.op == "launch" and row.status == "ok" and row.device_kind != "cpu" and (per_kernel := time_per_kernel_s(row)):
            launches[row.chip_id, row.launch].append(per_kernel)
    for index, row in enumerate(table.rows):
        known = launches.get((row.chip_id, row.launch))
        if known and row.op != "launch" and table.figures[index] is not None and row.time_median_s:
            least = min(known)
            yield _limit(row.time_median_s / least, least, index, table, units.seconds)


def emulated(table: Table) -> Iterator[Seen]:
    """1 where the chip has no units for the dtype, as the row says or, for other tools' rows, as the chip's generation does."""
    for index, row in enumerate(table.rows):
        chip = table.chips[index]
        if row.status != "ok" or table.kinds[index] != "compute":
            continue
        if row.native is False or (row.native is None and chip is not None and _too_old(row, chip)):
            yield Seen(1.0, index, table.names[index])


def _too_old(row: Row, chip: Chip) -> bool:
    needed = FIRST_BF16 if row.dtype == "bf16" else FIRST_FP8 if (row.dtype or "").startswith("fp8") else 0.0
    try:
        return chip.vendor == "NVIDIA" and float(chip.compute_capability) < needed
    except ValueError:
        return False


QUANTITIES: Mapping[str, Quantity] = by_name(
    of_rows(share_of_peak, "limit"),
    of_rows(share_of_bandwidth, "limit"),
    of_rows(share_of_link, "limit"),
    of_rows(share_of_network, "limit"),
    of_rows(share_of_best_network, "limit"),
    of_rows(share_of_pcie, "limit"),
    of_rows(flagged, "flags"),
    of_rows(launch_share, "limit"),
    of_rows(emulated),
)
