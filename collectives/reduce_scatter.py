"""Reduce-scatter: rank r ends with the r-th part of the sum over all ranks. S is the total that each sends."""

from __future__ import annotations

from .pattern import Pattern, register
from .pieces import Piece

REDUCE_SCATTER = register(
    Pattern(
        name="reduce_scatter",
        bus_factor=lambda ranks: (ranks - 1) / ranks,
        sends=lambda rank, ranks, elements: (Piece(elements, "share", of=rank),),
        receives=lambda rank, ranks, elements: (Piece(elements // ranks, "sum", start=rank * (elements // ranks)),),
        call=lambda group, send, receive, elements: group.reduce_scatter(send, receive),
        in_place=lambda rank, ranks, elements: rank * (elements // ranks),
        chunked=True,
        reduces=True,
    )
)
