"""The ``chip_benchmark`` fixture, where pytest-benchmark is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from . import session

if TYPE_CHECKING:
    from .chip import Chip
    from .chip_benchmark import ChipBenchmark


@pytest.fixture
def chip_benchmark(request: pytest.FixtureRequest, benchmark: Any, chip: Chip) -> ChipBenchmark:
    """``chip_benchmark(function, *args, **kwargs)``: check, warm up, evict the cache, time on the chip, store the row.

    ``chip_benchmark.options(op=..., flops=..., reference=..., tolerance=..., cache="warm", ...)`` first, to say more.
    """
    from .chip_benchmark import ChipBenchmark, Limits
    from .ended import BENCHMARK

    if session.in_worker(request.config):
        # Several processes share the chip: nothing to measure. pytest-benchmark 4 does not know today's workers of xdist.
        benchmark.disabled = True
    made = ChipBenchmark(benchmark, chip, request.node, request.config.stash[session.KEY].run_id, Limits.of(request))
    request.node.stash[BENCHMARK] = made
    return made
