"""What the model makes of measured links: the line of the message's size, other group sizes with their error, sends of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chipassay.results.fabrics import NO_FABRIC
from chipassay.results.link import Segment
from chipassay.scaling.cluster import make_group
from chipassay.scaling.communication import Placement, collective_s, send_s
from chipassay.scaling.machine import prepare
from chipassay.scaling.uncertainty import LEVEL_SIGMA, curve_sigma

from . import toys

SEGMENTS = (Segment(8.0, 1e-5, 1e9, 1e-7, 1e-11, 0.0, 8, 10.0), Segment(1e6, 1e-4, 1e11, 1e-6, 1e-13, 0.0, 8, 10.0))
LINK = replace(toys.toy_link(8, 1e11, 1e-4), segments=SEGMENTS, first_bytes=8.0, last_bytes=1e9, spread=0.03, points=16)


@pytest.mark.parametrize(("size_bytes", "latency_s", "busbw"), [(1e4, 1e-5, 1e9), (1e8, 1e-4, 1e11)])
def test_a_message_costs_what_the_line_of_its_size_says(size_bytes: float, latency_s: float, busbw: float) -> None:
    machine = prepare(toys.toy_profile(links=(LINK,)))
    found_s = collective_s("all_reduce", size_bytes, Placement(8, 8, 1), machine, NO_FABRIC)
    assert found_s == pytest.approx(latency_s + 1.75 * size_bytes / busbw)


def test_a_send_is_priced_as_sends_were_measured_and_else_as_a_group_of_two() -> None:
    pair = replace(toys.toy_link(2, 4e10, 1e-6))
    sends = replace(pair, pattern="send_recv", busbw_bytes_per_s=2e10)
    assert send_s(1e9, False, 8, prepare(toys.toy_profile(links=(pair,))), NO_FABRIC) == pytest.approx(1e-6 + 1e9 / 4e10)
    assert send_s(1e9, False, 8, prepare(toys.toy_profile(links=(pair, sends))), NO_FABRIC) == pytest.approx(1e-6 + 1e9 / 2e10)


def test_links_across_nodes_of_graphs_and_without_bandwidth_say_nothing_of_a_node() -> None:
    others = (
        replace(LINK, placement="across", busbw_bytes_per_s=1.0, segments=()),
        replace(LINK, launch="graph", busbw_bytes_per_s=1.0, segments=()),
        replace(LINK, pattern="barrier", busbw_bytes_per_s=0.0, segments=()),
    )
    machine = prepare(toys.toy_profile(links=(LINK, *others)))
    assert machine.link("all_reduce", 8) == LINK
    assert machine.link("barrier", 8) == LINK  # an all-reduce stands in
    assert (
        make_group(
            8, toys.toy_profile(links=(replace(LINK, group_size=4), replace(LINK, placement="across", group_size=16)))
        ).chips_per_node
        == 4
    )


def test_a_group_between_measured_ones_is_derived_and_less_sure() -> None:
    machine = prepare(toys.toy_profile(links=(replace(LINK, group_size=2, busbw_bytes_per_s=5e10), LINK)))
    known, derived = machine.link("all_reduce", 8), machine.link("all_reduce", 4)
    assert known is not None
    assert derived is not None
    assert derived.evidence.level == "derived"
    assert 5e10 < derived.busbw_bytes_per_s < 1e11
    assert LEVEL_SIGMA["measured"] < curve_sigma(known) < LEVEL_SIGMA["derived"] < curve_sigma(derived)
