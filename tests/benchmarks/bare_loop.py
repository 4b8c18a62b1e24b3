"""One rank of a comparison: the harness and a bare loop of ``torch.distributed`` in turns, in the same processes, burst for burst.

Run as a program with RANK, WORLD_SIZE and the path of a file to meet at; rank 0 prints one JSON object a size.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from statistics import median

import torch
import torch.distributed as distributed

from chipassay.runners.collective.measure import CollectiveMeasurer, make_timer
from chipassay.runners.collective.request import CollectiveRequest
from chipassay.runners.devices.cpu import cpu_facts


def bare_s(size_bytes: int, calls: int, bursts: int) -> float:
    """Median over bursts of (the mean over ranks of) the time of a loop of so many calls from a barrier, over their number."""
    message = torch.zeros(size_bytes // 4)
    distributed.all_reduce(message)
    times_s = []
    for _ in range(bursts):
        distributed.barrier()
        begin_s = time.perf_counter()
        for _ in range(calls):
            distributed.all_reduce(message)
        times_s.append((time.perf_counter() - begin_s) / calls)
    total_s = torch.tensor(times_s, dtype=torch.float64)
    distributed.all_reduce(total_s)
    return median((total_s / distributed.get_world_size()).tolist())


def main(meeting: Path, sizes: list[int], rounds: int) -> None:
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
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
            transport="torch.distributed",
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
            loop_s.append(bare_s(size_bytes, calls, int(measurer.control.first(row["sample_count"]))))
        if rank == 0:
            print(json.dumps({"size_bytes": size_bytes, "calls": calls, "harness_s": harness_s, "bare_s": loop_s}), flush=True)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2].split(",")], int(sys.argv[3]))
