"""Tiles and splits that a library may choose for given shapes, laid out once so that a fit only multiplies and adds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chipassay.results.shape_models.product import ProductModel

Array = NDArray[np.float64]


class Candidates:
    """Every tile and split for every shape: waves, depths and parts, which no parameter changes."""

    def __init__(self, model: ProductModel, m: Array, n: Array, k: Array, groups: Array) -> None:
        self.m, self.n, self.k, self.groups = m, n, k, groups
        columns: tuple[list[Array], ...] = ([], [], [])
        tiles: list[int] = []
        for i, tile in enumerate(model.tiles):
            whole = model.whole(tile, m, n, k, groups)
            for one in [(*whole, np.zeros(len(m))), *(model.divided(tile, split, m, n, k, groups) for split in (*model.splits, None))]:
                for column, values in zip(columns, one, strict=True):
                    column.append(values)
                tiles.append(i)
        self.tile = np.array(tiles, dtype=int)
        self.area = np.array([2.0 * model.tiles[i].rows * model.tiles[i].columns for i in tiles])
        if tiles:
            self.waves, self.depth, self.parts = (np.stack(column) for column in columns)

    def arithmetic_s(self, model: ProductModel) -> tuple[Array, NDArray[np.int_] | None]:
        """The best candidate's seconds for each shape, and which it is."""
        if not len(self.tile):
            return 2.0 * self.m * self.n * self.k * self.groups / model.rate_flops_per_s, None
        seconds = self.waves * (model.tile_start_s + self._per_k(model)[:, None] * (self.depth + model.tile_start_k))
        seconds += self._added_s(model, self.parts)
        best = seconds.argmin(axis=0)
        return seconds[best, np.arange(len(self.m))], best

    def chosen_s(self, model: ProductModel, best: NDArray[np.int_] | None) -> Array:
        """Seconds of the given candidates under another model: what the slope of the minimum is the slope of."""
        if best is None:
            return 2.0 * self.m * self.n * self.k * self.groups / model.rate_flops_per_s
        at = best, np.arange(len(self.m))
        seconds = self.waves[at] * (model.tile_start_s + self._per_k(model)[best] * (self.depth[at] + model.tile_start_k))
        added: Array = seconds + self._added_s(model, self.parts[at])
        return added

    def _per_k(self, model: ProductModel) -> Array:
        shares = np.array([tile.share for tile in model.tiles])
        per_k: Array = self.area / (model.rate_flops_per_s / model.multiprocessors * shares[self.tile])
        return per_k

    def _added_s(self, model: ProductModel, parts: Array) -> Array:
        return np.where(parts > 0, model.added_s(parts, self.m, self.n, self.groups), 0.0)

    def times_s(self, model: ProductModel, arithmetic_s: Array) -> Array:
        return model.joined_s(arithmetic_s, self.m, self.n, self.k, self.groups)
