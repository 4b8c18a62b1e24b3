"""All-to-all: rank r's p-th part goes to rank p, with parts of one size (experts in balance) or of many (tokens choose freely).

S is what one rank sends, its part for itself included; in the uneven one it is also what each receives. Not defined in place:
parts would overwrite others that have not left yet (nccl-tests runs both in place but checks nothing there).
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

from .communicator import Communicator
from .pattern import Pattern, register
from .pieces import Piece

WHOLE = 16
"""Parts begin at multiples of so many elements, so at multiples of 16 bytes in every dtype (see CHUNK_BYTES), where they are long."""


def distance_weighted(ranks: int, elements: int) -> tuple[int, ...]:
    """How many elements go to the rank that is 0, 1, ... ranks - 1 further on: nothing to itself, d parts to the d-th, all of ``elements``
    together; so the farthest gets twice the mean and every rank sends and receives the same.

    The default of nccl-tests' alltoallv_perf, which rounds each part down to 16 bytes; here the bounds between them are rounded, so that
    their sum is kept. For two ranks or more.

    >>> distance_weighted(4, 600), distance_weighted(4, 9600)
    ((0, 100, 200, 300), (0, 1600, 3200, 4800))
    """
    # No part of long ones is off by more than 1/16 of the shortest.
    whole = WHOLE if elements >= WHOLE * WHOLE * ranks * (ranks - 1) // 2 else 1
    bounds = [elements * distance * (distance + 1) // (ranks * (ranks - 1)) // whole * whole for distance in range(ranks - 1)]
    bounds.append(elements)
    return (0, *(after - before for before, after in itertools.pairwise(bounds)))


@functools.lru_cache(maxsize=64)
def _counts(rank: int, ranks: int, elements: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Elements that ``rank`` sends to each, and receives from each, in rank order. Kept, since every timed call asks for them."""
    by_distance = distance_weighted(ranks, elements)
    sent = tuple(by_distance[(to - rank) % ranks] for to in range(ranks))
    return sent, tuple(by_distance[(rank - source) % ranks] for source in range(ranks))


def _uneven_receives(rank: int, ranks: int, elements: int) -> tuple[Piece, ...]:
    pieces = []
    for source in range(ranks):
        sent, _ = _counts(source, ranks, elements)
        pieces.append(Piece(sent[rank], "message", of=source, start=sum(sent[:rank])))
    return tuple(pieces)


def _exchange(group: Communicator, send: Any, receive: Any, elements: int) -> None:
    counts = (elements // group.ranks,) * group.ranks
    group.all_to_all(send, receive, counts, counts)


def _uneven_exchange(group: Communicator, send: Any, receive: Any, elements: int) -> None:
    group.all_to_all(send, receive, *_counts(group.rank, group.ranks, elements))


ALL_TO_ALL = register(
    Pattern(
        name="all_to_all",
        bus_factor=lambda ranks: (ranks - 1) / ranks,
        sends=lambda rank, ranks, elements: (Piece(elements, "message", of=rank),),
        receives=lambda rank, ranks, elements: tuple(
            Piece(elements // ranks, "message", of=source, start=rank * (elements // ranks)) for source in range(ranks)
        ),
        call=_exchange,
        chunked=True,
    )
)

ALL_TO_ALL_V = register(
    Pattern(
        name="all_to_all_v",
        # nccl-tests' factor, though nothing here stays at home: see wire.py for what the link carries.
        bus_factor=lambda ranks: (ranks - 1) / ranks,
        sends=lambda rank, ranks, elements: (Piece(elements, "message", of=rank),),
        receives=_uneven_receives,
        call=_uneven_exchange,
    )
)
