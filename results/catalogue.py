"""The chip catalogue: what the makers say of each accelerator, in SI units, and which one a driver's device name means.

Peaks are dense and link bandwidths one way, per chip. A cell that is absent is unknown, never zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from .datafile import DATA, Line, read_lines
from .errors import FileError, UnknownName
from .evidence import LEVELS, Evidence

CHIPS_CSV = DATA / "chips.csv"

TERA = 1e12
GIGA = 1e9
GIB = 2.0**30
MIB = 2.0**20

PEAK_COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("fp64", ("fp64_tensor_tflops", "fp64_tflops")),
    ("fp32", ("fp32_tflops",)),
    ("tf32", ("tf32_tflops",)),
    ("fp16", ("fp16_tflops", "fp16_vector_tflops")),
    ("bf16", ("bf16_tflops",)),
    ("fp8_e4m3", ("fp8_tflops",)),
    ("fp8_e5m2", ("fp8_tflops",)),
    ("int8", ("int8_tops",)),
)
"""dtype -> the columns that may hold its peak, the unit that a matrix product uses first: the P100 has no tensor cores, so its
fp16 is the vector rate."""

IGNORED_WORDS = frozenset(
    {"nvidia", "amd", "intel", "habana", "google", "tesla", "geforce", "radeon", "instinct", "gpu", "oam", "graphics"},
)
"""Words of a device name that say nothing about which SKU it is."""

MEMORY_SHARE = (0.90, 1.03)
"""A driver shows 90 to 103 % of the nominal GiB: ECC takes 6 % on GDDR cards, reserves a little elsewhere."""


@dataclass(frozen=True)
class Chip:
    """One accelerator SKU by its datasheet."""

    id: str
    vendor: str
    name: str
    aliases: tuple[str, ...]
    form_factor: str
    architecture: str
    compute_capability: str
    year: int | None
    core_count: int | None
    boost_clock_hz: float | None
    peak_flops_per_s: Mapping[str, float]
    """dtype -> dense peak. A dtype that is absent is unknown or not supported."""
    memory_bytes: float | None
    memory_type: str
    """HBM2, GDDR6, ...; empty is unknown."""
    memory_bandwidth_bytes_per_s: float | None
    l2_bytes: float | None
    l3_bytes: float | None
    """A cache between L2 and the memory (AMD's Infinity Cache); None where there is none or it is unknown."""
    link: str
    link_bytes_per_s_one_way: float | None
    link_domain_size: int | None
    """Chips that the link joins without a network; 1 where there is none but PCIe."""
    pcie_bytes_per_s: float | None
    power_w: float | None
    export_note: str
    """What export rules say of it, in words; empty where nothing is known."""
    sibling: str
    """The chip this one was cut or grown from, or empty."""
    evidence: Evidence
    """Of the row; its source says which single cells are weaker."""
    notes: str

    @property
    def last_cache_bytes(self) -> float | None:
        """The largest cache that shields the memory."""
        return max(self.l2_bytes or 0.0, self.l3_bytes or 0.0) or None


def normalise(device_name: str) -> str:
    """A device name as bare words, without those that say nothing about the SKU.

    >>> normalise("NVIDIA A100-SXM4-40GB")
    'a100 sxm4 40gb'
    """
    words = re.split(r"[^a-z0-9]+", re.sub(r"\((r|tm)\)", " ", device_name.lower()))
    return " ".join(word for word in words if word and word not in IGNORED_WORDS)


def _peaks(line: Line) -> Mapping[str, float]:
    peaks: dict[str, float] = {}
    for dtype, columns in PEAK_COLUMNS:
        for column in columns:
            value = line.number_or_none(column, TERA)
            if value:
                peaks[dtype] = value
                break
    return MappingProxyType(peaks)


def row_evidence(line: Line, date: str | None = None) -> Evidence:
    """What the columns ``evidence`` and ``source`` of a row say; both are required."""
    level = next(known for known in LEVELS if known == line.one_of("evidence", LEVELS))
    return Evidence(level, line.required("source"), date)


def _chip(line: Line) -> Chip:
    return Chip(
        id=line.required("id"),
        vendor=line.required("vendor"),
        name=line.required("name"),
        aliases=tuple(alias.strip() for alias in line.text("aliases").split(";") if alias.strip()),
        form_factor=line.text("form_factor"),
        architecture=line.text("architecture"),
        compute_capability=line.text("compute_capability"),
        year=line.whole_or_none("year"),
        core_count=line.whole_or_none("core_count"),
        boost_clock_hz=line.number_or_none("boost_clock_mhz", 1e6),
        peak_flops_per_s=_peaks(line),
        memory_bytes=line.number_or_none("memory_gib", GIB),
        memory_type=line.text("memory_type"),
        memory_bandwidth_bytes_per_s=line.number_or_none("memory_bandwidth_gb_per_s", GIGA),
        l2_bytes=line.number_or_none("l2_mib", MIB),
        l3_bytes=line.number_or_none("l3_mib", MIB),
        link=line.text("link"),
        link_bytes_per_s_one_way=line.number_or_none("link_gb_per_s_one_way", GIGA),
        link_domain_size=line.whole_or_none("link_domain_size"),
        pcie_bytes_per_s=line.number_or_none("pcie_gb_per_s_one_way", GIGA),
        power_w=line.number_or_none("power_w"),
        export_note=line.text("export_note"),
        sibling=line.text("sibling"),
        evidence=row_evidence(line),
        notes=line.text("notes"),
    )


CHIP_COLUMNS = (
    *("id", "vendor", "name", "aliases", "form_factor", "architecture", "compute_capability", "year", "core_count", "boost_clock_mhz"),
    *sorted({column for _, columns in PEAK_COLUMNS for column in columns}),
    *("memory_gib", "memory_type", "memory_bandwidth_gb_per_s", "l2_mib", "l3_mib", "link", "link_gb_per_s_one_way", "link_domain_size"),
    *("pcie_gb_per_s_one_way", "power_w", "export_note", "sibling", "evidence", "source", "notes"),
)


@lru_cache(maxsize=4)
def load_chips(path: Path = CHIPS_CSV) -> Mapping[str, Chip]:
    """All chips of the catalogue by id.

    >>> load_chips()["a100-sxm-80gb"].peak_flops_per_s["bf16"]
    312000000000000.0
    """
    chips: dict[str, Chip] = {}
    siblings: list[tuple[Line, str]] = []
    for line in read_lines(path, CHIP_COLUMNS):
        chip = _chip(line)
        if chip.id in chips:
            raise FileError(path, f"{chip.id!r} stands here twice", line=line.number, field="id")
        for alias in chip.aliases:
            if alias != normalise(alias):
                mend = f"write {normalise(alias)!r}"
                raise FileError(path, f"alias {alias!r} is not normalised", line=line.number, field="aliases", mend=mend)
        chips[chip.id] = chip
        siblings.append((line, chip.sibling))
    for line, sibling in siblings:
        if sibling and sibling not in chips:
            raise FileError(path, f"{sibling!r} is no chip of this table", line=line.number, field="sibling")
    return MappingProxyType(chips)


def find_chip(chip_id: str) -> Chip:
    """The chip of that id; UnknownName with the nearest ids where there is none."""
    chips = load_chips()
    try:
        return chips[chip_id.lower()]
    except KeyError:
        raise UnknownName("chip", chip_id, chips) from None


def identify(device_name: str, memory_bytes: float | None = None) -> Chip | None:
    """The one chip that a driver's device name and memory size mean; None where none or several could be meant. Never a guess.

    >>> identify("NVIDIA H100 80GB HBM3", 85.0e9).id
    'h100-sxm-80gb'
    >>> identify("NVIDIA H20") is None        # 96 GB or 141 GB: the memory size is needed
    True
    """
    words = normalise(device_name)
    named = [chip for chip in load_chips().values() if words in chip.aliases]
    if memory_bytes is not None:
        low, high = MEMORY_SHARE
        named = [chip for chip in named if chip.memory_bytes is not None and low <= memory_bytes / chip.memory_bytes <= high]
    return named[0] if len(named) == 1 else None
