"""What ranks tell each other beside what is measured: small sums over the whole job, over gloo on the hosts' network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Control:
    """One rank's end. All ranks of the job, those that measure nothing included, make the same calls in the same order.

    Each call but ``share`` is one message and at the same time a barrier: none returns before all have come.
    """

    def __init__(self, rank: int, ranks: int, group: Any = None) -> None:
        """``group``: a process group of torch.distributed with all ranks that carries tensors of the CPU; None: the default one."""
        import torch
        import torch.distributed as distributed

        self.rank, self.ranks = rank, ranks
        self._torch, self._distributed, self._group = torch, distributed, group

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each value summed over all ranks."""
        holder = self._torch.tensor(values, dtype=self._torch.float64)
        self._distributed.all_reduce(holder, group=self._group)
        return [float(value) for value in holder.tolist()]

    def each(self, value: float) -> list[float]:
        """Every rank's value, in rank order."""
        return self.sums([value if rank == self.rank else 0.0 for rank in range(self.ranks)])

    def first(self, value: float) -> float:
        """Rank 0's value. Where ranks must decide alike one decides: clocks differ, and so may the rounding of sums."""
        return self.sums([value if self.rank == 0 else 0.0])[0]

    def texts(self, text: str) -> list[str]:
        """Every rank's text, in rank order."""
        encoded = text.encode()
        longest = int(max(self.each(len(encoded))))
        if not longest:
            return [""] * self.ranks
        holder = self._torch.zeros((self.ranks, longest), dtype=self._torch.uint8)
        holder[self.rank, : len(encoded)] = self._torch.tensor(list(encoded), dtype=self._torch.uint8)
        self._distributed.all_reduce(holder, group=self._group)
        return [bytes(row).rstrip(b"\0").decode() for row in holder.tolist()]

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.sums([0.0])

    def share(self, message: bytes | None, members: Sequence[int]) -> bytes:
        """``message`` of the first of the members, on each of them; the others give None. Only members need to call it."""
        if self.rank not in members:
            return b""
        first, *others = members
        if self.rank != first:
            length = self._torch.zeros(1, dtype=self._torch.int64)
            self._distributed.recv(length, src=first, group=self._group)
            holder = self._torch.zeros(int(length), dtype=self._torch.uint8)
            self._distributed.recv(holder, src=first, group=self._group)
            return bytes(holder.tolist())
        if message is None:
            raise ValueError(f"rank {first} is the first of {tuple(members)} and has no message to share")
        for other in others:
            self._distributed.send(self._torch.tensor([len(message)]), dst=other, group=self._group)
            self._distributed.send(self._torch.tensor(list(message), dtype=self._torch.uint8), dst=other, group=self._group)
        return message
