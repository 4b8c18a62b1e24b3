"""Which chips ship with a profile, and from whom each takes what nobody measured of it. In the order of building: parents come first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One chip. ``parents``: nearest first; a cell is taken of the first that has it measured or published, by rule.

    Nearest is the same silicon; else the same kind of board with as many watts for its FLOPs, for power is what holds a rate below its peak
    (W per dense bf16 TFLOP/s: L4 0.6, L40S 1.0, RTX PRO 6000 1.3, A10G 2.1, RTX 4090 2.7).
    """

    chip_id: str
    parents: tuple[str, ...] = ()
    cpu: bool = False


H200, H100, A100, B200, L40S = "h200-sxm-141gb", "h100-sxm-80gb", "a100-sxm-80gb", "b200-sxm-180gb", "l40s-pcie-48gb"
P100, V100, RTX_PRO = "p100-pcie-16gb", "v100-sxm2-16gb", "rtx-pro-6000-blackwell-server"
B300, A100_PCIE, H800_PCIE, MI300X = "b300-sxm-288gb", "a100-pcie-80gb", "h800-pcie-80gb", "mi300x-192gb"

RECIPES = (
    Recipe("cpu-zen-4-2c", cpu=True),
    Recipe(H200),
    Recipe(H100, (H200,)),
    Recipe(A100, (H200, H100)),
    Recipe(B200, (H200, H100)),
    Recipe(B300, (B200, H200)),
    Recipe("gb200", (B200, H200)),
    Recipe(L40S, (A100, H200)),
    Recipe(RTX_PRO, (L40S, H200)),
    Recipe(P100, (A100, H200)),
    Recipe(V100, (P100, A100, H200)),
    Recipe("t4-pcie-16gb", (V100, A100, H200)),
    Recipe("p100-sxm2-16gb", (P100, A100, H200)),
    Recipe("v100-sxm2-32gb", (V100, A100, H200)),
    Recipe("a100-sxm-40gb", (A100, H200)),
    Recipe("a800-sxm-80gb", (A100, H200)),
    Recipe("h800-sxm-80gb", (H100, H200)),
    Recipe("h20-96gb", (H100, H200)),
    Recipe("gh200-96gb", (H200, H100)),
    Recipe("gh200-144gb", (H200, H100)),
    Recipe("l4-pcie-24gb", (L40S, A100, H200)),
    Recipe("a10g-24gb", (RTX_PRO, L40S, A100, H200)),
    Recipe("rtx-4090-24gb", (RTX_PRO, L40S, H200)),
    Recipe("p100-pcie-12gb", (P100, A100, H200)),
    Recipe("v100-pcie-16gb", (V100, A100, H200)),
    Recipe("v100-pcie-32gb", (V100, A100, H200)),
    Recipe("v100-sxm3-32gb", (V100, A100, H200)),
    Recipe("a10-pcie-24gb", (RTX_PRO, L40S, A100, H200)),
    Recipe("a30-pcie-24gb", (A100, H200)),
    Recipe("a40-pcie-48gb", (RTX_PRO, L40S, A100, H200)),
    Recipe("rtx-a6000-48gb", (RTX_PRO, L40S, A100, H200)),
    Recipe("rtx-3090-24gb", (RTX_PRO, L40S, A100, H200)),
    Recipe(A100_PCIE, (A100, H200)),
    Recipe("a100-pcie-40gb", (A100_PCIE, A100, H200)),
    Recipe("a800-pcie-80gb", (A100_PCIE, A100, H200)),
    Recipe("a800-pcie-40gb", (A100_PCIE, A100, H200)),
    Recipe("l40-pcie-48gb", (RTX_PRO, L40S, H200)),
    Recipe("l20-pcie-48gb", (RTX_PRO, L40S, H200)),
    Recipe("rtx-4090d-24gb", (RTX_PRO, L40S, H200)),
    Recipe("rtx-6000-ada-48gb", (L40S, A100, H200)),
    Recipe("rtx-5090-32gb", (RTX_PRO, L40S, H200)),
    Recipe("rtx-pro-6000-blackwell-ws", (RTX_PRO, L40S, H200)),
    Recipe(H800_PCIE, (H100, H200)),
    Recipe("h100-pcie-80gb", (H800_PCIE, H100, H200)),
    Recipe("h100-nvl-94gb", (H100, H200)),
    Recipe("h200-nvl-141gb", (H200, H100)),
    Recipe("h20-141gb", (H100, H200)),
    Recipe("b100-sxm-192gb", (B200, H200)),
    Recipe("gb300", (B300, B200, H200)),
    Recipe(MI300X),
    Recipe("mi325x-256gb"),
    Recipe("mi355x-288gb", (MI300X,)),
    Recipe("mi250x-128gb"),
    Recipe("ascend-910b-376t"),
    Recipe("ascend-910b-313t"),
    Recipe("ascend-910b-280t"),
)
