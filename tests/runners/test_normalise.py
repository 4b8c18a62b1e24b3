"""Rows to profile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chipassay.results.errors import InputError, UnknownName
from chipassay.results.schema import Row
from chipassay.runners.normalise import normalise


def matmul(edge, rate, **more):
    flops = 2.0 * edge**3
    given = {
        "op": "matmul", "m": edge, "n": edge, "k": edge, "dtype": "fp32", "cache": "cold", "kernel": "torch.mm", "status": "ok",
        "flops": flops, "time_median_s": 1e-5 + flops / rate, "rate_flops_per_s": flops / (1e-5 + flops / rate),
        "chip_id": "cpu-x-2c", "device_name": "X", "run_id": "r1", "measured_at_utc": "2026-01-02T03:04:05+00:00", "method_version": 1,
    }  # fmt: skip
    return Row(**{**given, **more})


def all_reduce(size_bytes, latency_s=5e-5, busbw=2e9, ranks=4, **more):
    factor = 2 * (ranks - 1) / ranks
    time_s = latency_s + size_bytes * factor / busbw
    given = {
        "op": "all_reduce", "size_bytes": size_bytes, "group_size": ranks, "backend": "gloo", "cache": "cold", "status": "ok",
        "time_median_s": time_s, "algbw_bytes_per_s": size_bytes / time_s, "busbw_bytes_per_s": size_bytes * factor / time_s,
        "chip_id": "cpu-x-2c", "device_name": "X",
    }  # fmt: skip
    return Row(**{**given, **more})


def test_rates_overheads_and_links_come_back():
    rows = [matmul(edge, 2e11) for edge in (128, 256, 512, 1024)] + [all_reduce(size) for size in (8, 4096, 2**20, 2**26)]
    profile = normalise(rows)
    assert profile.matmul["fp32"].rate == pytest.approx(2e11, rel=1e-6)
    assert profile.matmul["fp32"].overhead_s == pytest.approx(1e-5, rel=1e-6)
    (link,) = profile.links
    assert (link.pattern, link.transport, link.group_size) == ("all_reduce", "gloo", 4)
    assert link.busbw_bytes_per_s == pytest.approx(2e9, rel=1e-6)
    assert link.latency_s == pytest.approx(5e-5, rel=1e-6)


def test_every_fitted_number_says_it_was_measured_when_and_by_which_run():
    evidence = normalise([matmul(256, 1e11), matmul(512, 1e11)]).matmul["fp32"].evidence
    assert (evidence.level, evidence.date) == ("measured", "2026-01-02")
    assert "r1" in evidence.source
    assert "torch.mm" in evidence.source


def test_the_fastest_correct_kernel_of_a_case_counts():
    slow, fast = matmul(256, 1e10, kernel="slow"), matmul(256, 1e11, kernel="fast")
    wrong = matmul(256, 1e13, kernel="wrong", status="incorrect")
    assert normalise([slow, fast, wrong]).matmul["fp32"].rate == pytest.approx(fast.rate_flops_per_s)


def test_a_row_above_a_physical_limit_gives_way_to_one_below_it():
    impossible = matmul(512, 1e15, flags="above the peak")
    assert normalise([impossible, matmul(512, 1e11)]).matmul["fp32"].rate < 1e11


@pytest.mark.parametrize(
    "other",
    [
        {"launch": "graph"},
        {"m": 16, "flops": 2.0 * 16 * 1024**2},
        {"op": "batched_matmul", "groups": 8},
        {"op": "grouped_matmul", "groups": 8, "split": "even"},
    ],
    ids=str,
)
def test_products_of_another_kind_do_not_bend_the_matmul_curve(other):
    rows = [matmul(edge, 2e11, launch="stream") for edge in (256, 512, 1024, 2048)]
    alone = normalise(rows).matmul["fp32"]
    with_other = normalise([*rows, matmul(1024, 1e9, launch="stream", **other) if "launch" not in other else matmul(1024, 1e9, **other)])
    assert with_other.matmul["fp32"].rate == alone.rate
    assert set(with_other.matmul) == {"fp32"}


def test_fp8_counts_with_one_scale_a_tensor_where_there_is_such_a_row():
    coarse, fine = (matmul(1024, rate, dtype="fp8_e4m3", scaling=s) for s, rate in (("per_tensor", 2e12), ("row_wise", 1e12)))
    assert normalise([coarse, fine]).matmul["fp8_e4m3"].rate == pytest.approx(coarse.rate_flops_per_s)
    assert normalise([fine]).matmul["fp8_e4m3"].rate == pytest.approx(fine.rate_flops_per_s)
    fast = matmul(1024, 4e12, dtype="fp8_e4m3", scaling="per_tensor", math_mode="fast_accum")
    assert normalise([coarse, fine, fast]).matmul["fp8_e4m3"].rate == pytest.approx(coarse.rate_flops_per_s)


def attention(seq, rate, **more):
    flops = 2.0 * 32 * seq * seq * 128
    given = {
        "op": "attention", "dtype": "bf16", "batch": 1, "heads": 32, "kv_heads": 8, "seq_q": seq, "seq_kv": seq, "head_dim": 128,
        "causal": True, "direction": "forward", "cache": "cold", "status": "ok", "flops": flops, "time_median_s": flops / rate,
        "chip_id": "cpu-x-2c", "device_name": "X",
    }  # fmt: skip
    return Row(**{**given, **more})


@pytest.mark.parametrize(
    "other", [{"direction": "backward"}, {"window": 4096}, {"head_dim_v": 64}, {"causal": False}, {"head_dim": 64}], ids=str
)
def test_the_attention_curve_is_of_causal_forward_passes_with_heads_of_128(other):
    rows = [attention(seq, 4e11) for seq in (1024, 2048, 4096)]
    assert normalise([*rows, attention(8192, 1e11, **other)]).attention["bf16"].rate == pytest.approx(4e11, rel=1e-6)


def test_attention_of_one_other_head_size_still_makes_a_curve():
    assert normalise([attention(1024, 1e11, head_dim=64, causal=False)]).attention["bf16"].rate == pytest.approx(1e11)
    assert normalise([attention(1024, 1e11, direction="backward"), all_reduce(8)]).attention == {}


def test_two_transports_make_two_links():
    rows = [all_reduce(s, backend=b, busbw=r) for s in (8, 2**20, 2**26) for b, r in (("gloo", 1e9), ("mpi", 2e9))]
    links = {link.transport: link.busbw_bytes_per_s for link in normalise(rows).links}
    assert links == {"gloo": pytest.approx(1e9, rel=1e-6), "mpi": pytest.approx(2e9, rel=1e-6)}


SIZES = (8, 4096, 2**16, 2**20, 2**23, 2**26)


def test_groups_inside_a_node_and_across_nodes_are_links_of_their_own():
    whole = [all_reduce(s, busbw=1e9, ranks=8, node_count=2) for s in SIZES]
    inside = [all_reduce(s, busbw=9e9, ranks=4, members="0-3", node_count=1) for s in SIZES]
    across = [all_reduce(s, busbw=2e9, ranks=4, members="0,1,4,5", node_count=2) for s in SIZES]
    found = {(link.group_size, link.placement): link.busbw_bytes_per_s for link in normalise([*whole, *inside, *across]).links}
    assert found == {
        (8, "across"): pytest.approx(1e9, rel=1e-3),
        (4, "inside"): pytest.approx(9e9, rel=1e-3),
        (4, "across"): pytest.approx(2e9, rel=1e-3),
    }


def test_a_replayed_graph_is_a_link_of_its_own():
    rows = [all_reduce(s, latency_s=t, launch=launch) for s in SIZES for launch, t in (("stream", 5e-5), ("graph", 1e-5))]
    assert {link.launch: link.small_latency_s for link in normalise(rows).links} == {
        "stream": pytest.approx(5e-5, rel=1e-3), "graph": pytest.approx(1e-5, rel=1e-3)
    }  # fmt: skip


def test_a_link_is_of_one_dtype_in_place():
    usual = [all_reduce(s, dtype="bf16", in_place=True) for s in SIZES]
    others = [all_reduce(s, latency_s=1e-2, **other) for s in SIZES[:3] for other in ({"dtype": "fp8_e4m3"}, {"dtype": "fp32"})]
    out_of_place = [all_reduce(s, latency_s=1e-3, dtype="bf16", in_place=False) for s in SIZES]
    (link,) = normalise([*usual, *others, *out_of_place]).links
    assert link.points == len(SIZES)
    assert link.small_latency_s == pytest.approx(5e-5, rel=1e-3)


def test_what_ran_beside_something_bends_neither_the_plain_link_nor_the_matmul_curve():
    alone = [*(all_reduce(s) for s in SIZES), *(matmul(e, 2e11, launch="stream") for e in (256, 512, 1024))]
    beside = [
        all_reduce(2**20, latency_s=1.0, beside="matmul 512x512x512 fp32", alone_time_s=1.0),
        all_reduce(2**20, latency_s=1.0, members="0-3|4-7"),
        matmul(1024, 1e9, group_size=4, beside="all_reduce 1 MiB fp32 gloo", alone_time_s=1.0, launch="stream"),
    ]
    with_them, without = normalise([*alone, *beside]), normalise(alone)
    assert [(link.latency_s, link.segments) for link in with_them.links] == [(link.latency_s, link.segments) for link in without.links]
    assert with_them.matmul["fp32"].rate == without.matmul["fp32"].rate


def test_groups_at_once_are_kept_as_the_slowdown_of_a_link_under_load():
    alone = [all_reduce(s, ranks=2, members="0,1") for s in SIZES]
    at_once = [
        all_reduce(row.size_bytes, ranks=2, members="0,1|2,3|4,5", time_median_s=row.time_median_s * slower)
        for row, slower in zip(alone, (1.1, 1.2, 1.3), strict=False)
    ]
    (load,) = normalise([*alone, *at_once]).loads
    assert (load.group_size, load.groups, load.points) == (2, 3, 3)
    assert (load.slowdown_low, load.slowdown, load.slowdown_high) == pytest.approx((1.1, 1.2, 1.3))
    (from_fit,) = normalise([*alone[1:], at_once[0]]).loads
    assert from_fit.slowdown == pytest.approx(1.1, rel=0.05)


def test_a_collective_and_a_product_beside_each_other_become_one_overlap():
    product = matmul(512, 1e11, group_size=4, beside="all_reduce 1 MiB bf16 nccl", cache="warm", dtype="bf16")
    rows = [
        all_reduce(
            2**20, backend="nccl", dtype="bf16", beside="matmul 512x512x512 bf16", cache="warm", alone_time_s=1e-3, time_median_s=1.2e-3
        ),
        replace(product, alone_time_s=product.time_median_s / 1.25),
        all_reduce(8),
    ]
    (overlap,) = normalise(rows).overlaps
    assert (overlap.pattern, overlap.group_size, overlap.size_bytes, overlap.product) == ("all_reduce", 4, 2**20, "512x512x512 bf16")
    assert overlap.communication_slowdown == pytest.approx(1.2)
    assert overlap.compute_slowdown == pytest.approx(1.25)
    assert overlap.hidden_share == pytest.approx(0.76)
    assert overlap.evidence.level == "measured"


def test_what_no_link_can_carry_stays_out_of_its_fit():
    rows = [*(all_reduce(s) for s in SIZES), all_reduce(2**28, busbw=1e15, flags="above what the link carries")]
    (link,) = normalise(rows).links
    assert link.points == len(SIZES)
    assert link.busbw_bytes_per_s == pytest.approx(2e9, rel=1e-3)
    assert normalise([rows[-1], matmul(256, 1e11)]).links == ()


def test_a_pattern_that_nobody_knows_keeps_the_bus_factor_of_its_rows():
    rows = [all_reduce(s, op="my_own", busbw_bytes_per_s=3 * all_reduce(s).algbw_bytes_per_s) for s in SIZES]
    (link,) = normalise(rows).links
    assert link.bus_factor == pytest.approx(3)
    assert link.time_s(2**20) == pytest.approx(all_reduce(2**20).time_median_s, rel=1e-3)


def test_a_barrier_is_a_link_with_a_latency_and_no_bandwidth():
    row = Row(op="barrier", status="ok", cache="cold", size_bytes=0, group_size=4, backend="gloo", time_median_s=3e-5, chip_id="x")
    (link,) = normalise([row]).links
    assert (link.latency_s, link.time_s(0), link.busbw_bytes_per_s) == (3e-5, 3e-5, 0.0)


def copy(size_bytes, rate, **more):
    given = {
        "op": "copy", "bytes": float(size_bytes), "cache": "cold", "status": "ok", "time_median_s": 1e-6 + size_bytes / rate,
        "elements": size_bytes // 8, "chip_id": "cpu-x-2c", "device_name": "X", "last_level_cache_bytes": 2**25,
    }  # fmt: skip
    return Row(**{**given, **more})


def test_what_partly_stays_in_the_cache_does_not_flatter_the_memory():
    rows = [copy(2**16, 3e10), copy(2**24, 9e10), copy(2**26, 6e10), copy(2**28, 3e10), copy(2**30, 3e10)]
    assert normalise(rows).memory.rate == pytest.approx(3e10, rel=1e-3)
    assert normalise([copy(2**16, 3e10), copy(2**24, 9e10)]).memory is None


def test_only_operations_that_read_and_write_everything_say_how_fast_the_memory_is():
    streams = [copy(2**16, 3e10), copy(2**28, 3e10), copy(2**30, 3e10, op="scale")]
    others = [copy(2**30, 9e10, op="read"), copy(2**30, 1e10, op="adam"), copy(2**30, 1e9, op="transfer")]
    assert normalise([*streams, *others]).memory.rate == pytest.approx(3e10, rel=1e-3)


def test_what_is_warm_does_not_enter_the_profile():
    assert "fp32" not in normalise([matmul(256, 1e11, cache="warm"), all_reduce(8)]).matmul


def test_the_peak_of_a_chip_that_no_datasheet_knows_is_the_one_its_rows_were_held_against():
    profile = normalise([matmul(512, 1e11, peak_fraction=0.5)])
    peak = profile.peak_flops_per_s["fp32"]
    assert peak.evidence.level == "derived"
    assert peak.value == pytest.approx(2 * (2.0 * 512**3) / (1e-5 + 2.0 * 512**3 / 1e11))


def test_a_catalogued_chip_has_its_datasheet_peaks():
    profile = normalise([matmul(512, 1e13, chip_id="a100-sxm-80gb", dtype="bf16")])
    assert profile.peak_flops_per_s["bf16"].value == 312e12
    assert profile.peak_flops_per_s["bf16"].evidence.level == "published"


def test_rows_of_two_chips_need_a_choice():
    rows = [matmul(256, 1e11), matmul(256, 2e11, chip_id="other")]
    with pytest.raises(InputError, match=r"2 chips .*--chip"):
        normalise(rows)
    assert normalise(rows, "other").chip_id == "other"
    with pytest.raises(UnknownName, match="did you mean other"):
        normalise(rows, "othr")


def test_rows_without_a_measurement_make_no_profile():
    with pytest.raises(InputError, match="no row with status ok"):
        normalise([matmul(256, 1e11, status="error", time_median_s=None)])
