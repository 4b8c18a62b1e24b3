"""From which chip a chip without tables of its own takes its links, and by which rule."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from chipassay.results.catalogue import Chip, find_chip
from chipassay.results.evidence import Level

from .link_rules import CUT, FOREIGN, OTHER, OVER_PCIE, SAME, UNDER_A_BRIDGE, Sigma

A100, H100, B200, B300 = "a100-sxm-80gb", "h100-sxm-80gb", "b200-sxm-180gb", "b300-sxm-288gb"
V100, MI300X, PCIE = "v100-sxm2-16gb", "mi300x-192gb", "rtx-pro-6000-blackwell-server"


@dataclass(frozen=True)
class Relative:
    """Whose links, how sure, and how wide the wire is against the other's; ``ratio`` None: as the catalogue's links one way."""

    chip_id: str
    sigma: Sigma
    ratio: float | None = None
    pair_ratio: float | None = None
    """Of a group of two, where it has other wires than larger ones."""
    level: Level = "derived"
    why: str = "as the links one way"

    def ratio_for(self, chip: Chip, group_size: int) -> float | None:
        """How wide the chip's wire is against the relative's; None where a link is not known."""
        if group_size == 2 and self.pair_ratio is not None:
            return self.pair_ratio
        own, other = chip.link_bytes_per_s_one_way, find_chip(self.chip_id).link_bytes_per_s_one_way
        return self.ratio or (own / other if own and other else None)


RELATIVES = {
    "a100-sxm-40gb": Relative(A100, SAME),
    "a800-sxm-80gb": Relative(A100, CUT),
    "h800-sxm-80gb": Relative(H100, CUT),
    "h20-96gb": Relative(H100, CUT),  # as many links, but 78 multiprocessors of 132 to feed them
    "h20-141gb": Relative(H100, CUT),
    "b100-sxm-192gb": Relative(B200, SAME),
    "gb200": Relative(B200, SAME),  # for 8 chips: its table ends at a tray of 4
    "gb300": Relative(B300, SAME),
    "v100-sxm3-32gb": Relative(A100, OTHER),
    "p100-sxm2-16gb": Relative(V100, OTHER, pair_ratio=20 / 25),  # DGX-1, both: 4 links of 20 against 6 of 25; a pair has one
    "mi325x-256gb": Relative(MI300X, SAME),
    "mi355x-288gb": Relative(MI300X, OTHER),
    "mi250x-128gb": Relative(MI300X, FOREIGN, level="assumed"),  # no mesh of all eight
    "ascend-910b-376t": Relative(MI300X, FOREIGN, level="assumed"),  # HCCS: eight chips, each joined to each, as over there
    "ascend-910b-313t": Relative(MI300X, FOREIGN, level="assumed"),
    "ascend-910b-280t": Relative(MI300X, FOREIGN, level="assumed"),
}

MACHINES = {
    "PCIe 4, 8 chips, NVIDIA GTC24 S62129": 24 / 31.5,
    "PCIe 5, 8 chips, NVIDIA GTC24 S62129": 48 / 63,
    "4 RTX 4090 with a driver patched for P2P, tinygrad/open-gpu-kernel-modules issue 36": 25.9 / 31.5,
    "3 A100 PCIe, nccl-tests issue 178": 20 / 31.5,
    "4 RTX 5090, NCCL issue 1639": 35 / 63,
    "8 RTX 5090, NCCL issue 1639": 28 / 63,
    "4 RTX PRO 6000, aiconfigurator-core": 25.8 / 63,
    "8 RTX PRO 6000, aiconfigurator-core": 24.3 / 63,
    "4 GTX 1080 Ti, DeepBench": 11.0 / 15.75,
    "8 GTX 1080 Ti, DeepBench": 8.7 / 15.75,
    "4 P100, DeepBench": 5.76 / 15.75,
    "8 P100, DeepBench": 5.89 / 15.75,
}
"""Bus bandwidth of a large all-reduce of more than two chips over PCIe one way, machine by machine: log standard deviation 0.3."""
TYPICAL_MACHINE = statistics.median(MACHINES.values()) / (24.3 / 63)
"""The median machine over the one whose lines are taken."""

BRIDGED = {"Ampere": A100, "Hopper": H100, "Ada": A100}
"""Generation -> whose pair stands for two cards under a bridge."""


def pcie_relative(chip: Chip) -> Relative | None:
    """NCCL over PCIe as on the one PCIe chip whose tables are sound; None where the chip's PCIe is not known."""
    other = find_chip(PCIE).pcie_bytes_per_s
    if not (chip.pcie_bytes_per_s and other):
        return None
    ratio = chip.pcie_bytes_per_s / other
    why = f"as PCIe one way; more than two chips {TYPICAL_MACHINE:.2f} times that, the median of {len(MACHINES)} published cases over it"
    return Relative(PCIE, OVER_PCIE, TYPICAL_MACHINE * ratio, pair_ratio=ratio, why=why)


def bridge_relative(chip: Chip) -> Relative | None:
    """Two cards under an NVLink bridge; None where there is none."""
    of = BRIDGED.get(chip.architecture.split()[0]) if "bridge" in chip.link else None
    return Relative(of, UNDER_A_BRIDGE, why="as the links one way, where the bridge is fitted") if of else None


def pattern_reference(chip: Chip) -> str:
    """On whom it is known what the patterns are to each other, for a chip of which one pattern is known."""
    return PCIE if (chip.link_domain_size or 1) <= 2 else A100
