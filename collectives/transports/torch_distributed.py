"""torch.distributed: gloo between CPUs, NCCL between NVIDIA GPUs, RCCL between AMD ones.

NCCL has run on one H200 by two ranks, never between GPUs; RCCL has not run.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ..communicator import Communicator
from ..transport import Ask, Opened, Site, Transport, nccl_lacks_sums, register
from .prepared import Prepared, alias

BACKENDS = {"cpu": "gloo", "cuda": "nccl", "rocm": "rccl"}
"""Device kind -> what carries the bytes."""

IN_PLACE_ONLY = ("all_reduce", "broadcast", "reduce")
"""Verbs of torch.distributed that take one tensor (torch docs, distributed.html). A copy before the call would be timed with it."""

FLOAT8 = ("fp8_e4m3", "fp8_e5m2")
FLOAT8_SUMS_FROM_TORCH = (2, 8)
"""With NCCL 2.24 (pytorch pull request 152706, May 2025); on chips from SM 90 on, as NCCL's documentation of its types says."""


class TorchGroup:
    """A process group of torch.distributed as a communicator.

    8-bit floats are moved as bytes: not every version has a name for them, and where it has, bytes are what it moves.
    """

    def __init__(self, members: Sequence[int], group: Any, site: Site) -> None:
        import torch
        import torch.distributed as distributed

        self._distributed, self._group, self._members = distributed, group, tuple(members)
        self.rank, self.ranks = distributed.get_rank(group), len(members)
        self._root = self._members[0]
        # Since torch 2.13 the older names warn at each call.
        self._all_gather = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
        self._reduce_scatter = getattr(distributed, "reduce_scatter_single", None) or distributed.reduce_scatter_tensor
        self._movable = Prepared(lambda send, receive: (_movable(send), _movable(receive)))
        self._gathered = Prepared(self._gather_arguments)
        self._scattered = Prepared(self._scatter_arguments)
        self._exchanged = Prepared(self._exchange)
        self._token = None if site.device_kind == "cpu" else torch.zeros(1, device=site.device)

    def all_reduce(self, send: Any, receive: Any) -> None:
        self._distributed.all_reduce(receive, group=self._group)

    def all_gather(self, send: Any, receive: Any) -> None:
        send, receive = self._movable(send, receive)
        self._all_gather(receive, send, group=self._group)

    def reduce_scatter(self, send: Any, receive: Any) -> None:
        self._reduce_scatter(receive, send, group=self._group)

    def broadcast(self, send: Any, receive: Any) -> None:
        _, receive = self._movable(send, receive)
        self._distributed.broadcast(receive, self._root, group=self._group)

    def reduce(self, send: Any, receive: Any) -> None:
        # Whether what the others sent is still there afterwards is not promised.
        self._distributed.reduce(send, self._root, group=self._group)

    def gather(self, send: Any, receive: Any) -> None:
        send, parts = self._gathered(send, receive)
        self._distributed.gather(send, parts, self._root, group=self._group)

    def scatter(self, send: Any, receive: Any) -> None:
        parts, receive = self._scattered(send, receive)
        self._distributed.scatter(receive, parts, self._root, group=self._group)

    def all_to_all(self, send: Any, receive: Any, sent: Sequence[int], received: Sequence[int]) -> None:
        send, receive = self._movable(send, receive)
        if len({*sent, *received}) == 1:
            self._distributed.all_to_all_single(receive, send, group=self._group)
        else:
            self._distributed.all_to_all_single(receive, send, list(received), list(sent), group=self._group)

    def send_receive(self, send: Any, to: int, receive: Any, source: int) -> None:
        for work in self._distributed.batch_isend_irecv(self._exchanged(send, receive, to, source)):
            work.wait()

    def barrier(self) -> None:
        """On a GPU an all-reduce of one element, queued like any other: torch's own barrier also stops the host."""
        if self._token is None:
            self._distributed.barrier(self._group)
        else:
            self._distributed.all_reduce(self._token, group=self._group)

    def _gather_arguments(self, send: Any, receive: Any) -> tuple[Any, list[Any] | None]:
        return _movable(send), self._parts(receive) if self.rank == 0 else None

    def _scatter_arguments(self, send: Any, receive: Any) -> tuple[list[Any] | None, Any]:
        return self._parts(send) if self.rank == 0 else None, _movable(receive)

    def _parts(self, buffer: Any) -> list[Any]:
        return list(_movable(buffer).chunk(self.ranks))

    def _exchange(self, send: Any, receive: Any, to: int, source: int) -> list[Any]:
        operation, distributed = self._distributed.P2POp, self._distributed
        return [
            operation(distributed.isend, _movable(send), self._members[to], self._group),
            operation(distributed.irecv, _movable(receive), self._members[source], self._group),
        ]


