"""What a rank's buffer holds, as pieces of repeating exact data: inputs and expected outputs of every pattern are written in these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .exact import exact_message, exact_share, exact_sum

TILE_ELEMENTS = 1_000_003
"""Exact data repeats after a prime number of elements, so that a chunk that lands in the wrong place shows."""

What = Literal["message", "share", "sum"]


@dataclass(frozen=True)
class Piece:
    """``count`` elements of endless data, from its element ``start`` on.

    ``what``: ``message`` (what rank ``of`` has to say), ``share`` (rank ``of``'s part of the sum) or ``sum`` (of the shares of all).
    """

    count: int
    what: What
    of: int = 0
    start: int = 0

    @property
    def phase(self) -> int:
        """Where in the tile the piece begins."""
        return self.start % TILE_ELEMENTS


def tile(piece: Piece, ranks: int, dtype: str, seed: int, elements: int | None = None) -> np.ndarray:
    """The first ``elements`` (None: TILE_ELEMENTS) of the endless data that ``piece`` is cut from, as float64: all that is needed of
    it, since it repeats after TILE_ELEMENTS. The piece's own data begins at its ``phase``."""
    elements = TILE_ELEMENTS if elements is None else elements
    if piece.what == "share":
        return exact_share(piece.of, ranks, elements, dtype, seed)
    if piece.what == "sum":
        return exact_sum(elements, dtype, seed)
    return exact_message(piece.of, elements, dtype, seed)


def total(pieces: Sequence[Piece]) -> int:
    """Elements of all pieces together."""
    return sum(piece.count for piece in pieces)
