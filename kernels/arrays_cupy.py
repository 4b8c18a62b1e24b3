"""CuPy as an array library, on one CUDA or ROCm device. Not yet run on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import RANDOM_BLOCK_ELEMENTS, Array, copy_random_pieces
from .arrays_numpy import NUMPY_DTYPES


class CupyArrays:
    """Arrays on one device, which becomes CuPy's current device; ``device`` as torch writes it (``cuda:1``)."""

    name = "cupy"

    def __init__(self, device: str) -> None:
        import cupy

        self.cupy: Any = cupy
        self.xp: Any = cupy
        self.device = cupy.cuda.Device(int(device.partition(":")[2] or 0))
        self.device.use()
        self._blocks: dict[str, Array] = {}
        self._rng = np.random.default_rng(0)

    def refuses(self, dtype: str) -> str | None:
        if dtype not in NUMPY_DTYPES:
            return f"CuPy has no {dtype} here; use the torch backend"
        return None

    def normal(self, shape: tuple[int, ...], dtype: str, seed: int) -> Array:
        random = self.cupy.random.RandomState(seed)
        if dtype == "int8":
            return random.randint(-8, 8, shape).astype("int8")
        wide = "float64" if dtype == "fp64" else "float32"
        return random.standard_normal(shape, dtype=wide).astype(NUMPY_DTYPES[dtype], copy=False)

    def integers(self, shape: tuple[int, ...], low: int, high: int, seed: int) -> Array:
        return self.cupy.random.RandomState(seed).randint(low, high, shape).astype("int64")

    def unwritten(self, shape: tuple[int, ...], dtype: str) -> Array:
        kind = np.dtype(NUMPY_DTYPES[dtype])
        return self.cupy.full(shape, np.iinfo(kind).min if kind.kind == "i" else np.nan, dtype=kind)

    def refill(self, array: Array) -> None:
        name = next(ours for ours, theirs in NUMPY_DTYPES.items() if theirs == array.dtype.name)
        if name not in self._blocks:
            self._blocks[name] = self.normal((RANDOM_BLOCK_ELEMENTS,), name, seed=0)
        copy_random_pieces(array.reshape(-1), self._blocks[name], self._rng)

    def wide(self, array: Array) -> Array:
        return array.astype("float64", copy=False)

    def from_host(self, array: np.ndarray) -> Array:
        return self.cupy.asarray(array)

    def float64(self, array: Array) -> np.ndarray:
        return self.cupy.asnumpy(array).astype(np.float64)

    def synchronize(self) -> None:
        self.device.synchronize()
