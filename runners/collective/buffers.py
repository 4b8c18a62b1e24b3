"""Send and receive buffers of a collective in slots that calls take in turn, filled with exact data and compared with it on the device.

Run with two ranks on one H200, never between GPUs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from chipassay.collectives import pieces as exact
from chipassay.collectives.exact import EXACT_INTEGERS_UP_TO
from chipassay.collectives.pattern import Pattern
from chipassay.collectives.pieces import Piece, total

TORCH_DTYPES = {
    "fp64": "float64",
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
    "int8": "int8",
}
"""dtype -> torch's name."""
LARGEST_EXPONENT = {"fp64": 1023, "fp32": 127, "fp16": 15, "bf16": 127, "fp8_e4m3": 8, "fp8_e5m2": 15}
"""Of two, in the largest finite number (IEEE 754-2019 table 3.5; bf16 as fp32; OCP OFP8 1.0)."""
ALIGNMENT_BYTES = 512
"""Slots begin where torch's CUDA allocator lets tensors begin (kMinBlockSize), so that no kernel takes its path for crooked addresses."""
SLOTS_AT_MOST = 256
"""Enough for the calls of one burst. Where so many do not fill the cache it is evicted before each burst, which then uses no slot twice."""
TILES_KEPT = 32


def fill(buffer: Any, held: Sequence[Piece], tile_of: Callable[[Piece], Any]) -> None:
    """Write what the pieces describe into every row of ``buffer`` (slots, elements), bit by bit."""
    for columns, part in _runs(buffer, held, tile_of):
        columns.copy_(part.expand_as(columns))


def mismatches(buffer: Any, held: Sequence[Piece], tile_of: Callable[[Piece], Any]) -> int:
    """How many elements of all rows differ from what the pieces describe, bit by bit, counted on the device."""
    counts = [(columns != part).sum() for columns, part in _runs(buffer, held, tile_of)]
    return int(sum(counts[1:], counts[0]).item()) if counts else 0


def poison(buffer: Any) -> None:
    """Overwrite with what no right answer holds: NaN, and in int8, whose data is symmetric, -128."""
    _bits(buffer).fill_(-1 if buffer.is_floating_point() else -128)


def _runs(buffer: Any, held: Sequence[Piece], tile_of: Callable[[Piece], Any]) -> Iterator[tuple[Any, Any]]:
    """(columns of all rows, the part of a tile that belongs there), both as integers of their bits, which every device copies and
    compares. The data repeats, so no second buffer as large is needed."""
    end, bits = 0, _bits(buffer)
    for piece in held:
        begin, end = end, end + piece.count
        if not piece.count:
            continue
        tile, phase = _bits(tile_of(piece)), piece.phase
        while begin < end:
            count = min(end - begin, exact.TILE_ELEMENTS - phase)
            yield bits[:, begin : begin + count], tile[phase : phase + count]
            begin, phase = begin + count, 0


def _bits(values: Any) -> Any:
    import torch

    return values.view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()])


@lru_cache(maxsize=TILES_KEPT)
def _tile(what: Any, of: int, ranks: int, dtype: str, seed: int, elements: int) -> Any:
    """On the host and in its dtype. Kept, since the check after the samples wants it again, and the next size too."""
    import torch

    values = exact.tile(Piece(elements, what, of), ranks, dtype, seed, elements)
    return torch.from_numpy(values).to(torch_dtype(dtype))


def torch_dtype(dtype: str) -> Any:
    """torch's own."""
    import torch

    return getattr(torch, TORCH_DTYPES[dtype])


