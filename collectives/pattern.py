"""A pattern: one collective operation, with the volume it counts, its bus factor, its exact data and its call."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from .communicator import Communicator
from .pieces import Piece

CHUNK_BYTES = 16
"""One load of a GPU's thread; nccl-tests rounds parts down to it too (NVIDIA/nccl-tests, src/all_gather.cu and others)."""

Holds = Callable[[int, int, int], tuple[Piece, ...]]
"""(rank, ranks, elements) -> what that rank's buffer holds; no piece: the rank has no such buffer."""


@dataclass(frozen=True)
class Pattern:
    """One collective over a group, rank 0 of the group being the root where there is one.

    ``elements`` is always the count behind S, the message size that algbw counts: S = elements x bytes of one element.
    Definitions of S, algbw and busbw: NVIDIA/nccl-tests, doc/PERFORMANCE.md.
    """

    name: str
    bus_factor: Callable[[int], float]
    """busbw / algbw for a group of so many ranks; 0 where nothing is carried (barrier)."""
    sends: Holds
    """What each rank puts in."""
    receives: Holds
    """What each rank must get, exactly."""
    call: Callable[[Communicator, Any, Any, int], None]
    """(communicator, send buffer, receive buffer, elements): run it once."""
    in_place: Callable[[int, int, int], int] | None = None
    """(rank, ranks, elements) -> where in the larger of its two buffers this rank's smaller one lies; None: not defined in place."""
    chunked: bool = False
    """Whether S is split evenly among the ranks, so that ``elements`` is a multiple of their number."""
    sized: bool = True
    """Whether there is a message at all; a barrier has none: its ``elements`` are 0 and its row has a time only."""
    reduces: bool = False
    """Whether elements are added up: the transport must then know arithmetic in the dtype, not only move its bytes."""

    def elements(self, size_bytes: int, itemsize: int, ranks: int) -> int:
        """The largest count that makes at most ``size_bytes`` and that the pattern can split; at least one element, or one a rank.

        Parts begin at multiples of CHUNK_BYTES where a part is as long as that: libraries move what begins elsewhere in smaller steps.

        >>> Pattern("x", float, (), (), print, chunked=True).elements(1000, 4, 3)
        240
        """
        if not self.sized:
            return 0
        if not self.chunked:
            return max(1, size_bytes // itemsize)
        part, whole = size_bytes // itemsize // ranks, CHUNK_BYTES // itemsize
        return ranks * max(1, part // whole * whole or part)


_PATTERNS: dict[str, Pattern] = {}


def register(pattern: Pattern) -> Pattern:
    """Make a pattern known by its name."""
    _PATTERNS[pattern.name] = pattern
    return pattern


def patterns() -> dict[str, Pattern]:
    """All patterns by name: every module of this room is looked at, so a new file is all a new pattern needs."""
    _look()
    return dict(sorted(_PATTERNS.items()))


@cache
def _look() -> None:
    package = importlib.import_module(__package__ or "chipassay.collectives")
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
