"""Where each rank of the job runs, which of them share a memory, and whether that holds what they want.

Run with two ranks on one H200, never between GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..devices.facts import DeviceFacts, host_hash
from ..devices.memory import free_bytes
from .case import Ended
from .control import Control
from .straggler import chip_hash


class Places:
    """Host and chip of every rank, as each rank says of itself."""

    def __init__(self, control: Control, facts: DeviceFacts, device: str) -> None:
        """``device``: torch's name of this rank's. Every rank of the job makes its own at the same time."""
        self._control, self._facts, self._on_cpu = control, facts, facts.kind == "cpu"
        self._hosts = control.texts(host_hash())
        self._chips = control.texts(f"rank {control.rank}" if self._on_cpu else _chip(device))

    def nodes(self, members: Sequence[int]) -> int:
        """On how many hosts these ranks run."""
        return len({self._hosts[rank] for rank in members})

    def chips(self, members: Sequence[int]) -> int:
        """On how many chips: the CPU of a host is one."""
        return len({self._memory(rank) for rank in members})

    def hash_of(self, rank: int) -> str:
        """Which host and chip that is."""
        return chip_hash(self._hosts[rank], self._chips[rank])

    def make_sure_of_memory(self, needed_bytes: float) -> None:
        """Raises Ended, on every rank, where the memory of one does not hold what it and those that share it need."""
        free = free_bytes(self._facts)
        needs, frees = self._control.each(needed_bytes), self._control.each(-1.0 if free is None else free)
        for rank, own in enumerate(needs):
            shared = sum(need for other, need in enumerate(needs) if self._memory(other) == self._memory(rank))
            if own and 0 <= frees[rank] < shared:
                together = "" if shared == own else f", {shared / 1e9:.3g} GB with the ranks beside it"
                raise Ended("out_of_memory", f"rank {rank} needs {own / 1e9:.3g} GB{together}; {frees[rank] / 1e9:.3g} GB are free")

    def _memory(self, rank: int) -> tuple[str, str]:
        return self._hosts[rank], "" if self._on_cpu else self._chips[rank]


def _chip(device: str) -> str:
    import torch

    # Older torch knows no uuid.
    return str(getattr(torch.cuda.get_device_properties(device), "uuid", device))
