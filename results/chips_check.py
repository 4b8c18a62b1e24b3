"""A check of the chip catalogue against itself: peaks that units and clocks cannot give, sparse peaks, units mistaken, cuts that add."""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import median

from .architectures import load_architectures
from .catalogue import CHIPS_CSV, load_chips
from .datafile import Line, read_lines

PEAK_RATIOS = (
    (("fp8_tflops", "int8_tops"), ("bf16_tflops", "fp16_tflops", "fp16_vector_tflops"), 2.0),
    (("fp16_tflops", "bf16_tflops"), ("tf32_tflops",), 2.0),
    (("fp4_tflops",), ("fp8_tflops",), 3.11),
    (("tf32_tflops",), ("fp32_tflops",), 16.0),
)
"""A dense peak is at most so many times that of the next wider type: a sparse one, twice the dense, is found where it stands beside a
dense one. 3.11: fp4 on Blackwell Ultra; 16: tf32 beside fp32 on the chips without fp32 matrix units."""
RATIO_ROUNDING = 0.03
"""Datasheets round peaks to two or three digits."""
HALVED_SUMS = ("rtx-3090-24gb", "rtx-4090-24gb", "rtx-4090d-24gb", "rtx-5090-32gb")
"""GeForce: products of 16 bit and fp8 with sums in fp32, which is what the catalogue gives, run at half of what the units could do."""
HALVED_TENSOR = ("a10g-24gb", "l20-pcie-48gb", "l40-pcie-48gb")
"""Sold with tensor cores at half the rate of their architecture, int8 included, by their datasheets."""
HALVED_PEAKS = ("tf32_tflops", "fp16_tflops", "bf16_tflops", "fp8_tflops")
OTHER_UNITS = {("mlu370-x4", "int8_tops"), ("mlu370-x8", "int8_tops"), ("gaudi3", "bf16_tflops")}
"""Peaks whose ratio to the wider type's looks sparse and is taken for dense: units of other widths, as far as the sources tell."""

CLOCKS = (0.85, 1.10)
"""Peak over multiprocessors x boost clock x operations per clock. A datasheet's tensor peak is for a lower clock than the highest one
(H200 NVL 0.87, H100 PCIe 0.92), its vector peak sometimes for a higher one (H100 SXM fp32: 1980 beside 1830 MHz)."""
NOT_BY_THE_CLOCK = {
    "h20-96gb": "its tensor rates were set for an export licence, not by its clock",
    "h20-141gb": "its tensor rates were set for an export licence, not by its clock",
    ("h800-sxm-80gb", "fp64_tflops"): "cut for export",
    ("h800-sxm-80gb", "fp64_tensor_tflops"): "cut for export",
    ("h800-pcie-80gb", "fp64_tflops"): "cut for export",
    ("h800-pcie-80gb", "fp64_tensor_tflops"): "cut for export",
    ("ascend-910b-280t", "fp16_tflops"): "the maker's name for it; 20 cube cores at 1500 MHz give 245.76, as its bf16 says",
    ("ascend-910b-280t", "int8_tops"): "twice the name's 280; the cores give 491.5",
}
"""Chip, or chip and peak -> why it is not what multiprocessors and clock give."""

RANGES: dict[str, tuple[float, float]] = {
    "year": (2012, 2030),
    "core_count": (1, 100_000),
    "boost_clock_mhz": (300, 5_000),
    "memory_gib": (4, 1_024),
    "memory_bandwidth_gb_per_s": (100, 30_000),
    "l2_mib": (1, 1_024),
    "l3_mib": (16, 1_024),
    "link_gb_per_s_one_way": (5, 2_000),
    "link_domain_size": (1, 10_000),
    "pcie_gb_per_s_one_way": (7, 130),
    "power_w": (30, 3_000),
}
"""What a chip of these years can have: beyond it a unit was mistaken (GB for Gbit, both ways for one)."""

NVLINK_GB_PER_S = {1: 80, 2: 150, 3: 300, 4: 450, 5: 900}
"""Generation of NVLink -> all links of a chip together, one way: 4 x 20, 6 x 25, 12 x 25, 18 x 25, 18 x 50 GB/s. A table that gives more
counts both ways."""
PCIE_GB_PER_S = {3: 15.75, 4: 31.5, 5: 63.0, 6: 121.0}
"""Generation of PCIe -> 16 lanes one way after encoding: 8, 16, 32 GT/s at 128/130, 64 GT/s with FLIT mode's overhead."""
BANDWIDTH_OF_MEMORY = {"GDDR": (200, 2_000), "LPDDR": (50, 1_000), "HBM": (500, 30_000)}
"""Kind of memory -> GB/s of a whole chip."""

CUT = re.compile(r"(only )?cut(-down|:)")
"""How an export note of a chip begins that was cut from its sibling."""


