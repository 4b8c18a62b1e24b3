"""Links for groups of any size: between measured sizes by interpolation, beyond them with an error that grows, all labelled derived."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from .evidence import Evidence
from .link import BEYOND_SIGMA, Link, Segment, bus_factor

GROUP_SIGMA = 0.33
"""Standard deviation of log(busbw) that a doubling of the group beyond the measured sizes adds where they show no trend of their own: by
the median change a doubling of all chips whose all-reduce is published for two group sizes (results/data/published.csv). A group that
leaves a bridge or a switch changes more than that."""

STEPS: tuple[Callable[[float], float], ...] = (math.log2, lambda ranks: ranks - 1.0)
"""How many messages follow each other before the last byte can arrive: a tree's depth, or a ring's way round (Thakur, Rabenseifner and
Gropp, "Optimization of collective communication operations in MPICH", Int. J. High Performance Computing Applications 19, 2005)."""
ONE_GROUP_GROWTH = 0.5
"""Power of the group size by which a latency grows of which one group is known: 1.4 times a doubling, the median over the patterns and
doublings of NVIDIA's NCCL tables (1.1 to 1.7)."""
LEAST_MISFIT = 0.02
"""Latencies are not known better than this: a law that fits them more closely is not the likelier for it."""


def link_for(
    links: Sequence[Link], pattern: str, group_size: int, transport: str | None = None, placement: str = "inside", launch: str | None = None
) -> Link | None:
    """The link of a pattern for a group of ``group_size``: the one that is known, or one derived from those of other sizes, with its error.

    ``transport`` None: any; ``launch`` None: as programs launch, not replayed. None where no size of the pattern is known.
    """
    alike = [
        link
        for link in links
        if link.pattern == pattern
        and link.placement == placement
        and (link.launch == launch if launch is not None else link.launch != "graph")
        and (transport is None or link.transport == transport)
    ]
    known = {link.group_size: link for link in sorted(alike, key=lambda link: link.busbw_bytes_per_s)}
    if group_size in known or not known:
        return known.get(group_size)
    # A group that a bridge of two cannot join talks over what joins the next larger one.
    joins = known[min((size for size in known if size > group_size), default=max(known))].transport
    return _derived([known[size] for size in sorted(known) if known[size].transport == joins], group_size)


def _derived(known: Sequence[Link], group_size: int) -> Link:
    """The nearest link's lines, the larger of two as near, with latencies and bandwidths moved as the known sizes say.

    The protocols change where they are worth the same again: with latencies ``slower`` and bytes ``faster`` as before, at ``slower *
    faster`` times as many bytes on the bus. Groups of 4 from 2 and 8 so come out within 6 % (median over NVIDIA's tables).
    """
    nearest = min(known, key=lambda link: (abs(math.log2(link.group_size / group_size)), -link.group_size))
    sizes = [link.group_size for link in known]
    latency, latency_sigma = latency_at(sizes, [link.small_latency_s for link in known], group_size)
    busbw, busbw_sigma = busbw_at(sizes, [link.busbw_bytes_per_s for link in known], group_size)
    slower = latency / nearest.small_latency_s if nearest.small_latency_s > 0 else 1.0
    faster = busbw / nearest.busbw_bytes_per_s if nearest.busbw_bytes_per_s > 0 else 1.0
    lines = nearest.segments or (Segment(0.0, nearest.latency_s, nearest.busbw_bytes_per_s, 0.0, 0.0),)
    bus = bus_factor(nearest.pattern, group_size) if nearest.own_factor is None else nearest.own_factor
    stretch = slower * faster * nearest.bus_factor / bus if bus else 1.0
    told = ", ".join(str(size) for size in sizes)
    source = f"group of {group_size} from groups of {told}: {nearest.evidence.source}"
    return replace(
        nearest,
        group_size=group_size,
        latency_s=nearest.latency_s * slower,
        busbw_bytes_per_s=nearest.busbw_bytes_per_s * faster,
        segments=tuple(_moved(line, slower, faster, stretch, latency_sigma, busbw_sigma) for line in lines),
        first_bytes=nearest.first_bytes * stretch if nearest.first_bytes else nearest.first_bytes,
        last_bytes=nearest.last_bytes * stretch if nearest.last_bytes else nearest.last_bytes,
        evidence=Evidence("assumed" if nearest.evidence.level == "assumed" else "derived", source, nearest.evidence.date),
    )


def _moved(line: Segment, slower: float, faster: float, stretch: float, latency_sigma: float, busbw_sigma: float) -> Segment:
    latency_s, busbw = line.latency_s * slower, line.busbw_bytes_per_s * faster
    per_byte_s = 1 / busbw if busbw else 0.0
    return replace(
        line,
        first_bytes=line.first_bytes * stretch,
        latency_s=latency_s,
        busbw_bytes_per_s=busbw,
        latency_error_s=math.hypot((line.latency_error_s or 0.0) * slower, latency_s * latency_sigma),
        s_per_byte_error=math.hypot((line.s_per_byte_error or 0.0) / faster, per_byte_s * busbw_sigma),
    )


