"""Scatter: rank r ends with the r-th part of what rank 0 sent. S is the total that rank 0 sends."""

from __future__ import annotations

from .pattern import Pattern, register
from .pieces import Piece

SCATTER = register(
    Pattern(
        name="scatter_from_root",
        bus_factor=lambda ranks: (ranks - 1) / ranks,
        sends=lambda rank, ranks, elements: (Piece(elements, "message", of=0),) if rank == 0 else (),
        receives=lambda rank, ranks, elements: (Piece(elements // ranks, "message", of=0, start=rank * (elements // ranks)),),
        call=lambda group, send, receive, elements: group.scatter(send, receive),
        # The root's own part comes first; the others have one buffer only.
        in_place=lambda rank, ranks, elements: 0,
        chunked=True,
    )
)
