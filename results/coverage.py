"""The cells of a profile: everything that one could know of a chip of its kind, and how much of it is measured, published, derived,
assumed or not known at all.

Counted are what the chip reaches; what its datasheet says is shown beside it and does not count, for a chip that nobody measured has that,
too. The cells of a chip are:

- ``matmul`` and ``attention`` (forward and backward): each dtype with a datasheet peak that is in MATMUL_DTYPES or ATTENTION_DTYPES, and
  those a profile knows beside them
- ``memory``: one line through all; ``memory ops``: MEMORY_OPS
- ``launch``, ``host link``, ``links`` (PATTERNS in groups of GROUP_SIZES inside a node), ``overlap``: for what is no CPU
- ``power``: what the board draws while it multiplies in 16 bit

Whatever else a profile knows (links across nodes, groups of other sizes) is a cell, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from .evidence import LEVELS, Level
from .profile import Curve, Profile, Quantity
from .profile_figures import SIXTEEN_BIT, Figure, attention_rate, bandwidth_at, bus_bandwidth, dtype_of_width, inside_links, product_rate
from .reference_shapes import GROUP_SIZES, LARGE_ATTENTION, LARGE_BYTES, LARGE_MESSAGE, LARGE_PRODUCT

MATMUL_DTYPES = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8")
ATTENTION_DTYPES = ("fp16", "bf16")
"""Fused attention is made for 16 bit; other dtypes count where a profile has them."""
MEMORY_OPS = (
    *("decode", "copy", "read", "scale", "triad", "rms_norm forward", "rms_norm backward", "layer_norm forward", "layer_norm backward"),
    *("softmax", "cross_entropy forward", "cross_entropy backward", "gelu", "swiglu", "adam", "gather"),
)
LAUNCHES = ("stream", "graph")
HOST_LINKS = ("host_to_device pinned", "device_to_host pinned", "host_to_device pageable", "device_to_host pageable")
PATTERNS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
PAIRS_ONLY = ("send_recv",)
DATASHEET = "datasheet"
"""The group that does not count."""
ROUNDED = 0.005
"""Datasheets give three digits: 1979 where the clock makes 1978.9."""


def cells(profile: Profile) -> tuple[Figure, ...]:
    """All cells in the order of telling, unknown ones without a value."""
    found = [*_compute(profile), *_memory(profile)]
    if not is_cpu(profile):
        found += [*_launches(profile), *_host_links(profile)]
    found += [*_links(profile), *_overlap(profile), *_power(profile), *_datasheet(profile)]
    return tuple(found)


def coverage(profile: Profile, group: str | None = None) -> Mapping[Level, float]:
    """Share of the cells (of one group, if asked) by evidence; what is missing to 1 is unknown.

    >>> from .evidence import Evidence
    >>> from .profile import Curve
    >>> coverage(Profile("x", "X", memory=Curve(0.0, 1e9, Evidence("measured", "me"))), "memory")["measured"]
    1.0
    """
    counted = [cell for cell in cells(profile) if cell.group != DATASHEET and group in (None, cell.group)]
    return {level: sum(cell.level == level for cell in counted) / len(counted) if counted else 0.0 for level in LEVELS}


def is_cpu(profile: Profile) -> bool:
    """Whether it is a CPU, as ids of measured CPUs say: nothing lies between it and its host."""
    return profile.chip_id.startswith("cpu-")


def _ordered(expected: Iterable[str], known: Iterable[str]) -> list[str]:
    """Those that a chip of this kind has, then what else is known."""
    return list(dict.fromkeys([*expected, *sorted(known)]))


def _compute(profile: Profile) -> Iterable[Figure]:
    peaks = profile.peak_flops_per_s
    for dtype in _ordered((d for d in MATMUL_DTYPES if d in peaks), {**profile.matmul, **profile.products}):
        yield _at(product_rate(profile, dtype, LARGE_PRODUCT), LARGE_PRODUCT.name)
    for dtype in _ordered((d for d in ATTENTION_DTYPES if d in peaks), {**profile.attention, **profile.attentions}):
        for direction in ("forward", "backward"):
            yield _at(attention_rate(profile, dtype, LARGE_ATTENTION, direction), LARGE_ATTENTION.name)


def _memory(profile: Profile) -> Iterable[Figure]:
    peak = profile.peak_bandwidth_bytes_per_s.value if profile.peak_bandwidth_bytes_per_s else None
    yield _at(bandwidth_at(profile.memory, LARGE_BYTES, "memory", "memory", peak), "1 GiB moved")
    known = memory_ops(profile)
    for name in _ordered(MEMORY_OPS, known):
        yield _at(bandwidth_at(known.get(name), LARGE_BYTES, "memory ops", name, peak), "1 GiB moved")


def memory_ops(profile: Profile) -> dict[str, Curve]:
    """What the profile knows of memory-bound operations, by their names in MEMORY_OPS."""
    return {_with_direction(name): curve for name, curve in profile.memory_ops.items()}


def _with_direction(name: str) -> str:
    """``rms_norm`` is its forward pass; what has one direction stays as it is."""
    return f"{name} forward" if f"{name} forward" in MEMORY_OPS else name.removesuffix(" forward") if name not in MEMORY_OPS else name


def _quantity(group: str, name: str, unit: str, quantity: Quantity | None, reach: float | None = None) -> Figure:
    return Figure(group, name, unit) if quantity is None else Figure(group, name, unit, quantity.value, quantity.evidence, reach)


def _launches(profile: Profile) -> Iterable[Figure]:
    for name in _ordered(LAUNCHES, profile.launch_s):
        yield _quantity("launch", f"launch {name}", "s", profile.launch_s.get(name))


def _host_links(profile: Profile) -> Iterable[Figure]:
    for name in _ordered(HOST_LINKS, profile.host_link_bytes_per_s):
        yield _quantity("host link", name, "B/s", profile.host_link_bytes_per_s.get(name))


def _links(profile: Profile) -> Iterable[Figure]:
    inside = inside_links(profile)
    expected = [(p, size) for p in PATTERNS for size in GROUP_SIZES if p not in PAIRS_ONLY or size == 2]
    for key in dict.fromkeys([*([] if is_cpu(profile) else expected), *sorted(inside)]):
        link = inside.get(key)
        if link is None or link.bus_factor:  # a barrier moves nothing
            yield _at(bus_bandwidth(link, LARGE_MESSAGE, "links", f"{key[0]} {key[1]}"), "1 GiB")
    across = {(link.pattern, link.group_size): link for link in profile.links if link.placement == "across" and link.launch != "graph"}
    for (pattern, size), link in sorted(across.items()):
        if link.bus_factor:
            yield _at(bus_bandwidth(link, LARGE_MESSAGE, "links", f"{pattern} {size} across nodes"), "1 GiB")


def _overlap(profile: Profile) -> Iterable[Figure]:
    shown = [found for found in profile.overlaps if found.hidden_share is not None]
    if not shown and not is_cpu(profile):
        yield Figure("overlap", "share of a collective that a product hides", "")
    for found in shown:
        name = f"share of {found.pattern} {found.group_size} that a product hides"
        yield Figure("overlap", name, "", found.hidden_share, found.evidence, note=found.product)


def _power(profile: Profile) -> Iterable[Figure]:
    dtype = dtype_of_width(profile, SIXTEEN_BIT) or "fp32"
    limit = profile.power_w.value if profile.power_w else None
    for name in _ordered(() if is_cpu(profile) else (f"matmul {dtype}",), profile.sustained_power_w):
        yield replace(_quantity("power", f"power of {name}", "W", profile.sustained_power_w.get(name)), peak=limit)


def _datasheet(profile: Profile) -> Iterable[Figure]:
    for dtype in _ordered((d for d in MATMUL_DTYPES if d in profile.peak_flops_per_s), profile.peak_flops_per_s):
        yield _quantity(DATASHEET, f"peak {dtype}", "FLOP/s", profile.peak_flops_per_s[dtype], ROUNDED)
    yield _quantity(DATASHEET, "peak memory bandwidth", "B/s", profile.peak_bandwidth_bytes_per_s, ROUNDED)
    yield _quantity(DATASHEET, "memory size", "B", profile.memory_bytes, ROUNDED)
    yield _quantity(DATASHEET, "board power", "W", profile.power_w, ROUNDED)


def _at(figure: Figure, work: str) -> Figure:
    """The figure with the work that it is of."""
    return figure if figure.value is None else replace(figure, note=", ".join(filter(None, (work, figure.note))))