def latency_at(sizes: Sequence[int], latencies_s: Sequence[float], group_size: int) -> tuple[float, float]:
    """(latency in seconds, standard deviation of its log) for a group of ``group_size``, from those of groups of ``sizes``.

    Latency grows by a constant for each step, and the steps are those of a tree or of a ring: each law is fitted, and they count as the
    data bear them out (their likelihoods); where the data cannot tell, what they disagree in is the error.

    >>> round(latency_at([2, 4, 8, 16], [12e-6, 14e-6, 16e-6, 18e-6], 64)[0] * 1e6, 1)
    22.0
    >>> round(latency_at([2, 4, 8, 16], [6e-6, 8e-6, 12e-6, 20e-6], 64)[0] * 1e6, 1)
    68.0
    """
    if min(latencies_s) <= 0:
        return max(latencies_s), math.log(2)
    if len(sizes) == 1:
        doublings = math.log2(group_size / sizes[0])
        return latencies_s[0] * 2 ** (ONE_GROUP_GROWTH * doublings), GROUP_SIGMA * abs(doublings)
    logs, variances, weights = [], [], []
    for steps in STEPS:
        base_s, each_s = _line([steps(size) for size in sizes], latencies_s)
        fitted = [base_s + each_s * steps(size) for size in sizes]
        misfit = math.fsum(math.log(real / model) ** 2 for real, model in zip(latencies_s, fitted, strict=True))
        variance = (misfit + LEAST_MISFIT**2) / max(1, len(sizes) - 1)
        logs.append(math.log(base_s + each_s * steps(group_size)))
        variances.append(variance)
        weights.append((misfit + LEAST_MISFIT**2) ** (-len(sizes) / 2) if len(sizes) > 2 else 1.0)
    total = math.fsum(weights)
    if len(sizes) < 3:
        # Two sizes fit either law, and neither is put to the test: beyond them it may be as wrong as bandwidths are.
        beyond = max(0.0, math.log2(group_size / max(sizes)), math.log2(min(sizes) / group_size))
        variances = [variance + (GROUP_SIGMA * beyond) ** 2 for variance in variances]
    mean = math.fsum(w * value for w, value in zip(weights, logs, strict=True)) / total
    variance = math.fsum(w * ((value - mean) ** 2 + v) for w, value, v in zip(weights, logs, variances, strict=True)) / total
    return math.exp(mean), math.sqrt(variance)


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """(base, slope), neither negative, with the least squared relative error."""
    u, v = [1 / value for value in y], [step / value for step, value in zip(x, y, strict=True)]
    uu, vv, uv = math.fsum(a * a for a in u), math.fsum(b * b for b in v), math.fsum(a * b for a, b in zip(u, v, strict=True))
    base, slope = (math.fsum(u) * vv - math.fsum(v) * uv), (math.fsum(v) * uu - math.fsum(u) * uv)
    determinant = uu * vv - uv * uv
    if slope < 0:
        return math.fsum(u) / uu, 0.0
    if base < 0:
        return 0.0, math.fsum(v) / vv
    return base / determinant, slope / determinant


def busbw_at(sizes: Sequence[int], busbws: Sequence[float], group_size: int) -> tuple[float, float]:
    """(bus bandwidth, standard deviation of its log) for a group of ``group_size``, from those of groups of ``sizes``, ascending.

    Between two sizes: on the line through their logs over log2 of the size, and a quarter of their difference as its error (uniform
    between them would have 0.29). Beyond: that of the nearest, for bus bandwidth is counted so that a larger group of the same links
    keeps it; each doubling adds the root mean square change a doubling of the known sizes, or GROUP_SIGMA of a single one.

    >>> busbw_at([2, 8], [100e9, 100e9], 4)
    (100000000000.0, 0.0)
    """
    if min(busbws) <= 0:
        return min(busbws), 0.0
    for (low, low_busbw), (high, high_busbw) in zip(zip(sizes, busbws, strict=True), zip(sizes[1:], busbws[1:], strict=True), strict=False):
        if low < group_size < high:
            share = math.log2(group_size / low) / math.log2(high / low)
            change = math.log(high_busbw / low_busbw)
            return low_busbw * math.exp(share * change), abs(change) / 4
    nearest = min(range(len(sizes)), key=lambda i: abs(math.log2(sizes[i] / group_size)))
    changes = [math.log(busbws[i + 1] / busbws[i]) / math.log2(sizes[i + 1] / sizes[i]) for i in range(len(sizes) - 1)]
    each = math.sqrt(math.fsum(change**2 for change in changes) / len(changes)) if changes else GROUP_SIGMA
    return busbws[nearest], max(each, BEYOND_SIGMA) * abs(math.log2(group_size / sizes[nearest]))
