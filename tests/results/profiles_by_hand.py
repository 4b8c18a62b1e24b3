"""Profiles made by hand, whose figures a reader can work out with a pencil."""

from __future__ import annotations

from chipassay.results.profile import Curve, Evidence, Link, Profile, Quantity, Segment
from chipassay.results.shape_models.product import ProductModel

MEASURED = Evidence("measured", "one run", "2026-11-20")
PUBLISHED = Evidence("published", "a paper", "2024-05-01")
DATASHEET = Evidence("published", "the datasheet")

TERA, GIGA = 1e12, 1e9


def chip(name: str = "chip-a", rate: float = 400 * TERA, spread: float | None = 0.03, bandwidth: float = 2000 * GIGA) -> Profile:
    """A chip of 500 TFLOP/s by its datasheet, with a product model that is a plain roofline without a launch."""
    return Profile(
        chip_id=name,
        name=name.upper(),
        matmul={"bf16": Curve(0.0, rate, MEASURED, points=9, spread=spread)},
        attention={"bf16": Curve(0.0, rate / 2, PUBLISHED, points=3)},
        memory=Curve(0.0, bandwidth, MEASURED, points=5, spread=0.01),
        products={"bf16": ProductModel(rate, bandwidth, 0.0, MEASURED, sharpness=1e3, points=9, spread=spread)},
        memory_ops={"rms_norm": Curve(0.0, bandwidth / 2, MEASURED), "rms_norm backward": Curve(0.0, bandwidth / 4, MEASURED)},
        launch_s={"stream": Quantity(2e-6, MEASURED)},
        links=(
            Link("all_reduce", "nccl", 2, 0.0, 100 * GIGA, MEASURED, spread=0.02),
            Link("all_reduce", "nccl", 8, 0.0, 150 * GIGA, MEASURED, segments=(Segment(0.0, 0.0, 150 * GIGA, 0.0, 0.0, freedom=1e9),)),
            Link("all_reduce", "socket", 8, 0.0, 1 * GIGA, MEASURED),
            Link("barrier", "nccl", 8, 1e-5, 0.0, MEASURED),
            Link("all_gather", "nccl", 16, 0.0, 20 * GIGA, PUBLISHED, placement="across"),
        ),
        peak_flops_per_s={"bf16": Quantity(500 * TERA, DATASHEET), "fp32": Quantity(50 * TERA, DATASHEET)},
        peak_bandwidth_bytes_per_s=Quantity(2500 * GIGA, DATASHEET),
        memory_bytes=Quantity(80 * 2.0**30, DATASHEET),
        power_w=Quantity(500.0, DATASHEET),
    )
