"""Every shipped rule: rows that must trip it, and rows near by that must not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from chipassay.results.catalogue import load_chips
from chipassay.results.link import bus_factor
from chipassay.results.schema import Row
from chipassay.runners.check.check import check_rows
from chipassay.runners.check.rules import shipped_rules

A100, H100, P100 = "a100-sxm-80gb", "h100-sxm-80gb", "p100-sxm2-16gb"
CPU = "cpu-zen-4-2c"


def product(tflop_per_s: float, chip_id: str = H100, dtype: str = "bf16", edge: int = 8192, **more: Any) -> Row:
    flops = 2.0 * edge**3
    time_s = flops / (tflop_per_s * 1e12)
    given = {"kernel": "torch.mm", "cache": "cold", "device_kind": "cuda", "bytes": 6.0 * edge**2, "time_median_s": time_s}
    return Row(op="matmul", status="ok", chip_id=chip_id, dtype=dtype, **{"m": edge, "n": edge, "k": edge, "flops": flops} | given | more)


def thin(time_s: float) -> Row:
    """16384 x 512 x 512 on an H200, whose peak is far away: only a model of shapes can tell."""
    case = {"m": 16384, "n": 512, "k": 512, "layout": "nt", "flops": 2.0 * 16384 * 512**2, "rate_flops_per_s": None}
    return product(1.0, "h200-sxm-141gb", time_median_s=time_s, last_level_cache_bytes=50 * 2**20, **case)


def memory(gb_per_s: float, chip_id: str = H100, op: str = "copy", size: float = 4e9, **more: Any) -> Row:
    time_s = size / (gb_per_s * 1e9)
    given = {"cache": "cold", "last_level_cache_bytes": 50 * 2**20, "device_kind": "cuda", "kernel": "torch.copy_", "dtype": "fp32"}
    return Row(op=op, status="ok", chip_id=chip_id, bytes=size, elements=int(size / 8), time_median_s=time_s, **given | more)


def collective(busbw_gb_per_s: float, chip_id: str = H100, ranks: int = 8, size: int = 2**30, op: str = "all_reduce", **more: Any) -> Row:
    time_s = size * bus_factor(op, ranks) / (busbw_gb_per_s * 1e9)
    given = {"backend": "nccl", "dtype": "bf16", "busbw_bytes_per_s": busbw_gb_per_s * 1e9, "device_kind": "cuda", "node_count": 1}
    return Row(op=op, status="ok", chip_id=chip_id, size_bytes=size, group_size=ranks, time_median_s=time_s, **given | more)


def transfer(gb_per_s: float, chip_id: str = A100, path: str = "host_to_device", **more: Any) -> Row:
    size = 2.0**30
    given = {"host_memory": "pinned", "device_kind": "cuda", "dtype": "int8"}
    return Row(op="transfer", status="ok", chip_id=chip_id, path=path, bytes=size, time_median_s=size / (gb_per_s * 1e9), **given | more)


def timed(times_s: Sequence[float], sizes: Sequence[int], **more: Any) -> list[Row]:
    """A sweep of all-reduces with tight intervals."""
    given: dict[str, Any] = {"chip_id": CPU, "device_kind": "cpu", "backend": "gloo", "dtype": "fp32", "run_id": "r", "group_size": 2}
    return [
        Row(op="all_reduce", status="ok", size_bytes=size, time_median_s=t, time_low_s=0.99 * t, time_high_s=1.01 * t, **given | more)
        for size, t in zip(sizes, times_s, strict=True)
    ]


def fleet(times_s: Sequence[float], **more: Any) -> list[Row]:
    """The same product on one chip after the other."""
    return [product(700.0, device_index=i, host_hash="0f0f0f", **{"time_median_s": 1e-3 * t, **more}) for i, t in enumerate(times_s)]


def pair(a: int, b: int, size: int, time_s: float) -> Row:
    given: dict[str, Any] = {"chip_id": CPU, "backend": "gloo", "dtype": "fp32", "group_size": 2, "members": f"{a},{b}"}
    return Row(op="send_recv", status="ok", size_bytes=size, time_median_s=time_s, busbw_bytes_per_s=size / time_s, **given)


def pairs(slow: tuple[int, int] | None = None, by: float = 1.0, ranks: int = 6) -> list[Row]:
    """Every two of six ranks, all within 1 % but one."""
    rows = []
    for a, b in itertools.combinations(range(ranks), 2):
        factor = (by if slow == (a, b) else 1.0) * (1 + 0.002 * ((a * 7 + b * 3) % 5))
        rows += [pair(a, b, 8, 1e-5 * factor), pair(a, b, 2**28, 1e-3 * factor)]
    return rows


def pcie_card(stem: str) -> list[Row]:
    """What the PCIe card of the H100 gives, sold as an SXM module: figures of no chip but at its datasheet's share."""
    peak, bandwidth = load_chips()[stem].peak_flops_per_s["bf16"] / 1e12, (load_chips()[stem].memory_bandwidth_bytes_per_s or 0.0) / 1e9
    rows = [product(0.72 * peak, edge=edge) for edge in (3000, 6000, 12000)]
    return [*rows, memory(0.86 * bandwidth), memory(0.86 * bandwidth, op="triad"), memory(0.86 * bandwidth, op="scale")]


