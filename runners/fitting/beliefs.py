"""What is believed of a parameter before any row, so that one row gives a usable model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chipassay.results.reference_shapes import ELEMENT_BYTES as ELEMENT_BYTES
from chipassay.results.reference_shapes import OUTPUT_BYTES as OUTPUT_BYTES

STEP_K = 64.0
SPLITS = (2, 3, 4, 6, 8, 12, 16)
TILES = ((16, 64), (32, 64), (64, 64), (64, 128), (128, 64), (128, 128), (64, 256), (256, 64), (128, 256), (256, 128))
"""Tiles that cuBLAS' kernels have names of; a tile that never is the best does not matter."""
WIDE_TILES = ((256, 256),)
"""Of pairs of multiprocessors that share a tile, on Blackwell."""


@dataclass(frozen=True)
class Belief:
    """A parameter before any row: its likely value, the standard deviation of its log, and what it cannot leave."""

    value: float
    sigma: float
    low: float
    high: float


GPU_BELIEFS: Mapping[str, Belief] = {
    "rate": Belief(1.0, 0.6, 0.05, 1.5),
    "launch_s": Belief(4e-6, 0.7, 3e-7, 5e-5),
    "bandwidth": Belief(0.85, 0.2, 0.2, 1.02),
    "tile_start_s": Belief(8e-7, 1.0, 1e-8, 2e-5),
    "tile_start_k": Belief(64.0, 1.0, 1.0, 2000.0),
    "sharpness": Belief(3.0, 0.5, 1.1, 20.0),
    "split_s": Belief(1.5e-6, 1.0, 5e-8, 1e-3),
    "slowdown": Belief(0.1, 0.8, 1e-3, 0.6),
    "slowdown_after_s": Belief(1e-3, 1.0, 1e-5, 0.1),
}
"""``rate`` moves all tiles together. Shares are of the datasheet's figure. Values are typical of fits to full tables of Ampere to
Blackwell, sigmas of their differences; bounds are what a chip cannot be."""
CACHE_BELIEFS: Mapping[str, Belief] = {
    "cache_bytes": Belief(1.0, 0.3, 0.1, 2.0),
    "cache_speedup": Belief(2.0, 0.4, 1.0001, 8.0),
    "cache_steepness": Belief(8.0, 0.7, 0.7, 60.0),
}
"""Sizes as shares of the last-level cache."""
CPU_BELIEFS: Mapping[str, Belief] = {
    "launch_s": Belief(1e-5, 1.5, 1e-8, 1e-3),
    "bandwidth": Belief(0.6, 1.0, 0.02, 1.5),
    "sharpness": Belief(3.0, 0.5, 1.1, 20.0),
    "slowdown": Belief(0.02, 0.8, 1e-3, 0.6),
    "slowdown_after_s": Belief(1e-2, 1.0, 1e-5, 10.0),
}
"""A CPU's library copies operands into its own order first: bytes cost more than the memory alone, and how much is learnt from small
products."""
QUANTISE_BELIEFS: Mapping[str, Belief] = {
    "quantise_s": Belief(1.5e-6, 1.0, 1e-8, 3e-5),
    "quantise_bytes": Belief(3.0, 0.7, 0.01, 30.0),
    "quantise_s_per_row": Belief(2e-10, 2.0, 1e-12, 1e-7),
}
"""Bytes that converting an element of A moves."""
SHARE_BELIEFS = {16: 0.2, 32: 0.3, 64: 0.5, 128: 0.75, 256: 0.8}
"""Share of the peak by the smaller side of a tile, times what the larger adds; sigma SHARE_SIGMA."""
SHARE_SIGMA = 0.35
LAYOUT_SIGMA = 0.05
RELATED = 0.4
"""How much surer a relative's fitted value is than the general belief."""
