"""The repeating tile of exact data in buffers much larger than itself."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from chipassay.runners.collective.measure import fill, mismatches  # noqa: E402


@pytest.mark.parametrize("elements", [3, 7, 8, 20, 21])
def test_every_element_of_every_row_is_filled_from_the_tile(elements):
    tile = torch.arange(1.0, min(elements, 7) + 1)
    buffer = torch.full((2, elements), -1.0)
    fill(buffer, tile)
    assert buffer.tolist() == [[float(i % len(tile) + 1) for i in range(elements)]] * 2
    assert mismatches(buffer[0], tile) == 0


def test_each_wrong_element_counts_wherever_it_is():
    tile = torch.arange(1.0, 8.0)
    buffer = torch.empty((1, 20))
    fill(buffer, tile)
    buffer[0, 0] += 1
    buffer[0, 19] = float("nan")
    assert mismatches(buffer[0], tile) == 2


def test_a_shift_by_a_whole_chunk_shows():
    tile = torch.arange(1.0, 8.0)
    buffer = torch.empty((1, 21))
    fill(buffer, tile)
    assert mismatches(buffer[0].roll(4), tile) > 0