STRAGGLER = {"straggler_rank": 5, "straggler_ratio": 1.4, "flags": "one rank is slow"}
STEPS = [2**power for power in range(10, 20)]
LINE = [1e-5 + size / 1e9 for size in STEPS]


def bent(index: int, factor: float) -> list[float]:
    return [time * (factor if i == index else 1.0) for i, time in enumerate(LINE)]


CASES: dict[str, tuple[list[Row], list[Row]]] = {
    # H100: fp32 peak 66.9, TF32 495: 403 "in fp32" stands in a public table (zzc0721/torch-performance-test-data).
    "tf32-as-fp32": ([product(403.7, dtype="fp32")], [product(51.9, dtype="fp32")]),
    # 1513 for the H100 PCIe is its sparse bf16 peak; dense 756.
    "sparse-or-counted-twice": ([product(1400.0, "h100-pcie-80gb")], [product(550.0, "h100-pcie-80gb")]),
    "above-peak": ([product(9000.0)], [product(760.0)]),
    "above-memory": ([memory(4000.0)], [memory(2900.0), memory(9000.0, size=1e7), memory(9000.0, cache="warm")]),
    # marin's one-node all-gather of 1353 GB/s on H100; NVLS's 480 on a link of 450 is fine.
    "above-link": (
        [collective(1353.0, op="all_gather"), collective(470.0, algorithm="ring")],
        [collective(480.0), collective(480.0, algorithm="nvls"), collective(361.0, op="all_gather")],
    ),
    "above-network": (
        [collective(1000.0, ranks=16, node_count=2, fabric="hdr200x4")],
        [collective(96.0, A100, ranks=16, node_count=2, fabric="hdr200x4")],
    ),
    "above-known-networks": (
        [collective(5000.0, ranks=16, node_count=2, fabric="network")],
        [collective(365.0, ranks=16, node_count=2, fabric="network")],
    ),
    "above-pcie": ([transfer(40.0)], [transfer(26.3), transfer(40.0, "gh200-96gb")]),
    "flagged": (
        [Row(op="gelu", status="ok", dtype="fp32", chip_id=CPU, time_median_s=1e-3, flags="above the memory's bandwidth")],
        [Row(op="gelu", status="ok", dtype="fp32", chip_id=CPU, time_median_s=1e-3, flags="throttled")],
    ),
    "faster-than-launch": (
        [Row(op="launch", status="ok", chip_id=H100, device_kind="cuda", bytes=4000.0, time_median_s=2e-3),
         Row(op="gelu", status="ok", chip_id=H100, device_kind="cuda", dtype="bf16", bytes=1e5, time_median_s=2e-7)],
        [Row(op="launch", status="ok", chip_id=H100, device_kind="cuda", bytes=4000.0, time_median_s=2e-3),
         Row(op="gelu", status="ok", chip_id=H100, device_kind="cuda", dtype="bf16", bytes=1e5, time_median_s=2e-6)],
    ),
    "wrong-result": ([Row(op="copy", status="incorrect", chip_id=CPU, reason="3 differ")], [memory(10.0, CPU, device_kind="cpu")]),
    "not-measured": ([Row(op="copy", status="timeout", chip_id=CPU)], [Row(op="copy", status="skipped", chip_id=CPU)]),
    "no-room": ([Row(op="copy", status="out_of_memory", chip_id=CPU)], [Row(op="copy", status="skipped", chip_id=CPU)]),
    "no-figure": ([Row(op="gelu", status="ok", chip_id=CPU)], [Row(op="gelu", status="skipped", chip_id=CPU)]),
    "near-error-limit": ([product(760.0, error=0.999, error_limit=1.0)], [product(760.0, error=0.98, error_limit=1.0)]),
    "emulated": (
        # bf16 on P100 and V100: the row says it, or the chip's generation does.
        [product(6.2, P100), product(10.6, "v100-sxm2-16gb", native=False)],
        [product(8.6, P100, dtype="fp32"), product(265.0, A100)],
    ),
    "compute-far-below": ([product(400.0)], [product(740.0), product(600.0)]),
    "compute-slow": ([product(600.0)], [product(740.0), product(600.0, beside="all_reduce 64 MiB bf16")]),
    "kernel-slow": ([product(700.0, dtype="fp8_e4m3", edge=4096)], [product(1200.0, dtype="fp8_e4m3", edge=4096), product(600.0)]),
    "memory-far-below": ([memory(1700.0)], [memory(2800.0)]),
    "memory-slow": ([memory(2300.0)], [memory(2800.0)]),
    "collective-far-below": ([collective(280.0)], [collective(460.0), collective(280.0, dtype="int8"), collective(280.0, backend="gloo")]),
    "collective-slow": ([collective(400.0)], [collective(460.0), collective(367.0, algorithm="ring")]),
    "copy-far-below": ([transfer(13.0)], [transfer(25.5), transfer(13.0, host_memory="pageable")]),
    "copy-slow": ([transfer(20.0)], [transfer(25.5)]),
    # Half the time of the row of results/h200-sxm-141gb/tables.csv.
    "far-better-than-expected": ([thin(8.9e-6)], [thin(17.9e-6)]),
    "better-than-expected": ([memory(2000.0, A100)], [memory(1650.0, A100)]),
    "throttled": (
        [product(760.0, throttled=True, throttle_reasons="power_cap;thermal")],
        [product(760.0, throttled=True, throttle_reasons="power_cap")],
    ),
    "power-limited": (
        [product(760.0, throttled=True, throttle_reasons="power_cap")],
        [product(760.0, throttled=True, throttle_reasons="thermal")],
    ),
    "low-clock": (
        [product(700.0, clock_hz=1.1e9, power_w=400.0, throttled=True, throttle_reasons="power_cap")],
        [
            product(740.0, clock_hz=1.7e9),
            product(700.0, CPU, clock_hz=1e9, device_kind="cpu"),
            product(700.0, clock_hz=1.3e9, power_w=690.0, throttled=True, throttle_reasons="power_cap"),
        ],
    ),
    "wide-spread": ([product(760.0, time_p05_s=1.0, time_p95_s=2.0)], [product(760.0, time_p05_s=1.0, time_p95_s=1.2)]),
    "slower-kernel": ([product(760.0), product(200.0, kernel="triton.naive")], [product(760.0), product(700.0, kernel="triton.mm")]),
    "gloo-on-gpu": ([collective(2.0, backend="gloo")], [collective(460.0), collective(2.0, CPU, backend="gloo", device_kind="cpu")]),
    "dip": (timed(bent(8, 2.0), STEPS), timed(LINE, STEPS)),
    "time-falls": (timed(bent(1, 1.3), STEPS), timed(bent(1, 1.05), STEPS)),
    "off-its-neighbours": (timed(bent(5, 2.0), STEPS), timed(bent(5, 1.2), STEPS)),
    "slower-than-siblings": (fleet([1.0, 1.01, 0.99, 1.12]), fleet([1.0, 1.01, 0.99, 1.05])),
    "straggler": ([collective(460.0, **STRAGGLER)], [collective(460.0, straggler_rank=5, straggler_ratio=1.4)]),
    "late-rank": ([collective(460.0, rank_times_s=(1.0, 1.0, 1.0, 1.8))], [collective(460.0, rank_times_s=(1.0, 1.0, 1.0, 1.1))]),
    "unknown-chip": ([memory(10.0, "my-chip")], [memory(2900.0)]),
    "mig-slice": (
        [product(90.0, "nvidia-h100-mig", device_name="NVIDIA H100 80GB HBM3 MIG 1g.10gb")],
        [product(760.0, device_name="NVIDIA H100 80GB HBM3")],
    ),
    "little-memory": ([product(760.0, device_memory_bytes=40 * 2**30)], [product(760.0, device_memory_bytes=79 * 2**30)]),
    "other-form-factor": (pcie_card("h100-pcie-80gb"), [product(740.0, edge=edge) for edge in (3000, 6000, 12000)] + [memory(2850.0)]),
    "collectives-over-pcie": (
        [collective(20.0, A100, size=size) for size in (2**26, 2**28, 2**30)],
        # Two of eight chips in a mesh see one link of it, which is no faster than PCIe.
        [collective(228.0, A100), collective(47.7, "mi300x-192gb", ranks=2, size=2**32, backend="rccl", device_kind="rocm")],
    ),
    "few-lanes": ([transfer(6.3)], [transfer(25.0)]),
    "half-lanes": ([transfer(13.0)], [transfer(25.0), transfer(50.0, H100)]),
    "power-cap": (
        [product(700.0, edge=e, throttled=True, throttle_reasons="sw_power_cap") for e in (2048, 4096, 8192)],
        [product(700.0, edge=e, throttled=False) for e in (2048, 4096, 8192)],
    ),
    "clock-capped": (
        [product(700.0, edge=e, throttled=True, throttle_reasons="thermal") for e in (2048, 4096, 8192)],
        [product(700.0, edge=e, throttled=True, throttle_reasons="sw_power_cap") for e in (2048, 4096, 8192)],
    ),
    "shared-or-sliced": (
        [*(product(300.0, edge=e) for e in (3000, 6000, 12000)), *(memory(1400.0, op=op) for op in ("copy", "triad", "scale"))],
        [*(product(300.0, edge=e) for e in (3000, 6000, 12000)), *(memory(2900.0, op=op) for op in ("copy", "triad", "scale"))],
    ),
    "compute-low": (
        [*(product(300.0, edge=e) for e in (3000, 6000, 12000)), *(memory(2900.0, op=op) for op in ("copy", "triad", "scale"))],
        [*(product(700.0, edge=e) for e in (3000, 6000, 12000)), *(memory(2900.0, op=op) for op in ("copy", "triad", "scale"))],
    ),
    "memory-low": (
        [*(product(700.0, edge=e) for e in (3000, 6000, 12000)), *(memory(1900.0, op=op) for op in ("copy", "triad", "scale"))],
        [*(product(700.0, edge=e) for e in (3000, 6000, 12000)), *(memory(2900.0, op=op) for op in ("copy", "triad", "scale"))],
    ),
    "collectives-low": (
        [collective(260.0, size=size) for size in (2**28, 2**29, 2**30, 2**31)],
        [collective(busbw, size=size) for busbw, size in ((420.0, 2**28), (440.0, 2**29), (460.0, 2**30), (470.0, 2**31))],
    ),
    "slow-chip": (fleet([1.0, 1.01, 0.99, 1.0, 1.0, 1.12, 1.0, 1.01]), fleet([1.0, 1.01, 0.99, 1.0, 1.0, 1.04, 1.0, 1.01])),
    "slower-chip": (fleet([1.0, 1.01, 0.99, 1.08]), fleet([1.0, 1.01, 0.99, 1.02])),
    "slow-rank": (
        [collective(460.0, size=2**power, **STRAGGLER) for power in (28, 29, 30)],
        [collective(460.0, size=2**power, straggler_rank=5, straggler_ratio=1.4) for power in (28, 29, 30)],
    ),
    "bad-link": (pairs((1, 3), 2.5), pairs()),
    "weak-link": (pairs((1, 3), 1.3), pairs()),
}  # fmt: skip


def tripped(rows: Sequence[Row]) -> set[str]:
    verdict = check_rows(rows)
    return {finding.rule for finding in (*verdict.findings, *verdict.machine)}


def test_every_shipped_rule_has_its_cases() -> None:
    assert set(CASES) == {rule.id for rule in shipped_rules()}


@pytest.mark.parametrize("rule", CASES)
def test_it_speaks_of_what_it_is_about(rule: str) -> None:
    assert rule in tripped(CASES[rule][0])


@pytest.mark.parametrize("rule", CASES)
def test_it_is_silent_where_all_is_well(rule: str) -> None:
    assert rule not in tripped(CASES[rule][1])


@pytest.mark.parametrize("rule", CASES)
def test_its_words_have_no_empty_fields(rule: str) -> None:
    verdict = check_rows(CASES[rule][0])
    for finding in (*verdict.findings, *verdict.machine):
        assert "$" not in finding.words + finding.cause + finding.mend
        assert "None" not in finding.words
