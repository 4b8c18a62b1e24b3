"""A profile as lines of text."""

from __future__ import annotations

from chipassay.results.profile import Curve, Evidence, Link, Load, Overlap, Profile, Quantity, Segment
from chipassay.results.shape_models.attention import AttentionModel
from chipassay.results.shape_models.product import ProductModel
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


def test_models_by_shape_are_told_at_a_large_shape_with_share_and_interval() -> None:
    product = ProductModel(8e14, 1e15, 0.0, MEASURED, points=12, spread=0.05, sharpness=16.0)
    attention = AttentionModel(5e14, 1e15, 5e-6, MEASURED, points=1, backward={"128": 2.5})
    profile = Profile(
        "x", "X", products={"bf16": product}, attentions={"bf16": attention}, peak_flops_per_s={"bf16": Quantity(1e15, MEASURED)}
    )
    matmul, forward, backward = profile_lines(profile)[1:]
    # 8192^3 at 800 TFLOP/s, the bytes hidden; the interval is 1.96 times 5 % either way.
    assert matmul.split(maxsplit=2)[2] == (
        "800.0 TFLOP/s (725.3 TFLOP/s to 882.4 TFLOP/s) at 8192 x 8192 x 8192, 80 % of peak, launch 0 s, 12 points (measured 2026-01-02)"
    )
    assert "attention bf16 forward" in forward
    assert "1 point (" in forward
    assert "attention bf16 backward" in backward


def test_a_dtype_without_a_model_by_shape_keeps_its_line() -> None:
    (line,) = profile_lines(Profile("x", "X", matmul={"fp64": Curve(1e-5, 5e13, MEASURED)}))[1:]
    assert line.split(maxsplit=2)[2] == "50.0 TFLOP/s beyond 10.0 us (measured 2026-01-02)"


def test_operations_of_memory_launches_host_links_and_power_have_a_line_each() -> None:
    profile = Profile(
        "x",
        "X",
        memory_ops={"rms_norm backward": Curve(4e-6, 2e12, MEASURED, 3, 0.02)},
        launch_s={"graph": Quantity(1e-6, MEASURED)},
        host_link_bytes_per_s={"host_to_device pinned": Quantity(5.5e10, MEASURED)},
        sustained_power_w={"matmul bf16": Quantity(690.4, MEASURED)},
        peak_bandwidth_bytes_per_s=Quantity(4e12, MEASURED),
    )
    assert [line.strip() for line in profile_lines(profile)[1:]] == [
        "rms_norm backward       2.00 TB/s beyond 4.00 us, 50 % of peak, 3 points, residuals 2.0 % (measured 2026-01-02)",
        "launch graph            1.00 us (measured 2026-01-02)",
        "host to device pinned   55.0 GB/s (measured 2026-01-02)",
        "power matmul bf16       690 W (measured 2026-01-02)",
    ]
