"""Figures read off a profile: what the chip reaches at a given shape, how sure that is, and whose word it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .evidence import Evidence, Level
from .link import NORMAL_Z, Link
from .profile import Curve, Profile
from .reference_shapes import ATTENTIONS, GROUP_SIZES, MESSAGES, PRODUCTS, AttentionShape, ProductShape

SIXTEEN_BIT = ("bf16", "fp16")
EIGHT_BIT = ("fp8_e4m3",)

WIDTHS: tuple[tuple[str, tuple[str, ...]], ...] = (("16 bit", SIXTEEN_BIT), ("8 bit", EIGHT_BIT))
"""Chips of different generations meet in the width, not in the dtype: a V100 trains in fp16 what an A100 trains in bf16."""


RATE_AT_MOST = 1.10
"""Of the dense peak: it holds at a boost clock that the chip may exceed (the H100 SXM's at 1830 MHz, and it runs up to 1980; chips.csv)."""


@dataclass(frozen=True)
class Figure:
    """One number of a profile. ``value`` and ``evidence`` None: unknown."""

    group: str
    name: str
    unit: str
    """``FLOP/s``, ``B/s``, ``s``, ``B``, ``W`` or empty (a ratio)."""
    value: float | None = None
    evidence: Evidence | None = None
    reach: float | None = None
    """Half the width of the 95 % interval of log(value); None: nobody told."""
    peak: float | None = None
    """What the datasheet says in the same unit."""
    points: int = 0
    note: str = ""
    """At which work, in which dtype; or that this is beyond what was fitted."""

    @property
    def level(self) -> Level | None:
        """Its evidence; None: unknown."""
        return None if self.evidence is None else self.evidence.level

    @property
    def share(self) -> float | None:
        """Of the datasheet's figure."""
        return None if self.value is None or not self.peak else self.value / self.peak

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval; of a rate it ends where no chip of this peak can be.

        >>> Figure("matmul", "matmul bf16", "FLOP/s", value=64.0, reach=math.log(2), peak=80.0).interval
        (32.0, 88.0)
        """
        if self.value is None or self.reach is None:
            return None
        low, high = self.value / math.exp(self.reach), self.value * math.exp(self.reach)
        if self.unit == "FLOP/s" and self.peak:
            high = min(high, max(self.value, RATE_AT_MOST * self.peak))
        return low, high


def reach_of(spread: float | None) -> float | None:
    """From a standard deviation of log residuals.

    >>> round(reach_of(0.05), 3)
    0.098
    """
    return None if spread is None else NORMAL_Z * spread


def product_rate(profile: Profile, dtype: str, shape: ProductShape, group: str = "matmul", name: str | None = None) -> Figure:
    """FLOP/s of a matrix product: by the model of shapes where there is one, else by the one line through FLOPs.

    The line knows no shapes; where the memory's datasheet bandwidth alone would take longer, that is what counts.
    """
    peak = profile.peak_flops_per_s.get(dtype)
    bare = Figure(group, name or f"matmul {dtype}", "FLOP/s", peak=None if peak is None else peak.value)
    told = dtype if name else ""
    model = profile.products.get(dtype)
    if model is not None:
        time_s = float(model.time_s(shape.m, shape.n, shape.k))
        beyond = model.extrapolates(shape.m, shape.n, shape.k)
        return _filled(bare, shape.flops, time_s, model.evidence, model.spread, model.points, _note(told, beyond))
    curve = profile.matmul.get(dtype)
    if curve is None:
        return bare
    found, memory = _by_curve(bare, curve, shape.flops, told), profile.peak_bandwidth_bytes_per_s
    bound = shape.flops / (shape.bytes(dtype) / memory.value) if memory is not None else math.inf
    return found if found.value is None or found.value <= bound else replace(found, value=bound, note=", ".join((told, "bound by bytes")))


def attention_rate(
    profile: Profile, dtype: str, shape: AttentionShape, direction: str, group: str = "attention", name: str | None = None
) -> Figure:
    """FLOP/s of attention. Where no model of shapes is there, the backward pass is unknown."""
    peak = profile.peak_flops_per_s.get(dtype)
    bare = Figure(group, name or f"attention {dtype} {direction}", "FLOP/s", peak=None if peak is None else peak.value)
    flops, told = shape.flops(direction), dtype if name else ""
    model = profile.attentions.get(dtype)
    if model is not None:
        if direction == "backward" and not model.backward:
            return bare
        time_s = float(
            model.time_s(shape.batch, shape.heads, shape.seq, shape.seq, shape.head_dim, kv_heads=shape.kv_heads, direction=direction)
        )
        beyond = model.extrapolates(shape.batch, shape.heads, shape.seq, shape.seq, shape.head_dim)
        return _filled(bare, flops, time_s, model.evidence, model.spread, model.points, _note(told, beyond))
    curve = profile.attention.get(dtype)
    return bare if curve is None or direction == "backward" else _by_curve(bare, curve, flops, told)


def bandwidth_at(curve: Curve | None, moved_bytes: float, group: str, name: str, peak: float | None) -> Figure:
    """Bytes/s of a memory-bound operation."""
    bare = Figure(group, name, "B/s", peak=peak)
    return bare if curve is None else _by_curve(bare, curve, moved_bytes, "")


def bus_bandwidth(link: Link | None, size_bytes: int, group: str, name: str, peak: float | None = None) -> Figure:
    """Bus bandwidth of a collective at a message size."""
    bare = Figure(group, name, "B/s", peak=peak)
    if link is None or not link.bus_factor:
        return bare
    interval_s, time_s = link.interval_s(size_bytes), link.time_s(size_bytes)
    reach = math.log(interval_s[1] / time_s) if interval_s is not None else reach_of(link.spread)
    note = ", ".join((link.transport, *(("beyond what was fitted",) if link.doublings_beyond(size_bytes) else ())))
    return Figure(group, name, "B/s", size_bytes * link.bus_factor / time_s, link.evidence, reach, peak=peak, points=link.points, note=note)


def inside_links(profile: Profile) -> dict[tuple[str, int], Link]:
    """(pattern, group size) -> the fastest link inside a node, as programs launch collectives."""
    found: dict[tuple[str, int], Link] = {}
    for link in profile.links:
        key = link.pattern, link.group_size
        if link.placement == "inside" and link.launch != "graph":
            known = found.get(key)
            if known is None or known.busbw_bytes_per_s < link.busbw_bytes_per_s:
                found[key] = link
    return found


def dtype_of_width(profile: Profile, dtypes: tuple[str, ...]) -> str | None:
    """Which of the dtypes, likeliest first, this chip is used in: one that it has units for, else one that is known; None: none."""
    known = [dtype for dtype in dtypes if dtype in profile.products or dtype in profile.matmul]
    return next((dtype for dtype in known if dtype in profile.peak_flops_per_s), known[0] if known else None)


def reference_figures(profile: Profile) -> tuple[Figure, ...]:
    """The chip at the shapes that have a name; what is unknown has no value."""
    found: list[Figure] = []
    for width, dtypes in WIDTHS:
        dtype = dtype_of_width(profile, dtypes)
        for shape in PRODUCTS:
            name = f"{shape.name}, {width}"
            found.append(Figure("products", name, "FLOP/s") if dtype is None else product_rate(profile, dtype, shape, "products", name))
    dtype = dtype_of_width(profile, SIXTEEN_BIT)
    for direction in ("forward", "backward"):
        for attention in ATTENTIONS:
            name = f"{attention.name}, {direction}"
            bare = Figure("attention shapes", name, "FLOP/s")
            found.append(bare if dtype is None else attention_rate(profile, dtype, attention, direction, "attention shapes", name))
    links = inside_links(profile)
    for group_size in GROUP_SIZES:
        for words, size_bytes in MESSAGES:
            name = f"all_reduce {group_size}, {words}"
            found.append(bus_bandwidth(links.get(("all_reduce", group_size)), size_bytes, "messages", name))
    return tuple(found)


def _by_curve(bare: Figure, curve: Curve, work: float, dtype: str) -> Figure:
    low, high = curve.work_min, curve.work_max
    beyond = (low is not None and work < low) or (high is not None and work > high)
    return _filled(bare, work, curve.time_s(work), curve.evidence, curve.spread, curve.points, _note(dtype, beyond))


def _filled(bare: Figure, work: float, time_s: float, evidence: Evidence, spread: float | None, points: int, note: str) -> Figure:
    return Figure(bare.group, bare.name, bare.unit, work / time_s, evidence, reach_of(spread), bare.peak, points, note)


def _note(dtype: str, beyond: bool) -> str:
    return ", ".join(filter(None, (dtype, "beyond what was fitted" if beyond else "")))
