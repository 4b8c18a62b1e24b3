"""Links of a chip from published sweeps and single figures of collectives inside a node (results/data/published_collectives.csv)."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

from chipassay.results.catalogue import find_chip
from chipassay.results.evidence import Evidence
from chipassay.results.link import Link, Segment, bus_factor
from chipassay.results.published_beside import LARGE_BYTES, published
from chipassay.results.published_cases import PublishedCollective
from chipassay.results.published_rows import COLLECTIVE_LATENCY_S

from ..fit_links import PRIOR_SPREAD, fit_link
from .link_rules import ONE_FIGURE

SWEEP = 3
"""Sizes that make a sweep: fewer tell no latency."""
SMALL_BYTES = 2.0**16
BEGINS_LARGE_SIGMA = 0.6
"""Of the log of the latency, if a sweep begins above SMALL_BYTES: what its first line starts from is the latency of large messages'
protocol. Tables of link_tables.py, fitted from 1 MiB on, are so far off at their smallest message: root mean square 0.24 (B300) to 0.84."""
FIGURES_USED = ("mi300x-192gb",)
"""Chips that have nothing but single figures of their own, and no relative that has more."""


def time_of(row: PublishedCollective) -> float | None:
    """Seconds, as published or by the bus bandwidth."""
    if row.time_s or not (row.size_bytes and row.busbw_bytes_per_s and row.group_size):
        return row.time_s
    return row.size_bytes * bus_factor(row.op, row.group_size) / row.busbw_bytes_per_s


def sweep_links(chip_id: str) -> tuple[Link, ...]:
    """A link for each pattern and group that was swept: of several sources the one with most sizes, for machines differ."""
    sweeps: dict[tuple[str, int], dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    fabrics: dict[str, str] = {}
    for row in published(chip_id):
        time_s = time_of(row)
        if row.size_bytes and time_s and row.group_size:
            sweeps[row.op, row.group_size][row.source].append((row.size_bytes, time_s))
            fabrics[row.source] = row.fabric
    found = []
    for (op, group_size), by_source in sorted(sweeps.items()):
        source, points = max(by_source.items(), key=lambda item: (len({size for size, _ in item[1]}), item[0]))
        if len({size for size, _ in points}) < SWEEP:
            continue
        sizes, times_s = zip(*sorted(points), strict=True)
        fit = fit_link(sizes, times_s, bus_factor(op, group_size))
        segments = fit.segments if sizes[0] <= SMALL_BYTES else (_vague(fit.segments[0]), *fit.segments[1:])
        last = segments[-1]
        link = Link(
            pattern=op,
            transport="PCIe" if fabrics[source] == "pcie" else find_chip(chip_id).link,
            group_size=group_size,
            latency_s=last.latency_s,
            busbw_bytes_per_s=last.busbw_bytes_per_s,
            evidence=Evidence("published", source),
            points=len(points),
            spread=fit.spread,
            segments=segments,
            first_bytes=float(sizes[0]),
            last_bytes=float(sizes[-1]),
        )
        found.append(link)
    return tuple(found)


def _vague(line: Segment) -> Segment:
    return replace(line, latency_error_s=math.hypot(line.latency_error_s or 0.0, BEGINS_LARGE_SIGMA * line.latency_s))


def figure_links(chip_id: str) -> tuple[Link, ...]:
    """A link for each single figure of a chip of FIGURES_USED: its bandwidth, and a latency that is a guess."""
    found: dict[tuple[str, int], Link] = {}
    for row in published(chip_id) if chip_id in FIGURES_USED else ():
        if row.busbw_bytes_per_s and row.group_size:
            link = one_line(row.op, row.group_size, find_chip(chip_id).link, row.busbw_bytes_per_s, row.size_bytes, row.source)
            found[row.op, row.group_size] = link
    return tuple(found.values())


def one_line(op: str, group_size: int, transport: str, busbw: float, size_bytes: float | None, source: str) -> Link:
    """The line through one published bus bandwidth of a large message and a guessed latency."""
    size = size_bytes or LARGE_BYTES
    carried = size * bus_factor(op, group_size)
    wire = carried / (carried / busbw - COLLECTIVE_LATENCY_S)
    line = Segment(0.0, COLLECTIVE_LATENCY_S, wire, ONE_FIGURE.latency * COLLECTIVE_LATENCY_S, ONE_FIGURE.bandwidth / wire, points=1)
    evidence = Evidence("published", f"{source}: bandwidth of one large message; latency of {COLLECTIVE_LATENCY_S * 1e6:.0f} us assumed")
    link = Link(op, transport, group_size, line.latency_s, wire, evidence, 1, PRIOR_SPREAD, segments=(line,))
    return replace(link, first_bytes=size, last_bytes=size)


def anchored_ratio(link: Link, busbw: float, size_bytes: float | None) -> float:
    """By how much the link's bandwidth must grow for a message to have this bus bandwidth; latencies stay."""
    size = size_bytes or LARGE_BYTES
    carried = size * link.bus_factor
    per_byte_s = (carried / busbw - link.latency_s) / carried
    return 1 / (per_byte_s * link.busbw_bytes_per_s) if per_byte_s > 0 else math.nan
