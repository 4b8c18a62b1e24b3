"""Which algorithm a library used: from what its source fixes, from the environment, or from its log.

Not yet run between GPUs: what NCCL writes is taken from its source and from logs in public issues.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

UNKNOWN = "unknown"

GLOO = {
    "all_reduce": "ring",
    "all_gather": "ring",
    "reduce_scatter": "ring_all_reduce",
    "broadcast": "binomial",
    "gather_to_root": "direct",
    "scatter_from_root": "direct",
    "all_to_all": "direct",
    "all_to_all_v": "direct",
    "send_recv": "direct",
}
"""gloo as torch.distributed calls it (pytorch/gloo 70dc360, gloo/allreduce.cc, allgather.cc, broadcast.cc, gather.cc, scatter.cc,
alltoall.cc, alltoallv.cc; pytorch torch/csrc/distributed/c10d/ProcessGroupGloo.cpp: names no algorithm, for which gloo takes the ring,
and makes a reduce-scatter of an all-reduce). Its reduce (a ring, then all parts to the root) is none of those whose traffic is known."""

DIRECT = ("all_to_all", "all_to_all_v", "gather_to_root", "scatter_from_root", "send_recv")
"""With NCCL these are sends and receives, grouped (NCCL user guide, "Point-to-point communication")."""

NCCL_FUNCTIONS = {
    "AllReduce": "all_reduce",
    "AllGather": "all_gather",
    "ReduceScatter": "reduce_scatter",
    "Broadcast": "broadcast",
    "Reduce": "reduce",
}
"""NCCL's names (src/collectives.cc) -> ours."""

PARTED = ("AllGather", "ReduceScatter")
"""Functions whose count is one rank's part of S."""

NCCL_ALGORITHMS = ("tree", "ring", "collnet_direct", "collnet_chain", "nvls", "nvls_tree", "pat")
"""By NCCL's number (NCCL_ALGO_* in src/include/nccl_tuner.h)."""

HONOURED_SINCE = (2, 24)
"""From here on NCCL fails where it cannot run what NCCL_ALGO names; before, it silently took a ring (NCCL user guide, NCCL_ALGO)."""

_CALL = re.compile(r"NCCL INFO (\w+): opCount .*\[nranks=(\d+)\]")
_CHOICE = re.compile(
    r"NCCL INFO (?:(?P<function>\w+)(?: \[(?P<way>[\w ]+)\])?: )?(?P<bytes>\d+) Bytes -> "
    r"(?:Algo (?P<algorithm>\w+) proto \w+ (?P<rest>\w+)|Kernel|cudaMemcpy)"
)


def known_algorithm(backend: str, op: str, environ: Mapping[str, str], version: Sequence[int] | None = None) -> str:
    """The algorithm that ``backend`` (gloo, nccl, ...) runs pattern ``op`` with, or ``unknown``: NCCL chooses by size and topology.

    NCCL's sends and receives are ``direct``; else it is known where ``NCCL_ALGO`` in ``environ`` names exactly one that this NCCL
    (``version``, None: any) cannot replace by another.
    RCCL has ways of its own beside NCCL_ALGO (MSCCL++), so only its sends and receives are known.

    >>> known_algorithm("nccl", "all_reduce", {"NCCL_ALGO": "allreduce:tree"}), known_algorithm("nccl", "all_reduce", {})
    ('tree', 'unknown')
    """
    if backend == "gloo":
        return GLOO.get(op, UNKNOWN)
    if backend not in ("nccl", "rccl"):
        return UNKNOWN
    if op in DIRECT:
        return "direct"
    named = _named(environ.get("NCCL_ALGO", ""), op) if backend == "nccl" else None
    certain = named == "ring" or (named == "tree" and op == "all_reduce")
    if named is None or not (certain or (version is not None and tuple(version[:2]) >= HONOURED_SINCE)):
        return UNKNOWN
    return named


def _named(value: str, op: str) -> str | None:
    """The one algorithm that ``value`` of NCCL_ALGO allows for ``op``: ``ring`` or ``ring;allreduce:tree``. None: several, or none."""
    functions = {name.lower(): ours for name, ours in NCCL_FUNCTIONS.items()}
    if op not in functions.values():
        return None
    choice = ""
    for part in value.lower().split(";"):
        function, colon, algorithms = part.rpartition(":")
        if not colon or functions.get(function.strip()) == op:
            choice = algorithms.strip()
    spelled = {name.replace("_", ""): name for name in NCCL_ALGORITHMS}
    return spelled.get(choice)


def algorithm_from_log(text: str) -> dict[tuple[str, int], str]:
    """(pattern, S in bytes) -> algorithm, from what NCCL writes with NCCL_DEBUG=INFO and NCCL_DEBUG_SUBSYS=TUNING,COLL.

    NCCL says its choice on rank 0 of each communicator: 2.20 to 2.22 without the function (the last COLL line has it), to 2.23 by
    number, since 2.24 by name; before 2.20 not at all (src/enqueue.cc of each tag). The count is S to 2.23 and since then one rank's
    part, where there are parts: the last COLL line of the function has the number of ranks, and without one the line is skipped.
    Kernels on symmetric memory (2.27) are ``symmetric``, copy engines (2.29) ``copy_engine``. What one log contradicts is ``unknown``.

    >>> algorithm_from_log("n1:7:7 [0] NCCL INFO AllReduce: 33554432 Bytes -> Algo RING proto SIMPLE channel{Lo..Hi}={0..31}")
    {('all_reduce', 33554432): 'ring'}
    """
    found: dict[tuple[str, int], str] = {}
    last, ranks_of = "", dict[str, int]()
    for line in text.splitlines():
        if call := _CALL.search(line):
            last = call[1]
            ranks_of[last] = int(call[2])
        elif choice := _CHOICE.search(line):
            function = choice["function"] or last
            size_bytes = int(choice["bytes"])
            if function in PARTED and choice["rest"] != "time":
                size_bytes *= ranks_of.get(function, 0)
            if function in NCCL_FUNCTIONS and size_bytes:
                key, algorithm = (NCCL_FUNCTIONS[function], size_bytes), _spelled(choice["algorithm"] or choice["way"] or "")
                found[key] = algorithm if found.get(key, algorithm) == algorithm else UNKNOWN
    return found


def _spelled(word: str) -> str:
    if word.isdecimal():
        return NCCL_ALGORITHMS[int(word)] if int(word) < len(NCCL_ALGORITHMS) else UNKNOWN
    return word.lower().replace(" ", "_") or UNKNOWN
