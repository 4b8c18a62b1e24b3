"""What goes between chips, in words: names of patterns, the straggler, the bad link."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from chipassay.collectives.groups import parsed
from chipassay.results.pairs import Fault, faults, pairs_of, sentence
from chipassay.results.schema import Row

from ..collective.straggler import ONE_SLOW, SLOW_RATIO

PATTERN_WORDS = {
    "all_reduce": "all-reduce",
    "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "all_to_all": "all-to-all",
    "all_to_all_v": "uneven all-to-all",
    "send_recv": "send/receive",
}
"""Names that are written otherwise than their words joined."""

STRAGGLER_SHARE = 0.5
"""In so many of the rows it must be the same rank: else it was a passing mood."""


def pattern_words(op: str | None) -> str:
    """A pattern's name in prose.

    >>> pattern_words("all_reduce"), pattern_words("broadcast")
    ('all-reduce', 'broadcast')
    """
    return PATTERN_WORDS.get(op or "", (op or "unknown").replace("_", " "))


def group_words(transport: str, ranks: int, placement: str = "inside", launch: str | None = None) -> str:
    """A group in a legend.

    >>> group_words("nccl", 8, "across", "graph")
    'nccl, 8 ranks across nodes, graph'
    """
    return f"{transport}, {ranks} ranks{' across nodes' if placement == 'across' else ''}{', graph' if launch == 'graph' else ''}"


def straggler(rows: Sequence[Row]) -> str | None:
    """The rank that holds the others up, in one sentence; None where there is no such rank, or a different one each time."""
    told = [row for row in rows if row.status == "ok" and row.straggler_ratio is not None and row.straggler_rank is not None]
    # Of two ranks the median lies between them: neither is much above it.
    told = [row for row in told if (row.group_size or 0) > 2] or told
    slow = [row for row in told if ONE_SLOW in (row.flags or "") and (row.straggler_ratio or 0.0) >= SLOW_RATIO]
    if not slow:
        return None
    (rank, _), *_ = Counter(row.straggler_rank for row in slow).most_common()
    own = [row for row in slow if row.straggler_rank == rank]
    told = [row for row in told if rank in _members(row, rank)]
    if len(own) < STRAGGLER_SHARE * len(told):
        return None
    ratio = statistics.median(row.straggler_ratio or 1.0 for row in own)
    name = f" ({own[0].straggler_hash})" if own[0].straggler_hash else ""
    often = f"in {len(own)} of {len(told)} rows"
    return f"Straggler: rank {rank}{name} takes {ratio:.2f} times as long as the others for its own work, {often}."


def _members(row: Row, rank: int | None) -> tuple[int | None, ...]:
    """The ranks of the row's groups; where it does not say which, ``rank`` is among them."""
    return (rank,) if not row.members else tuple(member for group in parsed(row.members) for member in group)


def bad_links(rows: Sequence[Row]) -> list[str]:
    """A sentence for each transport whose pairs show a link, rank or node that is slower than the others make expect."""
    found = []
    for pairs in pairs_of(rows):
        slow = faults(pairs.busbw_bytes_per_s, "low")
        late = [fault for fault in faults(pairs.latency_s, "high") if (fault.kind, fault.ranks) not in {(f.kind, f.ranks) for f in slow}]
        for what, worst in (("bandwidth", slow), ("latency", late)):
            if worst:
                found.append(f"{pattern_words(pairs.op).capitalize()} over {pairs.transport}, {what}: {listed(worst)}.")
    return found


def listed(worst: Sequence[Fault], most: int = 3) -> str:
    """The worst faults in words, and how many there are beside them."""
    more = f"; and {len(worst) - most} more" if len(worst) > most else ""
    return "; ".join(map(sentence, worst[:most])) + more
