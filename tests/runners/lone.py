"""A job of one rank in this process, on a chip of plain numbers, and a transport that does what a test wants."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from chipassay.collectives.transport import Opened, Transport
from chipassay.runners.collective.measure import CollectiveMeasurer
from chipassay.runners.collective.request import CollectiveRequest
from chipassay.runners.devices.facts import DeviceFacts

FACTS = DeviceFacts("cpu", "X", "cpu-x", 1, 10**9, 1000, "d", threads=1)
REQUEST = CollectiveRequest(
    op="all_reduce",
    dtype="fp32",
    size_bytes=4000,
    transport="lone",
    members=((0,),),
    in_place=True,
    launch="call",
    cache="warm",
    seed=3,
    min_time_s=0.1,
    time_cap_s=10.0,
    checked=True,
)


class LoneGroup:
    """A group of one: a sum over one rank is what it put in. ``wrong`` changes what it received."""

    rank, ranks = 0, 1

    def __init__(self, wrong: Callable[[int, Any], None]) -> None:
        self.calls = self.barriers = 0
        self._wrong = wrong

    def all_reduce(self, send: Any, receive: Any) -> None:
        self.calls += 1
        if send.data_ptr() != receive.data_ptr():
            receive.copy_(send)
        self._wrong(self.calls, receive)

    def barrier(self) -> None:
        self.barriers += 1


class LoneTransport:
    """Opens to one group, for every rank or for none."""

    def __init__(self, group: LoneGroup | None) -> None:
        self.made = group

    def group(self, members: Sequence[Sequence[int]]) -> Any:
        return self.made

    def versions(self) -> dict[str, str]:
        return {"lone": "1"}

    def close(self) -> None:
        pass


def lone(opened: Opened) -> Transport:
    return Transport("lone", lambda kind: "gloo", lambda kind: None, lambda ask: None, lambda site: opened)


@contextlib.contextmanager
def lone_job(folder: Path, monkeypatch: Any) -> Iterator[None]:
    """torch.distributed with this process as its only rank."""
    import torch.distributed as distributed

    # Nothing listens beyond this machine, as in a run.
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    distributed.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def measurer(chip: Any, monkeypatch: Any, wrong: Callable[[int, Any], None] = lambda call, received: None) -> tuple[Any, LoneGroup]:
    """A measurer on ``chip`` whose only transport is a lone group, and the group."""
    from chipassay.runners.collective import measure

    group = LoneGroup(wrong)
    monkeypatch.setattr(measure, "transports", lambda: {"lone": lone(LoneTransport(group))})
    return CollectiveMeasurer(FACTS, chip, 0, 1), group
