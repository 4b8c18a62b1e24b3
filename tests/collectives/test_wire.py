"""Wire bytes: each formula against the algorithm itself, carried out step by step on numbers, with every byte on every link counted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from chipassay.collectives.all_to_all import distance_weighted
from chipassay.collectives.pattern import patterns
from chipassay.collectives.wire import least_wire_bytes, wire_bytes

RANKS = (2, 3, 4, 5, 8, 16)
EACH = 6  # elements in one rank's part
ITEMSIZE = 8


class Links:
    """Counts the bytes that leave and reach each rank."""

    def __init__(self, ranks):
        self.out, self.into = np.zeros(ranks), np.zeros(ranks)

    def carry(self, source, to, values):
        self.out[source] += values.nbytes
        self.into[to] += values.nbytes
        return values.copy()

    def busiest(self):
        return max(self.out.max(), self.into.max())


class Switch(Links):
    """A switch that adds up what it reads from all ranks and copies what it is given to all, as NVLink SHARP."""

    def __init__(self, memories):
        super().__init__(len(memories))
        self._memories = memories

    def load_sum(self, rank, where):
        self.out += self._memories[rank][where].nbytes
        self.into[rank] += self._memories[rank][where].nbytes
        return sum(memory[where] for memory in self._memories)

    def store_to_all(self, rank, where, values):
        self.out[rank] += values.nbytes
        for other, memory in enumerate(self._memories):
            memory[where] = values
            self.into[other] += values.nbytes


def data(ranks):
    return [np.arange(ranks * EACH, dtype=float) * (rank + 1) + rank for rank in range(ranks)]


def part(index, ranks):
    return slice((index % ranks) * EACH, (index % ranks + 1) * EACH)


def ring_reduce_scatter(links, memories):
    ranks = len(memories)
    for step in range(ranks - 1):
        # All ranks send at once: what goes out in a step was there before it.
        moving = [memories[rank][part(rank - step - 1, ranks)].copy() for rank in range(ranks)]
        for rank in range(ranks):
            to = (rank + 1) % ranks
            memories[to][part(rank - step - 1, ranks)] += links.carry(rank, to, moving[rank])


def ring_all_gather(links, memories):
    ranks = len(memories)
    for step in range(ranks - 1):
        for rank in range(ranks):
            to = (rank + 1) % ranks
            memories[to][part(rank - step, ranks)] = links.carry(rank, to, memories[rank][part(rank - step, ranks)])


@pytest.mark.parametrize("ranks", RANKS)
def test_a_ring_of_reduce_scatter_and_all_gather(ranks):
    memories, size_bytes = data(ranks), ranks * EACH * ITEMSIZE
    expected = sum(memories)
    links = Links(ranks)
    ring_reduce_scatter(links, memories)
    assert all((memories[rank][part(rank, ranks)] == expected[part(rank, ranks)]).all() for rank in range(ranks))
    assert links.busiest() == wire_bytes("reduce_scatter", "ring", ranks, size_bytes)
    second = Links(ranks)
    ring_all_gather(second, memories)
    assert all((memory == expected).all() for memory in memories)
    assert second.busiest() == wire_bytes("all_gather", "ring", ranks, size_bytes)
    assert (links.out + second.out).max() == wire_bytes("all_reduce", "ring", ranks, size_bytes)
    # gloo's reduce-scatter does all of this.
    assert (links.out + second.out).max() == wire_bytes("reduce_scatter", "ring_all_reduce", ranks, size_bytes)


@pytest.mark.parametrize("ranks", RANKS)
def test_a_chain_of_broadcast_and_reduce(ranks):
    memories, size_bytes = data(ranks), ranks * EACH * ITEMSIZE
    expected = sum(memories)
    links = Links(ranks)
    for rank in range(ranks - 1, 0, -1):
        memories[rank - 1] = memories[rank - 1] + links.carry(rank, rank - 1, memories[rank])
    assert (memories[0] == expected).all()
    assert links.busiest() == wire_bytes("reduce", "ring", ranks, size_bytes)
    down = Links(ranks)
    for rank in range(1, ranks):
        memories[rank] = down.carry(rank - 1, rank, memories[rank - 1])
    assert all((memory == expected).all() for memory in memories)
    assert down.busiest() == wire_bytes("broadcast", "ring", ranks, size_bytes)
    # Up and down again is NCCL's tree within a node.
    assert max((links.out + down.out).max(), (links.into + down.into).max()) == wire_bytes("all_reduce", "tree", ranks, size_bytes)


def parents(ranks):
    """A binary tree on ranks in order, whose leaves are the odd ones: each inner node lies between its children."""
    found = [None] * ranks
    for rank in range(1, ranks):
        bit = rank & -rank
        above = (rank ^ bit) | (bit << 1)
        found[rank] = above if above < ranks else rank ^ bit
    return found


def two_trees(ranks):
    """That tree, and one whose inner nodes are leaves of the first: mirrored, or moved on by one where the number is odd."""
    first = parents(ranks)
    if ranks % 2 == 0:
        second = [None if first[ranks - 1 - rank] is None else ranks - 1 - first[ranks - 1 - rank] for rank in range(ranks)]
    else:
        second = [None if first[rank - 1] is None else (first[rank - 1] + 1) % ranks for rank in range(ranks)]
    return first, second


@pytest.mark.parametrize("ranks", [2, 3, 4, 5, 6, 7, 8, 16, 31, 64])
def test_an_all_reduce_through_two_binary_trees(ranks):
    half = np.ones(EACH)
    links = Links(ranks)
    for above in two_trees(ranks):
        sums = [half * (rank + 1) for rank in range(ranks)]

        def climb(rank, above=above, sums=sums):
            for child in [child for child in range(ranks) if above[child] == rank]:
                climb(child)
                sums[rank] = sums[rank] + links.carry(child, rank, sums[child])

        def descend(rank, above=above, sums=sums):
            for child in [child for child in range(ranks) if above[child] == rank]:
                sums[child] = links.carry(rank, child, sums[rank])
                descend(child)

        root = above.index(None)
        climb(root)
        descend(root)
        assert all((each == half * ranks * (ranks + 1) / 2).all() for each in sums)
    stated = wire_bytes("all_reduce", "tree", ranks, 2 * half.nbytes)
    assert links.busiest() == (stated if ranks != 3 else 0.75 * stated)


@pytest.mark.parametrize("ranks", RANKS)
def test_the_switch_adds_up_and_copies(ranks):
    memories, size_bytes = data(ranks), ranks * EACH * ITEMSIZE
    expected = sum(memories)
    reading = Switch(memories)
    parts = [reading.load_sum(rank, part(rank, ranks)) for rank in range(ranks)]
    assert reading.busiest() == wire_bytes("reduce_scatter", "nvls", ranks, size_bytes)
    writing = Switch(memories)
    for rank in range(ranks):
        writing.store_to_all(rank, part(rank, ranks), parts[rank])
    assert all((memory == expected).all() for memory in memories)
    assert writing.busiest() == wire_bytes("all_gather", "nvls", ranks, size_bytes)
    assert (reading.out + writing.out).max() == wire_bytes("all_reduce", "nvls", ranks, size_bytes)


@pytest.mark.parametrize("ranks", RANKS)
def test_a_broadcast_that_doubles_its_ranks_each_round(ranks):
    message, links, have = np.ones(EACH), Links(ranks), [0]
    while len(have) < ranks:
        for source in have:
            to = source + len(have) if source + len(have) < ranks else None
            if to is not None:
                links.carry(source, to, message)
        have = list(range(min(ranks, 2 * len(have))))
    assert links.busiest() == wire_bytes("broadcast", "binomial", ranks, message.nbytes)


@pytest.mark.parametrize("ranks", RANKS)
def test_messages_that_go_straight_to_their_rank(ranks):
    size_bytes = ranks * EACH * ITEMSIZE
    even, uneven, gather = Links(ranks), Links(ranks), Links(ranks)
    for source in range(ranks):
        for distance, count in enumerate(distance_weighted(ranks, ranks * EACH)):
            to = (source + distance) % ranks
            if to != source:
                even.carry(source, to, np.ones(EACH))
                uneven.carry(source, to, np.ones(count))
        if source:
            gather.carry(source, 0, np.ones(EACH))
    assert even.busiest() == wire_bytes("all_to_all", "direct", ranks, size_bytes)
    assert uneven.busiest() == wire_bytes("all_to_all_v", "direct", ranks, size_bytes)
    assert (
        gather.busiest()
        == wire_bytes("gather_to_root", "direct", ranks, size_bytes)
        == wire_bytes("scatter_from_root", "direct", ranks, size_bytes)
    )
    assert wire_bytes("send_recv", "direct", ranks, size_bytes) == size_bytes


@pytest.mark.parametrize("name", ["all_reduce", "all_gather", "reduce_scatter", "broadcast", "reduce"])
@pytest.mark.parametrize("ranks", RANKS)
def test_busbw_is_the_wire_rate_of_a_ring(name, ranks):
    assert wire_bytes(name, "ring", ranks, 1.0) == patterns()[name].bus_factor(ranks)


def test_480_gb_of_busbw_through_the_switch_are_309_on_the_link():
    # 8 H100, NVIDIA/nccl issue 2140: the link does 450 GB/s one way.
    algbw = 480e9 / patterns()["all_reduce"].bus_factor(8)
    assert wire_bytes("all_reduce", "nvls", 8, algbw) == pytest.approx(308.6e9, rel=1e-3)


@pytest.mark.parametrize("name", sorted(patterns()))
def test_no_algorithm_carries_less_than_the_least(name):
    for algorithm, ranks in itertools.product(("ring", "tree", "nvls", "direct", "binomial", "ring_all_reduce"), range(2, 65)):
        carried = wire_bytes(name, algorithm, ranks, 1e6)
        assert carried is None or carried >= least_wire_bytes(name, ranks, 1e6)


def test_every_pattern_with_a_message_has_a_least():
    assert {name for name in patterns() if least_wire_bytes(name, 4, 8) == 0} == {"barrier"}


def test_nothing_is_claimed_of_an_unknown_algorithm():
    assert wire_bytes("all_reduce", "unknown", 8, 1e6) is None
    assert wire_bytes("broadcast", "nvls", 8, 1e6) is None
    assert wire_bytes("barrier", "ring", 8, 0) is None
