"""Slots of exact data: what is written, what counts as wrong, and where buffers lie."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from chipassay.collectives import pieces  # noqa: E402
from chipassay.collectives.pattern import patterns  # noqa: E402
from chipassay.collectives.pieces import Piece  # noqa: E402
from chipassay.runners.collective import buffers  # noqa: E402
from chipassay.runners.collective.buffers import Layout, Pool, fill, mismatches, poison, slots_for  # noqa: E402


@pytest.fixture
def tiles_of_seven(monkeypatch):
    monkeypatch.setattr(pieces, "TILE_ELEMENTS", 7)
    buffers._tile.cache_clear()
    yield lambda piece: torch.arange(1.0, 8.0) + 100 * piece.of
    buffers._tile.cache_clear()


@pytest.mark.parametrize("elements", [3, 7, 8, 20, 21])
def test_every_element_of_every_slot_is_filled_from_the_tile(elements, tiles_of_seven):
    buffer = torch.full((2, elements), -1.0)
    held = (Piece(elements, "message"),)
    fill(buffer, held, tiles_of_seven)
    assert buffer.tolist() == [[float(i % 7 + 1) for i in range(elements)]] * 2
    assert mismatches(buffer, held, tiles_of_seven) == 0


def test_a_piece_begins_at_its_phase_and_the_next_one_follows_it(tiles_of_seven):
    buffer = torch.empty((1, 9))
    fill(buffer, (Piece(5, "message", of=0, start=12), Piece(0, "message", of=1), Piece(4, "message", of=2, start=7)), tiles_of_seven)
    assert buffer.tolist() == [[6.0, 7.0, 1.0, 2.0, 3.0, 201.0, 202.0, 203.0, 204.0]]


def test_each_wrong_element_counts_wherever_it_is(tiles_of_seven):
    buffer, held = torch.empty((3, 20)), (Piece(20, "message"),)
    fill(buffer, held, tiles_of_seven)
    buffer[0, 0] += 1
    buffer[0, 19] = float("nan")
    buffer[2, 7] = -buffer[2, 7]
    assert mismatches(buffer, held, tiles_of_seven) == 3


def test_a_shift_by_a_whole_chunk_shows(tiles_of_seven):
    buffer, held = torch.empty((1, 21)), (Piece(21, "message"),)
    fill(buffer, held, tiles_of_seven)
    assert mismatches(buffer.roll(4, 1), held, tiles_of_seven) > 0


@pytest.mark.parametrize("dtype", sorted(buffers.TORCH_DTYPES))
@pytest.mark.parametrize("name", sorted(patterns()))
def test_a_poisoned_buffer_holds_no_right_answer(name, dtype):
    pattern, ranks = patterns()[name], 3
    elements = pattern.elements(3000, buffers.torch_dtype(dtype).itemsize, ranks)
    pool = Pool(Layout(pattern, 0, ranks, elements, dtype, False), 2, "cpu", 1)
    pool.refill()
    assert pool.wrong(2) == 2 * pieces.total(pool.layout.receives)


@pytest.mark.parametrize("dtype", sorted(set(buffers.TORCH_DTYPES) - {"int8"}))
def test_poison_is_nan_in_floats(dtype):
    buffer = torch.zeros((2, 5), dtype=buffers.torch_dtype(dtype))
    poison(buffer[:, 1:3])
    assert buffer.to(torch.float64).isnan().tolist() == [[False, True, True, False, False]] * 2


@pytest.mark.parametrize("name", sorted(name for name, pattern in patterns().items() if pattern.in_place is not None))
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_in_place_the_smaller_buffer_lies_in_the_larger_one_where_the_pattern_says(name, rank):
    pattern, ranks = patterns()[name], 3
    elements = pattern.elements(600, 4, ranks)
    pool = Pool(Layout(pattern, rank, ranks, elements, "fp32", True), 2, "cpu", 1)
    send, receive = pool.next_pair()
    larger, smaller = (send, receive) if send.numel() >= receive.numel() else (receive, send)
    if smaller.numel():
        assert (smaller.data_ptr() - larger.data_ptr()) / 4 == pattern.in_place(rank, ranks, elements)
    pool.refill()
    assert mismatches(pool.send, pool.layout.sends, pool._tile_of) == 0


@pytest.mark.parametrize("in_place", [False, True])
def test_slots_are_taken_in_turn_and_begin_where_an_allocator_lets_tensors_begin(in_place):
    pool = Pool(Layout(patterns()["all_reduce"], 0, 2, 3, "bf16", in_place), 3, "cpu", 1)
    starts = [tuple(buffer.data_ptr() for buffer in pool.next_pair()) for _ in range(6)]
    assert starts[:3] == starts[3:]
    for column in zip(*starts[:3], strict=True):
        assert [after - column[0] for after in column] == [0, buffers.ALIGNMENT_BYTES, 2 * buffers.ALIGNMENT_BYTES]
    pool.rewind()
    assert tuple(buffer.data_ptr() for buffer in pool.next_pair()) == starts[0]


@pytest.mark.parametrize(("slot_bytes", "slots"), [(512, 256), (2**20, 64), (2**25 + 512, 2), (2**34, 1)])
def test_cold_slots_together_are_twice_the_cache_or_as_many_as_there_may_be(slot_bytes, slots):
    assert slots_for(slot_bytes, 2**25, "cold") == slots
    assert slots_for(slot_bytes, 2**25, "warm") == 1


def test_sums_in_place_stay_finite_for_as_many_rounds_as_the_layout_allows():
    # Rank by rank the same after the first call, so each further one multiplies by the number of ranks.
    ranks = 3
    for dtype in buffers.LARGEST_EXPONENT:
        layout = Layout(patterns()["all_reduce"], 0, ranks, 1000, dtype, True)
        values = torch.tensor(2.0 ** math.log2(buffers.EXACT_INTEGERS_UP_TO[dtype]), dtype=torch.float64)
        for _ in range(int(layout.rounds_until_refill) - 1):
            values = values * ranks
        assert values.to(buffers.torch_dtype(dtype)).to(torch.float64).isfinite()


@pytest.mark.parametrize(
    ("name", "dtype", "in_place"), [("all_gather", "fp16", True), ("all_to_all", "fp32", False), ("reduce", "int8", True)]
)
def test_what_does_not_grow_is_never_refilled(name, dtype, in_place):
    assert Layout(patterns()[name], 0, 2, 1000, dtype, in_place).rounds_until_refill == math.inf


def test_a_message_of_many_tiles_needs_no_second_buffer_as_large():
    elements = 10 * pieces.TILE_ELEMENTS
    layout = Layout(patterns()["all_reduce"], 0, 2, elements, "fp32", True)
    assert layout.bytes(1) < 1.25 * 4 * elements
