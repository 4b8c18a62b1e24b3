"""torch.distributed: gloo between CPUs, NCCL between NVIDIA GPUs, RCCL between AMD ones. Not yet run on a GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from ..communicator import Communicator
from ..transport import Ask, Opened, Site, Transport, register

BACKENDS = {"cpu": "gloo", "cuda": "nccl", "rocm": "rccl"}
"""Device kind -> what carries the bytes."""


class TorchGroup:
    """A process group of torch.distributed as a communicator."""

    def __init__(self, members: Sequence[int], group: Any) -> None:
        import torch.distributed as distributed

        self._distributed, self._group, self._members = distributed, group, tuple(members)
        self.rank, self.ranks = distributed.get_rank(group), len(members)

    def all_reduce(self, send: Any, receive: Any) -> None:
        if send.data_ptr() != receive.data_ptr():
            receive.copy_(send)
        self._distributed.all_reduce(receive, group=self._group)


class TorchDistributed:
    """torch.distributed on this rank."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._groups: dict[tuple[tuple[int, ...], ...], Communicator | None] = {}

    def group(self, members: Sequence[Sequence[int]]) -> Communicator | None:
        key = tuple(map(tuple, members))
        if key not in self._groups:
            self._groups[key] = self._made(key)
        return self._groups[key]

    def _made(self, members: tuple[tuple[int, ...], ...]) -> Communicator | None:
        import torch.distributed as distributed

        own: Any = None
        for each in members:
            # Every rank must take part in making every group, its own or not.
            group = distributed.group.WORLD if len(each) == self._site.ranks else distributed.new_group(list(each))
            if self._site.rank in each:
                own = TorchGroup(each, group)
        return own

    def versions(self) -> dict[str, str]:
        import torch

        nccl = {} if self._site.device_kind == "cpu" else {"nccl": ".".join(map(str, torch.cuda.nccl.version()))}
        return {"torch": torch.__version__, **nccl}

    def close(self) -> None:
        self._groups.clear()


def _missing(device_kind: str) -> str | None:
    return None if importlib.util.find_spec("torch") else "torch is not installed"


def _lacks(ask: Ask) -> str | None:
    return None


def _open(site: Site) -> Opened:
    return TorchDistributed(site)


TORCH_DISTRIBUTED = register(Transport("torch.distributed", BACKENDS.get, _missing, _lacks, _open))
