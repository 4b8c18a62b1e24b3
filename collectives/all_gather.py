"""All-gather: every rank ends with what each of them sent. S is the total that each receives."""

from __future__ import annotations

from .pattern import Pattern, register
from .pieces import Piece

ALL_GATHER = register(
    Pattern(
        name="all_gather",
        bus_factor=lambda ranks: (ranks - 1) / ranks,
        sends=lambda rank, ranks, elements: (Piece(elements // ranks, "message", of=rank),),
        receives=lambda rank, ranks, elements: tuple(Piece(elements // ranks, "message", of=source) for source in range(ranks)),
        call=lambda group, send, receive, elements: group.all_gather(send, receive),
        in_place=lambda rank, ranks, elements: rank * (elements // ranks),
        chunked=True,
    )
)
