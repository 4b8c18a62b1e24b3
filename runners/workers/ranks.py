"""The child that is one rank of a collective: all ranks get the same requests, rank 0 answers."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

from .channel import Channel


def main(device_kind: str, meeting: str, timeout_s: float) -> None:
    """Meet the other ranks, then serve until the parent closes the pipe."""
    channel = Channel()
    import torch
    import torch.distributed as distributed

    from ..collective.measure import CollectiveMeasurer, make_timer
    from ..collective.request import CollectiveRequest
    from ..devices.cpu import cpu_facts
    from ..devices.gpu import gpu_facts

    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    on_cpu = device_kind == "cpu"
    if not on_cpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group(
        "gloo" if on_cpu else "cpu:gloo,cuda:nccl",
        init_method=Path(meeting).as_uri(),
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=timeout_s),
    )
    facts = cpu_facts() if on_cpu else gpu_facts("torch")
    if facts is None:
        raise SystemExit("torch sees no GPU")
    if on_cpu:
        # Ranks share the cores: more threads than cores would measure the scheduler.
        torch.set_num_threads(max(1, (facts.threads or 1) // ranks))
    measurer = CollectiveMeasurer(facts, make_timer(facts, int(os.environ["LOCAL_RANK"])), rank, ranks)
    if rank == 0:
        channel.answer({"ready": ranks})
    for request in channel.requests():
        row = measurer.measure(CollectiveRequest.from_json(request))
        if rank == 0:
            channel.answer({"row": row, "device_lost": None})
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
