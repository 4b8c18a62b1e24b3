"""What calls need beside their buffers is made once, and forgotten with them."""

from __future__ import annotations

import gc

import pytest

from chipassay.collectives.transports.prepared import Prepared, alias, overlap

torch = pytest.importorskip("torch")


@pytest.fixture
def parts():
    """Views of both buffers' halves, as calls prepare them; counts how often they were made."""
    made = []

    def make(send, receive, *rest):
        made.append(rest)
        return [*alias(send).chunk(2), *alias(receive).chunk(2)]

    prepared = Prepared(make)
    return prepared, made


def test_the_same_buffers_get_the_same_views(parts):
    prepared, made = parts
    send, receive = torch.zeros(4), torch.zeros(4)
    first = prepared(send, receive)
    assert prepared(send, receive) is first
    assert prepared(send, receive, 1) is not first
    assert prepared(receive, send) is not first
    assert made == [(), (1,), ()]
    first[0].fill_(7)
    assert send.tolist() == [7, 7, 0, 0]


@pytest.mark.parametrize("make_buffer", [lambda: torch.zeros(4), lambda: torch.zeros(8)[2:6]], ids=["whole", "slice"])
@pytest.mark.parametrize("dropped", [0, 1])
def test_views_go_with_either_buffer(parts, make_buffer, dropped):
    prepared, _ = parts
    buffers = [make_buffer(), make_buffer()]
    prepared(*buffers)
    assert len(prepared) == 1
    del buffers[dropped]
    gc.collect()
    assert len(prepared) == 0


def test_a_buffer_in_place_is_one_entry(parts):
    prepared, _ = parts
    both = torch.zeros(4)
    prepared(both, both)
    del both
    gc.collect()
    assert len(prepared) == 0


def test_buffers_overlap_where_they_share_an_element():
    whole = torch.zeros(6)
    assert overlap(whole[2:4], whole)
    assert overlap(whole, whole)
    assert not overlap(whole[:3], whole[3:])
    assert not overlap(whole, whole[3:3])
    assert not overlap(whole, torch.zeros(6))
