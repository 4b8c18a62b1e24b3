"""A profile as lines of text."""

from __future__ import annotations

from chipassay.results.profile import Evidence, Link, Load, Overlap, Profile, Segment
from chipassay.runners.show import profile_lines

MEASURED = Evidence("measured", "a run", "2026-01-02")


def test_links_show_their_intervals_changes_and_place() -> None:
    segments = (Segment(8.0, 1e-5, 5e10, 1e-7, 1e-12, 0.0, 8, 1e6), Segment(2.0**20, 1e-4, 2e11, 1e-6, 1e-14, 0.0, 8, 1e6))
    link = Link("all_reduce", "nccl", 16, 1e-4, 2e11, MEASURED, 16, 0.03, "across", "graph", segments, 8.0, 2.0**30)
    (line,) = profile_lines(Profile("x", "X", links=(link,)))[1:]
    assert line.split(maxsplit=1)[1] == (
        "10.0 us latency (9.80 us to 10.2 us), 200.0 GB/s busbw (199.2 GB/s to 200.8 GB/s), changes near 1 MiB, "
        "16 ranks across nodes, nccl, graph, residuals 3 % (measured 2026-01-02)"
    )


def test_a_barrier_and_a_link_of_one_line_show_what_they_have() -> None:
    links = (Link("barrier", "gloo", 4, 2e-5, 0.0, MEASURED), Link("all_reduce", "nccl", 2, 1e-5, 1e11, MEASURED))
    barrier, line = profile_lines(Profile("x", "X", links=links))[1:]
    assert "20.0 us latency, 4 ranks, gloo" in barrier
    assert "10.0 us latency, 100.0 GB/s busbw, 2 ranks, nccl" in line


def test_overlap_and_load_have_a_line_each() -> None:
    profile = Profile(
        "x",
        "X",
        loads=(Load("all_reduce", "nccl", 2, 4, 1.15, MEASURED),),
        overlaps=(Overlap("all_reduce", "nccl", 8, 2**26, "8192x8192x8192 bf16", MEASURED, 1.2, None),),
    )
    load, overlap = profile_lines(profile)[1:]
    assert "1.15 times as long: 4 groups of 2 at once, inside nodes, nccl" in load
    assert "64 MiB: collective 1.20 times as long, 8 ranks, nccl, beside matmul 8192x8192x8192 bf16" in overlap
