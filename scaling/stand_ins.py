"""What a profile says of one dtype, and what stands in for the cells that it lacks: a stated share of a peak or of a kin, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chipassay.results.catalogue import load_chips
from chipassay.results.profile import Curve, Evidence, Profile, Quantity

from .errors import MissingCell

if TYPE_CHECKING:
    from chipassay.results.shape_models.attention import AttentionModel
    from chipassay.results.shape_models.product import ProductModel

TRAINING_DTYPES = ("bf16", "fp16", "tf32", "fp32", "fp8")
ELEMENT_BYTES = {"bf16": 2, "fp16": 2, "tf32": 4, "fp32": 4, "fp8": 2}
"""Bytes of one activation or working weight. In ``fp8`` only the operands of the linear layers' products are narrower."""
WIDER = {"fp8": "bf16"}
"""What everything but the linear layers' products runs in."""
CHOSEN_DTYPES = ("bf16", "fp16", "tf32", "fp32")
"""What a plan without a dtype may train in: fp8 must be asked for."""
BF16_PREFERENCE = 0.8
"""bf16 is chosen over a faster dtype down to this share of its rate: it needs no loss scaling."""

ASSUMED_MATMUL_SHARE = 0.70
ASSUMED_ATTENTION_SHARE = 0.60
ASSUMED_MEMORY_SHARE = 0.80
"""Shares that stand in for missing cells: matmul of the peak, attention of the matmul rate (published chips: 0.4 to 0.8), memory
of the peak bandwidth (published chips: 0.79 to 0.87). Used only with evidence ``assumed``."""
ASSUMED_KERNEL_LATENCY_S = 5e-6
ATTENTION_BACKWARD = 2.5
"""FLOPs of the fused attention backward over its forward: five products instead of two (Dao et al. 2022, arXiv 2205.14135). Stands in
where a profile knows no time of the backward pass."""
PCIE_SHARE = 0.88
"""Of a PCIe link's rate that a pinned copy reaches (H200: 55.3 of 63 GB/s, measured, results/h200-sxm-141gb)."""


def _achievable(profile: Profile) -> dict[str, float]:
    """dtype -> rate that large products reach, by measurement or by an assumed share of the peak."""
    rates = {dtype: peak.value * ASSUMED_MATMUL_SHARE for dtype, peak in profile.peak_flops_per_s.items() if dtype in CHOSEN_DTYPES}
    rates.update({dtype: curve.rate for dtype, curve in profile.matmul.items() if dtype in CHOSEN_DTYPES})
    return rates


def training_dtype(profile: Profile) -> str:
    """The dtype to train in: the fastest of bf16, fp16, tf32 and fp32, and bf16 if it comes near.

    A chip that only emulates bf16 (V100, P100, most CPUs) shows it by its rate. Where any was measured, only measured ones count.
    """
    measured = {dtype: curve.rate for dtype, curve in profile.matmul.items() if dtype in CHOSEN_DTYPES}
    rates = measured or _achievable(profile)
    if not rates:
        raise MissingCell(f"profile {profile.chip_id}: no matmul rate and no peak in {', '.join(TRAINING_DTYPES)}; measure matmul first")
    best = max(rates, key=lambda dtype: rates[dtype])
    if rates.get("bf16", 0.0) >= BF16_PREFERENCE * rates[best]:
        return "bf16"
    return best


def profile_dtype(dtype: str, known: Mapping[str, Any]) -> str:
    """The profile's name of a dtype: fp8 is e4m3's, whose products are those of the forward pass."""
    return "fp8_e4m3" if dtype == "fp8" and "fp8_e4m3" in known else dtype


