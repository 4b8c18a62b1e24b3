"""Broadcast: every rank ends with what rank 0 sent."""

from __future__ import annotations

from .pattern import Pattern, register
from .pieces import Piece

BROADCAST = register(
    Pattern(
        name="broadcast",
        # All data has to leave the root, over its one link.
        bus_factor=lambda ranks: 1.0,
        sends=lambda rank, ranks, elements: (Piece(elements, "message", of=0),) if rank == 0 else (),
        receives=lambda rank, ranks, elements: (Piece(elements, "message", of=0),),
        call=lambda group, send, receive, elements: group.broadcast(send, receive),
        in_place=lambda rank, ranks, elements: 0,
    )
)
