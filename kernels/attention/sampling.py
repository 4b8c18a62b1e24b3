"""How much of an attention result is compared with float64: all of it where that is cheap, samples of heads and rows where it is not.

The cost of a reference is its pairs of a query and a key: some dozens of float64 passes over them, and matrix products. So the pairs
are budgeted, far fewer on a host than on a GPU. What is within the budget is compared whole. Beyond it every head keeps its share of
rows, one drawn at random from each of as many equal runs of rows: a fault in a tile of queries at least twice as long as a run is met
for certain, whatever the draw. Rows beside the edges of common tiles, the first and the last are always among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array, Arrays

TILE_EDGES = (0, 1, 2, 63, 64, 127, 128)
"""Where a wrong mask or tile shows first."""
FEWEST_ROWS = 16


@dataclass(frozen=True)
class Effort:
    """How much one check may do."""

    pairs: int
    """Query-key pairs that are computed in float64."""
    block: int
    """Elements of one float64 array in between."""


HOST = Effort(pairs=2**21, block=2**20)
"""About half a second of a CPU core for the gradients of 64-wide heads, and 8 MB of memory for an array."""
DEVICE = Effort(pairs=2**29, block=2**24)
"""For the gradients of 128-wide heads ten products and 1.4 kB of memory traffic a pair (counted): 1.4 TFLOP of float64 and 0.8 TB, some
0.3 s on an H100 (67 TFLOP/s, 3.35 TB/s), 1.5 s on a P100. An estimate; nobody has timed it. 128 MB for an array."""
SLOW_DEVICE = Effort(pairs=2**26, block=2**24)
"""Where fp64 units are few: 0.17 TFLOP and 0.1 TB are 0.7 s on an L4 (0.47 TFLOP/s, 0.3 TB/s), where what DEVICE does would take 6 s."""

STRETCH = 4
"""What may be spent beyond the budget rather than leave something out altogether."""


def effort(arrays: Arrays) -> Effort:
    """What a check may do with these arrays."""
    return {"host": HOST, "fast": DEVICE, "slow": SLOW_DEVICE}[arrays.float64_speed]


def rows_to_compare(seq_q: int, wanted: float, rng: np.random.Generator) -> np.ndarray:
    """About ``wanted`` rows of ``seq_q``, in order: all, or the edges and a random one from each of as many runs of equal length.

    >>> len(rows_to_compare(100, 1000, np.random.default_rng(0)))
    100
    """
    count = max(FEWEST_ROWS, int(wanted))
    if count >= seq_q:
        return np.arange(seq_q)
    starts = np.arange(count + 1) * seq_q // count
    drawn = starts[:-1] + (rng.random(count) * np.diff(starts)).astype(np.int64)
    fixed = [row for row in (*TILE_EDGES, seq_q // 2, seq_q - 1) if row < seq_q]
    return np.unique(np.concatenate([fixed, drawn]))


def groups_to_compare(groups: int, wanted: float, rng: np.random.Generator) -> np.ndarray:
    """About ``wanted`` of the key/value heads of all sequences, one at least: the first and the last, the rest at random."""
    count = int(min(groups, max(1, wanted)))
    if count == groups:
        return np.arange(groups)
    ends = np.array([0, groups - 1])[:count]
    inner = 1 + rng.permutation(max(groups - 2, 0))[: count - len(ends)]
    return np.sort(np.concatenate([ends, inner]))


def runs(chosen: np.ndarray, longest: int) -> Iterator[slice]:
    """Ascending numbers as slices of consecutive ones, none longer than ``longest``.

    >>> list(runs(np.array([0, 1, 2, 5]), 2))
    [slice(0, 2, None), slice(2, 3, None), slice(5, 6, None)]
    """
    start = previous = None
    for number in map(int, chosen):
        if start is None or previous is None or number != previous + 1 or number - start >= longest:
            if start is not None and previous is not None:
                yield slice(start, previous + 1)
            start = number
        previous = number
    if start is not None and previous is not None:
        yield slice(start, previous + 1)


def pieces(rows: np.ndarray, longest: int) -> Iterator[np.ndarray]:
    """The rows in pieces of at most ``longest`` (one row at least)."""
    step = max(1, longest)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def by_group(array: Array, kv_heads: int) -> Any:
    """batch x heads x seq x dim as (batch x kv_heads) x group x seq x dim: what shares a key/value head comes together."""
    batch, heads, seq, dim = array.shape
    return array.reshape(batch * kv_heads, heads // kv_heads, seq, dim)
