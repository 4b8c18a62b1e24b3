"""All-reduce over two ranks on this machine: whole measurements, a whole sweep, and the harness against a bare loop of the same calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from chipassay.runners.workers.client import start_ranks

pytest.importorskip("torch")

REQUEST = {
    "op": "all_reduce",
    "dtype": "fp32",
    "transport": "torch.distributed",
    "members": [[0, 1]],
    "in_place": True,
    "launch": "call",
    "cache": "warm",
    "seed": 1,
    "min_time_s": 0.02,
    "time_cap_s": 0.3,
}
SWEEP = (8, 1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 22, 1 << 24, 1 << 26)
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


@pytest.fixture(scope="module")
def ranks():
    workers = start_ranks(2, "cpu", 60.0)
    workers.ask(None, 120)
    yield workers
    workers.stop()


@pytest.mark.parametrize("size_bytes", [8, 1 << 20])
def test_all_reduce(benchmark, ranks, size_bytes):
    """One round is one whole measurement (exact checks, warm-up, samples, straggler); the median call time stands in `extra_info`."""
    benchmark.group = "all_reduce fp32 gloo"
    row = benchmark.pedantic(ranks.ask, args=({**REQUEST, "size_bytes": size_bytes}, 60), rounds=2)["row"]
    assert row["status"] == "ok", row
    assert row["error"] == 0.0
    assert row["busbw_bytes_per_s"] == pytest.approx(row["size_bytes"] / row["time_median_s"])
    benchmark.extra_info.update({name: value for name, value in row.items() if name != "samples_s"})


@pytest.mark.slow
def test_a_sweep_of_one_pattern(benchmark, ranks):
    """Eight sizes as the collectives suite asks for them, cold; the goal is 30 s."""

    def sweep():
        requests = ({**REQUEST, "size_bytes": size, "cache": "cold", "min_time_s": 0.2, "time_cap_s": 1.0} for size in SWEEP)
        return [ranks.ask(request, 60)["row"] for request in requests]

    rows = benchmark.pedantic(sweep, rounds=1)
    assert [row["status"] for row in rows] == ["ok"] * len(SWEEP)
    benchmark.extra_info.update({f"wall_s of {row['size_bytes']} B": row["wall_s"] for row in rows})


@pytest.mark.slow
@pytest.mark.parametrize("size_bytes", [8, 1 << 24])
def test_the_harness_against_a_bare_loop(benchmark, tmp_path, size_bytes):
    """Both in the same two processes, in turns. `extra_info` has the median ratio of their times; goals: 1.10 below 1 MiB, 1.02 above.

    Nothing is asserted of it: on a shared machine both move by more than that from second to second.
    """

    def compare():
        command = [sys.executable, str(Path(__file__).with_name("bare_loop.py")), str(tmp_path / "meeting"), str(size_bytes), "5"]
        environment = {**os.environ, "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": LOOPBACK}
        processes = [
            subprocess.Popen(command, env={**environment, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True) for rank in range(2)
        ]
        try:
            return processes[0].communicate(timeout=120)[0]
        finally:
            for process in processes:
                process.kill()
                process.communicate()

    benchmark.group = "harness and bare loop"
    found = json.loads(benchmark.pedantic(compare, rounds=1))
    ratios = [harness / bare for harness, bare in zip(found["harness_s"], found["bare_s"], strict=True)]
    benchmark.extra_info.update(found, ratio=median(ratios))
    assert len(ratios) == 5
