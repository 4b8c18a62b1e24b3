"""One rank of a comparison: the harness and a bare loop of the same library in turns, in the same processes, burst for burst.

Run as a program with RANK, WORLD_SIZE and the path of a file to meet at; rank 0 prints one JSON object a size. Under mpiexec the loop is
of ``MPI.Allreduce``, whose ranks wait in a spin: on a machine whose ranks have a core each its times are far steadier than gloo's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from statistics import median

import torch
import torch.distributed as distributed

from chipassay.runners.collective.measure import CollectiveMeasurer, make_timer
from chipassay.runners.collective.request import CollectiveRequest
from chipassay.runners.devices.cpu import cpu_facts


def bare_s(size_bytes: int, calls: int, bursts: int, with_mpi: bool) -> float:
    """Median over bursts of (the mean over ranks of) the time of a loop of so many calls from a barrier, over their number."""
    message = torch.zeros(size_bytes // 4)
    if with_mpi:
        from mpi4py import MPI

        world, array = MPI.COMM_WORLD, message.numpy()
        times_s = looped_s(lambda: world.Allreduce(MPI.IN_PLACE, array), world.Barrier, calls, bursts)
    else:
        times_s = looped_s(lambda: distributed.all_reduce(message), distributed.barrier, calls, bursts)
    total_s = torch.tensor(times_s, dtype=torch.float64)
    distributed.all_reduce(total_s)
    return median((total_s / distributed.get_world_size()).tolist())


def looped_s(call: Callable[[], object], barrier: Callable[[], object], calls: int, bursts: int) -> list[float]:
    call()
    times_s = []
    for _ in range(bursts):
        barrier()
        begin_s = time.perf_counter()
        for _ in range(calls):
            call()
        times_s.append((time.perf_counter() - begin_s) / calls)
    return times_s


def main(meeting: Path, sizes: list[int], rounds: int) -> None:
    with_mpi = "PMI_RANK" in os.environ
    names = ("PMI_RANK", "PMI_SIZE") if with_mpi else ("RANK", "WORLD_SIZE")
    rank, ranks = (int(os.environ[name]) for name in names)
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=ranks, timeout=timedelta(seconds=60))
    facts = cpu_facts()
    measurer = CollectiveMeasurer(facts, make_timer(facts, 0), rank, ranks)
    for size_bytes in sizes:
        harness_s, loop_s, calls = [], [], 1
        request = CollectiveRequest(
            op="all_reduce",
            dtype="fp32",
            size_bytes=size_bytes,
            transport="mpi4py" if with_mpi else "torch.distributed",
            members=(tuple(range(ranks)),),
            in_place=True,
            launch="call",
            cache="warm",
            seed=1,
            min_time_s=0.05,
            time_cap_s=0.4,
            checked=True,
        )
        for _ in range(rounds):
            row = measurer.measure(request)
            assert row["status"] == "ok", row
            harness_s.append(row["time_median_s"])
            calls = row["calls_per_sample"]
            loop_s.append(bare_s(size_bytes, calls, int(measurer.control.first(row["sample_count"])), with_mpi))
        if rank == 0:
            print(json.dumps({"size_bytes": size_bytes, "calls": calls, "harness_s": harness_s, "bare_s": loop_s}), flush=True)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2].split(",")], int(sys.argv[3]))
