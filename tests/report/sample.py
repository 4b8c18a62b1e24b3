"""Rows, a profile and a summary as a real run would leave them, the same each time: the report's tests and its author look at these."""

from __future__ import annotations

import random
from dataclasses import replace

from chipassay.results.profile import Curve, Evidence, Link, Profile, Quantity
from chipassay.results.schema import SCHEMA_VERSION, Row
from chipassay.runners.report import Card, Input, Summary

CHIP, DEVICE = "example-cpu-8c", "Example CPU 8-Core <rev & 2>"
INJECTION = "<script>alert('x')</script><img src=https://evil.example/x.png onerror=alert(1)>"
PEAKS = {"fp32": 512e9, "bf16": 1024e9, "fp16": 1024e9, "fp64": 256e9}
REACHED = {"fp32": 430e9, "bf16": 705e9, "fp64": 214e9}
PEAK_BANDWIDTH, REACHED_BANDWIDTH = 76.8e9, 58e9
OVERHEAD_S = 6e-6
LINK_LATENCY_S, LINK_BUSBW = 38e-6, 5.2e9


def rows(seed: int = 1) -> list[Row]:
    """About sixty rows of every kind that a run can leave."""
    noise = random.Random(seed)
    found = [_matmul(noise, dtype, edge) for dtype in REACHED for edge in (256, 362, 512, 724, 1024, 1448, 2048, 2896, 4096)]
    found += [_matmul(noise, "fp32", 2048, n=128, layout="nt"), replace(_matmul(noise, "fp32", 1024), throttled=True)]
    found += [
        _common(
            op="matmul",
            m=edge,
            n=edge,
            k=edge,
            layout="nn",
            dtype="fp16",
            kernel="torch.mm",
            backend="torch",
            status="skipped",
            reason="torch has no fast fp16 matmul on this CPU",
            native=False,
        )
        for edge in (1024, 2048)
    ]
    found.append(
        replace(_matmul(noise, "bf16", 3072), status="incorrect", error=0.31, error_limit=0.02, reason="largest error 0.31, 0.02 allowed")
    )
    found += [_attention(noise, dtype, seq) for dtype in ("fp32", "bf16") for seq in (128, 256, 512, 1024, 2048, 4096)]
    found.append(
        _common(
            op="attention",
            batch=64,
            heads=16,
            kv_heads=16,
            seq_q=16384,
            seq_kv=16384,
            head_dim=128,
            causal=True,
            dtype="fp32",
            direction="forward",
            kernel="torch.sdpa",
            backend="torch",
            status="out_of_memory",
            reason="needs 68 GiB, 12 GiB are free",
        )
    )
    found.append(
        _common(
            op="attention",
            batch=1,
            heads=16,
            kv_heads=4,
            seq_q=512,
            seq_kv=512,
            head_dim=64,
            causal=True,
            dtype="fp64",
            direction="forward",
            kernel="torch.sdpa",
            backend="torch",
            status="error",
            reason=INJECTION,
        )
    )
    found += [_memory(noise, op, 4**e) for op in ("copy", "triad") for e in range(8, 14)]
    found += [_all_reduce(noise, 8 * 4**e) for e in range(12)] + [_all_reduce(noise, 64 * 2**20)]
    return found


def profile() -> Profile:
    """The profile that a normaliser would fit to the rows."""
    measured, sheet = Evidence("measured", "fit of rows.csv", "2026-01-15"), Evidence("published", "example datasheet, table 2")
    return Profile(
        chip_id=CHIP,
        name=DEVICE,
        matmul={
            d: Curve(OVERHEAD_S, r, measured, points=9, spread=0.061, work_min=2 * 256**3, work_max=2 * 4096**3) for d, r in REACHED.items()
        },
        attention={d: Curve(2e-5, 0.55 * REACHED[d], measured, points=6, spread=0.083) for d in ("fp32", "bf16")},
        memory=Curve(3e-6, REACHED_BANDWIDTH, measured, points=12, spread=0.04),
        links=(Link("all_reduce", "gloo", 2, LINK_LATENCY_S, LINK_BUSBW, measured, points=13, spread=0.09),),
        peak_flops_per_s={d: Quantity(v, sheet) for d, v in PEAKS.items()},
        peak_bandwidth_bytes_per_s=Quantity(PEAK_BANDWIDTH, sheet),
    )


def summary() -> Summary:
    """What the lead would hand to the page."""
    return Summary(
        cards=(
            Card("Best fp32 rate", "424.1 GFLOP/s", "82.8 % of the published peak", "measured"),
            Card("Best bf16 rate", "694.0 GFLOP/s", "67.8 % of the published peak", "measured"),
            Card("Best fp64 rate", "210.7 GFLOP/s", "82.3 % of the published peak", "measured"),
            Card("Attention, bf16", "382.2 GFLOP/s", "4096 positions, causal", "measured"),
            Card("Memory bandwidth", "57.9 GB/s", "triad; 75.4 % of the published peak", "measured"),
            Card("All-reduce", "5.13 GB/s", "bus bandwidth, gloo, 2 ranks; fit latency 38.0 us", "measured"),
        ),
        sentence="For training llama3-8b in bf16, one H100 SXM is worth 812 of this chip (650 to 1,010); communication is hidden.",
        inputs=(
            Input("bf16 matmul of this chip", "measured", "9 points of rows.csv, spread 6.1 %"),
            Input("all-reduce between hosts", "assumed", "100 Gbit/s Ethernet at 80 % of line rate"),
            Input("H100 SXM bf16 matmul", "derived", "0.62 of the dense peak, from published training runs"),
            Input("H100 SXM dense bf16 peak", "published", "vendor datasheet, 989.4 TFLOP/s"),
        ),
    )


