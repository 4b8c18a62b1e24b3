"""Profiles as lines of text for the terminal."""

from __future__ import annotations

import math

from chipassay.results.profile import Curve, Evidence, Link, Load, Overlap, Profile, Quantity
from chipassay.results.profile_figures import Figure, attention_rate, product_rate
from chipassay.results.reference_shapes import LARGE_ATTENTION, LARGE_PRODUCT
from chipassay.results.shape_models.attention import AttentionModel
from chipassay.results.shape_models.product import ProductModel
from chipassay.results.units import bandwidth, rate, seconds, size


def evidence_words(evidence: Evidence) -> str:
    """Level, and date where there is one."""
    return evidence.level + (f" {evidence.date}" if evidence.date else "")


def _curve(label: str, curve: Curve, shown: str, peak: float | None) -> str:
    share = f", {100 * curve.rate / peak:.0f} % of peak" if peak else ""
    spread = f", residuals {100 * curve.spread:.1f} %" if curve.spread is not None else ""
    points = f", {curve.points} point{'' if curve.points == 1 else 's'}" if curve.points else ""
    return f"  {label:<23} {shown} beyond {seconds(curve.overhead_s)}{share}{points}{spread} ({evidence_words(curve.evidence)})"


def _by_shape(figure: Figure, model: ProductModel | AttentionModel, at: str) -> str:
    """What a model by shape says of the large shape that stands for its dtype."""
    share = f", {100 * figure.share:.0f} % of peak" if figure.share is not None else ""
    interval = f" ({rate(figure.interval[0])} to {rate(figure.interval[1])})" if figure.interval is not None else ""
    points = f"{model.points} point{'' if model.points == 1 else 's'}"
    beyond = f", {figure.note}" if figure.note else ""
    words = f"{rate(figure.value or 0.0)}{interval} at {at}{share}{beyond}, launch {seconds(model.launch_s)}, {points}"
    return f"  {figure.name:<23} {words} ({evidence_words(model.evidence)})"


def _rates(profile: Profile) -> list[str]:
    """A line a dtype: by its model of shapes where there is one, else by the one line through FLOPs."""
    lines = []
    for dtype in [*profile.products, *(dtype for dtype in profile.matmul if dtype not in profile.products)]:
        model = profile.products.get(dtype)
        if model is not None:
            lines.append(_by_shape(product_rate(profile, dtype, LARGE_PRODUCT), model, LARGE_PRODUCT.name))
        else:
            curve, peak = profile.matmul[dtype], profile.peak_flops_per_s.get(dtype)
            lines.append(_curve(f"matmul {dtype}", curve, rate(curve.rate), peak.value if peak else None))
    for dtype in [*profile.attentions, *(dtype for dtype in profile.attention if dtype not in profile.attentions)]:
        attention = profile.attentions.get(dtype)
        if attention is not None:
            directions = ("forward", "backward") if attention.backward else ("forward",)
            for direction in directions:
                figure = attention_rate(profile, dtype, LARGE_ATTENTION, direction)
                lines.append(_by_shape(figure, attention, LARGE_ATTENTION.name))
        else:
            curve, peak = profile.attention[dtype], profile.peak_flops_per_s.get(dtype)
            lines.append(_curve(f"attention {dtype}", curve, rate(curve.rate), peak.value if peak else None))
    return lines


def _quantity(label: str, found: Quantity, shown: str) -> str:
    return f"  {label:<23} {shown} ({evidence_words(found.evidence)})"


def _end(busbw: float) -> str:
    return bandwidth(busbw) if math.isfinite(busbw) else "unknown"


def _overlap(found: Overlap) -> str:
    c, p = found.communication_slowdown, found.compute_slowdown
    told = [f"{name} {slowdown:.2f} times as long" for name, slowdown in (("collective", c), ("product", p)) if slowdown is not None]
    group = f"{found.group_size} ranks, {found.transport}, beside matmul {found.product}"
    return f"  {found.pattern:<23} {size(found.size_bytes)}: {', '.join(told)}, {group} ({evidence_words(found.evidence)})"


def _load(found: Load) -> str:
    group = f"{found.groups} groups of {found.group_size} at once, {found.placement} nodes, {found.transport}"
    return f"  {found.pattern:<23} {found.slowdown:.2f} times as long: {group} ({evidence_words(found.evidence)})"


def _link(link: Link) -> str:
    group = f"{link.group_size} ranks{' across nodes' if link.placement == 'across' else ''}, {link.transport}"
    group += ", graph" if link.launch == "graph" else ""
    spread = f", residuals {100 * link.spread:.0f} %" if link.spread is not None else ""
    changes = f", changes near {', '.join(map(size, link.changes_bytes))}" if link.changes_bytes else ""
    first, last = (link.segments[0].latency_interval_s, link.segments[-1].busbw_interval) if link.segments else (None, None)
    latency = f"{seconds(link.small_latency_s)} latency" + (f" ({seconds(first[0])} to {seconds(first[1])})" if first else "")
    reached = f", {bandwidth(link.busbw_bytes_per_s)} busbw" if link.busbw_bytes_per_s else ""
    reached += f" ({bandwidth(last[0])} to {_end(last[1])})" if last else ""
    found = f"{latency}{reached}{changes}"
    return f"  {link.pattern:<23} {found}, {group}{spread} ({evidence_words(link.evidence)})"


def profile_lines(profile: Profile) -> list[str]:
    """The profile, a line per cell."""
    lines = [f"{profile.name} ({profile.chip_id})", *_rates(profile)]
    peak = profile.peak_bandwidth_bytes_per_s.value if profile.peak_bandwidth_bytes_per_s else None
    if profile.memory is not None:
        lines.append(_curve("memory", profile.memory, bandwidth(profile.memory.rate), peak))
    lines += [_curve(name, curve, bandwidth(curve.rate), peak) for name, curve in profile.memory_ops.items()]
    lines += [_quantity(f"launch {name}", found, seconds(found.value)) for name, found in profile.launch_s.items()]
    lines += [_quantity(name.replace("_", " "), found, bandwidth(found.value)) for name, found in profile.host_link_bytes_per_s.items()]
    lines += [_quantity(f"power {name}", found, f"{found.value:.0f} W") for name, found in profile.sustained_power_w.items()]
    lines += [_link(link) for link in profile.links]
    lines += [_load(found) for found in profile.loads]
    lines += [_overlap(found) for found in profile.overlaps]
    if profile.memory_bytes is not None:
        lines.append(f"  {'memory size':<23} {size(profile.memory_bytes.value)} ({evidence_words(profile.memory_bytes.evidence)})")
    return lines
