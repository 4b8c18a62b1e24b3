"""A pattern: one collective operation, with the volume it counts, its bus factor, its exact data and its call."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Pattern:
    """One collective. Definitions of S, algbw and busbw: NVIDIA/nccl-tests, doc/PERFORMANCE.md."""

    name: str
    bus_factor: Callable[[int], float]
    """busbw / algbw for a group of so many ranks."""
    counted_bytes: Callable[[int, int], int]
    """(bytes of one rank's buffer, ranks) -> S, the message size that algbw counts."""
    share: Callable[[int, int, int, str, int], np.ndarray]
    """(rank, ranks, elements, dtype, seed) -> what this rank puts in, as float64."""
    expected: Callable[[int, int, int, str, int], np.ndarray]
    """(rank, ranks, elements, dtype, seed) -> what this rank must get, exactly, as float64."""
    call: Callable[[Any, Any, Any], None]
    """(torch.distributed, tensor, group): run it once on the tensor."""


_PATTERNS: dict[str, Pattern] = {}


def register(pattern: Pattern) -> Pattern:
    """Make a pattern known by its name."""
    _PATTERNS[pattern.name] = pattern
    return pattern


def patterns() -> dict[str, Pattern]:
    """All patterns by name: every module of this room is looked at, so a new file is all a new pattern needs."""
    package = importlib.import_module(__package__ or "chipassay.collectives")
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
    return dict(sorted(_PATTERNS.items()))
