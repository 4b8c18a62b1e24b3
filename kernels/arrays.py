"""Arrays: the few things that cases need of an array library, for torch, CuPy and NumPy alike."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Array = Any
"""A torch.Tensor, cupy.ndarray or numpy.ndarray: whatever the Arrays at hand makes."""

Output = Any
"""An Array, or a tuple of them where the operation has several outputs (the gradients of attention, the state of Adam)."""


def each(output: Output) -> tuple[Array, ...]:
    """The arrays of an output, one or several."""
    return output if isinstance(output, tuple) else (output,)


class Arrays(Protocol):
    """An array library on one device."""

    name: str

    @property
    def xp(self) -> Any:
        """The library's functions under NumPy's names (``torch``, ``cupy`` or ``numpy``), for arithmetic on what ``wide`` gives."""

    def refuses(self, dtype: str) -> str | None:
        """Why this library has no such element type; None if it has."""

    def normal(self, shape: tuple[int, ...], dtype: str, seed: int) -> Array:
        """Standard normal values (int8: uniform over -8..7), the same for the same seed."""

    def integers(self, shape: tuple[int, ...], low: int, high: int, seed: int) -> Array:
        """Uniform int64 values from ``low`` to ``high - 1``, the same for the same seed."""

    def unwritten(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Values that no right result can have, so that a forgotten element shows: NaN; integers: the lowest there is."""

    def refill(self, array: Array) -> None:
        """Overwrite with fresh random values of the kind that ``normal`` makes, in place, cheaply."""

    def wide(self, array: Array) -> Array:
        """The array's exact values as float64, still on the device (on the host where the device has no fp64): checks compute with it.

        A slice is converted alone: go through large arrays in blocks.
        """

    def from_host(self, array: np.ndarray) -> Array:
        """A NumPy array beside what ``wide`` gives, dtype unchanged."""

    def float64(self, array: Array) -> np.ndarray:
        """The array's exact values as a NumPy float64 array on the host."""

    def synchronize(self) -> None:
        """Wait until the device has finished."""


def copy_random_pieces(flat: Array, block: Array, rng: np.random.Generator) -> None:
    """Fill ``flat`` with pieces of a ready-made random ``block``, each from a random place: the cost of a copy, not of a generator.

    Works for any library whose slices are views that can be assigned to.
    """
    piece = max(len(block) // 2, 1)
    for start in range(0, len(flat), piece):
        stop = min(start + piece, len(flat))
        offset = int(rng.integers(0, len(block) - (stop - start) + 1))
        flat[start:stop] = block[offset : offset + stop - start]


RANDOM_BLOCK_ELEMENTS = 2**21
"""Long enough that pieces of it look unrelated, short enough (8 MB of fp32) to make in some milliseconds."""
