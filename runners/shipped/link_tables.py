"""Links of a chip from NVIDIA's own runs of nccl-tests: the tables of aiconfigurator-core."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from chipassay.results.catalogue import find_chip
from chipassay.results.evidence import Evidence
from chipassay.results.link import Link
from chipassay.results.schema import Row

from ..importers.aiconfigurator import read
from ..importers.importer import Hints
from ..normalise_links import links

TABLES = {
    "a100-sxm-80gb": "a100_sxm/comm/nccl/2.27.3",
    "h100-sxm-80gb": "h100_sxm/comm/nccl/2.29.2",
    "h200-sxm-141gb": "h200_sxm/comm/nccl/2.29.2",
    "b200-sxm-180gb": "b200_sxm/comm/nccl/2.29.2",
    "b300-sxm-288gb": "b300_sxm/comm/nccl/2.29.2",
    "gb200": "gb200/comm/nccl/2.29.2",
    "gb300": "gb300/comm/nccl/2.29.2",
    "l40s-pcie-48gb": "l40s/comm/nccl/2.27.3",
    "rtx-pro-6000-blackwell-server": "rtx_pro_6000_server/comm/nccl/2.29.2",
}
"""The newest table of each chip: 21 sizes from 512 bytes to 512 MiB, 2, 4 and 8 chips (GB200 and GB300: 2 and 4, one tray).

Older ones of the same chip are as fast within 3.3 % (medians from 1 MiB on). The frameworks' own all-reduces (``comm/vllm``,
``comm/trtllm``, ``comm/sglang``) are not NCCL, serve inference alone, and are left out.
"""

SUSPECT = {
    ("l40s-pcie-48gb", 4): "5 GB/s on a link of 31.5, a quarter of what two chips of the same machine reach",
    ("l40s-pcie-48gb", 8): "1 to 2 GB/s on a link of 31.5, and times that halve where the size doubles: a disturbed machine",
}
"""Tables of (chip, group size) that are not believed, and why; the chip has these groups by rule."""

MOVES_ONLY = ("all_gather", "all_to_all")
"""These move bytes, whatever they mean: fp16 and int8 of as many bytes differ by 0.1 % (median of all tables) and are one sweep.
Reductions add up: int8 takes 2 to 5 % longer than fp16 and is left out."""


@lru_cache(maxsize=16)
def table_links(chip_id: str) -> tuple[Link, ...]:
    """The links of a chip that has a table, believed or not; none for others. Raises InputError without aiconfigurator-core."""
    table = TABLES.get(chip_id)
    if table is None:
        return ()
    rows = _rows(chip_id)
    chip = find_chip(chip_id)
    joins = chip.link if (chip.link_domain_size or 1) > 1 else "PCIe"

    def evidence_of(group: Sequence[Row]) -> Evidence:
        first = group[0]
        what = f"fp16{' and int8' if first.op in MOVES_ONLY else ''}, out of place"
        return Evidence("published", f"{first.tool} {first.tool_version}, {table}: NVIDIA's runs of nccl-tests, {what}")

    return tuple(replace(link, transport=joins) for link in links(rows, evidence_of))


@lru_cache(maxsize=16)
def _rows(chip_id: str) -> tuple[Row, ...]:
    """The rows of a chip's table; what only moves has no dtype, so that all its rows are one sweep."""
    rows = read(Path(TABLES[chip_id]), Hints()).rows
    return tuple(replace(row, dtype=None) if row.op in MOVES_ONLY else row for row in rows)


@lru_cache(maxsize=16)
def points_of(chip_id: str) -> Mapping[tuple[str, int], tuple[tuple[float, float], ...]]:
    """(message size, seconds) of each pattern and group of a chip's table, as ``table_links`` fits them."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for row in _rows(chip_id):
        if row.op and row.group_size and row.size_bytes and row.time_median_s and row.dtype in (None, "fp16"):
            found[row.op, row.group_size].append((float(row.size_bytes), row.time_median_s))
    return {key: tuple(points) for key, points in found.items()}


def believed(chip_id: str) -> tuple[Link, ...]:
    """The links of a chip's table, but for those that SUSPECT names."""
    return tuple(link for link in table_links(chip_id) if (chip_id, link.group_size) not in SUSPECT)