class TorchDistributed:
    """torch.distributed on this rank."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._groups: dict[tuple[tuple[int, ...], ...], Communicator | None] = {}

    def group(self, members: Sequence[Sequence[int]]) -> Communicator | None:
        key = tuple(tuple(sorted(each)) for each in members)
        if key not in self._groups:
            self._groups[key] = self._made(key)
        return self._groups[key]

    def _made(self, members: tuple[tuple[int, ...], ...]) -> Communicator | None:
        import torch.distributed as distributed

        timeout = None if self._site.timeout_s is None else timedelta(seconds=self._site.timeout_s)
        own: Any = None
        for each in members:
            # Every rank must take part in making every group, its own or not.
            whole = len(each) == self._site.ranks
            group = distributed.group.WORLD if whole else distributed.new_group(list(each), timeout=timeout)
            if self._site.rank in each:
                own = TorchGroup(each, group, self._site)
        return own

    def versions(self) -> dict[str, str]:
        import torch

        carrier = BACKENDS[self._site.device_kind]
        found = {"torch": torch.__version__}
        return found if carrier == "gloo" else {**found, carrier: ".".join(map(str, torch.cuda.nccl.version()))}

    def close(self) -> None:
        """The process groups go with torch.distributed's default group, which is its opener's."""
        self._groups.clear()


def _movable(tensor: Any) -> Any:
    """The tensor's memory in a type that every backend moves."""
    import torch

    is_float8 = tensor.element_size() == 1 and tensor.dtype.is_floating_point
    return alias(tensor).view(torch.uint8) if is_float8 else alias(tensor)


def _missing(device_kind: str) -> str | None:
    return None if importlib.util.find_spec("torch") else "torch is not installed: install chipassay[torch]"


def _lacks(ask: Ask) -> str | None:
    if ask.pattern in IN_PLACE_ONLY and not ask.in_place:
        return f"torch.distributed has {ask.pattern} in place only"
    if ask.reduces and ask.dtype in FLOAT8:
        return nccl_lacks_sums(ask) or _no_float8_sums(ask.device_kind)
    return None


def _no_float8_sums(device_kind: str) -> str | None:
    if device_kind == "cpu":
        return "gloo does not add up 8-bit floats"
    version = _torch_version()
    if version is None or version >= FLOAT8_SUMS_FROM_TORCH:
        return None
    return f"torch.distributed adds up 8-bit floats from torch 2.8 on, with NCCL 2.24; this is torch {'.'.join(map(str, version))}"


def _torch_version() -> tuple[int, int] | None:
    """Major and minor, from the package's metadata: torch itself takes seconds to import."""
    try:
        found = re.match(r"(\d+)\.(\d+)", importlib.metadata.version("torch"))
    except importlib.metadata.PackageNotFoundError:
        return None
    return (int(found[1]), int(found[2])) if found else None


def _open(site: Site) -> Opened:
    return TorchDistributed(site)


TORCH_DISTRIBUTED = register(Transport("torch.distributed", BACKENDS.get, _missing, _lacks, _open))
