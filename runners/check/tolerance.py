"""How far a healthy chip may stay below what is expected of it, and where that is known from."""

from __future__ import annotations

from chipassay.results.profile import Level

PROFILE: dict[Level, float] = {"measured": 0.30, "published": 0.30, "derived": 0.40, "assumed": 0.60}
"""Share below a profile's curve. Of 1,225 published products of five chips (DeepBench, SimuMax) 1 % lie more than 0.30 below the curve
of their own chip. Shares taken from a sibling chip, or from the median of all chips, miss by more: wider, and not measured."""
ABOVE = 2.0
"""By so many tolerances a row may be better before it is told: libraries improve, cards differ."""
PER_OCTAVE = 0.10
"""What a distance from the published shape adds, per factor of two: from 4096 to 8192 the published squares differ by 1 to 11 %."""
BY_SIZE = ((2**28, 0.10), (2**22, 0.25), (0, 0.50))
"""Collectives: from so many bytes on, published sweeps of the same eight chips differ by this share (A100: 194 to 217 GB/s at 256 MiB,
167 to 203 at 64 MiB, 18 to 36 at 1 MiB)."""
PCIE_COLLECTIVE = 0.60
"""Collectives over PCIe: published machines reach 0.37 (P100, DeepBench), 0.44 (RTX 5090) and 0.76 (NVIDIA's slide) of one way; it depends
on switches and on how the host's sockets are joined."""
HOST_COPY = 0.15
"""Of PCIe: the three published figures reach 0.81 to 0.88 of it."""


def of_size(size_bytes: int) -> float:
    """The tolerance of a collective's message.

    >>> of_size(2**30), of_size(1024)
    (0.1, 0.5)
    """
    return next(share for least, share in BY_SIZE if size_bytes >= least)