def _common(**columns: object) -> Row:
    fixed = Row(
        schema_version=SCHEMA_VERSION,
        run_id="r-0001",
        measured_at_utc="2026-01-15T10:00:00Z",
        host_hash="3f9a2c51",
        chip_id=CHIP,
        device_name=DEVICE,
        device_kind="cpu",
        chip_count=1,
        node_count=1,
        fabric="single",
        libraries="numpy=2.1.0;torch=2.6.0",
        driver="linux 6.8",
        threads=8,
        method_version=1,
        cache="cold",
        launch="call",
        clock_source="host",
        data="normal",
        native=True,
    )
    return replace(fixed, **columns)  # type: ignore[arg-type]


def _timed(noise: random.Random, row: Row, time_s: float, spread: float = 0.04) -> Row:
    median = time_s * noise.uniform(0.96, 1.05)
    return replace(
        row,
        status="ok",
        time_median_s=median,
        time_low_s=median * 0.995,
        time_high_s=median * 1.006,
        time_min_s=median * (1 - spread),
        time_p05_s=median * (1 - spread * 0.7),
        time_p25_s=median * (1 - spread * 0.3),
        time_p75_s=median * (1 + spread * 0.5),
        time_p95_s=median * (1 + spread * 1.6),
        sample_count=50,
        warmup_count=3,
        stop_reason="precise",
    )


def _matmul(noise: random.Random, dtype: str, edge: int, n: int | None = None, layout: str = "nn") -> Row:
    n = n or edge
    flops = 2.0 * edge * n * edge
    width = {"fp64": 8, "fp32": 4, "bf16": 2}[dtype]
    row = _common(
        op="matmul",
        m=edge,
        n=n,
        k=edge,
        layout=layout,
        dtype=dtype,
        math_mode="ieee" if dtype != "bf16" else "fp32_accumulate",
        backend="torch",
        kernel="torch.mm",
        flops=flops,
        bytes=float(width * (edge * edge + 2 * edge * n)),
    )
    row = _timed(noise, row, OVERHEAD_S + flops / REACHED[dtype], spread=0.2 if edge < 300 else 0.04)
    rate = flops / (row.time_median_s or 1.0)
    return replace(row, rate_flops_per_s=rate, peak_fraction=rate / PEAKS[dtype], peak_evidence="published")


def _attention(noise: random.Random, dtype: str, seq: int) -> Row:
    flops = 4.0 * 16 * seq * seq * 64 / 2
    row = _common(
        op="attention",
        batch=1,
        heads=16,
        kv_heads=4,
        seq_q=seq,
        seq_kv=seq,
        head_dim=64,
        causal=True,
        direction="forward",
        dtype=dtype,
        backend="torch",
        kernel="torch.sdpa",
        flops=flops,
        bytes=float({"fp32": 4, "bf16": 2}[dtype] * 40 * seq * 64),
    )
    row = _timed(noise, row, 2e-5 + flops / (0.55 * REACHED[dtype]))
    rate = flops / (row.time_median_s or 1.0)
    return replace(row, rate_flops_per_s=rate, peak_fraction=rate / PEAKS[dtype], peak_evidence="published")


def _memory(noise: random.Random, op: str, elements: int) -> Row:
    arrays, flops = {"copy": (2, 0.0), "triad": (3, 2.0 * elements)}[op]
    moved = 4.0 * arrays * elements
    row = _common(op=op, elements=elements, dtype="fp32", backend="torch", kernel=f"torch.{op}", flops=flops, bytes=moved)
    row = _timed(noise, row, 3e-6 + moved / REACHED_BANDWIDTH)
    time_s = row.time_median_s or 1.0
    band = moved / time_s
    rate = flops / time_s if flops else None
    return replace(row, bandwidth_bytes_per_s=band, rate_flops_per_s=rate, peak_fraction=band / PEAK_BANDWIDTH, peak_evidence="derived")


def _all_reduce(noise: random.Random, size_bytes: int) -> Row:
    row = _common(
        op="all_reduce",
        size_bytes=size_bytes,
        elements=size_bytes // 4,
        group_size=2,
        chip_count=2,
        dtype="fp32",
        backend="gloo",
        kernel="torch.distributed",
        in_place=True,
        fabric="shared-memory",
        cache="warm",
        bytes=float(size_bytes),
    )
    row = _timed(noise, row, LINK_LATENCY_S + size_bytes / LINK_BUSBW, spread=0.12)
    algbw = size_bytes / (row.time_median_s or 1.0)
    return replace(row, algbw_bytes_per_s=algbw, busbw_bytes_per_s=algbw)
