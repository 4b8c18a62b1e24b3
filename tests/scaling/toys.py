"""Chips with round numbers, so that answers can be worked out by hand."""

from __future__ import annotations

from chipassay.results.profile import Curve, Evidence, Link, Profile, Quantity

MEASURED = Evidence("measured", "a toy")


def toy_profile(
    *,
    rate: float = 1e14,
    bandwidth: float = 1e12,
    memory_bytes: float | None = 80e9,
    overhead_s: float = 1e-6,
    links: tuple[Link, ...] = (),
    dtype: str = "bf16",
    chip_id: str = "toy",
    attention: bool = True,
) -> Profile:
    return Profile(
        chip_id=chip_id,
        name="Toy",
        matmul={dtype: Curve(overhead_s, rate, MEASURED)},
        attention={dtype: Curve(overhead_s, rate / 2, MEASURED)} if attention else {},
        memory=Curve(overhead_s, bandwidth, MEASURED),
        links=links,
        peak_flops_per_s={dtype: Quantity(rate * 1.25, MEASURED)},
        memory_bytes=None if memory_bytes is None else Quantity(memory_bytes, MEASURED),
    )


def toy_link(group_size: int = 8, busbw: float = 1e11, latency_s: float = 1e-5) -> Link:
    return Link("all_reduce", "nvlink", group_size, latency_s, busbw, MEASURED)
