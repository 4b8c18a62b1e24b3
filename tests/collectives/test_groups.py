"""Groups of ranks: which are chosen on which nodes, and how they are written."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.collectives.groups import chosen, parsed, words

jobs = st.lists(st.integers(0, 4), min_size=2, max_size=24).map(tuple)
exact = settings(max_examples=150, deadline=None, derandomize=True)


@exact
@given(jobs, st.integers(2, 24), st.sampled_from(["inside", "across"]), st.booleans())
def test_groups_are_disjoint_of_the_right_size_and_placed_as_asked(node_of, size, placement, at_once):
    found = chosen(size, node_of, placement, at_once)
    if isinstance(found, str):
        assert found
        return
    (members,) = found
    flat = [rank for group in members for rank in group]
    assert len(flat) == len(set(flat))
    assert set(flat) <= set(range(len(node_of)))
    assert len(members) >= 2 if at_once else len(members) == 1
    for group in members:
        assert len(group) == size
        of_node = [sum(node_of[rank] == node for rank in group) for node in {node_of[rank] for rank in group}]
        assert len(of_node) == 1 if placement == "inside" else len(of_node) > 1
        assert len(set(of_node)) == 1, "as many from each node"


@exact
@given(jobs, st.integers(2, 24))
def test_groups_inside_are_found_wherever_a_node_has_room(node_of, size):
    room = sum(node_of.count(node) // size for node in set(node_of))
    found = chosen(size, node_of, "inside", at_once=True)
    assert isinstance(found, str) if room < 2 else len(found[0]) == room


@exact
@given(jobs, st.integers(2, 24))
def test_groups_across_are_refused_only_where_no_nodes_can_give_evenly(node_of, size):
    counts = [node_of.count(node) for node in set(node_of)]
    possible = any(size % width == 0 and sum(count >= size // width for count in counts) >= width for width in range(2, size + 1))
    assert isinstance(chosen(size, node_of, "across"), str) != possible


@pytest.mark.parametrize(
    ("node_of", "size", "members"),
    [
        ((0, 0, 1, 1), 4, ((0, 1, 2, 3),)),
        ((0, 1, 0, 1), 2, ((0, 1), (2, 3))),
        ((0, 0, 1, 1, 2, 2, 3, 3), 2, ((0, 2), (1, 3), (4, 6), (5, 7))),
        ((0, 0, 1, 1, 2, 2, 3, 3), 4, ((0, 2, 4, 6), (1, 3, 5, 7))),
        ((0, 0, 1, 1, 2, 2), 4, ((0, 1, 2, 3),)),
    ],
)
def test_groups_across_use_as_many_nodes_as_they_can(node_of, size, members):
    found = chosen(size, node_of, "across", at_once=len(members) > 1)
    assert found == [members]


@exact
@given(jobs)
def test_pairs_are_every_two_ranks_once_each_alone(node_of):
    pairs = chosen("pairs", node_of)
    assert pairs == [((a, b),) for a, b in itertools.combinations(range(len(node_of)), 2)]


def test_all_are_one_group():
    assert chosen("all", (0, 0, 1)) == [((0, 1, 2),)]


@pytest.mark.parametrize(
    ("want", "node_of", "placement", "at_once", "reason"),
    [
        ("all", (0,), "inside", False, "one rank only: a collective needs at least 2"),
        (4, (0, 0), "inside", False, "a group of 4 needs as many ranks; there are 2"),
        (3, (0, 0, 1, 1), "inside", False, "no node has 3 ranks"),
        (2, (0, 0, 0), "inside", True, "3 ranks make one group of 2 only: nothing runs beside it"),
        (2, (0, 0), "across", False, "all ranks are on one node: no group reaches across"),
        (3, (0, 0, 1, 1), "across", False, "3 ranks cannot be taken evenly from 2 nodes"),
    ],
)
def test_what_cannot_be_formed_says_why(want, node_of, placement, at_once, reason):
    assert chosen(want, node_of, placement, at_once) == reason


@exact
@given(st.permutations(range(12)), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_groups_can_be_read_back_from_their_words_in_any_order_of_ranks(ranks, sizes):
    bounds = [0, *itertools.accumulate(sizes)]
    members = tuple(tuple(ranks[begin:end]) for begin, end in itertools.pairwise(bounds) if end <= len(ranks))
    if members:
        assert parsed(words(members)) == members


def test_groups_in_words():
    assert words(((0, 1, 2, 3), (5, 4), (6, 7), (9, 11))) == "0-3|5,4|6,7|9,11"


@pytest.mark.parametrize("text", ["", "a", "0-", "-3", "0--3", "3-1", "0,,1", "0|", "0.5", "²", "0 1"])
def test_words_that_are_no_groups_are_refused_with_the_mend(text):
    with pytest.raises(ValueError, match=r"is no rank or rising range of ranks; write 0-3\|4,6"):
        parsed(text)


@pytest.mark.parametrize("text", ["0,0", "0-3|2,5"])
def test_a_rank_twice_is_refused(text):
    with pytest.raises(ValueError, match="has a rank twice"):
        parsed(text)
