"""A profile of any chip in the catalogue without measuring it: published figures where there are any, else a sibling's share of
its peak, else the median share of all published chips. Each number says which of the three it is.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from .catalogue import Chip, find_chip, load_chips
from .profile import Curve, Evidence, Level, Link, Profile, Quantity
from .published_rows import (
    COLLECTIVE_LATENCY_S,
    KERNEL_LATENCY_S,
    best_rate_per_s,
    published_chips,
    published_curve,
    published_links,
    typical_over_best,
)

MATMUL_DTYPES = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2")
ATTENTION_DTYPES = ("fp16", "bf16")
"""Fused attention is published in 16 bit only."""
TWIN_DTYPE = {"fp16": "bf16", "bf16": "fp16", "fp8_e4m3": "fp8_e5m2", "fp8_e5m2": "fp8_e4m3"}
"""dtypes that run on the same units at the same width: one's share of peak stands for the other's."""

SHARE_SPREAD = 0.08
"""Boards of older memory reach other shares than those that are published: assumed."""
PCIE_BUS_SHARE = 24.0 / 31.5
PCIE_SOURCE = "8 chips over PCIe 4 reach 24 of 31.5 GB/s, over PCIe 5 48 of 63 (NVIDIA GTC24 S62129)"


def family(chip: Chip) -> Iterator[Chip]:
    """The chips nearest to this one: what it was cut from or grown into, then the same silicon, same form factor first."""
    chips = load_chips()
    near: dict[str, None] = {}
    if chip.sibling:
        near[chip.sibling] = None
    near.update(dict.fromkeys(other.id for other in chips.values() if other.sibling == chip.id))
    near.update(dict.fromkeys(other.id for other in chips.values() if chip.sibling and other.sibling == chip.sibling))
    same = [other for other in chips.values() if other.architecture == chip.architecture]
    near.update(dict.fromkeys(other.id for other in sorted(same, key=lambda other: other.form_factor != chip.form_factor)))
    near.pop(chip.id, None)
    return (chips[other] for other in near)


SAME_PEAK = 0.02
"""Two chips whose peaks differ by no more than this are taken to be the same arithmetic units."""


def _same_units(chip: Chip, dtype: str) -> tuple[str, Curve] | None:
    """A published curve of the chip that this one was cut from, if its arithmetic was left as it was (A800, H800, H200, ...)."""
    ancestor, peak = chip, chip.peak_flops_per_s.get(dtype)
    while ancestor.sibling and peak:
        ancestor = find_chip(ancestor.sibling)
        other_peak = ancestor.peak_flops_per_s.get(dtype)
        curve = published_curve(ancestor.id, "matmul", dtype)
        if curve is not None and other_peak and abs(other_peak / peak - 1) <= SAME_PEAK:
            return ancestor.id, curve
    return None


def _own_matmul(chip: Chip, dtype: str) -> Curve | None:
    """A curve from what was published of this very chip, or of the same arithmetic units under another name."""
    curve = published_curve(chip.id, "matmul", dtype)
    if curve is not None:
        return curve
    same = _same_units(chip, dtype)
    if same is not None:
        source = f"same arithmetic units and peak as {same[0]}: {same[1].evidence.source}"
        return Curve(same[1].overhead_s, same[1].rate, Evidence("derived", source), spread=same[1].spread)
    twin = TWIN_DTYPE.get(dtype)
    peak = chip.peak_flops_per_s.get(dtype)
    curve = published_curve(chip.id, "matmul", twin) if twin else None
    if curve is not None and twin and peak and chip.peak_flops_per_s.get(twin) == peak:
        source = f"same units and peak as {twin}: {curve.evidence.source}"
        return Curve(curve.overhead_s, curve.rate, Evidence("derived", source), spread=curve.spread)
    best = best_rate_per_s(chip.id, "matmul", dtype)
    if best is None:
        return None
    share, where = _typical_share_of_best(chip, dtype)
    source = f"best shape {best[0] / 1e12:.4g} TFLOP/s ({best[1]}) x {share:.2f}, typical shapes over the best one {where}"
    return Curve(_matmul_overhead_s(), best[0] * share, Evidence("derived", source))


def _typical_share_of_best(chip: Chip, dtype: str) -> tuple[float, str]:
    """What typical shapes give over the best one, on the nearest chip published both ways, or the median of all; and where."""
    for other in family(chip):
        curve, best = published_curve(other.id, "matmul", dtype), best_rate_per_s(other.id, "matmul", dtype)
        if curve is not None and best is not None:
            return min(1.0, curve.rate / best[0]), f"on {other.id}"
    return typical_over_best(), "on the chips published both ways (median)"


@lru_cache(maxsize=1)
def _matmul_overhead_s() -> float:
    curves = [published_curve(chip_id, "matmul", dtype) for chip_id in published_chips("matmul") for dtype in ("bf16", "fp16")]
    return statistics.median(curve.overhead_s for curve in curves if curve is not None)


def _share(chip: Chip, dtype: str) -> tuple[float, Curve] | None:
    """The share of the peak that this chip's own published curve reaches, and the curve."""
    curve, peak = _own_matmul(chip, dtype), chip.peak_flops_per_s.get(dtype)
    return (curve.rate / peak, curve) if curve is not None and peak else None


