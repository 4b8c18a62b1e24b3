"""Send and receive at once, in a ring: to the next rank, from the one before. In a group of two: a pair, both ways at once."""

from __future__ import annotations

from .pattern import Pattern, register
from .pieces import Piece

SEND_RECV = register(
    Pattern(
        name="send_recv",
        bus_factor=lambda ranks: 1.0,
        sends=lambda rank, ranks, elements: (Piece(elements, "message", of=rank),),
        receives=lambda rank, ranks, elements: (Piece(elements, "message", of=(rank - 1) % ranks),),
        call=lambda group, send, receive, elements: group.send_receive(
            send, (group.rank + 1) % group.ranks, receive, (group.rank - 1) % group.ranks
        ),
    )
)
