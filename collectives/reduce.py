"""Reduce: rank 0 ends with the sum over all ranks."""

from __future__ import annotations

from .pattern import Pattern, register
from .pieces import Piece

REDUCE = register(
    Pattern(
        name="reduce",
        # All sums have to reach the root, over its one link.
        bus_factor=lambda ranks: 1.0,
        sends=lambda rank, ranks, elements: (Piece(elements, "share", of=rank),),
        receives=lambda rank, ranks, elements: (Piece(elements, "sum"),) if rank == 0 else (),
        call=lambda group, send, receive, elements: group.reduce(send, receive),
        in_place=lambda rank, ranks, elements: 0,
        reduces=True,
    )
)