@lru_cache(maxsize=16)
def _median_share(dtype: str) -> float:
    """The median share of peak over all published chips in this dtype; over all dtypes where nobody published this one."""
    chips = [find_chip(chip_id) for chip_id in published_chips("matmul")]
    shares = [share[0] for chip in chips if (share := _share(chip, dtype))]
    if not shares:
        shares = [share[0] for chip in chips for other in MATMUL_DTYPES if (share := _share(chip, other))]
    return min(1.0, statistics.median(shares))


def matmul_curve(chip: Chip, dtype: str) -> Curve | None:
    """The matmul curve of a chip in one dtype; None where its peak is unknown and nothing was published."""
    own = _own_matmul(chip, dtype)
    if own is not None:
        return own
    peak = chip.peak_flops_per_s.get(dtype)
    if peak is None:
        return None
    candidates = [(other, dtype) for other in family(chip)]
    if dtype in TWIN_DTYPE:
        candidates = [(chip, TWIN_DTYPE[dtype]), *candidates, *((other, TWIN_DTYPE[dtype]) for other in family(chip))]
    for other, other_dtype in candidates:
        found = _share(other, other_dtype)
        if found is not None:
            share, curve = found[0], found[1]
            source = f"{min(1.0, share):.2f} of peak, as {other.id} in {other_dtype}: {curve.evidence.source}"
            return Curve(curve.overhead_s, peak * min(1.0, share), Evidence("derived", source))
    share = _median_share(dtype)
    source = f"{share:.2f} of peak: the median of the chips published in {dtype} (in any dtype where none is)"
    return Curve(_matmul_overhead_s(), peak * share, Evidence("assumed", source))


def attention_curve(chip: Chip, dtype: str, matmul: Curve) -> Curve:
    """The attention curve: published, a sibling's ratio of attention to matmul, or the median ratio."""
    for own in (dtype, TWIN_DTYPE[dtype]):
        curve = published_curve(chip.id, "attention", own)
        if curve is not None:
            level: Level = "published" if own == dtype else "derived"
            return Curve(curve.overhead_s, curve.rate, Evidence(level, f"in {own}: {curve.evidence.source}"), curve.points)
        best = best_rate_per_s(chip.id, "attention", own)
        if best is not None:
            return Curve(matmul.overhead_s, best[0], Evidence("derived", f"forward alone, in {own}: {best[1]}"))
    ratios = {}
    for chip_id in published_chips("attention"):
        for own in ATTENTION_DTYPES:
            curve, best, product = (
                published_curve(chip_id, "attention", own),
                best_rate_per_s(chip_id, "attention", own),
                matmul_curve(find_chip(chip_id), own),
            )
            rate = curve.rate if curve is not None else best[0] if best is not None else None
            if rate is not None and product is not None:
                ratios[chip_id] = rate / product.rate
    near = next((other.id for other in family(chip) if other.id in ratios), None)
    if near is not None:
        return Curve(
            matmul.overhead_s, matmul.rate * ratios[near], Evidence("derived", f"{ratios[near]:.2f} of the matmul rate, as {near}")
        )
    ratio = statistics.median(ratios.values())
    source = f"{ratio:.2f} of the matmul rate, the median of {', '.join(ratios)}; nothing is published of this chip"
    return Curve(matmul.overhead_s, matmul.rate * ratio, Evidence("assumed", source))


def memory_curve(chip: Chip) -> Curve | None:
    """The copy curve of a chip; None where its bandwidth is unknown and nothing was published."""
    own = published_curve(chip.id, "copy")
    if own is not None:
        return own
    peak = chip.memory_bandwidth_bytes_per_s
    if peak is None:
        return None
    shares = {}
    for chip_id in published_chips("copy"):
        curve, other_peak = published_curve(chip_id, "copy"), find_chip(chip_id).memory_bandwidth_bytes_per_s
        if curve is not None and other_peak:
            shares[chip_id] = curve.rate / other_peak
    near = next((other.id for other in family(chip) if other.id in shares), None)
    if near is not None:
        evidence = Evidence("derived", f"{shares[near]:.2f} of peak, as {near}")
        return Curve(KERNEL_LATENCY_S, peak * shares[near], evidence, spread=_share_spread(shares))
    share = statistics.median(shares.values())
    source = f"{share:.2f} of peak, the median of {', '.join(shares)}; nothing is published of this chip"
    return Curve(KERNEL_LATENCY_S, peak * share, Evidence("assumed", source), spread=_share_spread(shares))


