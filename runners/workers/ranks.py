"""The child that is one rank of a collective: all ranks get the same requests, rank 0 answers."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from chipassay.results.errors import InputError

from .channel import Channel

PR_SET_PDEATHSIG = 1
"""Linux, prctl(2)."""


def die_with_parent() -> None:
    """A rank that hangs in a collective does not see its parent go: the system kills it then, where it is Linux."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it went before it was asked for
            os._exit(1)


def visible_gpu(local_rank: int, visible: int) -> int:
    """Which of the GPUs that this process sees it drives. A launcher may show each process its own alone.

    >>> visible_gpu(3, 8), visible_gpu(3, 1)
    (3, 0)

    Raises InputError where there are fewer than ranks.
    """
    if visible == 1:
        return 0
    if local_rank >= visible:
        raise InputError(f"this host has {visible} GPUs and more ranks than that; start one rank per GPU")
    return local_rank


def hello(device_kind: str) -> dict[str, Any]:
    """What this rank is, before it meets the others: they must be alike in what a measurement depends on."""
    import torch

    from chipassay.collectives.transport import transports

    from ..devices.cpu import cpu_facts
    from ..devices.facts import host_hash
    from ..devices.gpu import gpu_facts
    from ..report.facts import chipassay_version

    facts = None if device_kind == "cpu" else gpu_facts("torch")
    if facts is None or facts.kind not in ("cuda", "rocm"):
        facts = cpu_facts()
    index = None if facts.kind == "cpu" else visible_gpu(int(os.environ["LOCAL_RANK"]), facts.count)
    properties = None if index is None else torch.cuda.get_device_properties(index)
    return {
        "chipassay": chipassay_version(),
        "torch": torch.__version__,
        "nccl": None if index is None else ".".join(map(str, torch.cuda.nccl.version())),
        "host": host_hash(),
        "chip": None if properties is None else str(getattr(properties, "uuid", index)),
        "facts": facts.to_dict(),
        "missing": {name: transport.missing(facts.kind) for name, transport in transports().items()},
    }


def meet(device_kind: str, timeout_s: float, where: Mapping[str, Any]) -> Any:
    """Join the process group of this generation of ranks; what measures on this rank.

    ``where``: ``url`` of a file on this host, or ``address``, ``port`` and ``prefix`` in a store that listens there already.
    """
    import torch
    import torch.distributed as distributed

    from ..collective.measure import CollectiveMeasurer, make_timer
    from ..devices.cpu import cpu_facts
    from ..devices.gpu import gpu_facts

    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    on_cpu, timeout, index = device_kind == "cpu", timedelta(seconds=timeout_s), 0
    if not on_cpu:
        index = visible_gpu(int(os.environ["LOCAL_RANK"]), torch.cuda.device_count())
        torch.cuda.set_device(index)
    meeting: dict[str, Any] = {"init_method": where.get("url")}
    if "url" not in where:
        store = distributed.TCPStore(where["address"], where["port"], is_master=False, timeout=timeout)
        meeting = {"store": distributed.PrefixStore(where["prefix"], store)}
    distributed.init_process_group("gloo" if on_cpu else "cpu:gloo,cuda:nccl", rank=rank, world_size=ranks, timeout=timeout, **meeting)
    facts = cpu_facts() if on_cpu else gpu_facts("torch")
    if facts is None:
        raise SystemExit("torch sees no GPU")
    if on_cpu:
        # Ranks share the cores: more threads than cores would measure the scheduler.
        torch.set_num_threads(max(1, (facts.threads or 1) // int(os.environ["LOCAL_WORLD_SIZE"])))
    return CollectiveMeasurer(facts, make_timer(facts, index), rank, ranks, timeout_s)


def main(device_kind: str, timeout_s: float, url: str) -> None:
    """Meet the other ranks, then serve until the parent closes the pipe."""
    die_with_parent()
    channel = Channel()
    requests = channel.requests()
    if url:
        where: Mapping[str, Any] = {"url": url}
    else:
        greeting = hello(device_kind)
        channel.answer({"hello": greeting})
        device_kind = greeting["facts"]["kind"]
        where = next(requests)["meet"]
        # Before torch.distributed opens anything. What the user has set is right.
        for name, interface in where["interfaces"].items():
            os.environ.setdefault(name, interface)
    measurer = meet(device_kind, timeout_s, where)
    from ..collective.request import CollectiveRequest

    if measurer.rank == 0:
        channel.answer({"ready": measurer.ranks})
    for request in requests:
        row = measurer.measure(CollectiveRequest.from_json(request))
        if measurer.rank == 0:
            channel.answer({"row": row, "device_lost": None})
    import torch.distributed as distributed

    distributed.destroy_process_group()


if __name__ == "__main__":
    try:
        main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
    except InputError as error:
        raise SystemExit(str(error)) from error
