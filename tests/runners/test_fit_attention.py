"""Fits of attention: what one row gives, what hundreds find again, and how far a real table is off on shapes left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chipassay.results.errors import FileError
from chipassay.results.evidence import Evidence
from chipassay.results.shape_models.attention import AttentionModel
from chipassay.runners.fitting import attention_tables
from chipassay.runners.fitting.attention_tables import attention_table, best_table
from chipassay.runners.fitting.fit_attention import fit_attention
from chipassay.runners.fitting.shapes import AttentionShapes
from chipassay.runners.fitting.silicon import Silicon

MEASURED = Evidence("measured", "example")
SILICON = Silicon(1e15, 3e12, 132, 5e7, "Hopper")
TRUTH = AttentionModel(
    rate_flops_per_s=5.5e14,
    bandwidth_bytes_per_s=2.2e12,
    launch_s=5e-6,
    evidence=MEASURED,
    multiprocessors=132,
    tile_rows={"64": 64},
    tile_start_s=1e-6,
    tile_start_keys=20.0,
    imbalance=0.4,
    sharpness=2.0,
    slowdown=0.1,
    slowdown_after_s=5e-3,
    head_dim_shares={"64": 0.8, "128": 1.0, "256": 1.1},
)


def shapes(count: int, noise: float = 0.02, truth: AttentionModel = TRUTH, **columns: object) -> AttentionShapes:
    """Calls drawn at random, timed by the truth with some noise."""
    random = np.random.default_rng(3)
    kv_heads = 2.0 ** random.integers(0, 4, count)
    seq = 2.0 ** random.integers(7, 15, count)
    drawn = {
        "batch": 2.0 ** random.integers(0, 6, count),
        "heads": kv_heads * 2.0 ** random.integers(0, 4, count),
        "kv_heads": kv_heads,
        "seq_q": seq,
        "seq_kv": seq,
        "head_dim": random.choice([64.0, 128.0, 256.0], count),
        "causal": random.random(count) < 0.5,
        "backward": np.zeros(count, dtype=bool),
    }
    drawn |= {name: np.full(count, value) for name, value in columns.items()}
    exact_s = truth.time_s(*(drawn[name] for name in ("batch", "heads", "seq_q", "seq_kv", "head_dim", "kv_heads", "causal")))
    return AttentionShapes(**drawn, time_s=exact_s * np.exp(noise * random.normal(size=count)))


def errors(model: AttentionModel, seen: AttentionShapes, truth: AttentionModel = TRUTH) -> np.ndarray:
    sizes = (seen.batch, seen.heads, seen.seq_q, seen.seq_kv, seen.head_dim, seen.kv_heads, seen.causal)
    return np.abs(model.time_s(*sizes) / truth.time_s(*sizes) - 1)


def test_hundreds_of_rows_find_the_model_again():
    model = fit_attention(shapes(250), SILICON, "bf16", MEASURED)
    assert np.median(errors(model, shapes(2000, noise=0.0))) < 0.02
    assert model.rate_flops_per_s == pytest.approx(5.5e14, rel=0.05)
    assert model.launch_s == pytest.approx(5e-6, rel=0.1)
    assert model.tile_rows == {"64": 64}
    assert model.points == 250
    # Noise of 2 %: neither less nor much more is left.
    assert 0.015 < model.spread < 0.05
    assert model.held_out.median < 0.03


def test_one_row_gives_a_model_that_goes_through_it_and_is_wide():
    seen = shapes(1, noise=0.0, batch=4.0, heads=16.0, kv_heads=16.0, seq_q=4096.0, seq_kv=4096.0, head_dim=128.0, causal=True)
    model = fit_attention(seen, SILICON, "bf16", MEASURED)
    assert errors(model, seen)[0] < 0.05
    assert np.median(errors(model, shapes(1000, noise=0.0))) < 0.3
    assert model.spread > 0.1
    assert (model.held_out, model.points, model.backward) == (None, 1, {})


def test_nothing_is_known_of_the_chip_and_the_rows_alone_decide():
    model = fit_attention(shapes(50, seq_q=8192.0, seq_kv=8192.0, head_dim=128.0), Silicon(), "bf16", MEASURED)
    assert np.median(errors(model, shapes(50, noise=0.0, seq_q=8192.0, seq_kv=8192.0, head_dim=128.0))) < 0.15


def test_wild_rows_do_not_move_the_model():
    clean = shapes(300)
    wild = replace(clean, time_s=np.where(np.arange(300) % 12 == 0, 5.0, 1.0) * clean.time_s)
    model = fit_attention(wild, SILICON, "bf16", MEASURED, hold_out=False)
    assert np.median(errors(model, shapes(1000, noise=0.0))) < 0.05


def test_the_backward_pass_is_the_ratio_of_times_by_head_size():
    seen = shapes(120)
    backward = np.arange(120) % 3 == 0
    ratio = np.where(seen.head_dim == 256, 4.0, 3.2)
    both = replace(seen, backward=backward, time_s=np.where(backward, ratio, 1.0) * seen.time_s)
    model = fit_attention(both, SILICON, "bf16", MEASURED, hold_out=False)
    assert model.backward == pytest.approx({"64": 3.2, "128": 3.2, "256": 4.0}, rel=0.05)
    assert model.points == 80


def test_a_relative_tells_what_few_rows_cannot():
    relative = replace(TRUTH, launch_s=2e-5, backward={"128": 2.5}, packs=True, most_splits=8)
    large = shapes(3, noise=0.0, batch=8.0, heads=32.0, seq_q=8192.0, seq_kv=8192.0)
    alone = fit_attention(large, SILICON, "bf16", MEASURED, hold_out=False)
    related = fit_attention(large, SILICON, "bf16", MEASURED, start=relative, hold_out=False)
    assert alone.launch_s < 1e-5
    assert related.launch_s == pytest.approx(2e-5, rel=0.1)
    assert (related.backward, related.packs, related.most_splits, related.tile_rows) == ({"128": 2.5}, True, 8, {"64": 64})


def test_the_call_of_a_serving_framework_is_told_apart_from_attention():
    truth = replace(TRUTH, append_passes=3.0, append_s_per_token=4e-9)
    seen = shapes(600, noise=0.0)
    sizes = (seen.batch, seen.heads, seen.seq_q, seen.seq_kv, seen.head_dim, seen.kv_heads, seen.causal)
    called = replace(seen, time_s=truth.time_s(*sizes, appends=True))
    model = fit_attention(called, SILICON, "bf16", MEASURED, appends=True, hold_out=False)
    assert model.append_s_per_token == pytest.approx(4e-9, rel=0.25)
    assert np.median(errors(model, seen)) < 0.03


def test_the_same_rows_give_the_same_model():
    assert fit_attention(shapes(20), SILICON, "bf16", MEASURED) == fit_attention(shapes(20), SILICON, "bf16", MEASURED)
    chosen, again = (fit_attention(shapes(80), SILICON, "bf16", MEASURED, hold_out=False) for _ in range(2))
    assert chosen == again


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="no row of a forward pass"):
        fit_attention(shapes(5, backward=True), SILICON, "bf16", MEASURED)
    with pytest.raises(ValueError, match="no row of a forward pass"):
        fit_attention(shapes(0), SILICON, "bf16", MEASURED)
    with pytest.raises(ValueError, match="must be positive"):
        fit_attention(replace(shapes(5), time_s=np.zeros(5)), SILICON, "bf16", MEASURED)


class TestTables:
    """aiconfigurator-core as it is installed, and files that are none."""

    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("aiconfigurator_core", reason="the tables come with aiconfigurator-core")
        pytest.importorskip("pyarrow", reason="the tables are parquet files")

    def test_a_table_holds_one_kernel_without_windows(self):
        table = attention_table("l40s", "vllm")
        # Of 25,092 rows in bf16 with a cache in bf16, 13,139 have no window and are of this kernel, 1,001 of them of one token.
        assert (table.kernel, len(table.shapes.time_s)) == ("vllm_flash_attn_fa2", 12138)
        assert set(table.shapes.head_dim) == {64.0, 128.0, 192.0, 256.0}
        assert table.shapes.causal.all()
        assert table.shapes.seq_q.min() == 16

    def test_the_oldest_tables_know_no_windows_and_are_read(self):
        table = attention_table("a100_sxm", "sglang")
        assert (table.version, table.kernel, set(table.shapes.head_dim)) == ("0.5.10", "flash_attention", {128.0})

    def test_the_newest_of_several_versions_is_taken(self):
        assert attention_table("b200_sxm", "vllm").version == "0.24.0"

    def test_the_first_framework_that_has_the_dtype_is_taken(self):
        assert best_table("h100_sxm").framework == "vllm"
        assert best_table("h100_sxm", "fp8_e4m3").framework == "sglang"
        assert best_table("h100_sxm", "fp32") is None
        assert best_table("p100") is None

    def test_a_damaged_table_is_named(self, tmp_path, monkeypatch):
        file = tmp_path / "l40s" / "attention" / "vllm" / "1.0" / "context_attention_perf.parquet"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"PAR1 and no more")
        monkeypatch.setattr(attention_tables, "data_folder", lambda: tmp_path)
        with pytest.raises(FileError, match=r"context_attention_perf\.parquet: is no table of prefill times"):
            attention_table("l40s", "vllm")

    def test_a_third_of_an_h100s_shapes_left_out_is_met_within_the_goal(self):
        # The goal: median at most 5 %, nine in ten at most 15 %, of calls of at least 1 GFLOP that the fit has not seen.
        model = fit_attention(
            attention_table("h100_sxm", "vllm").shapes, Silicon.of("h100-sxm-80gb", "bf16"), "bf16", MEASURED, appends=True
        )
        assert model.held_out.smallest_flops == 1e9
        assert model.held_out.points > 2000
        assert model.held_out.median <= 0.05
        assert model.held_out.p90 <= 0.15
        # Within what the chip can be: 989 TFLOP/s dense, 3.35 TB/s; head size 256 is fastest.
        assert 5e14 < model.rate_flops_per_s * max(model.head_dim_shares.values()) < 9.89e14
        assert 2e12 < model.bandwidth_bytes_per_s < 3.45e12


def test_without_the_package_there_are_no_tables(monkeypatch):
    monkeypatch.setattr(attention_tables, "data_folder", lambda: None)
    assert best_table("h100_sxm") is None
