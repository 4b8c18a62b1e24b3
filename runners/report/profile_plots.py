"""A profile in charts: rates of matrix products, the roofline, attention, memory, links; with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chipassay.results.coverage import memory_ops
from chipassay.results.operations import STREAM_OPS, TILE
from chipassay.results.profile import Profile
from chipassay.results.profile_figures import (
    EIGHT_BIT,
    SIXTEEN_BIT,
    Figure,
    attention_rate,
    bandwidth_at,
    bus_bandwidth,
    dtype_of_width,
    inside_links,
    product_rate,
)
from chipassay.results.reference_shapes import ATTENTIONS, GROUP_SIZES, PRODUCTS, AttentionShape, ProductShape
from chipassay.results.units import bandwidth, rate, short, size

from .charting import basis
from .plot import Axis, Plot, Point, Roof, Series

SQUARES = tuple(round(256 * 2 ** (i / 8) / 64) * 64 for i in range(49))
"""Edges of square products, 256 to 16384, eight to a doubling: waves of tiles show between powers of two."""
SEQUENCES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
TOKENS = 32768
"""Positions of all sequences together, so that each chart of attention has like work at its left end."""
MOVED = tuple(2**i for i in range(20, 35, 2))
MESSAGES = tuple(2**i for i in range(12, 33))
LINK_PATTERNS = ("all_gather", "reduce_scatter", "all_to_all")
"""Beside the all-reduce of every group size, each in the largest group that is known."""
ROOF_FROM = 0.42
"""Where along the axis the line of a peak begins: its name stands left of it, above where rates have not risen yet."""
FULL = tuple(shape for shape in PRODUCTS if shape.m >= TILE)
"""A chart over FLOPs shows what fills a tile; narrow products, which the bytes of their weights bound, are in the roofline."""
TWINS = {"fp8_e5m2": "fp8_e4m3"}
"""Charts show one of two that run on the same units."""
SAME_PEAK = 1.02
OTHER_OPS = ("rms_norm forward", "rms_norm backward", "softmax", "cross_entropy forward", "swiglu", "adam", "decode")
"""Memory-bound operations that are drawn beside the line through all, as far as they are known: as many as there are colours."""
WIDEST = 3.0
"""An interval that reaches further than this factor says that nothing is known; its bar would flatten the chart."""
BARS = f"Bars: 95 % interval, where it is known and reaches no further than a factor of {WIDEST:.0f}."


@dataclass(frozen=True)
class _Curve:
    """A line through many figures and dots at some, of one hue."""

    label: str
    hue: str
    shape: str
    line: Sequence[tuple[float, Figure]]
    dots: Sequence[tuple[float, Figure]]


def profile_plots(profile: Profile) -> list[Plot]:
    """The charts that the profile has figures for."""
    made = (products(profile), roofline(profile), attention(profile), memory(profile), links(profile))
    return [plot for plot in made if plot.series]


def products(profile: Profile) -> Plot:
    """FLOP/s of matrix products against their FLOPs: lines are squares."""
    names = sorted({**profile.matmul, **profile.products}, key=_width)
    curves = []
    for dtype in (name for name in names if TWINS.get(name) not in names):
        squares = [ProductShape("", edge, edge, edge) for edge in SQUARES]
        line = [(shape.flops, product_rate(profile, dtype, shape)) for shape in squares]
        shown = FULL if dtype in (dtype_of_width(profile, SIXTEEN_BIT), *EIGHT_BIT) else ()
        ends = [(shape.flops, product_rate(profile, dtype, shape)) for shape in (squares[0], squares[-1])]
        dots = [(shape.flops, product_rate(profile, dtype, shape)) for shape in shown]
        curves.append(_Curve(dtype, dtype, dtype, line, dots or ends))
    series = _series(curves)
    return Plot(
        name="profile-products",
        title="Matrix products: rate against work",
        description="Achieved FLOP/s against FLOPs of one matrix product, by dtype, with the dense peaks.",
        x=Axis("FLOPs of one product", short),
        y=Axis("FLOP/s", short),
        series=series,
        roofs=_peaks(profile, [s.hue for s in series], SQUARES[0] ** 3 * 2.0, SQUARES[-1] ** 3 * 2.0),
        notes=("Lines: square products.", "Dots: shapes of GPT-3 175B and Llama 3.", BARS, "Dashed: dense peak."),
    )


def roofline(profile: Profile) -> Plot:
    """Rate against FLOPs a byte, under what the peaks and the memory allow."""
    series: list[Series] = []
    for dtypes in (SIXTEEN_BIT, EIGHT_BIT):
        dtype = dtype_of_width(profile, dtypes)
        if dtype is not None:
            shapes = [*PRODUCTS, *(ProductShape("", rows, 8192, 8192) for rows in (1, 4, 64, 256))]
            found = [(shape.flops / shape.bytes(dtype), product_rate(profile, dtype, shape)) for shape in shapes]
            series += _series([_Curve(f"{dtype} products", dtype, dtype, (), found)])
    roofs: list[Roof] = []
    left, right = 0.5, 8000.0
    peaks = {s.hue: profile.peak_flops_per_s[s.hue] for s in series if s.hue in profile.peak_flops_per_s}
    top = max((peak.value for peak in peaks.values()), default=None)
    datasheet = profile.peak_bandwidth_bytes_per_s
    for words, slope, dashed in (
        ("" if datasheet is None else basis(datasheet.evidence.level), None if datasheet is None else datasheet.value, True),
        ("reached", bandwidth_at(profile.memory, 2.0**30, "", "", None).value, False),
    ):
        if slope is not None and top is not None:
            end = min(right, top / slope)
            roofs.append(Roof(f"memory {bandwidth(slope)}, {words}", words, ((left, left * slope), (end, end * slope)), dashed))
    for hue, peak in peaks.items():
        start = peak.value / datasheet.value if datasheet is not None else left * 100
        label = f"{hue} peak {rate(peak.value)}, {basis(peak.evidence.level)}"
        roofs.append(Roof(label, hue, ((start, peak.value), (right, peak.value)), True, hue))
    return Plot(
        name="profile-roofline",
        title="Roofline: rate against arithmetic intensity",
        description="Achieved FLOP/s of matrix products against FLOPs per byte, under memory bandwidth and dense peaks.",
        x=Axis("FLOPs per byte moved", short),
        y=Axis("FLOP/s", short),
        series=tuple(series),
        roofs=tuple(roofs),
        notes=("Dots: the same shapes, and 1 to 256 rows through weights of 8192 x 8192.", BARS),
    )


def attention(profile: Profile) -> Plot:
    """FLOP/s of attention against the length of the sequence."""
    dtype = dtype_of_width(profile, SIXTEEN_BIT)
    curves = []
    for direction in ("forward", "backward"):
        shapes = [AttentionShape("", max(1, TOKENS // seq), 32, 8, seq) for seq in SEQUENCES]
        line = [(float(shape.seq), _attention(profile, dtype, shape, direction)) for shape in shapes]
        dots = [(float(shape.seq), _attention(profile, dtype, shape, direction)) for shape in (shapes[0], *ATTENTIONS)]
        curves.append(
            _Curve(f"{dtype} {direction}", f"{dtype}, {direction}" if direction == "backward" else f"{dtype}", direction, line, dots)
        )
    series = _series(curves)
    return Plot(
        name="profile-attention",
        title="Causal attention: rate against sequence length",
        description="Achieved FLOP/s of causal attention, 32 heads of 128 on 8 key/value heads, against positions.",
        x=Axis("positions", _count, base=2),
        y=Axis("FLOP/s", short),
        series=series,
        roofs=_peaks(profile, [s.hue for s in series], SEQUENCES[0], SEQUENCES[-1]),
        notes=(f"32 heads of 128, 8 key/value heads, {TOKENS} positions together. Dashed: dense peak.", BARS),
    )


def memory(profile: Profile) -> Plot:
    """Bytes a second of memory-bound operations against the bytes they must move."""
    own = memory_ops(profile)
    known = {"memory": profile.memory, **{name: own[name] for name in OTHER_OPS if name in own}}
    curves = []
    for name, curve in known.items():
        found = [(float(moved), bandwidth_at(curve, moved, "", name, None)) for moved in MOVED]
        curves.append(_Curve(f"memory ({', '.join(STREAM_OPS)})" if name == "memory" else name, name, name, found, found))
    peak = profile.peak_bandwidth_bytes_per_s
    whose = "" if peak is None else basis(peak.evidence.level)
    start = MOVED[0] * (MOVED[-1] / MOVED[0]) ** ROOF_FROM
    roofs = (
        () if peak is None else (Roof(f"{bandwidth(peak.value)}, {whose}", whose, ((start, peak.value), (MOVED[-1], peak.value)), True),)
    )
    return Plot(
        name="profile-memory",
        title="Memory-bound operations: bandwidth against bytes",
        description="Achieved bytes a second against the bytes an operation must move.",
        x=Axis("bytes moved", size, base=2),
        y=Axis("bytes/s", short),
        series=_series(curves),
        roofs=roofs,
        notes=("Bytes that must be read or written, each once. Dashed: peak.", BARS),
    )


def links(profile: Profile) -> Plot:
    """Bus bandwidth of collectives inside a node against the size of the message."""
    inside = inside_links(profile)
    wanted = [("all_reduce", group) for group in GROUP_SIZES]
    for pattern in LINK_PATTERNS:
        wanted += [(pattern, max(group for name, group in inside if name == pattern))] if any(name == pattern for name, _ in inside) else []
    curves = []
    for pattern, group in wanted:
        link = inside.get((pattern, group))
        line = [(float(size_bytes), bus_bandwidth(link, size_bytes, "", "")) for size_bytes in MESSAGES]
        curves.append(_Curve(f"{pattern} {group}", f"{pattern} {group}", f"{pattern} {group}", line, line[::4]))
    return Plot(
        name="profile-links",
        title="Collectives inside a node: bus bandwidth against message size",
        description="Bus bandwidth of collectives against message size, by group size.",
        x=Axis("message size", size, base=2),
        y=Axis("bytes/s", short),
        series=_series(curves),
        notes=(
            "The number is that of chips. Sizes and bus bandwidth as nccl-tests counts them.",
            BARS,
        ),
    )


def _attention(profile: Profile, dtype: str | None, shape: AttentionShape, direction: str) -> Figure:
    return Figure("", "", "FLOP/s") if dtype is None else attention_rate(profile, dtype, shape, direction)


def _series(curves: Iterable[_Curve]) -> tuple[Series, ...]:
    """Curves of which something is known."""
    found = []
    for curve in curves:
        dots = tuple(Point(x, figure.value, *_ends(figure)) for x, figure in curve.dots if figure.value)
        line = tuple((x, figure.value) for x, figure in curve.line if figure.value)
        if dots:
            found.append(Series(curve.label, curve.hue, curve.shape, dots, line))
    return tuple(found)


def _ends(figure: Figure) -> tuple[float, float] | tuple[None, None]:
    """Of the bar."""
    if figure.interval is None or figure.interval[1] > WIDEST**2 * figure.interval[0]:
        return None, None
    return figure.interval


def _peaks(profile: Profile, hues: Sequence[str], low: float, high: float) -> tuple[Roof, ...]:
    """The peak's line for each dtype that is drawn; dtypes with one peak share it."""
    roofs: list[Roof] = []
    start = low * (high / low) ** ROOF_FROM
    for dtype in (hue for hue in hues if hue in profile.peak_flops_per_s):
        peak, level = profile.peak_flops_per_s[dtype].value, profile.peak_flops_per_s[dtype].evidence.level
        if not any(1 / SAME_PEAK < peak / roof.line[0][1] < SAME_PEAK for roof in roofs):
            roofs.append(Roof(f"{dtype} peak {rate(peak)}, {basis(level)}", dtype, ((start, peak), (high, peak)), True, dtype))
    return tuple(roofs)


def _width(dtype: str) -> tuple[bool, str]:
    """What models are trained in, first."""
    return dtype not in (*SIXTEEN_BIT, *EIGHT_BIT), dtype


def _count(value: float) -> str:
    return f"{value / 1024:g}k" if value >= 1024 else f"{value:g}"
