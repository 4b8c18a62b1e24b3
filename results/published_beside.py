"""Published figures of a chip's collectives next to what its links say, which were made from something else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .link import Link
from .links import link_for
from .published_cases import PublishedCollective, load_published_collectives
from .published_rows import load_published
from .units import size as size_words

SHOWN_OCTAVES = 5
LARGE_BYTES = 2.0**32
"""Where a figure counts whose source gives no size, "the highest of a sweep"."""
NAMED = {
    "V100 (NVLink, DGX-class)": ("v100-sxm2-16gb", "v100-sxm2-32gb"),
    "A100-PCIe (NV12 bridge pairs)": ("a100-pcie-40gb", "a100-pcie-80gb"),
}
"""Names of sources that leave the memory's size open, which no link depends on."""


def published(chip_id: str) -> tuple[PublishedCollective, ...]:
    """The published rows of a chip inside one node that nobody suspects."""
    return tuple(
        row
        for row in load_published_collectives()
        if row.node_count == 1
        and not row.suspect
        and row.group_size
        and not row.op.startswith("moe")  # their bandwidth counts bytes that never leave the chip
        and (row.chip_id == chip_id or chip_id in NAMED.get(row.chip_name, ()))
    )


@dataclass(frozen=True)
class Beside:
    """A published figure next to what a profile's links say."""

    what: str
    """``all_reduce of 8, 1 GiB``."""
    derived_bytes_per_s: float | None
    """Bus bandwidth of the profile's link; None: it has none."""
    measured_bytes_per_s: float
    source: str


def measured_beside(chip_id: str, links: Sequence[Link]) -> tuple[Beside, ...]:
    """Published bus bandwidths inside a node of a chip next to those of its ``links``, where these are made from others.

    Sizes that no source gives count as 4 GiB; of a sweep every fifth power of two is enough.
    """
    figures: list[tuple[str, int | None, float | None, float | None, str]] = [
        (row.op, row.group_size, row.size_bytes, row.busbw_bytes_per_s, row.source) for row in published(chip_id)
    ]
    told = {figure[:2] for figure in figures}
    summaries = [row for row in load_published() if row.chip_id == chip_id and (row.op, row.group_size) not in told]
    figures += [(row.op, row.group_size, row.work, row.rate_per_s, row.source) for row in summaries]
    found: dict[tuple[str, int, float | None, float], Beside] = {}
    for op, group_size, size, busbw, source in figures:
        if not (busbw and group_size) or (size and math.log2(size) % SHOWN_OCTAVES):
            continue
        link = link_for(links, op, group_size)
        if link is not None and link.evidence.source.startswith(source):
            continue
        counted = size or LARGE_BYTES
        derived = counted * link.bus_factor / link.time_s(counted) if link else None
        what = f"{op} of {group_size}, {size_words(size) if size else 'size not stated'}"
        found.setdefault((op, group_size, size, busbw), Beside(what, derived, busbw, source))
    return tuple(found.values())