@dataclass(frozen=True)
class Layout:
    """What one rank's slots hold and how large they are."""

    pattern: Pattern
    rank: int
    """Within the group."""
    ranks: int
    elements: int
    dtype: str
    in_place: bool

    @property
    def itemsize(self) -> int:
        return int(torch_dtype(self.dtype).itemsize)

    @property
    def sends(self) -> tuple[Piece, ...]:
        return self.pattern.sends(self.rank, self.ranks, self.elements)

    @property
    def receives(self) -> tuple[Piece, ...]:
        return self.pattern.receives(self.rank, self.ranks, self.elements)

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements from slot to slot, in each buffer: one buffer in place, two out of place."""
        counts = (total(self.sends), total(self.receives))
        step = ALIGNMENT_BYTES // self.itemsize
        return tuple(max(1, math.ceil(count / step)) * step for count in ((max(counts),) if self.in_place else counts))

    @property
    def slot_bytes(self) -> int:
        return sum(self.strides) * self.itemsize

    def bytes(self, slots: int) -> int:
        """Memory of so many slots, with the tiles that fill and check them."""
        tiles = sum(min(exact.TILE_ELEMENTS, held[0].phase + held[0].count) for held in (self.sends, self.receives) if held)
        return slots * self.slot_bytes + tiles * self.itemsize

    @property
    def rounds_until_refill(self) -> float:
        """How often each slot may be used before sums in place, which grow by each call as the ranks hold the same, leave the dtype.

        Integers wrap and are as good as before; whatever is not a sum in place stays as it is.
        """
        if not (self.in_place and self.pattern.reduces and self.dtype in LARGEST_EXPONENT):
            return math.inf
        spare_bits = LARGEST_EXPONENT[self.dtype] - math.log2(EXACT_INTEGERS_UP_TO[self.dtype])
        return max(1, spare_bits // math.log2(max(2, self.ranks)))


def slots_for(slot_bytes: int, cache_bytes: int, cache: str) -> int:
    """Slots of twice the last-level cache together when ``cache`` is cold, else one.

    >>> slots_for(2**20, 32 * 2**20, "cold"), slots_for(2**30, 32 * 2**20, "cold"), slots_for(512, 32 * 2**20, "warm")
    (64, 1, 1)
    """
    return max(1, min(SLOTS_AT_MOST, math.ceil(2 * cache_bytes / slot_bytes))) if cache == "cold" else 1


class Pool:
    """One rank's buffers, slot after slot; calls take the slots in turn."""

    def __init__(self, layout: Layout, slots: int, device: str, seed: int) -> None:
        """Raises what the library does where there is no memory."""
        import torch

        self.layout, self.slots, self._device, self._seed = layout, slots, device, seed
        buffers = [torch.empty((slots, stride), dtype=torch_dtype(layout.dtype), device=device) for stride in layout.strides]
        sent, received = total(layout.sends), total(layout.receives)
        offset = 0
        if layout.in_place and layout.pattern.in_place is not None:
            offset = layout.pattern.in_place(layout.rank, layout.ranks, layout.elements)
        send_at, receive_at = (0, offset) if sent >= received else (offset, 0)
        self.send = buffers[0][:, send_at : send_at + sent]
        self.receive = buffers[-1][:, receive_at : receive_at + received]
        self._pairs = list(zip(self.send, self.receive, strict=True))
        self.rewind()

    def rewind(self) -> None:
        """The next call takes the first slot."""
        self._turns = itertools.cycle(self._pairs)

    def next_pair(self) -> tuple[Any, Any]:
        """The slot (send, receive) of the next call."""
        return next(self._turns)

    def refill(self, slots: int | None = None) -> None:
        """Fresh inputs in the first so many slots (None: all); receive buffers are poisoned where no input lies in them."""
        poison(self.receive[:slots])
        fill(self.send[:slots], self.layout.sends, self._tile_of)

    def wrong(self, slots: int) -> int:
        """Wrong elements in what the first so many slots received."""
        return mismatches(self.receive[:slots], self.layout.receives, self._tile_of)

    def _tile_of(self, piece: Piece) -> Any:
        elements = min(exact.TILE_ELEMENTS, piece.phase + piece.count)
        return _tile(piece.what, piece.of, self.layout.ranks, self.layout.dtype, self._seed, elements).to(self._device)
