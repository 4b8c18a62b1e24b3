"""Time of a matrix product by its shape: a launch, then arithmetic in whole tiles and waves, or bytes, whichever is more.

C (m x n) is cut into tiles; each multiprocessor computes one tile after the other, so the last wave may be nearly empty; a tile costs a
start and then its depth; where there are fewer tiles than multiprocessors the depth is split, and the parts are added up at a price.
The library's choice of tile and split is taken to be the best one under this model.

Sources: tile and wave quantisation: NVIDIA, "Matrix Multiplication Background User's Guide" (docs.nvidia.com/deeplearning/performance),
sections 3 and 4. Split along k: Osama et al., "Stream-K", PPoPP 2023, arXiv:2301.03598. Arithmetic against bytes: Williams, Waterman and
Patterson, "Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..evidence import Evidence

Array = NDArray[np.float64]

SUM_BYTES = 4.0
"""A part of a split sum waits in fp32."""
CACHE_STEEPNESS = 4.0
"""How sharply the share of a footprint that stays in the cache falls once it is larger than the cache: assumed."""
CHUNK = 1 << 15
"""Shapes evaluated together: their arrays stay in a core's cache."""


@dataclass(frozen=True)
class Tile:
    """A tile of C that kernels of this chip use."""

    rows: int
    columns: int
    share: float
    """Of ``rate_flops_per_s``: what a multiprocessor reaches within deep tiles of this size."""


@dataclass(frozen=True)
class HeldOut:
    """How far the model is off on shapes that its fit did not see: |model / measured - 1| over ``points``."""

    median: float
    p90: float
    points: int
    smallest_flops: float
    """Only shapes of at least so many FLOPs are counted."""


