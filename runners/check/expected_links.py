"""What links should carry: collectives by size on the same kind of link, copies between chips, copies to and from the host."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from chipassay.results.catalogue import Chip
from chipassay.results.expected import ExpectedRow, expected_of
from chipassay.results.link import Link
from chipassay.results.profile import Level
from chipassay.results.published import PCIE_BUS_SHARE, PCIE_SOURCE
from chipassay.results.schema import Row
from chipassay.results.shipped import find_profile

from .figure import BANDWIDTH, BUSBW, host_copy
from .finding import Expectation
from .tolerance import ABOVE, HOST_COPY, PCIE_COLLECTIVE, PROFILE, of_size
from .transport import NETWORK, Transport, kind_of, named_fabric, transport

LARGE_BYTES = 2**30
"""A figure without a size is the top of a sweep; 256 MB is too small to saturate eight chips with NVLS (nccl-tests issue 212)."""
BETWEEN = " (between two of its sizes)"
SWEEP_POINTS, LATENCY_SHARE = 3, 0.1
NEXT_SIZE = 8.0
"""Two published sizes further apart than this say nothing of what lies between."""
FAMILIAR = ("nccl", "rccl", None)
"""Backends that the published figures are of; gloo and MPI go another way."""
PCIE_COPY_SHARE = 0.84
PCIE_COPY_SOURCE = "0.84 of PCIe: pinned copies of 26.3 of 31.5 GB/s (A100), 51 of 63 (H100), 55 of 63 (H200)"
FROM_PROFILE = "profile: "
"""How the source of an expectation begins that is read off a curve."""
SUPERCHIP = "Superchip"
"""Chips whose way to the host is no PCIe."""


def collective(row: Row, chip: Chip) -> Expectation | None:
    """The bus bandwidth of a collective; None where its group, transport or pattern was not published of this chip."""
    if row.backend not in FAMILIAR or (row.size_bytes or 0) < 1 or not row.group_size or row.group_size < 2 or row.members is not None:
        return None
    if row.dtype is not None and not row.dtype.startswith(("fp", "bf")):
        return None  # NVLS adds up floats alone: integers go round the ring, and no figure is of them
    joins = transport(row, chip)
    figures = [one for one in expected_of(chip.id, row.op or "") if one.metric == BUSBW and _same_group(one, row, joins)]
    algorithm = None if row.algorithm in (None, "unknown") else row.algorithm
    forced = [one for one in figures if algorithm and one.algorithm == algorithm]
    # A library left to itself: figures of an algorithm that was forced are another case.
    for usable in (forced, [one for one in figures if not one.algorithm]):
        found = _at_size(usable, row.size_bytes or 0)
        if found is not None:
            return _told(found, joins)
    if joins.kind == NETWORK:
        return None
    return _told(_from_links(row, chip, joins), joins)


def _same_group(one: ExpectedRow, row: Row, joins: Transport) -> bool:
    if one.group_size != row.group_size or one.node_count != (row.node_count or 1):
        return False
    if joins.kind == NETWORK:
        # Another network is another case: the same adapters and rate, or nothing is known.
        return named_fabric(row.fabric) is not None and named_fabric(one.fabric) == named_fabric(row.fabric)
    return one.fabric == joins.kind


def _at_size(figures: Sequence[ExpectedRow], size_bytes: int) -> Expectation | None:
    """What the published sweeps say of a size: each is read between its two nearest sizes, in logarithms."""
    sweeps: dict[tuple[str, str], list[ExpectedRow]] = defaultdict(list)
    for one in figures:
        sweeps[one.source, one.algorithm].append(one)
    read = [point for sweep in sweeps.values() if (point := _read(sweep, size_bytes)) is not None]
    # Figures of this very size come before what is read off between others.
    found = [point for point in read if not point[2]] or read
    if not found:
        return None
    value, best, how = min(found, key=lambda point: ("high", "medium", "low").index(point[1].trust))
    tolerance = of_size(size_bytes)
    low = min(value * (1 - max(tolerance, one.tolerance)) for value, one, _ in found)
    high = max(value * (1 + ABOVE * max(tolerance, one.tolerance)) for value, one, _ in found)
    level: Level = "derived" if how == BETWEEN and best.level == "published" else best.level
    return Expectation(BUSBW, value, low, high, level, f"{best.source}{how}; {best.conditions}".rstrip("; "))


def _read(sweep: Sequence[ExpectedRow], size_bytes: int) -> tuple[float, ExpectedRow, str] | None:
    sized = sorted((one.size_bytes or 0, one.value, one) for one in sweep if one.size_bytes)
    below = [entry for entry in sized if entry[0] <= size_bytes]
    above = [entry for entry in sized if entry[0] >= size_bytes]
    if below and below[-1][0] == size_bytes:
        return below[-1][1], below[-1][2], ""
    if below and above and above[0][0] <= NEXT_SIZE * below[-1][0]:
        (low_size, low, one), (high_size, high, _) = below[-1], above[0]
        part = math.log(size_bytes / low_size) / math.log(high_size / low_size)
        return low * (high / low) ** part, one, BETWEEN
    if below and size_bytes >= LARGE_BYTES and below[-1][0] >= LARGE_BYTES // 4:
        return below[-1][1], below[-1][2], " (its largest size)"
    unsized = [one for one in sweep if not one.size_bytes]
    return (unsized[0].value, unsized[0], " (its size not stated)") if unsized and size_bytes >= LARGE_BYTES else None


def _from_links(row: Row, chip: Chip, joins: Transport) -> Expectation | None:
    """The profile's link of this pattern and group, if it is of the same kind."""
    size, ranks = row.size_bytes or 0, row.group_size or 0
    replayed = row.launch == "graph"
    links = [link for link in find_profile(chip.id).links if (link.pattern, link.group_size, link.placement) == (row.op, ranks, "inside")]
    same = [link for link in links if (kind_of(link.transport) or link.transport) == joins.kind]
    if same:
        link = min(same, key=lambda one: (one.launch == "graph") != replayed)
        # Where no sweep stands behind a line, and nobody told its error, its latency is a guess: it says something of large messages alone.
        guessed = link.sigma(size) is None and link.points < SWEEP_POINTS and link.latency_s > LATENCY_SHARE * link.time_s(size)
        return None if guessed else _from_link(link, size)
    if joins.kind == "pcie" and chip.pcie_bytes_per_s and row.op == "all_reduce" and size >= LARGE_BYTES // 16:
        value, tolerance = PCIE_BUS_SHARE * chip.pcie_bytes_per_s, PCIE_COLLECTIVE
        return Expectation(BUSBW, value, value * (1 - tolerance), value * (1 + ABOVE * tolerance), "derived", PCIE_SOURCE)
    return None