def matmul_curve(profile: Profile, dtype: str) -> Curve:
    dtype = profile_dtype(dtype, {**profile.peak_flops_per_s, **profile.matmul})
    if dtype in profile.matmul:
        return profile.matmul[dtype]
    peak = profile.peak_flops_per_s.get(dtype)
    if peak is None:
        known = ", ".join(sorted({*profile.matmul, *profile.peak_flops_per_s})) or "none"
        raise MissingCell(
            f"profile {profile.chip_id}: nothing is known of {dtype} matmul (known: {known}); choose one of those or measure it"
        )
    source = f"{ASSUMED_MATMUL_SHARE:.2f} of the peak of {peak.value / 1e12:.4g} TFLOP/s: no matmul was measured in {dtype}"
    return Curve(ASSUMED_KERNEL_LATENCY_S, peak.value * ASSUMED_MATMUL_SHARE, Evidence("assumed", source))


def attention_curve(profile: Profile, dtype: str, matmul: Curve) -> Curve:
    if dtype in profile.attention:
        return profile.attention[dtype]
    if profile.attention and dtype in profile.matmul:
        other = next((known for known in ("bf16", "fp16", "fp32") if known in profile.attention and known in profile.matmul), None)
        if other is not None:
            ratio = profile.attention[other].rate / profile.matmul[other].rate
            source = f"{ratio:.2f} of the {dtype} matmul rate, as in {other}: {profile.attention[other].evidence.source}"
            return Curve(matmul.overhead_s, matmul.rate * ratio, Evidence("derived", source))
    source = f"{ASSUMED_ATTENTION_SHARE:.2f} of the matmul rate: no attention was measured"
    return Curve(matmul.overhead_s, matmul.rate * ASSUMED_ATTENTION_SHARE, Evidence("assumed", source))


def memory_curve(profile: Profile) -> Curve:
    if profile.memory is not None:
        return profile.memory
    peak = profile.peak_bandwidth_bytes_per_s
    if peak is None:
        raise MissingCell(f"profile {profile.chip_id}: no memory bandwidth, measured or by datasheet; measure copy first")
    source = f"{ASSUMED_MEMORY_SHARE:.2f} of the peak of {peak.value / 1e9:.4g} GB/s: no copy was measured"
    return Curve(ASSUMED_KERNEL_LATENCY_S, peak.value * ASSUMED_MEMORY_SHARE, Evidence("assumed", source))


def product_model(profile: Profile, dtype: str, matmul: Curve, memory: Curve) -> ProductModel:
    """The profile's model by shape, else the one line as a model without tiles."""
    from chipassay.results.shape_models.product import ProductModel

    named = profile_dtype(dtype, profile.products)
    if named in profile.products:
        return profile.products[named]
    element = 1.0 if dtype == "fp8" else float(ELEMENT_BYTES[dtype])
    return ProductModel(matmul.rate, memory.rate, matmul.overhead_s, matmul.evidence, element, max(2.0, element))


def attention_model(profile: Profile, dtype: str, attention: Curve, memory: Curve) -> AttentionModel:
    """The profile's model by shape, another 16-bit dtype's, or the one line as a model."""
    from chipassay.results.shape_models.attention import AttentionModel

    for known in (dtype, *(("bf16", "fp16") if dtype in ("bf16", "fp16") else ())):
        if known in profile.attentions:
            found = profile.attentions[known]
            return found if found.backward else replace(found, backward={"128": ATTENTION_BACKWARD})
    element = float(ELEMENT_BYTES[dtype])
    return AttentionModel(
        attention.rate, memory.rate, attention.overhead_s, attention.evidence, element, element, backward={"128": ATTENTION_BACKWARD}
    )


def host_link(profile: Profile) -> Quantity | None:
    """The slower of both directions of pinned copies, as measured, else a share of the PCIe link's rate."""
    measured = [quantity for name, quantity in profile.host_link_bytes_per_s.items() if name.endswith(" pinned")]
    if measured:
        return min(measured, key=lambda quantity: quantity.value)
    chip = load_chips().get(profile.chip_id)
    if chip is None or not chip.pcie_bytes_per_s:
        return None
    source = f"{PCIE_SHARE} of the link's {chip.pcie_bytes_per_s / 1e9:.3g} GB/s, as on an H200"
    return Quantity(PCIE_SHARE * chip.pcie_bytes_per_s, Evidence("derived", source))
