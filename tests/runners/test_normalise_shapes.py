"""Rows to the parts of a profile that know shapes: a chip that was made up, whose times are known, and what may be wrong with its rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.evidence import Evidence
from chipassay.results.schema import Row
from chipassay.results.shape_models.product import ProductModel, Tile
from chipassay.runners.normalise import choose, normalise, profile_of
from chipassay.runners.normalise_attention import appends, attention_rows
from chipassay.runners.normalise_facts import sustained_power
from chipassay.runners.normalise_memory import memory_op_rows, memory_ops
from chipassay.runners.normalise_products import product_rows, shapes_of
from chipassay.runners.normalise_rows import fit_evidence

CHIP = "h200-sxm-141gb"
TRUE = ProductModel(
    rate_flops_per_s=8e14,
    bandwidth_bytes_per_s=4.2e12,
    launch_s=4e-6,
    evidence=Evidence("assumed", "made up"),
    multiprocessors=132,
    tiles=(Tile(128, 256, 1.0), Tile(128, 128, 0.85), Tile(64, 128, 0.6)),
    tile_start_s=5e-7,
    tile_start_k=64.0,
    step_k=64,
    sharpness=4.0,
)
"""About what an H200 does in bf16."""


def product(m, n, k, time_s, **more):
    given = {
        "op": "matmul", "m": m, "n": n, "k": k, "layout": "nt", "dtype": "bf16", "cache": "cold", "launch": "stream", "status": "ok",
        "flops": 2.0 * m * n * k, "time_median_s": time_s, "chip_id": CHIP, "device_name": "H200", "run_id": "r", "kernel": "torch.mm",
    }  # fmt: skip
    return Row(**{**given, **more})


def drawn(count, seed):
    """Edges as models have them: multiples of 128, a few narrow ones among m."""
    random = np.random.default_rng(seed)
    m, n, k = (128 * np.round(2 ** random.uniform(1, 7, count)) for _ in range(3))
    return m, n, k


def measured(count, seed, noise=0.02, **more):
    m, n, k = drawn(count, seed)
    times_s = TRUE.time_s(m, n, k) * np.exp(np.random.default_rng(seed + 1).normal(0, noise, count))
    return [product(int(a), int(b), int(c), float(t), **more) for a, b, c, t in zip(m, n, k, times_s, strict=True)]


def off(model, count=200, seed=99):
    """|model / truth - 1| at shapes that no fit here has seen."""
    shapes = drawn(count, seed)
    return np.abs(model.time_s(*shapes) / TRUE.time_s(*shapes) - 1)


@pytest.fixture(scope="module")
def clean():
    return normalise(measured(400, 1)).products["bf16"]


def test_a_made_up_chip_is_found_again_at_shapes_that_were_not_measured(clean):
    assert np.median(off(clean)) < 0.02
    assert np.quantile(off(clean), 0.9) < 0.06
    assert clean.held_out is not None
    assert clean.held_out.median < 0.03
    assert clean.points == len(set(zip(*drawn(400, 1), strict=True)))


def test_rows_ten_times_too_slow_do_not_bend_the_model():
    rows = measured(400, 1)
    rows = [replace(row, time_median_s=10 * row.time_median_s) if i % 20 == 0 else row for i, row in enumerate(rows)]
    model = normalise(rows).products["bf16"]
    assert np.median(off(model)) < 0.03
    assert np.quantile(off(model), 0.9) < 0.08


@settings(max_examples=6, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 1000), slower=st.floats(2.0, 1000.0), every=st.integers(10, 30))
def test_however_far_off_a_tenth_of_the_rows_lies_the_others_decide(seed, slower, every):
    rows = measured(200, seed)
    rows = [replace(row, time_median_s=slower * row.time_median_s) if i % every == 0 else row for i, row in enumerate(rows)]
    model = normalise(rows, hold_out=False).products["bf16"]
    assert np.median(off(model)) < 0.04
    assert np.quantile(off(model), 0.9) < 0.12


def test_rows_in_the_wrong_unit_are_left_out_where_no_chip_could_be_so_fast_and_are_counted():
    rows = measured(400, 1)
    wrong = [replace(row, time_median_s=1e-3 * row.time_median_s) for row in rows[::10] if row.flops > 1e11]
    chosen = choose([*rows, *(replace(row, m=row.m + 128) for row in wrong)])
    assert chosen.left_out == {"above the datasheet's peak rate": len(wrong)}
    assert len(chosen.products["bf16"]) == len(choose(rows).products["bf16"])


def test_attention_above_the_datasheet_is_left_out_like_products():
    sizes = {
        "batch": 4,
        "heads": 32,
        "kv_heads": 32,
        "seq_q": 8192,
        "seq_kv": 8192,
        "head_dim": 128,
        "causal": True,
        "direction": "forward",
    }
    flops = 2.0 * 4 * 32 * 8192**2 * 128  # 2.2 TFLOP: an H100 of 989 TFLOP/s takes 2.2 ms at least
    known = {"status": "ok", "chip_id": "h100-sxm-80gb", "op": "attention", "dtype": "bf16", "tool": "other", "kernel": "k", "flops": flops}
    sound, seconds_for_ms = Row(**known, **sizes, time_median_s=3.5e-3), Row(**known, **{**sizes, "batch": 8}, time_median_s=3.5e-6)
    chosen = choose([sound, seconds_for_ms])
    assert chosen.left_out == {"above the datasheet's peak rate": 1}
    assert [row.batch for row in chosen.attentions["bf16"]] == [4]


def test_an_impossible_row_does_not_win_its_case_by_being_the_fastest():
    rows = [product(4096, 4096, 4096, 2e-4), product(4096, 4096, 4096, 2e-7, kernel="wrong", run_id="r2")]
    assert [row.kernel for row in choose(rows).products["bf16"]] == ["torch.mm"]


def test_a_dozen_rows_give_a_usable_model_whose_interval_covers_what_it_has_not_seen():
    model = normalise(measured(12, 5)).products["bf16"]
    inside = np.abs(np.log(model.time_s(*drawn(200, 99)) / TRUE.time_s(*drawn(200, 99)))) <= 1.96 * model.spread
    assert inside.mean() >= 0.9
    assert np.median(off(model)) < 0.15


def test_more_rows_give_a_narrower_interval(clean):
    spreads = [normalise(measured(count, 5)).products["bf16"].spread for count in (1, 12)]
    assert spreads[0] > spreads[1] > clean.spread


def test_rows_of_a_tool_that_tells_no_cache_count_where_there_are_no_cold_ones_and_it_is_said():
    untold = measured(30, 3, cache=None, launch=None, tool="aiconfigurator-core", tool_version="0.2", source_hash="ab", kernel="vllm")
    profile = normalise(untold)
    assert profile.products["bf16"].points == 30
    assert profile.matmul["bf16"].points > 0
    assert "not told whether the cache was cold; not told what the inputs held" in profile.products["bf16"].evidence.source
    both = normalise([*untold, *measured(8, 7)]).products["bf16"]
    assert both.points == 8
    assert "not told" not in both.evidence.source


def test_layouts_and_batches_reach_the_fit():
    rows = [
        product(1024, 512, 256, 1e-5),
        product(512, 512, 512, 1e-5, layout="tn"),
        product(64, 64, 64, 1e-5, op="batched_matmul", groups=8),
    ]
    shapes = shapes_of(product_rows(rows)["bf16"])
    assert shapes.layout.tolist() == ["nt", "tn", "nt"]
    assert shapes.groups.tolist() == [1, 1, 8]
    assert shapes_of(rows[:1]).groups is None


def test_fp8_counts_with_one_scale_and_wide_sums_and_grouped_products_do_not_count():
    plain = product(4096, 4096, 4096, 1e-4, dtype="fp8_e4m3", scaling="per_tensor")
    others = [replace(plain, math_mode="fast_accum"), replace(plain, scaling="row_wise"), replace(plain, op="grouped_matmul", groups=8)]
    assert product_rows([*others, plain])["fp8_e4m3"] == [plain]


def test_of_several_quantisations_that_of_one_scale_a_tensor_stands_for_the_dtype_and_holds_the_conversion():
    rows = [
        replace(row, dtype="fp8_e4m3", cache=None, variant=f"gemm_dtype={name}", tool="t", time_median_s=row.time_median_s / 1.5 + 2e-6)
        for name in ("fp8_block", "fp8")
        for row in measured(40, 3)
    ]
    chosen = choose(rows)
    assert {row.variant for row in chosen.products["fp8_e4m3"]} == {"gemm_dtype=fp8"}
    assert profile_of(chosen).products["fp8_e4m3"].quantise_s > 0
    weights_alone = [replace(row, variant="gemm_dtype=int8_wo") for row in measured(3, 1)]
    assert {row.variant for row in product_rows([*weights_alone, *measured(3, 2)])["bf16"]} == {None}


def attention(**more):
    given = {
        "op": "attention", "batch": 2, "heads": 16, "kv_heads": 16, "seq_q": 4096, "seq_kv": 4096, "head_dim": 128, "causal": True,
        "direction": "forward", "dtype": "bf16", "cache": "cold", "status": "ok", "time_median_s": 1e-3, "chip_id": CHIP,
    }  # fmt: skip
    return Row(**{**given, **more})


def test_attention_with_a_window_or_narrow_values_is_another_operation():
    rows = [attention(), attention(direction="backward"), attention(window=1024), attention(head_dim_v=64), attention(cache="warm")]
    assert attention_rows(rows) == {"bf16": rows[:2]}


def test_the_calls_of_serving_frameworks_are_told_apart_from_attention_alone():
    served = [attention(seq_q=2**e, seq_kv=2**e, cache=None, tool="aiconfigurator-core", time_median_s=2e-12 * 4**e) for e in range(9, 14)]
    encoder = attention(causal=False, cache=None, tool="aiconfigurator-core")
    assert attention_rows([*served, encoder]) == {"bf16": served}
    assert appends(served)
    assert not appends([attention(), *served])
    assert not appends([encoder])
    assert normalise(served).attentions["bf16"].append_passes > 0


def test_backward_rows_alone_make_no_model_of_attention():
    chosen = choose([attention(direction="backward")])
    assert chosen.attentions
    assert profile_of(chosen).attentions == {}


def memory_row(op, moved, rate, **more):
    given = {
        "op": op,
        "bytes": float(moved),
        "elements": moved // 8,
        "time_median_s": 4e-6 + moved / rate,
        "cache": "cold",
        "status": "ok",
        "chip_id": CHIP,
    }
    return Row(**{**given, "last_level_cache_bytes": 2**26, **more})


def test_each_operation_of_memory_is_a_curve_by_direction_and_what_the_cache_may_hold_is_left_out():
    rows = [
        memory_row("copy", 2**17, 4e12), memory_row("copy", 2**30, 4e12),
        memory_row("rms_norm", 2**29, 3e12, direction="forward"), memory_row("rms_norm", 2**29, 2e12, direction="backward"),
        memory_row("softmax", 2**26, 9e12),
    ]  # fmt: skip
    profile = normalise(rows)
    assert list(profile.memory_ops) == ["copy", "rms_norm backward", "rms_norm forward"]
    # A single size cannot tell the overhead: that of the plain streams is taken.
    assert profile.memory_ops["rms_norm backward"].rate == pytest.approx(2e12, rel=1e-3)
    assert profile.memory_ops["copy"].overhead_s == pytest.approx(4e-6, rel=1e-2)


def test_a_tool_that_does_not_tell_the_cache_gets_the_datasheets():
    # The H200's cache holds 50 MB: four times that is more than 128 MiB, and less than 1 GiB.
    rows = [memory_row("softmax", moved, 4e12, last_level_cache_bytes=None, cache=None, tool="t") for moved in (2**27, 2**30)]
    assert [row.bytes for row in choose(rows).memory_ops["softmax"]] == [2.0**30]


def test_sizes_too_alike_do_not_make_an_overhead_out_of_noise():
    rows = [memory_row("gelu", moved, 4e12) for moved in (2**29, 2**30)]
    rows[0] = replace(rows[0], time_median_s=1.05 * rows[0].time_median_s)
    (curve,) = memory_ops(memory_op_rows(rows), None).values()
    assert curve.overhead_s == 0.0
    assert curve.rate == pytest.approx(4e12, rel=0.1)


def transfer(path, moved):
    given = {"op": "transfer", "path": path, "host_memory": "pinned", "bytes": float(moved), "elements": moved}
    return Row(**given, time_median_s=1e-5 + moved / 5e10, status="ok", chip_id=CHIP)


def test_launches_host_links_and_power_are_told_of_the_largest_case():
    rows = [
        Row(op="launch", elements=1, bytes=4.0, launch="stream", time_median_s=8e-6, status="ok", chip_id=CHIP),
        Row(op="launch", elements=256, bytes=1024.0, launch="stream", time_median_s=256 * 5e-6, status="ok", chip_id=CHIP),
        Row(op="launch", elements=256, bytes=1024.0, launch="graph", time_median_s=256 * 1e-6, status="ok", chip_id=CHIP),
        *(transfer(path, moved) for path in ("host_to_device", "device_to_device") for moved in (2**16, 2**28)),
        product(8192, 8192, 8192, 1.5e-3, sustained_power_w=690.0),
        product(1024, 1024, 1024, 1e-5, sustained_power_w=400.0),
    ]  # fmt: skip
    profile = normalise(rows)
    assert {name: found.value for name, found in profile.launch_s.items()} == pytest.approx({"stream": 5e-6, "graph": 1e-6})
    assert list(profile.host_link_bytes_per_s) == ["host_to_device pinned"]
    assert profile.host_link_bytes_per_s["host_to_device pinned"].value == pytest.approx(5e10, rel=0.01)
    assert {name: found.value for name, found in profile.sustained_power_w.items()} == {"matmul bf16": 690.0}


def test_small_copies_say_nothing_of_the_host_link():
    row = Row(op="transfer", path="host_to_device", bytes=2.0**20, time_median_s=1e-4, status="ok", chip_id=CHIP)
    assert normalise([row]).host_link_bytes_per_s == {}


def test_evidence_of_own_rows_says_nothing_of_what_other_tools_leave_open():
    assert "not told" not in fit_evidence([product(1, 1, 1, 1.0)]).source


def test_the_power_of_a_case_is_that_of_its_fastest_kernel() -> None:
    slow = product(8192, 8192, 8192, 9e-3, kernel="a.slow", sustained_power_w=500.0)
    fast = product(8192, 8192, 8192, 1.5e-3, kernel="z.fast", sustained_power_w=690.0)
    assert {name: found.value for name, found in sustained_power([slow, fast]).items()} == {"matmul bf16": 690.0}
