"""Time of a matrix product by its shape: a launch, then arithmetic in whole tiles and waves, or bytes, whichever is more.

C (m x n) is cut into tiles; each multiprocessor computes one tile after the other, so the last wave may be nearly empty; a tile costs a
start and then its depth; where there are fewer tiles than multiprocessors the depth is split, and the parts are added up at a price.
The library's choice of tile and split is taken to be the best one under this model.

Sources: tile and wave quantisation: NVIDIA, "Matrix Multiplication Background User's Guide" (docs.nvidia.com/deeplearning/performance),
sections 3 and 4. Split along k: Osama et al., "Stream-K", PPoPP 2023, arXiv:2301.03598. Arithmetic against bytes: Williams, Waterman and
Patterson, "Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..evidence import Evidence
from .correction import Correction

Array = NDArray[np.float64]

SUM_BYTES = 4.0
"""A part of a split sum waits in fp32."""
QUANTISE_COLUMNS = 2048
"""Columns that a block of threads converts at a time: vLLM's times of narrow products step there."""
CHUNK = 1 << 10
"""Shapes evaluated together: their arrays, one row for each tile, stay in a core's cache."""


@dataclass(frozen=True)
class Tile:
    """A tile of C that kernels of this chip use."""

    rows: int
    columns: int
    share: float
    """Of ``rate_flops_per_s``: what a multiprocessor reaches within deep tiles of this size."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """Several tiles at once, each field a column: times of them have one row for each tile."""

    rows: Array
    columns: Array
    share: Array

    @classmethod
    def of(cls, tiles: Sequence[Tile]) -> Tiles:
        table = np.array([(tile.rows, tile.columns, tile.share) for tile in tiles], float)
        return cls(table[:, :1], table[:, 1:2], table[:, 2:])


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
    splits: tuple[int, ...] = ()
    """Into how many parts k may be divided, beside as many as fill the chip; empty: no product is split."""
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
    """Of the last-level cache, as far as products find their operands in it; 0: none is modelled."""
    cache_speedup: float = 1.0
    """Bandwidth of that cache over that of the memory."""
    cache_steepness: float = 4.0
    """How sharply the share that is found falls once what passes between two uses is larger: the exponent of their ratio."""
    cold: bool = True
    """Operands come from the memory, and only outputs may wait in the cache; else they may still be there from the call before."""
    rotation_bytes: float = 0.0
    """Of warm calls: B is the next of several copies, as many as make up so many bytes at least; 0: always the same."""
    slowdown: float = 0.0
    """Share by which long products slow down, because clocks fall under power, and how long that takes."""
    slowdown_after_s: float = 1.0
    quantise_s: float = 0.0
    quantise_s_per_byte: float = 0.0
    quantise_s_per_row: float = 0.0
    """Where a time includes converting A to ``element_bytes``: per call, per element of A, and per row of A for each QUANTISE_COLUMNS of
    it: some libraries convert row by row, so much at a time."""
    layouts: Mapping[str, float] = field(default_factory=dict)
    correction: Correction | None = None
    """What the library's choice of kernels makes of it, where thousands of shapes were measured."""
    points: int = 0
    spread: float | None = None
    """Standard deviation of log(measured / model), held out where that could be."""
    held_out: HeldOut | None = None
    fitted_range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """``m``, ``n``, ``k``, ``flops`` -> smallest and largest fitted; outside it the model extrapolates."""

    def time_s(self, m: ArrayLike, n: ArrayLike, k: ArrayLike, groups: ArrayLike = 1, layout: str = "nt") -> Array:
        """Seconds for each shape (arrays broadcast); ``groups`` products of one shape are one launch. A layout that was not measured takes
        as long as ``nt``. ValueError for a size that is not above 0.

        >>> one = ProductModel(1e14, 1e12, 1e-6, Evidence("assumed", "example"))
        >>> float(one.time_s(1000, 1000, 1000)).__round__(9)
        2.1e-05
        """
        shape = np.broadcast_shapes(*(np.shape(x) for x in (m, n, k, groups)))
        flat = [np.broadcast_to(np.asarray(x, dtype=float), shape).ravel() for x in (m, n, k, groups)]
        if not all(np.all(x > 0) for x in flat):
            raise ValueError("m, n, k and groups must be above 0: nothing is launched for a product of nothing")
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
        time_s = self.joined_s(self._arithmetic_s(m, n, k, groups), m, n, k, groups)
        return time_s if self.correction is None else time_s * np.exp(self.correction.log_factor(m, n, k))

    def _arithmetic_s(self, m: Array, n: Array, k: Array, groups: Array) -> Array:
        if not self.tiles:
            return 2.0 * m * n * k * groups / self.rate_flops_per_s
        tiles = self._all_tiles
        best: Array = self.tiled_s(tiles, *self.whole(tiles, m, n, k, groups)).min(axis=0)
        # Splitting pays only where the waves are few: the rest is never better split.
        few = np.flatnonzero(m * n * groups < 2.0 * self.multiprocessors * (tiles.rows * tiles.columns).max())
        if len(few) and self.splits:
            m, n, k, groups = m[few], n[few], k[few], groups[few]
            found = best[few]
            for split in (*self.splits, None):
                waves, depth, parts = self.divided(tiles, split, m, n, k, groups)
                np.minimum(found, (self.tiled_s(tiles, waves, depth) + self.added_s(parts, m, n, groups)).min(axis=0), out=found)
            best[few] = found
        return best

    @cached_property
    def _all_tiles(self) -> Tiles:
        return Tiles.of(self.tiles)

    def whole(self, tile: Tile | Tiles, m: Array, n: Array, k: Array, groups: Array) -> tuple[Array, Array]:
        """(waves, depth) of a product whose tiles each sum all of k."""
        count = np.ceil(m / tile.rows) * np.ceil(n / tile.columns) * groups
        return np.ceil(count / self.multiprocessors), np.ceil(k / self.step_k) * self.step_k

    def divided(self, tile: Tile | Tiles, split: int | None, m: Array, n: Array, k: Array, groups: Array) -> tuple[Array, Array, Array]:
        """(waves, depth, parts) where each tile's k is divided into ``split`` parts; None: into as many as fill the chip once."""
        count = np.ceil(m / tile.rows) * np.ceil(n / tile.columns) * groups
        parts = np.maximum(1.0, self.multiprocessors / count) if split is None else np.full(len(m), float(split))
        return np.ceil(count * parts / self.multiprocessors - 1e-9), np.ceil(k / parts / self.step_k) * self.step_k, parts

    def tiled_s(self, tile: Tile | Tiles, waves: Array, depth: Array) -> Array:
        """Seconds of so many waves of tiles so deep."""
        rate = self.rate_flops_per_s / self.multiprocessors * tile.share
        return waves * (self.tile_start_s + (2.0 * tile.rows * tile.columns / rate) * (depth + self.tile_start_k))

    def added_s(self, parts: Array, m: Array, n: Array, groups: Array) -> Array:
        """Seconds that adding up the parts takes: each is written and read again."""
        return self.split_s + (SUM_BYTES / self.bandwidth_bytes_per_s) * parts * m * n * groups

    def joined_s(self, arithmetic_s: Array, m: Array, n: Array, k: Array, groups: Array) -> Array:
        memory_s = self._moved_bytes(
            self.element_bytes * m * k * groups, self.element_bytes * k * n * groups, self.output_bytes * m * n * groups
        )
        memory_s /= self.bandwidth_bytes_per_s
        larger = np.maximum(arithmetic_s, memory_s)
        smaller = np.minimum(arithmetic_s, memory_s)
        time_s = self.launch_s + larger * (1 + (smaller / larger) ** self.sharpness) ** (1 / self.sharpness)
        if self.slowdown:
            share = arithmetic_s / (arithmetic_s + memory_s)
            time_s = time_s * (1 + self.slowdown * share * time_s / (time_s + self.slowdown_after_s))
        if self.quantise_s:
            rows = m * groups
            time_s = (
                time_s + self.quantise_s + rows * (self.quantise_s_per_byte * k + self.quantise_s_per_row * np.ceil(k / QUANTISE_COLUMNS))
            )
        return time_s

    def _moved_bytes(self, a: Array, b: Array, c: Array) -> Array:
        """Bytes of A, B and C, those found in the cache counted by its speed.

        What is found depends on what passes the cache between two uses of it (Mattson et al., "Evaluation techniques for storage
        hierarchies", IBM Systems Journal 9(2), 1970: the stack distance).
        """
        if self.cache_speedup <= 1 or not self.cache_bytes:
            return a + b + c
        if self.cold:
            found = c * self._kept(c)
        else:
            copies = np.maximum(1.0, np.ceil(self.rotation_bytes / b)) if self.rotation_bytes else 1.0
            found = (a + c) * self._kept(a + b + c) + b * self._kept(a + copies * b + c)
        return a + b + c - (1 - 1 / self.cache_speedup) * found

    def _kept(self, passed_bytes: Array) -> Array:
        kept: Array = 1 / (1 + (passed_bytes / self.cache_bytes) ** self.cache_steepness)
        return kept