def chips_problems() -> Iterator[str]:
    """All that is wrong with chips.csv, a sentence each."""
    load_chips()
    peaks = sorted({name for narrow, wide, _ in PEAK_RATIOS for name in (*narrow, *wide)})
    lines = {line.required("id"): line for line in read_lines(CHIPS_CSV, (*peaks, *RANGES, "id", "memory_type", "pcie_gen", "sibling"))}
    for line in lines.values():
        for check in (_sparse, _units, _out_of_range, _links, _memory):
            yield from check(line)
        sibling = lines.get(line.text("sibling"))
        if sibling is not None and CUT.match(line.text("export_note")):
            yield from _cut_that_adds(line, sibling)


def _sparse(line: Line) -> Iterator[str]:
    halved = line.text("id") in HALVED_SUMS
    for narrow, wide, most in PEAK_RATIOS:
        base = max((line.number_or_none(name) or 0.0 for name in wide), default=0.0)
        for name in narrow:
            peak = line.number_or_none(name)
            highest = most * base * (1 + RATIO_ROUNDING) * (2 if halved and name in ("int8_tops", "fp4_tflops") else 1)
            if peak and base and peak > highest and (line.text("id"), name) not in OTHER_UNITS:
                yield _at(line, f"{name} is {peak / base:.2f} times {base:g}, the peak of the wider type: sparse?")


def _units(line: Line) -> Iterator[str]:
    """Peak = multiprocessors x clock x operations; where the first two are unknown, the median of what the peaks imply stands for them."""
    architecture, chip_id = load_architectures().get(line.text("compute_capability")), line.text("id")
    if architecture is None or chip_id in NOT_BY_THE_CLOCK:
        return
    implied: dict[str, float] = {}
    for name, operations in architecture.per_clock.items():
        peak = line.number_or_none(name)
        halved = (chip_id in HALVED_SUMS and name in HALVED_PEAKS) or (chip_id in HALVED_TENSOR and name in (*HALVED_PEAKS, "int8_tops"))
        if peak and (chip_id, name) not in NOT_BY_THE_CLOCK:
            implied[name] = peak * 1e12 / (operations / 2 if halved else operations)
    cores, clock = line.number_or_none("core_count"), line.number_or_none("boost_clock_mhz", 1e6)
    base = cores * clock if cores and clock else median(implied.values()) if implied else 0.0
    for name, value in implied.items():
        if not CLOCKS[0] <= value / base <= CLOCKS[1]:
            told = f"{value / base:.2f} times what its multiprocessors give at {architecture.per_clock[name]:g} a clock"
            yield _at(line, f"{name} is {line.number_or_none(name):g}, {told}: sparse, or a wrong clock or count?")


def _out_of_range(line: Line) -> Iterator[str]:
    for name, (low, high) in RANGES.items():
        value = line.number_or_none(name)
        if value is not None and not low <= value <= high:
            yield _at(line, f"{name} is {value:g}, outside {low:g} to {high:g}: another unit?")


def _links(line: Line) -> Iterator[str]:
    link, one_way, domain = line.text("link"), line.number_or_none("link_gb_per_s_one_way"), line.whole_or_none("link_domain_size")
    if link == "PCIe only" and (one_way is not None or domain != 1):
        yield _at(line, "link is 'PCIe only': link_gb_per_s_one_way must be empty and link_domain_size 1")
    nvlink = re.match(r"NVLink(\d)", link)
    most = NVLINK_GB_PER_S.get(int(nvlink[1])) if nvlink else None
    if most is not None and one_way is not None and one_way > most:
        yield _at(line, f"link_gb_per_s_one_way is {one_way:g}, all links of {link} carry {most}: both ways?")
    generation, pcie = line.whole_or_none("pcie_gen"), line.number_or_none("pcie_gb_per_s_one_way")
    if pcie is not None and pcie != PCIE_GB_PER_S.get(generation or 0):
        yield _at(line, f"pcie_gb_per_s_one_way is {pcie:g}, 16 lanes of PCIe {generation} carry {PCIE_GB_PER_S.get(generation or 0)}")


def _memory(line: Line) -> Iterator[str]:
    kind, bandwidth = line.text("memory_type"), line.number_or_none("memory_bandwidth_gb_per_s")
    known = next((bounds for name, bounds in BANDWIDTH_OF_MEMORY.items() if kind.startswith(name)), None)
    if kind and known is None:
        yield _at(line, f"memory_type {kind!r} is none of {', '.join(BANDWIDTH_OF_MEMORY)}")
    elif known is not None and bandwidth is not None and not known[0] <= bandwidth <= known[1]:
        yield _at(line, f"memory_bandwidth_gb_per_s is {bandwidth:g}, outside {known[0]} to {known[1]} for {kind}")


def _cut_that_adds(line: Line, sibling: Line) -> Iterator[str]:
    names = [name for name in line.cells if name.endswith(("_tflops", "_tops")) or name == "link_gb_per_s_one_way"]
    for name in names:
        value, whole = line.number_or_none(name), sibling.number_or_none(name)
        if value and whole and value > whole * (1 + RATIO_ROUNDING):
            yield _at(line, f"{name} is {value:g}, above the {whole:g} of {sibling.text('id')}, from which it was cut")


def _at(line: Line, problem: str) -> str:
    return f"{line.path.name}, line {line.number} ({line.text('id')}): {problem}"
