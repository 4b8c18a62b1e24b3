"""The child that is one rank of a collective: all ranks get the same requests, rank 0 answers."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from chipassay.results.errors import InputError

from ..collective.case import words_of
from ..collective.request import CollectiveRequest
from ..devices.cpu import cpu_facts
from ..devices.facts import DeviceFacts, host_hash
from ..devices.gpu import gpu_facts
from .channel import Channel

if TYPE_CHECKING:
    from ..collective.measure import CollectiveMeasurer

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


def facts_here(device_kind: str) -> DeviceFacts:
    """The device of this rank's host: ``cpu``, or empty for a GPU where torch drives one."""
    facts = None if device_kind == "cpu" else gpu_facts("torch")
    if device_kind not in ("", "cpu") and facts is None:
        raise InputError("torch sees no GPU any more; see `chipassay doctor`")
    return facts if facts is not None and facts.kind in ("cuda", "rocm") else cpu_facts()


def hello(facts: DeviceFacts) -> dict[str, Any]:
    """What this rank is, before it meets the others: they must be alike in what a measurement depends on."""
    import torch

    from chipassay.collectives.transport import transports

    from ..report.facts import chipassay_version

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


def meet(facts: DeviceFacts, timeout_s: float, where: Mapping[str, Any]) -> CollectiveMeasurer:
    """Join the process group of this generation of ranks; what measures on this rank.

    ``where``: ``url`` of a file on this host, or ``address``, ``port`` and ``prefix`` in a store that listens there already.
    """
    import torch
    import torch.distributed as distributed

    from ..collective.measure import CollectiveMeasurer, make_timer

    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    on_cpu, timeout, index = facts.kind == "cpu", timedelta(seconds=timeout_s), 0
    if not on_cpu:
        index = visible_gpu(int(os.environ["LOCAL_RANK"]), facts.count)
        torch.cuda.set_device(index)
    meeting: dict[str, Any] = {"init_method": where.get("url")}
    if "url" not in where:
        store = distributed.TCPStore(where["address"], where["port"], is_master=False, timeout=timeout)
        meeting = {"store": distributed.PrefixStore(where["prefix"], store)}
    backend = "gloo" if on_cpu else "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, rank=rank, world_size=ranks, timeout=timeout, **meeting)
    if on_cpu:
        # Ranks share the cores: more threads than cores would measure the scheduler.
        torch.set_num_threads(max(1, (facts.threads or 1) // int(os.environ["LOCAL_WORLD_SIZE"])))
    return CollectiveMeasurer(facts, make_timer(facts, index), rank, ranks)


def main(device_kind: str, timeout_s: float, url: str) -> None:
    """Meet the other ranks, then serve until the parent closes the pipe."""
    die_with_parent()
    channel = Channel()
    requests, facts = channel.requests(), facts_here(device_kind)
    where: Mapping[str, Any] = {"url": url}
    if not url:
        channel.answer({"hello": hello(facts)})
        where = next(requests)["meet"]
        # Before torch.distributed opens anything. What the user has set is right.
        for name, interface in where["interfaces"].items():
            os.environ.setdefault(name, interface)
    measurer = meet(facts, timeout_s, where)
    if measurer.rank == 0:
        channel.answer({"ready": measurer.ranks})
    for request in requests:
        row = measurer.measure(CollectiveRequest.from_json(request))
        if measurer.rank == 0:
            channel.answer({"row": row, "device_lost": None})
    import torch.distributed as distributed

    measurer.close()
    distributed.destroy_process_group()


def end_at_once(error: Exception) -> NoReturn:
    """What went wrong as the last line of standard error, then the end: on an orderly way out torch.distributed and MPI would wait
    for ranks that hang, and torch's warnings would be the last words."""
    traceback.print_exception(error)
    print(str(error) if isinstance(error, InputError) else words_of(error), file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    try:
        main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
    except Exception as error:  # whatever the libraries raise
        end_at_once(error)
