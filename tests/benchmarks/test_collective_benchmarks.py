"""All-reduce over two ranks on this machine, through the same measuring processes as `chipassay run`."""

from __future__ import annotations

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


@pytest.fixture(scope="module")
def ranks():
    workers = start_ranks(2, "cpu", 60.0)
    workers.ask(None, 120)
    yield workers
    workers.stop()


@pytest.mark.parametrize("size_bytes", [8, 1 << 20])
def test_all_reduce(benchmark, ranks, size_bytes):
    """One round is one whole measurement (exact check, warm-up, samples); the median call time stands in `extra_info`."""
    benchmark.group = "all_reduce fp32 gloo"
    row = benchmark.pedantic(ranks.ask, args=({**REQUEST, "size_bytes": size_bytes}, 60), rounds=2)["row"]
    assert row["status"] == "ok", row
    assert row["error"] == 0.0
    assert row["busbw_bytes_per_s"] == pytest.approx(row["size_bytes"] / row["time_median_s"])
    benchmark.extra_info.update({name: value for name, value in row.items() if name != "samples_s"})
