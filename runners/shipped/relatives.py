"""A chip that nobody measured, by rule from one that somebody did: shares of the datasheet stay, the datasheet is its own.

``python -m chipassay.runners.shipped.rule_errors`` applies the rule between chips that were both measured and prints how far off it is: the
spreads below are from it.
"""

from __future__ import annotations

import math
from dataclasses import replace

from chipassay.results.catalogue import Chip
from chipassay.results.evidence import Evidence, Level
from chipassay.results.profile import Curve
from chipassay.results.shape_models.attention import AttentionModel
from chipassay.results.shape_models.product import ProductModel

SAME_PEAK = 0.02
"""Two chips of one architecture whose peaks differ by no more are taken to be the same arithmetic units."""
SAME_UNITS_SIGMA = 0.06
"""Standard deviation of log(measured / by rule) beyond what the chip's own fit leaves, over shapes of at least 1 GFLOP in bf16: H100 from
H200 0.03, H200 from H100 0.02, B300 from B200 0.05."""
OTHER_UNITS_SIGMA = 0.30
"""The same between other chips: GB200 from B200 0.06, H100 from A100 0.10, B200 from H100 0.13, RTX PRO 6000 from L40S 0.23, L40S from it
0.26 and from A100 0.28 (bf16), V100 from P100 0.24 (fp32), T4 from V100 0.20 (fp16) and 0.53
(fp32). Boards of little power are the worst."""
MOST_THROTTLING = 2.0
"""Farther than that nothing was measured."""
MEMORY_OP_SIGMA = 0.15
"""Of a memory-bound operation whose share of the copy bandwidth is another chip's: assumed; none was measured on two chips."""


def same_units(chip: Chip, parent: Chip, dtype: str) -> bool:
    """Whether the two have the same arithmetic in this dtype: the A800 and the A100, the H200 and the H100."""
    own, other = chip.peak_flops_per_s.get(dtype), parent.peak_flops_per_s.get(dtype)
    alike = chip.core_count == parent.core_count and generation(chip) == generation(parent)
    return bool(alike and own and other and abs(own / other - 1) <= SAME_PEAK)


def rule_sigma(chip: Chip, parent: Chip, dtype: str) -> float:
    """Standard deviation of log(true / by rule) beyond the parent's spread."""
    return SAME_UNITS_SIGMA if same_units(chip, parent, dtype) else OTHER_UNITS_SIGMA


def generation(chip: Chip) -> str:
    """``Hopper`` of ``Hopper GH100 + Grace``: silicon by generation."""
    return chip.architecture.split()[0]


def _throttling(chip: Chip, parent: Chip, dtype: str) -> float:
    """How much more a chip's clocks fall under power than a parent's of the same generation: by the watts that each has for its FLOPs.

    An A100 PCIe, the A100's units at 300 of its 400 W, is predicted a little better so (183 shapes: median error 0.143, without it 0.151).
    """
    watts, parent_watts = chip.power_w, parent.power_w
    peak, parent_peak = chip.peak_flops_per_s.get(dtype), parent.peak_flops_per_s.get(dtype)
    if generation(chip) != generation(parent) or not (watts and parent_watts and peak and parent_peak):
        return 1.0
    return min(MOST_THROTTLING, (parent_watts / parent_peak) / (watts / peak))


def product_by_rule(parent: ProductModel, of: Chip, chip: Chip, dtype: str, own_dtype: str | None = None) -> ProductModel | None:
    """The parent's model on this chip's datasheet; None where a peak or a bandwidth is unknown. ``own_dtype``: the parent's is another."""
    peaks = chip.peak_flops_per_s.get(dtype), of.peak_flops_per_s.get(own_dtype or dtype)
    bandwidths = chip.memory_bandwidth_bytes_per_s, of.memory_bandwidth_bytes_per_s
    if not (peaks[0] and peaks[1] and bandwidths[0] and bandwidths[1]):
        return None
    units = parent.tiles and chip.core_count
    sigma = rule_sigma(chip, of, dtype)
    # Datasheets round the peak of the same units differently: 989 and 989.4.
    scale = 1.0 if same_units(chip, of, dtype) and own_dtype is None else peaks[0] / peaks[1]
    # Which kernels a library takes for a shape goes with the chip: on others the correction is of no use (rule_errors).
    correction = parent.correction if same_units(chip, of, dtype) else None
    return replace(
        parent,
        rate_flops_per_s=min(parent.rate_flops_per_s, peaks[1]) * scale,
        bandwidth_bytes_per_s=parent.bandwidth_bytes_per_s / bandwidths[1] * bandwidths[0],
        multiprocessors=chip.core_count if units and chip.core_count else 1,
        tiles=parent.tiles if units else (),
        splits=parent.splits if units else (),
        correction=correction,
        slowdown=parent.slowdown * _throttling(chip, of, dtype),
        points=0,
        spread=math.hypot(parent.spread or 0.0, sigma),
        held_out=None,
        fitted_range={},
        evidence=_by_rule(parent.evidence, of, chip, dtype, own_dtype),
    )


def attention_by_rule(parent: AttentionModel, of: Chip, chip: Chip, dtype: str, rates: float) -> AttentionModel | None:
    """The parent's attention, its rate times ``rates``: this chip's rate of large products over the parent's."""
    bandwidths = chip.memory_bandwidth_bytes_per_s, of.memory_bandwidth_bytes_per_s
    if not (bandwidths[0] and bandwidths[1]):
        return None
    source = f"rate by that of large products, {rates:.3g} of {of.id}'s, bandwidth by the datasheet's: {parent.evidence.source}"
    return replace(
        parent,
        rate_flops_per_s=parent.rate_flops_per_s * rates,
        bandwidth_bytes_per_s=parent.bandwidth_bytes_per_s / bandwidths[1] * bandwidths[0],
        multiprocessors=chip.core_count or 1,
        points=0,
        spread=math.hypot(parent.spread or 0.0, rule_sigma(chip, of, dtype)),
        held_out=None,
        fitted_range={},
        evidence=Evidence("derived", source),
    )


def memory_op_by_rule(operation: Curve, streams: Curve, of: Chip, own_streams: Curve) -> Curve:
    """A memory-bound operation at the share of the copy bandwidth that it has on the parent."""
    share = operation.rate / streams.rate
    source = f"{share:.2f} of the copy bandwidth, as on {of.id} ({operation.evidence.source}); copy: {own_streams.evidence.source}"
    sigma = math.hypot(operation.spread or 0.0, own_streams.spread or 0.0, MEMORY_OP_SIGMA)
    level: Level = "assumed" if own_streams.evidence.level == "assumed" else "derived"
    return Curve(operation.overhead_s, own_streams.rate * share, Evidence(level, source), spread=sigma)


def _by_rule(evidence: Evidence, of: Chip, chip: Chip, dtype: str, own_dtype: str | None) -> Evidence:
    if same_units(chip, of, dtype) and own_dtype is None:
        rule = f"the arithmetic units of {of.id}, bandwidth by the datasheet's"
    else:
        rule = f"shares of the datasheet's peak and bandwidth as {of.id}" + (f" in {own_dtype}" if own_dtype else "")
    return Evidence("derived", f"{rule}: {evidence.source}", evidence.date)
