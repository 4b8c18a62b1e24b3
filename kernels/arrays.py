"""Arrays: the few things that cases need of an array library, for torch, CuPy and NumPy alike."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Array = Any
"""A torch.Tensor, cupy.ndarray or numpy.ndarray: whatever the Arrays at hand makes."""


class Arrays(Protocol):
    """An array library on one device."""

    name: str

    def refuses(self, dtype: str) -> str | None:
        """Why this library has no such element type; None if it has."""

    def normal(self, shape: tuple[int, ...], dtype: str, seed: int) -> Array:
        """Standard normal values (int8: uniform over -8..7), the same for the same seed."""

    def refill(self, array: Array) -> None:
        """Overwrite with fresh random values, in place, cheaply."""

    def float64(self, array: Array) -> np.ndarray:
        """The array's exact values as a NumPy float64 array on the host."""

    def synchronize(self) -> None:
        """Wait until the device has finished."""
