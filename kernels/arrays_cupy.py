"""CuPy as an array library, on one CUDA or ROCm device. Run on an H200.

CuPy has no bf16: it is kept as uint16, the upper half of an fp32, which our own CUDA kernels take for what it is. TF32 is kept as fp32
with its low bits cleared, as in torch.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .arrays import RANDOM_BLOCK_ELEMENTS, Array, copy_random_pieces, float64_speed
from .arrays_numpy import NUMPY_DTYPES

CUPY_DTYPES = {**NUMPY_DTYPES, "bf16": "uint16", "tf32": "float32"}

BF16_NAN = 0x7FC0

TF32_MASK = 0xFFFFE000
"""Keeps sign, exponent and the 10 leading mantissa bits of an fp32: what TF32 hardware reads."""


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

    @functools.cached_property
    def float64_speed(self) -> str:
        return float64_speed(self)

    def refuses(self, dtype: str) -> str | None:
        if dtype not in CUPY_DTYPES:
            return f"CuPy has no {dtype} here; use the torch backend"
        return None

    def normal(self, shape: tuple[int, ...], dtype: str, seed: int) -> Array:
        random = self.cupy.random.RandomState(seed)
        if dtype == "int8":
            return random.randint(-8, 8, shape, dtype="int8")  # by default int64, eight times the memory
        if dtype == "int32":
            return random.randint(-(2**15), 2**15, shape, dtype="int32")
        values = random.standard_normal(shape, dtype="float64" if dtype == "fp64" else "float32")
        if dtype == "tf32":
            words = values.view("uint32")
            words &= np.uint32(TF32_MASK)
            return values
        if dtype == "bf16":
            return _rounded_to_bf16(values)
        return values.astype(CUPY_DTYPES[dtype], copy=False)

    def integers(self, shape: tuple[int, ...], low: int, high: int, seed: int) -> Array:
        return self.cupy.random.RandomState(seed).randint(low, high, shape, dtype="int64")

    def unwritten(self, shape: tuple[int, ...], dtype: str) -> Array:
        kind = np.dtype(CUPY_DTYPES[dtype])
        lowest = {"i": lambda: np.iinfo(kind).min, "u": lambda: BF16_NAN, "f": lambda: np.nan}[kind.kind]
        return self.cupy.full(shape, lowest(), dtype=kind)

    def refill(self, array: Array) -> None:
        name = next(ours for ours, theirs in CUPY_DTYPES.items() if theirs == array.dtype.name)
        if name not in self._blocks:
            self._blocks[name] = self.normal((RANDOM_BLOCK_ELEMENTS,), name, seed=0)
        copy_random_pieces(array.reshape(-1), self._blocks[name], self._rng, growing=True)

    def wide(self, array: Array) -> Array:
        if array.dtype.name == "uint16":
            array = (array.astype("uint32") << np.uint32(16)).view("float32")
        return array.astype("float64", copy=False)

    def from_host(self, array: np.ndarray) -> Array:
        return self.cupy.asarray(array)

    def float64(self, array: Array) -> np.ndarray:
        return self.cupy.asnumpy(self.wide(array))

    def synchronize(self) -> None:
        self.device.synchronize()


def _rounded_to_bf16(values: Array) -> Array:
    """The upper halves of finite fp32 numbers, rounded to nearest, ties to even (as Eigen and torch do it, on the bits)."""
    words = values.view("uint32")
    odd = (words >> np.uint32(16)) & np.uint32(1)
    return ((words + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype("uint16")
