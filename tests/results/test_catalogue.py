"""The shipped catalogue: complete, typed, and able to tell which chip a driver means."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from chipassay.results.catalogue import CHIPS_CSV, find_chip, identify, load_chips
from chipassay.results.cpus import find_cpu
from chipassay.results.errors import FileError, InputError, UnknownName
from chipassay.results.fabrics import fabric_of, find_fabric
from chipassay.results.systems import default_system, load_systems

GIB = 2**30


@pytest.mark.parametrize(
    ("device_name", "memory_gib", "chip_id"),
    [
        ("NVIDIA H100 80GB HBM3", 79.1, "h100-sxm-80gb"),
        ("NVIDIA H100 PCIe", 79.6, "h100-pcie-80gb"),
        ("NVIDIA H100 NVL", 93.1, "h100-nvl-94gb"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "a100-sxm-40gb"),
        ("NVIDIA A100-SXM4-80GB", 79.2, "a100-sxm-80gb"),
        ("A100-PCIE-40GB", 39.4, "a100-pcie-40gb"),
        ("NVIDIA A100 80GB PCIe", 79.2, "a100-pcie-80gb"),
        ("NVIDIA A800-SXM4-80GB", 79.2, "a800-sxm-80gb"),
        ("NVIDIA A800 80GB PCIe", 79.2, "a800-pcie-80gb"),
        ("Tesla V100-SXM2-16GB", 15.8, "v100-sxm2-16gb"),
        ("Tesla V100-SXM2-32GB", 31.7, "v100-sxm2-32gb"),
        ("Tesla V100-PCIE-16GB", 15.8, "v100-pcie-16gb"),
        ("Tesla P100-PCIE-16GB", 15.9, "p100-pcie-16gb"),
        ("Tesla P100-SXM2-16GB", 15.9, "p100-sxm2-16gb"),
        ("NVIDIA H800", 79.1, "h800-sxm-80gb"),
        ("NVIDIA H800 PCIe", 79.6, "h800-pcie-80gb"),
        ("NVIDIA H20", 95.6, "h20-96gb"),
        ("NVIDIA H20", 139.8, "h20-141gb"),
        ("NVIDIA H200", 139.8, "h200-sxm-141gb"),
        ("NVIDIA B200", 178.4, "b200-sxm-180gb"),
        ("AMD Instinct MI300X", 191.7, "mi300x-192gb"),
        ("AMD Instinct MI300X OAM", 191.7, "mi300x-192gb"),
        ("NVIDIA L40S", 44.4, "l40s-pcie-48gb"),
        ("NVIDIA L4", 22.0, "l4-pcie-24gb"),
        ("Tesla T4", 14.6, "t4-pcie-16gb"),
        ("NVIDIA GeForce RTX 4090", 23.6, "rtx-4090-24gb"),
        ("NVIDIA GeForce RTX 4090 D", 23.6, "rtx-4090d-24gb"),
        ("NVIDIA A10G", 22.1, "a10g-24gb"),
        ("NVIDIA A10", 22.1, "a10-pcie-24gb"),
    ],
)
def test_a_driver_name_and_memory_size_identify_the_sku(device_name: str, memory_gib: float, chip_id: str) -> None:
    found = identify(device_name, memory_gib * GIB)
    assert found is not None
    assert found.id == chip_id


@pytest.mark.parametrize(
    ("device_name", "memory_gib"),
    [
        ("NVIDIA H20", None),  # 96 or 141 GB
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9.5),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 15.6),
        ("NVIDIA GeForce RTX 3090 Ti", 23.6),
        ("NVIDIA H100 80GB HBM3", 9.5),  # a slice of one
        ("AMD Instinct MI250X", 63.9),  # one of its two dies
        ("Quadro P400", 2.0),
        ("", None),
    ],
)
def test_an_ambiguous_or_unknown_device_is_never_guessed(device_name: str, memory_gib: float | None) -> None:
    assert identify(device_name, None if memory_gib is None else memory_gib * GIB) is None


def test_no_two_chips_of_one_memory_size_share_an_alias() -> None:
    seen = {}
    for chip in load_chips().values():
        for alias in chip.aliases:
            assert (alias, chip.memory_bytes) not in seen, f"{chip.id} and {seen[alias, chip.memory_bytes]}"
            seen[alias, chip.memory_bytes] = chip.id


def test_the_export_parts_differ_from_their_originals_by_their_link() -> None:
    for part, original in (("a800-sxm-80gb", "a100-sxm-80gb"), ("h800-sxm-80gb", "h100-sxm-80gb")):
        cut, whole = find_chip(part), find_chip(original)
        assert cut.link_bytes_per_s_one_way == 200e9
        assert whole.link_bytes_per_s_one_way in (300e9, 450e9)
        assert cut.peak_flops_per_s["bf16"] == pytest.approx(whole.peak_flops_per_s["bf16"], rel=1e-3)
        assert cut.memory_bandwidth_bytes_per_s == whole.memory_bandwidth_bytes_per_s


def test_the_p100_has_its_vector_fp16_and_no_bf16() -> None:
    p100 = find_chip("p100-sxm2-16gb")
    assert p100.peak_flops_per_s["fp16"] == 21.2e12
    assert "bf16" not in p100.peak_flops_per_s
    assert "tf32" not in p100.peak_flops_per_s


def test_every_chip_says_where_its_numbers_come_from() -> None:
    assert all(chip.evidence.source for chip in load_chips().values())


def test_an_unknown_chip_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(UnknownName, match="h100-sxm-80gb"):
        find_chip("h100-sxm")


@pytest.mark.parametrize(
    ("column", "cell", "problem"),
    [
        ("bf16_tflops", "fast", "not a number: 'fast'"),
        ("memory_gib", "-80", "at least 0"),
        ("link_domain_size", "2.5", "not a whole number"),
        ("sibling", "a100-sxm", "no chip of this table"),
        ("aliases", "H100", "not normalised"),
        ("id", "", "every row needs it"),
        ("evidence", "guessed", "not one of measured, published, derived, assumed"),
        ("source", "", "every row needs it"),
    ],
)
def test_a_wrong_cell_is_named_by_line_and_column(tmp_path: Path, column: str, cell: str, problem: str) -> None:
    header, row = list(csv.reader(CHIPS_CSV.read_text(encoding="utf-8").splitlines()))[:2]
    values = dict(zip(header, row, strict=True)) | {"sibling": "", column: cell}
    table = tmp_path / "chips.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, [values[name] for name in header]])
    with pytest.raises(FileError, match=problem) as caught:
        load_chips(table)
    assert caught.value.line == 2
    assert caught.value.field == column


def test_a_fabric_name_gives_bytes_per_second_of_a_node() -> None:
    fabric = find_fabric("ndr400x8")
    assert fabric.nics * fabric.nic_bytes_per_s_one_way == 400e9
    assert fabric.node_bytes_per_s == pytest.approx(0.96 * 400e9)


@pytest.mark.parametrize("name", ["hdr", "hdr200", "200x8", "hdrx8", "hdr200x0", "hdr0x8"])
def test_a_fabric_that_cannot_be_read_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        find_fabric(name)


def test_an_unknown_fabric_kind_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="hdr"):
        find_fabric("hdx200x8")


def test_the_reference_node_of_a_chip_is_the_makers() -> None:
    system = default_system("h100-sxm-80gb")
    assert system is not None
    assert (system.id, system.chips_per_node) == ("dgx-h100", 8)
    fabric = fabric_of(system)
    assert fabric is not None
    assert fabric.name == "ndr400x8"


@pytest.mark.parametrize(
    ("chip_id", "fabric_name"),
    [("gb300", "xdr800x72"), ("mi325x-256gb", "roce400x8"), ("mi355x-288gb", "roce400x8"), ("h20-141gb", "ndr400x8")],
)
def test_a_chip_of_large_clusters_has_a_network(chip_id: str, fabric_name: str) -> None:
    """Else predictions assume one 100 Gbit/s NIC for each node of them, and a GB300 seems five times slower than a GB200."""
    system = default_system(chip_id)
    assert system is not None
    fabric = fabric_of(system)
    assert fabric is not None
    assert fabric.name == fabric_name


def test_every_system_names_a_catalogued_chip() -> None:
    assert {system.chip_id for system in load_systems().values()} <= set(load_chips())


def test_a_cpu_core_is_known_by_family_and_model() -> None:
    zen4 = find_cpu("AuthenticAMD", 25, 17, {"avx2", "avx512f", "avx512_bf16"})
    assert zen4 is not None
    assert zen4.flops_per_cycle["fp32"] == 32
    assert zen4.flops_per_cycle["bf16"] == 64
    assert zen4.fp_add_latency_cycles == 3
    assert zen4.peaks(cores=2, clock_hz=2.5e9)["fp32"].value == 160e9


def test_a_cpu_unit_that_the_machine_hides_has_no_peak() -> None:
    hidden = find_cpu("GenuineIntel", 6, 143, {"avx512f"})
    shown = find_cpu("GenuineIntel", 6, 143, {"avx512f", "amx_bf16"})
    assert hidden is not None
    assert shown is not None
    assert "bf16" not in hidden.flops_per_cycle
    assert shown.flops_per_cycle["bf16"] == 2048
    assert find_cpu("AuthenticAMD", 25, 17, set()) is None
    assert find_cpu("SomeoneElse", 1, 1, {"avx512f"}) is None
