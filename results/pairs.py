"""Every pair of ranks: who talks how fast to whom, and which one link, rank or node is slower than the others say it should be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .schema import Row

Array = NDArray[np.float64]

FEWEST_RANKS = 4
"""With three ranks each of three pairs is as likely the odd one as the rank across from it."""
STRICTNESS = 5.0
"""Standard deviations of the noise that a fault must stand out by: of 2,000 good links (64 ranks) none is blamed by chance."""
SMALLEST_SHARE = 0.1
"""A tenth slower is worth telling; less is within what healthy chips differ by."""
USUAL_NOISE = 0.05
"""What healthy links of one kind differ by (chips of one node differ by 5 %), where too few pairs are left over to tell."""
LEAST_NOISE = 0.01
"""Two measurements of one healthy link agree no better."""
FREEDOM_TO_TELL = 5
"""With fewer pairs left over, one bad link among them would pass for the noise."""
POLISH_TURNS = 60
P95_Z = 1.6449
"""95th percentile of the normal distribution."""

Worse = Literal["low", "high"]


@dataclass(frozen=True)
class PairMatrix:
    """What was measured between each two of ``ranks``; NaN where nothing was, and on the diagonal. Symmetric: both send at once."""

    ranks: tuple[int, ...]
    values: Array
    size_bytes: int
    """Message size."""
    across: NDArray[np.bool_]
    """Which pairs lie on different nodes."""
    spread: float = 0.0
    """Standard deviation of the log of single samples of a pair, of the median pair: how steady the machine was."""

    @property
    def nodes(self) -> tuple[tuple[int, ...], ...]:
        """Positions of ranks that share a node, node by node: those that a pair inside a node joins."""
        left, found = list(range(len(self.ranks))), []
        while left:
            node = [left.pop(0)]
            for member in node:
                near = [other for other in left if not self.across[member, other] and not math.isnan(self.values[member, other])]
                node += near
                left = [other for other in left if other not in near]
            found.append(tuple(sorted(node)))
        return tuple(found)


@dataclass(frozen=True)
class Pairs:
    """The two matrices of one operation and transport: bus bandwidth of the largest message, time of the smallest."""

    op: str
    transport: str
    busbw_bytes_per_s: PairMatrix
    latency_s: PairMatrix


@dataclass(frozen=True)
class Fault:
    """A link (two ranks), a rank (one) or a node (all its ranks) that is ``slowdown`` times slower than the others make expect."""

    kind: Literal["link", "rank", "node"]
    ranks: tuple[int, ...]
    slowdown: float
    standing_out: float
    """By how many standard deviations of the noise."""
    across: bool = False
    """Whether it shows in pairs across nodes only (network) or in pairs of one node (links inside)."""


def pairs_of(rows: Iterable[Row]) -> list[Pairs]:
    """The matrices of each operation and transport measured between single pairs; with fewer than three ranks there is none."""
    grouped: dict[tuple[str, str], list[tuple[int, int, Row]]] = {}
    for row in rows:
        pair = _pair(row)
        if pair is not None:
            grouped.setdefault((row.op or "", row.backend or ""), []).append((*pair, row))
    found = []
    for (op, transport), members in sorted(grouped.items()):
        ranks = tuple(sorted({rank for a, b, _ in members for rank in (a, b)}))
        if len(ranks) > 2:
            largest = max(row.size_bytes or 0 for _, _, row in members)
            smallest = min(row.size_bytes or 0 for _, _, row in members)
            found.append(
                Pairs(
                    op, transport, _matrix(ranks, members, largest, "busbw_bytes_per_s"), _matrix(ranks, members, smallest, "time_median_s")
                )
            )
    return found


def _pair(row: Row) -> tuple[int, int] | None:
    if row.status != "ok" or row.group_size != 2 or row.beside is not None or row.launch == "graph" or not row.members:
        return None
    a, comma, b = row.members.partition(",")
    return (int(a), int(b)) if comma and a.isdigit() and b.isdigit() else None


def _matrix(ranks: Sequence[int], members: Sequence[tuple[int, int, Row]], size_bytes: int, column: str) -> PairMatrix:
    place = {rank: i for i, rank in enumerate(ranks)}
    values = np.full((len(ranks), len(ranks)), math.nan)
    across = np.zeros(values.shape, dtype=bool)
    for a, b, row in members:
        i, j = place[a], place[b]
        across[i, j] = across[j, i] = (row.node_count or 1) > 1
        value = getattr(row, column)
        if row.size_bytes == size_bytes and value and value > 0:
            values[i, j] = values[j, i] = value
    own = [row for _, _, row in members if row.size_bytes == size_bytes]
    return PairMatrix(tuple(ranks), values, size_bytes, across, _spread(own))


def _spread(rows: Sequence[Row]) -> float:
    known = [math.log(row.time_p95_s / row.time_p05_s) for row in rows if row.time_p05_s and row.time_p95_s]
    return float(np.median(known)) / (2 * P95_Z) if known else 0.0


def faults(matrix: PairMatrix, worse: Worse) -> list[Fault]:
    """What is slower than the rest explains, worst first; empty where all is noise. ``worse``: which values are bad, low or high.

    Logarithms of the values are a common level, a part of each rank, and a rest of each pair: fitted by medians (Tukey, "Exploratory
    data analysis", 1977, chapter 11), so that one bad link moves no rank, and one bad rank no other. Pairs inside a node and pairs
    across nodes are two such tables, for they run over different wires.
    """
    sign = 1.0 if worse == "low" else -1.0
    with np.errstate(invalid="ignore"):
        logs = sign * np.log(matrix.values)
    found = [fault for across in (False, True) for fault in _faults(matrix, np.where(matrix.across == across, logs, math.nan), across)]
    return sorted(found, key=lambda fault: -fault.slowdown)


def _faults(matrix: PairMatrix, logs: Array, across: bool) -> list[Fault]:
    partners = np.isfinite(logs).sum(axis=1)
    count = len(matrix.ranks)
    pairs = [(i, j) for i, j in itertools.combinations(range(count), 2) if math.isfinite(logs[i, j])]
    freedom = len(pairs) - int((partners > 0).sum())
    if int((partners > 0).sum()) < FEWEST_RANKS or freedom < 1:
        return []
    effects, rest = polish(logs)
    rests = np.array([rest[pair] for pair in pairs])
    noise = _noise(rests, freedom, matrix.spread)
    strict = STRICTNESS * (1 + 2 / freedom)
    found = []
    for i in range(count):
        # The median of so many values has pi / 2 times the variance of their mean.
        sigma = noise * math.sqrt(math.pi / 2 / max(1, partners[i] - 1))
        if partners[i] > 2 and -effects[i] > max(strict * sigma, -math.log(1 - SMALLEST_SHARE)):
            found.append(Fault("rank", (matrix.ranks[i],), math.exp(-effects[i]), -effects[i] / sigma, across))
    found = _nodes(matrix, found, across)
    for (i, j), value in zip(pairs, rests, strict=True):
        if -value > max(strict * noise, -math.log(1 - SMALLEST_SHARE)):
            found.append(Fault("link", (matrix.ranks[i], matrix.ranks[j]), math.exp(-value), -value / noise, across))
    return found


def _noise(rests: Array, freedom: int, spread: float) -> float:
    """Standard deviation of healthy pairs around their ranks' parts. Medians pass through as many pairs as there are ranks, whose rests
    are 0 and tell nothing: the typical size is that of the others. Where hardly any are left, samples of one pair must do."""
    if freedom < FREEDOM_TO_TELL:
        return max(USUAL_NOISE, spread)
    return max(LEAST_NOISE, float(np.median(np.sort(np.abs(rests))[-freedom:])) / 0.6745)


def _nodes(matrix: PairMatrix, ranks: list[Fault], across: bool) -> list[Fault]:
    """Slow ranks that are the whole of a node are that node."""
    blamed = {fault.ranks[0]: fault for fault in ranks}
    found = []
    for node in matrix.nodes if across else ():
        members = [matrix.ranks[i] for i in node]
        if len(members) > 1 and all(rank in blamed for rank in members):
            own = [blamed.pop(rank) for rank in members]
            slowdown = math.exp(float(np.median([math.log(fault.slowdown) for fault in own])))
            found.append(Fault("node", tuple(members), slowdown, min(fault.standing_out for fault in own), across))
    return found + list(blamed.values())


def polish(logs: Array) -> tuple[Array, Array]:
    """(each rank's part, each pair's rest) of a symmetric table with gaps: median polish with one effect for row and column alike.

    The common level is left out: the median rank's part is 0.
    """
    rest = logs - np.nanmedian(logs)
    effects = np.zeros(len(logs))
    for _ in range(POLISH_TURNS):
        step = np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else 0.0 for row in rest])
        # A step in full would overshoot where all ranks move alike: each pair would feel it twice.
        step *= 0.7
        effects += step
        rest = rest - step[:, None] - step[None, :]
        if float(np.abs(step).max()) < 1e-6:
            break
    level = float(np.median(effects))
    effects -= level
    rest = rest - np.nanmedian(rest)
    return effects, rest


def sentence(fault: Fault) -> str:
    """The fault in words.

    >>> sentence(Fault("link", (3, 5), 2.31, 40.0))
    'the link between ranks 3 and 5 is 2.3 times slower than the others make expect'
    """
    where = " to other nodes" if fault.across and fault.kind != "link" else ""
    who = {
        "link": f"the link between ranks {' and '.join(map(str, fault.ranks))}",
        "rank": f"rank {fault.ranks[0]}{where}",
        "node": f"the node of ranks {', '.join(map(str, fault.ranks))}{where}",
    }[fault.kind]
    return f"{who} is {fault.slowdown:.1f} times slower than the others make expect"