def _share_spread(shares: Mapping[str, float]) -> float:
    """How far the shares of the published chips differ: the standard deviation of their logs, and SHARE_SPREAD at the least."""
    return max(SHARE_SPREAD, statistics.pstdev(map(math.log, shares.values())))


def link_shares(chip_id: str) -> dict[tuple[str, int], tuple[float, Link]]:
    """(collective, group size) -> share of the one-way link that the published bus bandwidth is, and the link."""
    line = find_chip(chip_id).link_bytes_per_s_one_way
    return {(link.pattern, link.group_size): (link.busbw_bytes_per_s / line, link) for link in published_links(chip_id)} if line else {}


def collective_links(chip: Chip) -> tuple[Link, ...]:
    """The collectives of a chip inside its node: published, or a sibling's shares of its own link, or PCIe."""
    own = published_links(chip.id)
    links = list(own)
    domain = chip.link_domain_size or 1
    line = chip.link_bytes_per_s_one_way
    if line and domain > 1:
        near = (
            next((other for other in family(chip) if (other.link_domain_size or 1) > 2 and link_shares(other.id)), None)
            if domain > 2
            else None
        )
        have = {(link.pattern, link.group_size) for link in own}
        if near is not None:
            for (pattern, group_size), (share, link) in link_shares(near.id).items():
                if (pattern, group_size) in have or (own and pattern == "all_reduce"):
                    continue
                source = f"{share:.2f} of the one-way link, as {near.id} in groups of {group_size}: {link.evidence.source}"
                links.append(Link(pattern, chip.link, min(group_size, domain), link.latency_s, share * line, Evidence("derived", source)))
        if not any(link.pattern == "all_reduce" for link in links):
            shares = [
                found[0]
                for chip_id in published_chips("all_reduce")
                for (pattern, _), found in link_shares(chip_id).items()
                if pattern == "all_reduce"
            ]
            share = min(1.0, statistics.median(shares))
            source = f"{share:.2f} of the one-way link, the median of the published chips; nothing is published of this one"
            links.append(Link("all_reduce", chip.link, domain, COLLECTIVE_LATENCY_S, share * line, Evidence("assumed", source)))
    if (domain <= 2 or not line) and chip.pcie_bytes_per_s and not any(link.group_size > 2 for link in own):
        for group_size in (2, 4, 8):
            if not any(link.group_size == group_size and link.pattern == "all_reduce" for link in links):
                level: Level = "derived" if domain <= 2 else "assumed"  # a link of unknown bandwidth: PCIe stands in
                evidence = Evidence(level, f"{PCIE_BUS_SHARE:.2f} of PCIe: {PCIE_SOURCE}")
                links.append(Link("all_reduce", "PCIe", group_size, COLLECTIVE_LATENCY_S, PCIE_BUS_SHARE * chip.pcie_bytes_per_s, evidence))
    return tuple(sorted(links, key=lambda link: (link.pattern, link.group_size)))


def _quantity(value: float | None, evidence: Evidence) -> Quantity | None:
    return None if value is None else Quantity(value, evidence)


def _curves(dtypes: tuple[str, ...], curve_of: Callable[[str], Curve | None]) -> dict[str, Curve]:
    return {dtype: curve for dtype in dtypes if (curve := curve_of(dtype)) is not None}


@lru_cache(maxsize=128)
def profile_from_catalogue(chip_id: str) -> Profile:
    """A profile of a catalogue chip without a measurement. What is unknown stays absent; UnknownName for an unknown chip.

    >>> profile_from_catalogue("a100-sxm-80gb").matmul["bf16"].evidence.level
    'published'
    """
    chip = find_chip(chip_id)
    matmul = _curves(MATMUL_DTYPES, lambda dtype: matmul_curve(chip, dtype))
    attention = {dtype: attention_curve(chip, dtype, matmul[dtype]) for dtype in ATTENTION_DTYPES if dtype in matmul}
    return Profile(
        chip_id=chip.id,
        name=chip.name,
        matmul=matmul,
        attention=attention,
        memory=memory_curve(chip),
        links=collective_links(chip),
        peak_flops_per_s={dtype: Quantity(peak, chip.evidence) for dtype, peak in chip.peak_flops_per_s.items()},
        peak_bandwidth_bytes_per_s=_quantity(chip.memory_bandwidth_bytes_per_s, chip.evidence),
        memory_bytes=_quantity(chip.memory_bytes, chip.evidence),
        power_w=_quantity(chip.power_w, chip.evidence),
    )
