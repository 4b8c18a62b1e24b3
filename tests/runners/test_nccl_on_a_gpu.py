"""Every collective through NCCL or RCCL. Skipped where torch sees no GPU. Run on one H200.

With one GPU two ranks share it, each as if on a host of its own, so that NCCL lets them: that everything is carried rightly is
proven, its times are no measurement: the ranks take turns on the chip, and a call may last ten of its time slices.
"""

from __future__ import annotations

from typing import Any

import pytest

from chipassay.collectives.pattern import patterns
from chipassay.collectives.transport import Ask, transports
from chipassay.runners.collective.request import CollectiveRequest
from chipassay.runners.workers.client import WorkerDied, Workers, WorkerTimeout, start_ranks

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA or ROCm device"),
]

KIND = "rocm" if torch.version.hip else "cuda"
CAPABILITY = torch.cuda.get_device_capability() if torch.cuda.is_available() and KIND == "cuda" else None
RANKS = max(2, torch.cuda.device_count())
TRANSPORTS = ("torch.distributed", "cupy.nccl")
DTYPES = ("fp32", "fp16", "bf16", "int8", "fp8_e4m3")
LIMIT_S = 60.0


class Ranks:
    """Ranks that are started again once one of them died or hung: one case that ends them costs only itself."""

    def __init__(self) -> None:
        self.workers: Workers | None = None
        self.never_started = False

    def row(self, request: dict[str, Any], limit_s: float = LIMIT_S) -> dict[str, Any]:
        if self.workers is None:
            if self.never_started:
                pytest.fail("the ranks did not start: see the first test")
            self.never_started = True
            workers = start_ranks(RANKS, KIND, 2 * LIMIT_S, share_gpu=torch.cuda.device_count() < 2)
            workers.ask(None, 3 * LIMIT_S)
            self.workers, self.never_started = workers, False
        try:
            return self.workers.ask(request, limit_s)["row"]
        except (WorkerDied, WorkerTimeout):
            self.workers = None
            raise

    def stop(self) -> None:
        if self.workers is not None:
            self.workers.stop()


@pytest.fixture(scope="module")
def ranks():
    made = Ranks()
    yield made
    made.stop()


def asked(**changes: Any) -> dict[str, Any]:
    usual = {
        "op": "all_reduce",
        "dtype": "fp32",
        "size_bytes": 1 << 20,
        "transport": "torch.distributed",
        "members": (tuple(range(RANKS)),),
        "in_place": True,
        "launch": "stream",
        "cache": "warm",
        "checked": True,
        "seed": 1,
        "min_time_s": 0.02,
        "time_cap_s": 0.5,
    }
    return vars(CollectiveRequest(**{**usual, **changes}))


CASES = [
    (transport, op, dtype, in_place)
    for transport in TRANSPORTS
    for op, pattern in patterns().items()
    for dtype in (DTYPES if pattern.sized else ("int8",))
    for in_place in ([False] if pattern.in_place is None else [True, False])
]


@pytest.mark.parametrize(("transport", "op", "dtype", "in_place"), CASES)
def test_every_collective_is_exact_in_every_dtype_and_placement(ranks, transport, op, dtype, in_place):
    carrier = transports()[transport]
    if reason := carrier.missing(KIND) or carrier.lacks(Ask(op, patterns()[op].reduces, dtype, in_place, "stream", KIND, CAPABILITY)):
        pytest.skip(reason)
    row = ranks.row(asked(op=op, dtype=dtype, in_place=in_place, transport=transport))
    assert row["status"] == "ok", row
    # A barrier carries nothing that could be wrong.
    assert row.get("error") == (0.0 if patterns()[op].sized else None)


@pytest.mark.parametrize("size_bytes", [8, 1 << 20])
def test_cold_messages_are_exact_and_the_slowest_rank_is_named(ranks, size_bytes):
    row = ranks.row(asked(size_bytes=size_bytes, cache="cold", checked=False))
    assert row["status"] == "ok", row
    assert row["straggler_rank"] in range(RANKS)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("op", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"])
@pytest.mark.parametrize("cache", ["cold", "warm"])
def test_a_captured_graph_of_collectives_is_exact(ranks, cache, op, transport):
    if reason := transports()[transport].missing(KIND):
        pytest.skip(reason)
    in_place = patterns()[op].in_place is not None
    row = ranks.row(asked(op=op, size_bytes=1 << 24, launch="graph", transport=transport, cache=cache, in_place=in_place))
    assert row["status"] == "ok", row


@pytest.mark.parametrize("timed", ["collective", "beside"])
@pytest.mark.parametrize("op", ["all_reduce", "all_gather"])
def test_a_product_and_a_collective_run_side_by_side(ranks, op, timed):
    beside = {"m": 2048, "n": 2048, "k": 2048, "dtype": "fp16"}
    row = ranks.row(asked(op=op, size_bytes=1 << 24, beside=beside, timed=timed))
    assert row["status"] == "ok", row
    assert row["alone_time_s"] > 0


@pytest.mark.parametrize("op", ["all_reduce", "all_gather"])
def test_more_elements_than_32_bits_count_are_exact(ranks, op):
    row = ranks.row(asked(op=op, dtype="int8", size_bytes=(1 << 31) + (1 << 20), min_time_s=0.0), 3 * LIMIT_S)
    assert row["status"] in ("ok", "out_of_memory"), row


@pytest.mark.skipif(RANKS < 4, reason="groups of some ranks need 4 GPUs")
def test_groups_run_at_once_and_pairs_alone(ranks):
    assert ranks.row(asked(members=((0, 1), (2, 3))))["status"] == "ok"
    assert ranks.row(asked(op="send_recv", in_place=False, members=((1, RANKS - 1),)))["status"] == "ok"
