"""NumPy as an array library: the CPU without torch."""

from __future__ import annotations

import numpy as np

from .arrays import RANDOM_BLOCK_ELEMENTS, Array, copy_random_pieces

NUMPY_DTYPES = {"fp64": "float64", "fp32": "float32", "fp16": "float16", "int8": "int8", "int32": "int32"}


class NumpyArrays:
    """Arrays in main memory."""

    name = "numpy"
    xp = np
    float64_speed = "host"

    def __init__(self) -> None:
        self._blocks: dict[np.dtype, np.ndarray] = {}
        self._rng = np.random.default_rng(0)

    def refuses(self, dtype: str) -> str | None:
        if dtype not in NUMPY_DTYPES:
            return f"NumPy has no {dtype}; use the torch backend"
        return None

    def normal(self, shape: tuple[int, ...], dtype: str, seed: int) -> Array:
        rng = np.random.default_rng(seed)
        if dtype == "int8":
            return rng.integers(-8, 8, shape, dtype=np.int8)
        if dtype == "fp64":
            return rng.standard_normal(shape)
        return rng.standard_normal(shape, dtype=np.float32).astype(NUMPY_DTYPES[dtype], copy=False)

    def integers(self, shape: tuple[int, ...], low: int, high: int, seed: int) -> Array:
        return np.random.default_rng(seed).integers(low, high, shape, dtype=np.int64)

    def unwritten(self, shape: tuple[int, ...], dtype: str) -> Array:
        kind = np.dtype(NUMPY_DTYPES[dtype])
        return np.full(shape, np.iinfo(kind).min if kind.kind == "i" else np.nan, dtype=kind)

    def refill(self, array: Array) -> None:
        if array.dtype not in self._blocks:
            name = next(ours for ours, theirs in NUMPY_DTYPES.items() if theirs == array.dtype.name)
            self._blocks[array.dtype] = self.normal((RANDOM_BLOCK_ELEMENTS,), name, seed=0)
        copy_random_pieces(array.reshape(-1), self._blocks[array.dtype], self._rng)

    def wide(self, array: Array) -> Array:
        return np.asarray(array, dtype=np.float64)

    def from_host(self, array: np.ndarray) -> Array:
        return array

    def float64(self, array: Array) -> np.ndarray:
        return np.asarray(array, dtype=np.float64)

    def synchronize(self) -> None:
        """NumPy calls have finished when they return."""