@dataclass(frozen=True)
class ProductModel:
    """Seconds of C = A B by shape. Without tiles: ``launch_s`` + FLOPs at ``rate_flops_per_s``, or bytes at the bandwidth.

    ``rate_flops_per_s`` and ``bandwidth_bytes_per_s`` are of the whole chip. Times are of layout ``nt``; ``layouts`` holds what the
    others take over it.
    """

    rate_flops_per_s: float
    bandwidth_bytes_per_s: float
    launch_s: float
    evidence: Evidence
    element_bytes: float = 2.0
    output_bytes: float = 2.0
    multiprocessors: int = 1
    tiles: tuple[Tile, ...] = ()
    splits: tuple[int, ...] = (1,)
    tile_start_s: float = 0.0
    """Each tile: fetching its first operands and storing what it computed."""
    tile_start_k: float = 0.0
    """The same, as depth: what scales with the tile."""
    step_k: int = 1
    """A tile's depth is a multiple of this."""
    split_s: float = 0.0
    """Adding up the parts of a split product, beside their bytes."""
    sharpness: float = 16.0
    """p of the p-norm that joins arithmetic and bytes: large is their maximum, 1 their sum."""
    cache_bytes: float = 0.0
    """A footprint below this finds its operands, above it the memory; 0: no cache is modelled, or times are cold."""
    cache_speedup: float = 1.0
    output_cache_bytes: float = 0.0
    """The same of outputs, which a cache that writes back may hold while operands stream."""
    slowdown: float = 0.0
    """Share by which long products slow down, because clocks fall under power, and how long that takes."""
    slowdown_after_s: float = 1.0
    quantise_s: float = 0.0
    quantise_s_per_byte: float = 0.0
    """Where a time includes converting A to ``element_bytes``: per call, and per element of A."""
    layouts: Mapping[str, float] = field(default_factory=dict)
    points: int = 0
    spread: float | None = None
    """Standard deviation of log(measured / model), held out where that could be."""
    held_out: HeldOut | None = None
    fitted_range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """``m``, ``n``, ``k``, ``flops`` -> smallest and largest fitted; outside it the model extrapolates."""

    def time_s(self, m: ArrayLike, n: ArrayLike, k: ArrayLike, groups: ArrayLike = 1, layout: str = "nt") -> Array:
        """Seconds for each shape (arrays broadcast); ``groups`` products of one shape are one launch.

        >>> one = ProductModel(1e14, 1e12, 1e-6, Evidence("assumed", "example"))
        >>> float(one.time_s(1000, 1000, 1000)).__round__(9)
        2.1e-05
        """
        shape = np.broadcast_shapes(*(np.shape(x) for x in (m, n, k, groups)))
        flat = [np.broadcast_to(np.asarray(x, dtype=float), shape).ravel() for x in (m, n, k, groups)]
        out = np.empty(flat[0].shape)
        for begin in range(0, len(out), CHUNK):
            part = slice(begin, begin + CHUNK)
            out[part] = self._times(*(x[part] for x in flat))
        return out.reshape(shape) * self.layouts.get(layout, 1.0)

    def extrapolates(self, m: float, n: float, k: float) -> bool:
        """Whether the shape lies outside what was fitted."""
        values = {"m": m, "n": n, "k": k, "flops": 2.0 * m * n * k}
        return any(not low <= values[name] <= high for name, (low, high) in self.fitted_range.items() if name in values)

    def _times(self, m: Array, n: Array, k: Array, groups: Array) -> Array:
        return self.joined_s(self._arithmetic_s(m, n, k, groups), m, n, k, groups)

    def _arithmetic_s(self, m: Array, n: Array, k: Array, groups: Array) -> Array:
        if not self.tiles:
            return 2.0 * m * n * k * groups / self.rate_flops_per_s
        best = np.full(len(m), np.inf)
        depth = np.ceil(k / self.step_k) * self.step_k + self.tile_start_k
        for tile in self.tiles:
            count = np.ceil(m / tile.rows) * np.ceil(n / tile.columns) * groups
            np.minimum(best, self.tiled_s(tile, 1, count, depth), out=best)
        # Splitting pays only where one wave is not full: the rest is never worse unsplit.
        few = np.flatnonzero(m * n * groups < 2.0 * self.multiprocessors * max(tile.rows * tile.columns for tile in self.tiles))
        if len(few):
            m, n, k, groups = m[few], n[few], k[few], groups[few]
            found = best[few]
            for split in (split for split in self.splits if split > 1):
                depth = np.ceil(k / split / self.step_k) * self.step_k + self.tile_start_k
                added_s = self.split_added_s(split, m, n, groups)
                for tile in self.tiles:
                    count = np.ceil(m / tile.rows) * np.ceil(n / tile.columns) * groups
                    np.minimum(found, self.tiled_s(tile, split, count, depth) + added_s, out=found)
            best[few] = found
        return best

    def tiled_s(self, tile: Tile, split: int, count: Array, depth: Array) -> Array:
        """Seconds of all waves of ``count`` x ``split`` tiles, each ``depth`` deep."""
        waves = np.ceil(count * (split / self.multiprocessors))
        rate = self.rate_flops_per_s / self.multiprocessors * tile.share
        return waves * (self.tile_start_s + (2.0 * tile.rows * tile.columns / rate) * depth)

    def split_added_s(self, split: int, m: Array, n: Array, groups: Array) -> Array:
        """Seconds that adding up the parts takes: each is written and read again."""
        return self.split_s + SUM_BYTES * split / self.bandwidth_bytes_per_s * m * n * groups

    def joined_s(self, arithmetic_s: Array, m: Array, n: Array, k: Array, groups: Array) -> Array:
        operands, outputs = self.element_bytes * (m * k + k * n) * groups, self.output_bytes * m * n * groups
        memory_s = (operands + outputs) / self.bandwidth_bytes_per_s
        if self.cache_speedup > 1:
            kept = 1 / (1 + ((operands + outputs) / self.cache_bytes) ** CACHE_STEEPNESS) if self.cache_bytes else 0.0
            saved = kept * (operands + outputs)
            if self.output_cache_bytes:
                saved = saved + (1 - kept) * outputs / (1 + (outputs / self.output_cache_bytes) ** CACHE_STEEPNESS)
            memory_s = memory_s - saved * (1 - 1 / self.cache_speedup) / self.bandwidth_bytes_per_s
        larger = np.maximum(arithmetic_s, memory_s)
        smaller = np.minimum(arithmetic_s, memory_s)
        time_s = self.launch_s + larger * (1 + (smaller / larger) ** self.sharpness) ** (1 / self.sharpness)
        if self.slowdown:
            share = arithmetic_s / (arithmetic_s + memory_s)
            time_s = time_s * (1 + self.slowdown * share * time_s / (time_s + self.slowdown_after_s))
        if self.quantise_s or self.quantise_s_per_byte:
            time_s = time_s + self.quantise_s + self.quantise_s_per_byte * m * k * groups
        return time_s