def _from_link(link: Link, size_bytes: int) -> Expectation | None:
    """At a message size: as far off as the link knows of itself, and then as healthy machines differ."""
    if not link.bus_factor:
        return None
    value, interval_s = size_bytes * link.bus_factor / link.time_s(size_bytes), link.interval_s(size_bytes)
    own = PROFILE[link.evidence.level] if interval_s is None else 1 - link.time_s(size_bytes) / interval_s[1]
    tolerance = max(1 - (1 - own) * (1 - of_size(size_bytes)), PCIE_COLLECTIVE if kind_of(link.transport) == "pcie" else 0.0)
    which = "line by message size" if interval_s is None else "model of messages"
    source = f"{FROM_PROFILE}{which}, {link.evidence.source}"
    return Expectation(BUSBW, value, value * (1 - tolerance), value * (1 + ABOVE * tolerance), link.evidence.level, source)


def _told(found: Expectation | None, joins: Transport) -> Expectation | None:
    if found is None or joins.told:
        return found
    source = f"{found.source}; taken for {joins.kind}, as the rows do not name their fabric"
    return Expectation(found.metric, found.value, found.low, found.high, found.level, source)


def host_link(row: Row, chip: Chip) -> Expectation | None:
    """The bandwidth of a large pinned copy between host and device."""
    if not host_copy(row) or chip.form_factor.startswith(SUPERCHIP):
        return None
    figures = [one for one in expected_of(chip.id, "transfer") if one.path == row.path]
    if figures:
        return _copies(figures)
    if not chip.pcie_bytes_per_s:
        return None
    value, tolerance = PCIE_COPY_SHARE * chip.pcie_bytes_per_s, HOST_COPY
    return Expectation(BANDWIDTH, value, value * (1 - tolerance), value * (1 + ABOVE * tolerance), "derived", PCIE_COPY_SOURCE)


def copy_between(row: Row, chip: Chip) -> Expectation | None:
    """The bandwidth of a copy from one chip to another, one way."""
    pair = Row(chip_id=chip.id, group_size=2, fabric=row.fabric, node_count=row.node_count)
    joins = transport(pair, chip)
    figures = [one for one in expected_of(chip.id, "transfer") if one.path == row.path and one.fabric == joins.kind]
    return _told(_copies(figures), joins) if figures else None


def _copies(figures: Sequence[ExpectedRow]) -> Expectation:
    one = figures[0]
    low, high = one.value * (1 - one.tolerance), one.value * (1 + ABOVE * one.tolerance)
    return Expectation(BANDWIDTH, one.value, low, high, one.level, f"{one.source}; {one.conditions}".rstrip("; "))
