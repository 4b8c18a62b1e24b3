"""Ranks in one process: communicators that write down what each rank called, and a world that then does it to their arrays.

What each verb means is written here from the MPI standard's definitions (MPI 4.1, chapter 6), without the records under test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Rounding = Callable[[np.ndarray], np.ndarray]


class SimulatedRank:
    """One rank's communicator: remembers its one call."""

    def __init__(self, rank: int, ranks: int) -> None:
        self.rank, self.ranks = rank, ranks
        self.verb = ""
        self.send = self.receive = np.empty(0)
        self.to, self.source = 0, 0
        self.sent: Sequence[int] = ()
        self.received: Sequence[int] = ()

    def _called(self, verb: str, send: Any, receive: Any) -> None:
        assert not self.verb, "one call calls one verb once"
        self.verb, self.send, self.receive = verb, send, receive

    def all_reduce(self, send: Any, receive: Any) -> None:
        self._called("all_reduce", send, receive)

    def all_gather(self, send: Any, receive: Any) -> None:
        self._called("all_gather", send, receive)

    def reduce_scatter(self, send: Any, receive: Any) -> None:
        self._called("reduce_scatter", send, receive)

    def broadcast(self, send: Any, receive: Any) -> None:
        self._called("broadcast", send, receive)

    def reduce(self, send: Any, receive: Any) -> None:
        self._called("reduce", send, receive)

    def gather(self, send: Any, receive: Any) -> None:
        self._called("gather", send, receive)

    def scatter(self, send: Any, receive: Any) -> None:
        self._called("scatter", send, receive)

    def all_to_all(self, send: Any, receive: Any, sent: Sequence[int], received: Sequence[int]) -> None:
        self._called("all_to_all", send, receive)
        self.sent, self.received = sent, received

    def send_receive(self, send: Any, to: int, receive: Any, source: int) -> None:
        self._called("send_receive", send, receive)
        self.to, self.source = to, source

    def barrier(self) -> None:
        self._called("barrier", np.empty(0), np.empty(0))


def carry_out(group: Sequence[SimulatedRank], rounded: Rounding, source: random.Random) -> None:
    """Do what all ranks called. Sums are taken over a random tree and rounded to the dtype after each addition.

    Everything is read before anything is written, as in-place calls need. Raises AssertionError where the calls do not fit together.
    """
    (verb,) = {rank.verb for rank in group}
    sends = [rank.send.copy() for rank in group]
    ranks = len(group)
    if verb in ("all_reduce", "reduce", "reduce_scatter"):
        total = _tree_sum(sends, rounded, source)
        results = {
            "all_reduce": [total] * ranks,
            "reduce": [total] + [np.empty(0)] * (ranks - 1),
            "reduce_scatter": np.split(total, ranks) if verb == "reduce_scatter" else [],
        }[verb]
    elif verb in ("all_gather", "gather"):
        assert len({len(send) for send in sends}) == 1
        everything = np.concatenate(sends)
        results = [everything if verb == "all_gather" or rank.rank == 0 else np.empty(0) for rank in group]
    elif verb == "broadcast":
        results = [sends[0]] * ranks
    elif verb == "scatter":
        results = np.split(sends[0], ranks)
    elif verb == "send_receive":
        assert all(group[rank.to].source == rank.rank for rank in group)
        results = [sends[rank.source] for rank in group]
    elif verb == "all_to_all":
        parts = [np.split(send, np.cumsum(rank.sent)[:-1]) for rank, send in zip(group, sends, strict=True)]
        assert all(sum(rank.sent) == len(send) for rank, send in zip(group, sends, strict=True))
        assert all(rank.received[other.rank] == other.sent[rank.rank] for rank in group for other in group)
        results = [np.concatenate([parts[other][rank.rank] for other in range(ranks)]) for rank in group]
    else:
        assert verb == "barrier"
        results = [np.empty(0)] * ranks
    for rank, result in zip(group, results, strict=True):
        assert len(rank.receive) == len(result), f"rank {rank.rank} has {len(rank.receive)} elements for {len(result)}"
        rank.receive[:] = result


def _tree_sum(values: Sequence[np.ndarray], rounded: Rounding, source: random.Random) -> np.ndarray:
    left = list(values)
    while len(left) > 1:
        one, other = left.pop(source.randrange(len(left))), left.pop(source.randrange(len(left)))
        left.append(rounded(one + other))
    return left[0]
