"""Which ranks form a group: all, a few in one node or over nodes, several such groups at once, or every pair."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

Members = tuple[tuple[int, ...], ...]
"""Disjoint groups of ranks that run at the same time."""

ALL = "all"
PAIRS = "pairs"
PLACEMENTS = ("inside", "across")
"""``inside``: all of a group in one node; ``across``: as many from each of several nodes."""

_RUN = re.compile(r"([0-9]+)(?:-([0-9]+))?")


def words(members: Members) -> str:
    """The groups as one word.

    >>> words(((0, 1, 2, 3), (4, 6)))
    '0-3|4,6'
    """
    return "|".join(_ranges(group) for group in members)


def parsed(text: str) -> Members:
    """The groups that ``words`` wrote. Raises ValueError with what is wrong: no rank, a range that runs down, a rank twice.

    >>> parsed("0-3|4,6")
    ((0, 1, 2, 3), (4, 6))
    """
    groups = []
    for part in text.split("|"):
        ranks: list[int] = []
        for run in part.split(","):
            found = _RUN.fullmatch(run)
            if found is None or int(found[2] or found[1]) < int(found[1]):
                raise ValueError(f"{run!r} in {text!r} is no rank or rising range of ranks; write 0-3|4,6")
            ranks += range(int(found[1]), int(found[2] or found[1]) + 1)
        groups.append(tuple(ranks))
    flat = [rank for group in groups for rank in group]
    if len(flat) != len(set(flat)):
        raise ValueError(f"{text!r} has a rank twice")
    return tuple(groups)


def chosen(want: str | int, node_of: Sequence[int], placement: str = "inside", at_once: bool = False) -> list[Members] | str:
    """The groups that ``want`` names in a job whose rank r runs on node ``node_of[r]``, or why there are none.

    ``want``: ``all``, ``pairs`` (each pair after the other), or the size of a group. ``at_once``: as many disjoint groups of that
    size as there are ranks for, as tensor-parallel groups run; else the first alone.

    >>> chosen(2, (0, 0, 0, 0), at_once=True)
    [((0, 1), (2, 3))]
    >>> chosen(2, (0, 0, 1, 1), "across", at_once=True)
    [((0, 2), (1, 3))]
    >>> chosen("pairs", (0, 0, 0))
    [((0, 1),), ((0, 2),), ((1, 2),)]
    """
    ranks = len(node_of)
    if ranks < 2:
        return "one rank only: a collective needs at least 2"
    if want == ALL:
        return [(tuple(range(ranks)),)]
    if want == PAIRS:
        return [((a, b),) for a, b in itertools.combinations(range(ranks), 2)]
    size = int(want)
    if size > ranks:
        return f"a group of {size} needs as many ranks; there are {ranks}"
    groups = _across(size, node_of) if placement == "across" else _inside(size, node_of)
    if isinstance(groups, str):
        return groups
    if at_once and len(groups) < 2:
        return f"{ranks} ranks make one group of {size} only: nothing runs beside it"
    return [tuple(groups) if at_once else (groups[0],)]


def _by_node(node_of: Sequence[int]) -> list[list[int]]:
    return [[rank for rank, node in enumerate(node_of) if node == one] for one in dict.fromkeys(node_of)]


def _inside(size: int, node_of: Sequence[int]) -> list[tuple[int, ...]] | str:
    groups = [tuple(ranks[begin : begin + size]) for ranks in _by_node(node_of) for begin in range(0, len(ranks) - size + 1, size)]
    return groups or f"no node has {size} ranks"


def _across(size: int, node_of: Sequence[int]) -> list[tuple[int, ...]] | str:
    nodes = _by_node(node_of)
    if len(nodes) < 2:
        return "all ranks are on one node: no group reaches across"
    # Over as many nodes as can be, since that is what crossing means; each then gives as few ranks as can be.
    for width in range(min(size, len(nodes)), 1, -1):
        each = size // width
        able = [ranks for ranks in nodes if len(ranks) >= each]
        if size % width == 0 and len(able) >= width:
            return [group for begin in range(0, len(able) - width + 1, width) for group in _dealt(able[begin : begin + width], each)]
    return f"{size} ranks cannot be taken evenly from {len(nodes)} nodes"


def _dealt(nodes: Sequence[Sequence[int]], each: int) -> list[tuple[int, ...]]:
    """Groups of the first ``each`` ranks of all these nodes, the next, and so on while every node has them."""
    least = min(map(len, nodes))
    return [tuple(rank for ranks in nodes for rank in ranks[begin : begin + each]) for begin in range(0, least - each + 1, each)]


def _ranges(group: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for rank in group:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)
