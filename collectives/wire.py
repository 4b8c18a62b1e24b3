"""What the wire carries: bytes that one call puts on the busiest direction of one rank's link, by the algorithm that ran.

busbw assumes a ring. Where a tree or the switch does the work it is not what the link carried, and rows "above the link's rate" are
often only that (NVIDIA/nccl-tests issues 239 and 312). A wire rate is these bytes over the time of one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .algorithm import algorithm_from_log, known_algorithm

__all__ = ["algorithm_from_log", "known_algorithm", "least_wire_bytes", "wire_bytes"]

_PerS = Callable[[int], float]
"""Ranks -> bytes on the link per byte of S."""


def _spread(ranks: int) -> float:
    """All of S but the part that stays at home."""
    return (ranks - 1) / ranks


def _twice_spread(ranks: int) -> float:
    """One ring pass to reduce, another to gather."""
    return 2 * (ranks - 1) / ranks


def _once(ranks: int) -> float:
    return 1.0


def _tree(ranks: int) -> float:
    """All-reduce through trees: sums go up, results come down.

    In a chain (NCCL within a node) an inner rank sends S up and S down. In the two binary trees over half of S each (Sanders, Speck,
    Traeff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan", Parallel Computing 35, 2009) a rank is inner node
    of one, S/2 up and S/2 to each of two children, and leaf of the other, S/2 up: 2 S as well. Two ranks: one way up, one down.
    NCCL's author counts the same (NVIDIA/nccl issue 457). It is the most that such a tree can carry: over all ranks the mean is
    2 (n - 1)/n S, and channels whose chains begin at different ranks come nearer to that; three ranks in two trees carry 3/2 S.
    """
    return 1.0 if ranks == 2 else 2.0


def _in_switch_all_reduce(ranks: int) -> float:
    """All-reduce by NVLink SHARP: rank r reads part r through the switch, which adds up all ranks' copies, and writes it to all.

    Out of each rank: its copy of every part, S, and its own result, S/n; into it: the same. The switch also reads from and writes to
    the rank that asks. So (n + 1)/n S, and a busbw of 2 (n - 1)/(n + 1) times what the link carries.
    """
    return (ranks + 1) / ranks


def _binomial(ranks: int) -> float:
    """Broadcast by doubling: the root sends all of S in each of its rounds."""
    return float(math.ceil(math.log2(ranks)))


_CARRIED: dict[tuple[str, str], _PerS] = {
    # A ring's pass goes through every link once, all of S less the part that need not go on; broadcast and reduce are pipelined
    # chains through which all of S goes.
    ("all_reduce", "ring"): _twice_spread,
    ("all_gather", "ring"): _spread,
    ("reduce_scatter", "ring"): _spread,
    ("broadcast", "ring"): _once,
    ("reduce", "ring"): _once,
    ("all_reduce", "tree"): _tree,
    # All-gather: each rank writes its part once, the switch hands all of S to every rank, the writer too; reduce-scatter is that
    # backwards. One 1/n more than a ring.
    ("all_reduce", "nvls"): _in_switch_all_reduce,
    ("all_gather", "nvls"): _once,
    ("reduce_scatter", "nvls"): _once,
    # Straight to the rank that wants it. The busiest link of gather and scatter is the root's; the uneven all-to-all leaves nothing
    # at home.
    ("all_to_all", "direct"): _spread,
    ("all_to_all_v", "direct"): _once,
    ("gather_to_root", "direct"): _spread,
    ("scatter_from_root", "direct"): _spread,
    ("send_recv", "direct"): _once,
    ("broadcast", "binomial"): _binomial,
    # A whole all-reduce, of whose result each rank keeps its part.
    ("reduce_scatter", "ring_all_reduce"): _twice_spread,
}
"""(pattern, algorithm) -> what its busiest link direction carries."""

_LEAST: dict[str, _PerS] = {
    "all_reduce": _once,
    "all_gather": _spread,
    "reduce_scatter": _spread,
    "broadcast": _once,
    "reduce": _once,
    "all_to_all": _spread,
    "all_to_all_v": _once,
    "gather_to_root": _spread,
    "scatter_from_root": _spread,
    "send_recv": _once,
}


def wire_bytes(op: str, algorithm: str, ranks: int, size_bytes: float) -> float | None:
    """Bytes that one call of pattern ``op`` with message size S = ``size_bytes`` puts on the busiest direction of one rank's link.

    ``algorithm`` as in the column of that name. None where it is unknown, or nothing is known about its traffic. Headers, flags and
    padding of the protocol are not counted. Within one node: between nodes a link may serve several ranks.

    >>> wire_bytes("all_reduce", "ring", 8, 800), wire_bytes("all_reduce", "nvls", 8, 800), wire_bytes("all_reduce", "unknown", 8, 800)
    (1400.0, 900.0, None)
    """
    carried = _CARRIED.get((op, algorithm))
    return None if carried is None else carried(ranks) * size_bytes


def least_wire_bytes(op: str, ranks: int, size_bytes: float) -> float:
    """The least that any algorithm can put on the busiest direction of a rank's link, switches that add up and copy included.

    A rank must get in what it does not have, and give away what others lack: each rank of an all-reduce lacks the others' sum, S
    bytes that nothing it holds tells; each rank of an all-gather lacks all parts but its own; and so on. A row whose time is less
    than these bytes at the link's rate is wrong, whatever the algorithm. 0 where there is no message or the pattern is not known.

    >>> least_wire_bytes("all_reduce", 8, 800), least_wire_bytes("all_gather", 8, 800)
    (800.0, 700.0)
    """
    least = _LEAST.get(op)
    return 0.0 if least is None else least(ranks) * size_bytes
