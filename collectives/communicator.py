"""What every transport offers a pattern: the verbs of a group of ranks, on one-dimensional buffers of one dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Communicator(Protocol):
    """A group as one of its ranks sees it. All members call the same verbs in the same order.

    Buffers are one-dimensional and contiguous; what lies in place is a slice of the larger one, or the same buffer twice. On a GPU
    a verb is queued on the current stream and returns at once; on a CPU it returns when it is done.
    A rank that is not the root passes any buffer where it has none (a slice of no elements).
    What a verb needs beside its buffers it makes at the first call with them and keeps while these tensor objects live, so a timed
    call is one with objects that were passed before.
    """

    rank: int
    """Of this process within the group."""
    ranks: int

    def all_reduce(self, send: Any, receive: Any) -> None:
        """Every rank receives the sum over all ranks."""

    def all_gather(self, send: Any, receive: Any) -> None:
        """Every rank receives what each sent, in rank order."""

    def reduce_scatter(self, send: Any, receive: Any) -> None:
        """Rank r receives the r-th part of the sum over all ranks."""

    def broadcast(self, send: Any, receive: Any) -> None:
        """Every rank receives what rank 0 sent."""

    def reduce(self, send: Any, receive: Any) -> None:
        """Rank 0 receives the sum over all ranks."""

    def gather(self, send: Any, receive: Any) -> None:
        """Rank 0 receives what each sent, in rank order."""

    def scatter(self, send: Any, receive: Any) -> None:
        """Rank r receives the r-th part of what rank 0 sent."""

    def all_to_all(self, send: Any, receive: Any, sent: Sequence[int], received: Sequence[int]) -> None:
        """``sent[p]`` elements go to rank p, ``received[p]`` come from it, in rank order."""

    def send_receive(self, send: Any, to: int, receive: Any, source: int) -> None:
        """Send to one rank and receive from one, both at once."""

    def barrier(self) -> None:
        """No rank returns (or goes on, on its stream) before all have come."""
