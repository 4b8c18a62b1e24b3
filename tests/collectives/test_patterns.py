"""Patterns: what their records say each rank sends, carried out by a simulator, is what they say each rank receives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.collectives import pieces
from chipassay.collectives.all_to_all import distance_weighted
from chipassay.collectives.pattern import patterns
from chipassay.collectives.pieces import Piece, tile, total

from .simulated import SimulatedRank, carry_out

PATTERNS = patterns()
ITEMSIZE = {"fp64": 8, "fp32": 4, "fp16": 2, "bf16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1, "int8": 1}
# Bits of the significand, the hidden one included: IEEE 754-2019 table 3.5, bf16 8, OCP OFP8 4 and 3.
SIGNIFICAND = {"fp64": 53, "fp32": 24, "fp16": 11, "bf16": 8, "fp8_e4m3": 4, "fp8_e5m2": 3}
SEED = 5


def rounded_to(dtype):
    """Rounds float64 to what the dtype holds: ties to even; int8 must never leave its range. Exponents here are small."""

    def rounded(values):
        if dtype == "int8":
            assert np.abs(values).max(initial=0) <= 127
            return values
        mantissa, exponent = np.frexp(values)
        return np.ldexp(np.rint(np.ldexp(mantissa, SIGNIFICAND[dtype])), exponent - SIGNIFICAND[dtype])

    return rounded


def laid(held, ranks, dtype):
    """The elements that pieces describe."""
    parts = [
        tile(piece, ranks, dtype, SEED)[(np.arange(piece.count) + piece.start) % pieces.TILE_ELEMENTS] if piece.count else np.empty(0)
        for piece in held
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def buffers(pattern, rank, ranks, elements, dtype, in_place):
    """A rank's (send, receive), filled; what it receives into holds no number before."""
    send = laid(pattern.sends(rank, ranks, elements), ranks, dtype)
    count = total(pattern.receives(rank, ranks, elements))
    if not in_place:
        return send, np.full(count, np.nan)
    offset = pattern.in_place(rank, ranks, elements)
    if count > len(send):
        whole = np.full(count, np.nan)
        whole[offset : offset + len(send)] = send
        return whole[offset : offset + len(send)], whole
    return send, send[offset : offset + count]


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles so small that messages run over them many times."""
    monkeypatch.setattr(pieces, "TILE_ELEMENTS", 31)


def placements(pattern):
    return (False,) if pattern.in_place is None else (False, True)


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_what_all_send_becomes_what_all_receive(name, small_tiles):
    pattern = PATTERNS[name]

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.integers(2, 9), st.integers(1, 700), st.sampled_from(sorted(ITEMSIZE)), st.sampled_from(placements(pattern)), st.randoms())
    def holds(ranks, size_bytes, dtype, in_place, source):
        elements = pattern.elements(size_bytes, ITEMSIZE[dtype], ranks)
        group = [SimulatedRank(rank, ranks) for rank in range(ranks)]
        for member in group:
            pattern.call(member, *buffers(pattern, member.rank, ranks, elements, dtype, in_place), elements)
        carry_out(group, rounded_to(dtype), source)
        for member in group:
            np.testing.assert_array_equal(member.receive, laid(pattern.receives(member.rank, ranks, elements), ranks, dtype))

    holds()


@pytest.mark.parametrize("name", sorted(name for name, pattern in PATTERNS.items() if pattern.sized))
def test_a_part_that_lands_at_another_ranks_place_shows(name, small_tiles):
    # Receiving what another rank should is wrong in every pattern but those where all receive the same.
    pattern, ranks = PATTERNS[name], 4
    elements = pattern.elements(400, 4, ranks)
    results = [laid(pattern.receives(rank, ranks, elements), ranks, "fp32") for rank in range(ranks)]
    alike = name in ("all_reduce", "all_gather", "broadcast")
    held = [result for result in results if len(result)]
    for one, other in itertools.pairwise(held):
        assert (len(one) == len(other) and (one == other).all()) == alike


@pytest.mark.parametrize("name", sorted(PATTERNS))
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_s_is_what_nccl_tests_counts(name, ranks):
    # nccl-tests src/*.cu, getBw: count per rank times ranks where each rank has a part, max(sent, received) for alltoallv, else count.
    pattern = PATTERNS[name]
    elements = pattern.elements(1 << 12, 4, ranks)
    largest = max(total(held(rank, ranks, elements)) for held in (pattern.sends, pattern.receives) for rank in range(ranks))
    assert largest == elements
    assert elements <= 1 << 10


def test_bus_factors_are_those_of_nccl_tests():
    # nccl-tests doc/PERFORMANCE.md, and for alltoall, alltoallv, gather, scatter and sendrecv src/*.cu, getBw (a0b82b2).
    at_8 = {
        "all_reduce": 14 / 8,
        "all_gather": 7 / 8,
        "reduce_scatter": 7 / 8,
        "all_to_all": 7 / 8,
        "all_to_all_v": 7 / 8,
        "gather_to_root": 7 / 8,
        "scatter_from_root": 7 / 8,
        "broadcast": 1,
        "reduce": 1,
        "send_recv": 1,
        "barrier": 0,
    }
    assert {name: pattern.bus_factor(8) for name, pattern in PATTERNS.items()} == at_8


def test_in_place_is_defined_where_nccl_tests_checks_it():
    # src/{alltoall,alltoallv,sendrecv}.cu: reportErrors = in_place ? 0 : 1.
    without = {name for name, pattern in PATTERNS.items() if pattern.in_place is None}
    assert without == {"all_to_all", "all_to_all_v", "send_recv", "barrier"}


def test_in_place_buffers_lie_where_nccl_wants_them():
    # NCCL user guide, "Collective Communication Functions": sendbuff = recvbuff + rank x sendcount in all-gather, recvbuff = sendbuff +
    # rank x recvcount in reduce-scatter, + root x count in gather and scatter (root 0), the same buffer in the others.
    offsets = {name: [pattern.in_place(rank, 4, 400) for rank in range(4)] for name, pattern in PATTERNS.items() if pattern.in_place}
    of_rank = {"all_gather", "reduce_scatter"}
    assert all(offsets[name] == ([0, 100, 200, 300] if name in of_rank else [0, 0, 0, 0]) for name in offsets)
    assert of_rank < set(offsets)


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_the_smallest_message_is_one_element_or_one_for_each_rank(name):
    pattern = PATTERNS[name]
    assert pattern.elements(1, 8, 5) == (0 if not pattern.sized else 5 if pattern.chunked else 1)


def test_only_sums_need_arithmetic():
    assert {name for name, pattern in PATTERNS.items() if pattern.reduces} == {"all_reduce", "reduce", "reduce_scatter"}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(2, 64), st.integers(1, 10**12))
def test_the_uneven_all_to_all_sends_all_of_s_and_d_parts_to_the_dth_rank_on(ranks, elements):
    counts = distance_weighted(ranks, elements)
    assert sum(counts) == elements
    assert counts[0] == 0
    one_part = elements / (ranks * (ranks - 1) / 2)
    assert all(abs(count - distance * one_part) < max(1, one_part / 16) for distance, count in enumerate(counts))


@pytest.mark.parametrize("dtype", ["int8", "bf16", "fp32", "fp64"])
@pytest.mark.parametrize("ranks", [3, 6, 8])
def test_long_parts_of_the_uneven_all_to_all_begin_at_sixteens_of_bytes_wherever_they_go(ranks, dtype):
    held = PATTERNS["all_to_all_v"].receives(1, ranks, 1 << 20)
    begins = [0, *itertools.accumulate(piece.count for piece in held)]
    assert not any(begin * ITEMSIZE[dtype] % 16 for begin in begins)
    assert not any(piece.start * ITEMSIZE[dtype] % 16 for piece in held)


def test_data_repeats_after_a_prime_number_of_elements():
    size = pieces.TILE_ELEMENTS
    assert all(size % divisor for divisor in range(2, int(size**0.5) + 1))
    assert Piece(10, "message", start=2 * size + 7).phase == 7


@pytest.mark.parametrize(
    ("size_bytes", "itemsize", "ranks", "part_bytes"), [(1 << 20, 2, 3, 349520), (1 << 20, 2, 8, 131072), (96, 4, 6, 16)]
)
def test_parts_are_whole_sixteens_of_bytes_as_in_nccl_tests(size_bytes, itemsize, ranks, part_bytes):
    # (count / ranks) & -(16 / size of an element) in nccl-tests.
    assert patterns()["all_gather"].elements(size_bytes, itemsize, ranks) * itemsize == part_bytes * ranks


def test_parts_too_small_for_that_are_as_large_as_they_can_be():
    assert patterns()["all_gather"].elements(95, 4, 6) == 3 * 6
    assert patterns()["all_gather"].elements(3, 4, 6) == 6
