"""nccl-tests' words and ours, and what is read of a run before it becomes rows.

nccl-tests' ``size`` is our ``size_bytes`` for each collective: the whole message, what the fullest rank sends or receives (compared in
each ``src/*.cu`` of nccl-tests a0b82b2: ``max(sendBytes, expectedBytes)``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from chipassay.collectives.pattern import patterns

OPS = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "broadcast": "broadcast",
    "reduce": "reduce",
    "gather": "gather_to_root",
    "scatter": "scatter_from_root",
    "alltoall": "all_to_all",
    "alltoallv": "all_to_all_v",
    "sendrecv": "send_recv",
    "hypercube": "hypercube",
    "all_reduce_bias": "all_reduce_bias",
}
"""nccl-tests' names -> ours (``collectives/``). Hypercube (an all-gather by pairwise exchange) and the biased sum are not ours."""

OTHER_FACTORS: dict[str, Callable[[int], float]] = {
    "hypercube": lambda ranks: (ranks - 1) / ranks,
    "all_reduce_bias": lambda ranks: 2 * (ranks - 1) / ranks,
}
"""busbw over size / time for those. hypercube.cu counts the n - 1 received parts only and calls that both algbw and busbw."""

PARTED = ("all_gather", "reduce_scatter", "gather", "scatter", "alltoall", "hypercube")
"""Tests whose ``count`` is one rank's part of the size."""

OWN_PART_LEFT_OUT = ("all_gather", "reduce_scatter", "hypercube")
"""Tests whose printed algbw is, or was until June 2020 (nccl-tests ec1b5e2), the busbw: without the rank's own part."""

DTYPES = {
    "char": "int8",
    "int8": "int8",
    "uint8": "uint8",
    "int": "int32",
    "int32": "int32",
    "uint32": "uint32",
    "int64": "int64",
    "uint64": "uint64",
    "half": "fp16",
    "float": "fp32",
    "double": "fp64",
    "bfloat16": "bf16",
    "f8e4m3": "fp8_e4m3",
    "f8e5m2": "fp8_e5m2",
    "fp8_e4m3": "fp8_e4m3",
    "fp8_e5m2": "fp8_e5m2",
}
"""Type names of all versions of nccl-tests and rccl-tests (``test_typenames`` in ``src/common.cu``)."""

ITEM_BYTES = {"int8": 1, "uint8": 1, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8, "fp16": 2, "fp32": 4, "fp64": 8, "bf16": 2}
ITEM_BYTES |= {"fp8_e4m3": 1, "fp8_e5m2": 1}


@dataclass(frozen=True)
class Printed:
    """A number and half a unit of its last printed digit."""

    value: float
    error: float


@dataclass(frozen=True)
class Rank:
    """A line of the list of devices."""

    rank: int
    group: int
    host: str
    device: int
    name: str | None


@dataclass(frozen=True)
class Setup:
    """What a file says of the run, ahead of its table."""

    test: str | None
    ranks: tuple[Rank, ...] = ()
    rank_count: int | None = None
    """Where it is known otherwise than by the list of ranks."""
    node_count: int | None = None
    backend: str = "nccl"
    library_version: str | None = None
    warmup_count: int | None = None
    calls: int | None = None
    graphs: int | None = None
    blocking: bool = False
    unalign: int | None = None
    config: str | None = None


@dataclass(frozen=True)
class Measurement:
    """One operation at one size, as printed. ``wrong``: elements; ``delta``: the relative difference of versions before 2022."""

    where: str
    size_bytes: int
    count: int | None
    dtype: str
    redop: str | None
    root: int | None
    in_place: bool
    time_s: Printed
    algbw: Printed | None
    busbw: Printed | None
    wrong: float | None = None
    delta: float | None = None
    cpu_time: bool = False
    iteration_times_s: tuple[float, ...] = ()
    algorithm: str | None = None
    config: str | None = None


def library_version(code: int) -> str:
    """NCCL's version from the number that it calls itself (``NCCL_VERSION`` in nccl.h: another scale before 2.9).

    >>> library_version(22807), library_version(2804)
    ('2.28.7', '2.8.4')
    """
    major, rest = divmod(code, 10000 if code >= 10000 else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


@cache
def bus_factor(test: str) -> Callable[[int], float]:
    """busbw over size / time, as a function of the number of ranks."""
    op = OPS[test]
    return patterns()[op].bus_factor if op in patterns() else OTHER_FACTORS[op]
