"""The chip catalogue beside the machines that NVIDIA describes in aiconfigurator-core: what differs is listed with the reason."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from functools import lru_cache
from pathlib import Path

import pytest

from chipassay.results.catalogue import CHIPS_CSV, find_chip
from chipassay.results.datafile import Line, read_lines

TOLERANCE = 0.02
"""Peaks are rounded to three digits on one side or the other; their PCIe is counted before encoding (1.6 %)."""

SYSTEMS = {
    "a100_pcie": "a100-pcie-80gb",
    "a100_sxm": "a100-sxm-80gb",
    "a30": "a30-pcie-24gb",
    "b200_sxm": "b200-sxm-180gb",
    "b300_sxm": "b300-sxm-288gb",
    "gb200": "gb200",
    "gb300": "gb300",
    "h100_pcie": "h100-pcie-80gb",
    "h100_sxm": "h100-sxm-80gb",
    "h200_sxm": "h200-sxm-141gb",
    "l4": "l4-pcie-24gb",
    "l40s": "l40s-pcie-48gb",
    "rtx_pro_6000_server": "rtx-pro-6000-blackwell-server",
}
"""Their file -> our id; Intel's B60 is not in the catalogue."""

COLUMNS = {
    "memory_bandwidth_gb_per_s": ("mem_bw", 1e9),
    "memory_gib": ("mem_capacity", 2.0**30),
    "bf16_tflops": ("bfloat16_tc_flops", 1e12),
    "fp8_tflops": ("fp8_tc_flops", 1e12),
    "fp4_tflops": ("fp4_tc_flops", 1e12),
    "int8_tops": ("int8_tc_flops", 1e12),
    "power_w": ("power", 1.0),
    "pcie_gb_per_s_one_way": ("pcie_bw", 1e9),
    "link_gb_per_s_one_way": ("intra_node_bw", 1e9),
}
"""Our column -> theirs, and theirs in our unit."""

FAULTS = {
    ("l40s", "memory_gib"): "46068 MiB by nvidia-smi, less what ECC takes of 48 GB",
    ("b300_sxm", "memory_gib"): "275040 MiB by nvidia-smi; ours is the nominal 288",
    ("gb300", "memory_gib"): "284208 MiB by nvidia-smi; ours is the nominal 288",
    (
        "b200_sxm",
        "pcie_gb_per_s_one_way",
    ): "PCIe 6 there; nodes with B200 are sold with PCIe 5 hosts (Nebius's entry to MLPerf Inference 6.0)",
    ("b300_sxm", "pcie_gb_per_s_one_way"): "128 before the overhead of PCIe 6's FLITs, 121 after it",
    ("a100_pcie", "link_gb_per_s_one_way"): "PCIe there: cards without the NVLink bridge",
    ("a30", "link_gb_per_s_one_way"): "PCIe there: cards without the NVLink bridge",
    ("h100_pcie", "link_gb_per_s_one_way"): "PCIe there: cards without the NVLink bridge",
}
"""Their file and our column -> why the figures differ."""


@lru_cache(maxsize=16)
def theirs(name: str) -> dict[str, float]:
    """The plain numbers of one of their YAML files, which hold ``key: number # comment`` lines; read without a YAML library."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or spec.origin is None:
        pytest.skip("aiconfigurator-core is not installed: it has wheels for Linux on x86-64 only")
    found: dict[str, float] = {}
    for text in (Path(spec.origin).parent / "systems" / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        key, colon, value = text.partition("#")[0].partition(":")
        if colon and value.strip().isdecimal() and not key.strip().isdecimal():
            found[key.strip()] = float(value)
    return found


def ours(chip_id: str) -> Line:
    return next(line for line in read_lines(CHIPS_CSV, (*COLUMNS, "id")) if line.text("id") == chip_id)


def differing(name: str) -> dict[str, str]:
    """Our column -> both figures, where they are further apart than rounding."""
    line = ours(SYSTEMS[name])
    found: dict[str, str] = {}
    for column, (key, scale) in COLUMNS.items():
        mine, other = line.number_or_none(column), theirs(name).get(key, 0.0) / scale
        if mine and other and abs(mine - other) > TOLERANCE * mine:
            found[column] = f"{mine:g} here, {other:g} there"
    return found


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_chip_agrees_with_nvidias_own_description_but_for_known_differences(name: str) -> None:
    assert {column: told for column, told in differing(name).items() if (name, column) not in FAULTS} == {}
    major, minor = find_chip(SYSTEMS[name]).compute_capability.split(".")
    assert theirs(name)["sm_version"] == float(major + minor)


def test_every_listed_difference_is_still_one() -> None:
    theirs("h100_sxm")  # skips where the package is not installed
    version = importlib.metadata.version("aiconfigurator-core")
    if not version.startswith("0.12."):
        pytest.skip(f"the differences are listed for 0.12, and this is {version}")
    assert [(name, column) for name, column in FAULTS if column not in differing(name)] == []


def test_chips_without_a_link_talk_over_pcie_there_too() -> None:
    for name, chip_id in SYSTEMS.items():
        if find_chip(chip_id).link == "PCIe only":
            assert theirs(name)["intra_node_bw"] == theirs(name)["pcie_bw"], name
