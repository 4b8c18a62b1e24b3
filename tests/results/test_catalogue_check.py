"""The catalogue agrees with itself and with physics, and what does not is named by chip and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipassay.results import chips_check
from chipassay.results.architectures import load_architectures
from chipassay.results.catalogue import CHIPS_CSV, find_chip, load_chips
from chipassay.results.chips_check import chips_problems
from chipassay.results.errors import FileError, UnknownName
from chipassay.results.systems import SYSTEMS_CSV, find_system, load_systems

from .changed_tables import changed

STORY = (
    *("p100-sxm2-16gb", "p100-pcie-16gb", "v100-sxm2-16gb", "v100-sxm2-32gb", "a100-sxm-40gb", "a100-sxm-80gb", "a800-sxm-80gb"),
    *("h100-sxm-80gb", "h100-pcie-80gb", "h800-sxm-80gb", "h20-96gb", "h200-sxm-141gb", "gh200-96gb", "b200-sxm-180gb"),
    *("b300-sxm-288gb", "gb200", "l40s-pcie-48gb", "l4-pcie-24gb", "t4-pcie-16gb", "a10g-24gb", "rtx-4090-24gb"),
    *("rtx-pro-6000-blackwell-server", "mi250x-128gb", "mi300x-192gb", "mi325x-256gb", "ascend-910b-313t"),
)
"""The chips that ship with a profile."""


@pytest.mark.parametrize("chip_id", STORY)
def test_a_chip_with_a_profile_has_all_that_a_fit_starts_from(chip_id: str) -> None:
    chip = find_chip(chip_id)
    assert chip.core_count
    assert chip.last_cache_bytes
    assert chip.memory_type
    assert chip.memory_bandwidth_bytes_per_s
    assert {"fp16", "bf16"} & set(chip.peak_flops_per_s)
    assert chip.link == "PCIe only" or chip.link_bytes_per_s_one_way


@pytest.mark.parametrize(
    ("chip_id", "column", "value", "words"),
    [
        ("h100-sxm-80gb", "fp8_tflops", "3958", "sparse?"),
        ("h100-sxm-80gb", "memory_bandwidth_gb_per_s", "3.35", "another unit?"),
        ("h100-sxm-80gb", "bf16_tflops", "1979", "2.00 times what its multiprocessors give at 4096 a clock"),
        ("h100-sxm-80gb", "core_count", "114", "1.16 times what"),
        ("v100-sxm2-16gb", "boost_clock_mhz", "765", "a wrong clock or count?"),
        ("h800-sxm-80gb", "bf16_tflops", "1979", "above the 989.4 of h100-sxm-80gb, from which it was cut"),
        ("a800-sxm-80gb", "link_gb_per_s_one_way", "400", "all links of NVLink3+NVSwitch2 (8 links) carry 300: both ways?"),
        ("a800-sxm-80gb", "link_gb_per_s_one_way", "320", "above the 300 of a100-sxm-80gb"),
        ("a100-sxm-80gb", "pcie_gb_per_s_one_way", "64", "16 lanes of PCIe 4 carry 31.5"),
        ("l4-pcie-24gb", "link_domain_size", "8", "link is 'PCIe only'"),
        ("l4-pcie-24gb", "memory_type", "DDR4", "is none of GDDR"),
        ("t4-pcie-16gb", "memory_type", "HBM2", "outside 500 to 30000 for HBM2"),
    ],
)
def test_a_figure_that_cannot_be_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chip_id: str, column: str, value: str, words: str
) -> None:
    monkeypatch.setattr(chips_check, "CHIPS_CSV", changed(CHIPS_CSV, tmp_path, column, value, f"{chip_id},"))
    told = [problem for problem in chips_problems() if words in problem]
    assert told
    assert f"({chip_id})" in told[0]


def test_units_times_clock_give_the_peak_that_the_makers_white_papers_print() -> None:
    """A100: 108 SMs at 1410 MHz, 312 TFLOP/s of bf16; MI300X: 304 CUs at 2100 MHz, 1307.4; V100: 80 at 1530, 125."""
    printed = {"8.0": (108 * 1.41e9, 312e12), "gfx942": (304 * 2.1e9, 1307.4e12)}
    for key, (clocks, peak) in printed.items():
        assert clocks * load_architectures()[key].per_clock["bf16_tflops"] == pytest.approx(peak, rel=2e-3)
    assert 80 * 1.53e9 * load_architectures()["7.0"].per_clock["fp16_tflops"] == pytest.approx(125e12, rel=5e-3)


def test_an_infinity_cache_shields_the_memory_beyond_l2() -> None:
    mi300x = find_chip("mi300x-192gb")
    assert (mi300x.l2_bytes, mi300x.last_cache_bytes) == (32 * 2**20, 256 * 2**20)
    assert find_chip("kunlun-p800").last_cache_bytes is None


def test_export_parts_say_what_was_cut() -> None:
    assert "NVLink 600->400" in find_chip("a800-sxm-80gb").export_note
    assert "FP64 34->1" in find_chip("h800-sxm-80gb").export_note


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("chips_per_node", "0", "at least one chip per node"),
        ("chip_id", "h100", "no chip of the catalogue"),
        ("total_inter_node_gbit_per_s", "400", "are 3200; write 3200"),
        ("nic_gbit_per_s_each", "", "half of the adapters is unknown"),
        ("evidence", "", "'' is not one of"),
        ("source", "", "every row needs it"),
    ],
)
def test_a_system_that_contradicts_itself_is_named(tmp_path: Path, column: str, value: str, words: str) -> None:
    with pytest.raises(FileError, match=words) as caught:
        load_systems(changed(SYSTEMS_CSV, tmp_path, column, value, "dgx-h100,"))
    assert caught.value.line is not None


def test_a_system_is_found_by_name_or_the_nearest_are_offered() -> None:
    dgx = find_system("DGX-H100")
    assert (dgx.chip_id, dgx.chips_per_node, dgx.node_bytes_per_s_one_way) == ("h100-sxm-80gb", 8, 400e9)
    with pytest.raises(UnknownName, match="dgx-h100"):
        find_system("dgx-h10")


def test_a_peak_of_one_chip_is_not_known_to_another() -> None:
    """The catalogue fills nothing in: what a datasheet does not give is absent."""
    assert "fp8_e4m3" not in find_chip("a100-sxm-80gb").peak_flops_per_s
    assert all(value > 0 for chip in load_chips().values() for value in chip.peak_flops_per_s.values())
