"""Real ranks over gloo: every pattern in groups, and the one slow rank is found and named."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from chipassay.collectives.pattern import patterns
from chipassay.collectives.transport import Ask, transports
from chipassay.runners.collective.straggler import ONE_SLOW, chip_hash
from chipassay.runners.devices.facts import host_hash
from chipassay.runners.workers.client import start_ranks

pytest.importorskip("torch")

RANKS = 3
VISITS = 3
REQUEST = {
    "op": "all_reduce",
    "dtype": "fp32",
    "size_bytes": 3 << 12,
    "transport": "torch.distributed",
    "members": [[0, 1, 2]],
    "in_place": True,
    "launch": "call",
    "cache": "warm",
    "seed": 1,
    "min_time_s": 0.01,
    "time_cap_s": 0.2,
    "checked": True,
}


@pytest.fixture(scope="module")
def ranks():
    workers = start_ranks(RANKS, "cpu", 60.0)
    workers.ask(None, 120)
    yield workers
    workers.stop()


def asked(ranks, **changes):
    return ranks.ask({**REQUEST, **changes}, 60)["row"]


CARRIED = [
    (name, in_place)
    for name, pattern in patterns().items()
    for in_place in ((False, True) if pattern.in_place else (False,))
    if transports()["torch.distributed"].lacks(Ask(name, pattern.reduces, "fp32", in_place, "call", "cpu")) is None
]


@pytest.mark.parametrize(("op", "in_place"), CARRIED)
def test_every_pattern_is_exact_before_and_after_its_samples(ranks, op, in_place):
    row = asked(ranks, op=op, in_place=in_place)
    assert row["status"] == "ok", row
    assert len(row["rank_times_s"]) == RANKS
    assert row["fastest_rank_time_s"] <= row["median_rank_time_s"] <= row["slowest_rank_time_s"]
    assert row["clock_source"] == "host"
    if patterns()[op].sized:
        assert row["error"] == 0.0
        assert row["algbw_bytes_per_s"] == pytest.approx(row["size_bytes"] / row["time_median_s"])
        assert row["busbw_bytes_per_s"] == pytest.approx(row["algbw_bytes_per_s"] * patterns()[op].bus_factor(RANKS))


@pytest.mark.parametrize("dtype", ["fp64", "fp16", "bf16", "int8"])
def test_sums_are_exact_in_every_dtype_that_gloo_adds(ranks, dtype):
    assert asked(ranks, dtype=dtype)["status"] == "ok"


def test_ranks_outside_the_group_only_help(ranks):
    row = asked(ranks, members=[[1, 2]])
    assert (row["status"], row["members"], row["group_size"]) == ("ok", "1,2", 2)
    assert len(row["rank_times_s"]) == 2
    assert min(row["rank_times_s"]) > 0


def test_the_straggler_is_one_of_the_group_with_a_hash_of_host_and_chip(ranks):
    row = asked(ranks, members=[[1, 2]], checked=False)
    assert row["straggler_rank"] in (1, 2)
    assert row["straggler_ratio"] >= 1.0
    assert row["straggler_hash"] == chip_hash(host_hash(), f"rank {row['straggler_rank']}")


def test_a_rank_that_is_stopped_nearly_all_of_the_time_is_found_and_named(ranks):
    slow, over = 1, threading.Event()
    process = ranks._children[slow].pid

    def hold_back():
        while not over.is_set():
            os.kill(process, signal.SIGSTOP)
            time.sleep(38e-3)
            os.kill(process, signal.SIGCONT)
            time.sleep(2e-3)

    thread = threading.Thread(target=hold_back)
    thread.start()
    try:
        rows = [asked(ranks, checked=False) for _ in range(VISITS)]
    finally:
        over.set()
        thread.join()
    assert [row["status"] for row in rows] == ["ok"] * VISITS
    named = [row for row in rows if row["straggler_rank"] == slow]
    # Neighbours on the same cores may be slower still for the tenths of a second of one visit.
    assert len(named) > VISITS / 2
    assert max(row["straggler_ratio"] for row in named) > 1.5
    assert any(ONE_SLOW in (row["flags"] or "") for row in named)
