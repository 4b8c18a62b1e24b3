"""Links: time by size in segments, what they say of their own error, and links for groups that nobody measured."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.collectives.pattern import patterns
from chipassay.results.link import Link, Overlap, Segment, bus_factor, student_t
from chipassay.results.links import busbw_at, latency_at, link_for
from chipassay.results.profile import Evidence
from chipassay.results.published_rows import load_published

MEASURED = Evidence("measured", "a run")
SEGMENTS = (
    Segment(8.0, 1e-5, 2e9, 1e-7, 1e-11, -0.5, 8, 10.0),
    Segment(65536.0, 3e-5, 1e10, 1e-6, 1e-12, -0.5, 8, 10.0),
)
LINK = Link("all_reduce", "nccl", 2, 3e-5, 1e10, MEASURED, 16, 0.03, "inside", "stream", SEGMENTS, 8.0, 2.0**30)


@pytest.mark.parametrize("name", sorted(patterns()))
@pytest.mark.parametrize("ranks", [2, 3, 8, 72])
def test_the_profile_counts_the_bus_as_the_patterns_do(name: str, ranks: int) -> None:
    assert bus_factor(name, ranks) == pytest.approx(patterns()[name].bus_factor(ranks))


@pytest.mark.parametrize(("freedom", "quantile"), [(2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (1000, 1.962)])
def test_the_quantile_is_students(freedom: float, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, rel=0.04)


def test_each_size_has_the_time_of_its_own_segment() -> None:
    assert LINK.time_s(8) == pytest.approx(1e-5 + 8 / 2e9)
    assert LINK.time_s(65535) == pytest.approx(1e-5 + 65535 / 2e9)
    assert LINK.time_s(2.0**20) == pytest.approx(3e-5 + 2.0**20 / 1e10)
    assert LINK.time_s(1) == pytest.approx(1e-5 + 1 / 2e9)
    assert LINK.changes_bytes == (65536.0,)
    assert LINK.small_latency_s == 1e-5


def test_a_larger_message_never_takes_less_where_the_next_line_begins_lower() -> None:
    at_the_end_s = 1e-5 + 65536 / 2e9
    assert at_the_end_s > 3e-5 + 65536 / 1e10
    assert LINK.time_s(65536) == LINK.time_s(100_000) == pytest.approx(at_the_end_s)
    assert LINK.time_s(2.0**18) > at_the_end_s


def test_a_link_without_segments_is_one_line_that_does_not_know_its_error() -> None:
    old = Link("all_reduce", "nccl", 8, 1e-5, 1e11, MEASURED)
    assert old.time_s(1e9) == pytest.approx(1e-5 + 1.75e9 / 1e11)
    assert old.sigma(1e9) is None
    assert old.interval_s(1e9) is None


def test_a_barrier_takes_its_latency_whatever_the_size() -> None:
    assert Link("barrier", "gloo", 4, 2e-5, 0.0, MEASURED).time_s(0) == 2e-5


def test_the_error_grows_beyond_the_sizes_that_were_measured() -> None:
    inside, once, twice = (LINK.sigma(2.0**e) for e in (30, 31, 34))
    assert inside is not None
    assert once is not None
    assert twice is not None
    assert inside < once < twice
    low, high = LINK.interval_s(2.0**34)
    assert low < LINK.time_s(2.0**34) < high
    assert LINK.doublings_beyond(4.0) == 1.0


def test_intervals_hold_the_number_and_never_go_below_zero() -> None:
    vague = replace(SEGMENTS[0], latency_error_s=1e-4, s_per_byte_error=1e-9)
    assert vague.latency_interval_s[0] == 0.0
    assert vague.busbw_interval[1] == math.inf
    low, high = SEGMENTS[1].busbw_interval
    assert low < 1e10 < high


def test_what_is_hidden_is_what_compute_does_not_lose() -> None:
    free = Overlap("all_reduce", "nccl", 8, 1, "", MEASURED, 1.0, 1.0)
    in_turns = Overlap("all_reduce", "nccl", 8, 1, "", MEASURED, 2.0, 2.0)
    assert free.hidden_share == 1.0
    assert in_turns.hidden_share == 0.0
    assert replace(free, compute_slowdown=None).hidden_share is None


def sized(group_size: int, latency_s: float = 1e-5, busbw: float = 1e11, **more: object) -> Link:
    segment = Segment(8.0, latency_s, busbw, latency_s * 0.02, 0.01 / busbw, 0.0, 10, 12.0)
    link = Link(
        "all_reduce", "nccl", group_size, latency_s, busbw, MEASURED, 10, 0.03, segments=(segment,), first_bytes=8.0, last_bytes=1e9
    )
    return replace(link, **more)  # type: ignore[arg-type]


def test_a_group_that_was_measured_keeps_its_own_link() -> None:
    links = (sized(2), sized(8, 3e-5))
    assert link_for(links, "all_reduce", 8) is links[1]
    assert link_for(links, "all_gather", 8) is None
    assert link_for((replace(links[0], placement="across"), replace(links[1], launch="graph")), "all_reduce", 8) is None


@pytest.mark.parametrize(("law", "steps"), [("tree", math.log2), ("ring", lambda ranks: ranks - 1)], ids=["tree", "ring"])
@given(base=st.floats(0, 20e-6), each=st.floats(1e-6, 10e-6), ranks=st.sampled_from([32, 64, 256]))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_latency_beyond_the_measured_groups_follows_the_law_that_they_follow(law, steps, base, each, ranks) -> None:
    sizes = [2, 4, 8, 16]
    found, sigma = latency_at(sizes, [base + each * steps(size) for size in sizes], ranks)
    assert abs(math.log(found / (base + each * steps(ranks)))) < max(0.05, 2 * sigma)


def test_one_measured_group_cannot_tell_tree_from_ring_and_says_so() -> None:
    found, sigma = latency_at([8], [20e-6], 64)
    tree, ring = 20e-6 * 6 / 3, 20e-6 * 63 / 7
    assert tree < found < ring
    assert sigma > 0.5 * abs(math.log(ring / tree)) * 0.99


def test_bandwidth_between_two_groups_lies_between_theirs_and_beyond_them_stays() -> None:
    found, sigma = busbw_at([2, 8], [200e9, 100e9], 4)
    assert found == pytest.approx(math.sqrt(200e9 * 100e9))
    assert sigma > 0.1
    beyond, wider = busbw_at([2, 8], [200e9, 100e9], 32)
    assert beyond == 100e9
    assert wider > sigma


def test_a_derived_link_says_so_and_knows_less_than_those_it_comes_from() -> None:
    links = (sized(2, 1e-5, 200e9), sized(4, 1.4e-5, 210e9), sized(8, 1.8e-5, 215e9))
    derived = link_for(links, "all_reduce", 64)
    assert derived.evidence.level == "derived"
    assert "groups of 2, 4, 8" in derived.evidence.source
    assert derived.group_size == 64
    assert derived.time_s(8) > links[-1].time_s(8)
    for size in (8.0, 1e9):
        assert derived.sigma(size) > links[-1].sigma(size)


def test_a_group_in_the_middle_of_published_ones_is_predicted_within_its_interval() -> None:
    """A100 of 2, 4 and 8 ranks, nccl-tests (results/data/published.csv): the 4 from the 2 and the 8."""
    best = {
        size: max(
            row.rate_per_s for row in load_published() if (row.chip_id, row.op, row.group_size) == ("a100-sxm-80gb", "all_reduce", size)
        )
        for size in (2, 4, 8)
    }
    found, sigma = busbw_at([2, 8], [best[2], best[8]], 4)
    assert abs(math.log(found / best[4])) < 2 * sigma + 0.05
