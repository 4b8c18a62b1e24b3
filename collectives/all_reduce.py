"""All-reduce: every rank ends with the sum over all ranks."""

from __future__ import annotations

from .pattern import Pattern, register
from .pieces import Piece

ALL_REDUCE = register(
    Pattern(
        name="all_reduce",
        bus_factor=lambda ranks: 2 * (ranks - 1) / ranks,
        sends=lambda rank, ranks, elements: (Piece(elements, "share", of=rank),),
        receives=lambda rank, ranks, elements: (Piece(elements, "sum"),),
        call=lambda group, send, receive, elements: group.all_reduce(send, receive),
        in_place=lambda rank, ranks, elements: 0,
        reduces=True,
    )
)
