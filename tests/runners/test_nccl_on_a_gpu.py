"""Every collective through NCCL or RCCL. Skipped where torch sees no GPU. Not yet run on a GPU.

With one GPU two ranks share it, each as if on a host of its own, so that NCCL lets them: that everything is carried rightly is
proven, its times are no measurement.
"""

from __future__ import annotations

from typing import Any

import pytest

from chipassay.collectives.pattern import patterns
from chipassay.collectives.transport import Ask, transports
from chipassay.runners.collective.request import CollectiveRequest
from chipassay.runners.workers.client import start_ranks

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA or ROCm device"),
]

KIND = "rocm" if torch.version.hip else "cuda"
CAPABILITY = torch.cuda.get_device_capability() if torch.cuda.is_available() and KIND == "cuda" else None
RANKS = max(2, torch.cuda.device_count())
DTYPES = ("fp32", "fp16", "bf16", "int8", "fp8_e4m3")


@pytest.fixture(scope="module")
def ranks():
    workers = start_ranks(RANKS, KIND, 120.0, share_gpu=torch.cuda.device_count() < 2)
    workers.ask(None, 180.0)
    yield workers
    workers.stop()


def asked(**changes: Any) -> dict[str, Any]:
    usual = {
        "op": "all_reduce",
        "dtype": "fp32",
        "size_bytes": 1 << 20,
        "transport": "torch.distributed",
        "members": (tuple(range(RANKS)),),
        "in_place": True,
        "launch": "stream",
        "cache": "cold",
        "seed": 1,
        "min_time_s": 0.02,
        "time_cap_s": 0.5,
    }
    return vars(CollectiveRequest(**{**usual, **changes}))


CASES = [
    (transport, op, dtype, in_place)
    for transport in ("torch.distributed", "cupy.nccl")
    for op, pattern in patterns().items()
    for dtype in (DTYPES if pattern.sized else ("int8",))
    for in_place in ([False] if pattern.in_place is None else [True, False])
]


@pytest.mark.parametrize(("transport", "op", "dtype", "in_place"), CASES)
def test_every_collective_is_exact_in_every_dtype_and_placement(ranks, transport, op, dtype, in_place):
    carrier = transports()[transport]
    if reason := carrier.missing(KIND) or carrier.lacks(Ask(op, patterns()[op].reduces, dtype, in_place, "stream", KIND, CAPABILITY)):
        pytest.skip(reason)
    row = ranks.ask(asked(op=op, dtype=dtype, in_place=in_place, transport=transport), 120.0)["row"]
    assert row["status"] == "ok", row
    assert row["error"] == 0.0


@pytest.mark.parametrize("op", ["all_reduce", "all_gather", "reduce_scatter"])
def test_a_captured_graph_of_collectives_is_exact(ranks, op):
    row = ranks.ask(asked(op=op, launch="graph"), 120.0)["row"]
    assert row["status"] == "ok", row


@pytest.mark.parametrize("timed", ["collective", "beside"])
def test_a_product_and_a_collective_run_side_by_side(ranks, timed):
    beside = {"m": 2048, "n": 2048, "k": 2048, "dtype": "fp16"}
    row = ranks.ask(asked(size_bytes=1 << 24, beside=beside, timed=timed, cache="warm"), 120.0)["row"]
    assert row["status"] == "ok", row
    assert row["alone_time_s"] > 0


@pytest.mark.skipif(RANKS < 4, reason="groups of some ranks need 4 GPUs")
def test_groups_run_at_once_and_pairs_alone(ranks):
    assert ranks.ask(asked(members=((0, 1), (2, 3))), 120.0)["row"]["status"] == "ok"
    assert ranks.ask(asked(op="send_recv", in_place=False, members=((1, RANKS - 1),)), 120.0)["row"]["status"] == "ok"
