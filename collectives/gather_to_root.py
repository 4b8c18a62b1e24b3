"""Gather: rank 0 ends with what each rank sent. S is the total that it receives.

Named apart from the lookup of rows that one chip does (``gather``).
"""

from __future__ import annotations

from .pattern import Pattern, register
from .pieces import Piece

GATHER = register(
    Pattern(
        name="gather_to_root",
        bus_factor=lambda ranks: (ranks - 1) / ranks,
        sends=lambda rank, ranks, elements: (Piece(elements // ranks, "message", of=rank),),
        receives=lambda rank, ranks, elements: (
            tuple(Piece(elements // ranks, "message", of=source) for source in range(ranks)) if rank == 0 else ()
        ),
        call=lambda group, send, receive, elements: group.gather(send, receive),
        # The root's own part comes first; the others have one buffer only.
        in_place=lambda rank, ranks, elements: 0,
        chunked=True,
    )
)
