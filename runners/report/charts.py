"""Which charts the report has: rows and profile in, plots out. The roofline has its own room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import exp, log
from typing import Any

from chipassay.results.beyond_cache import cold_first
from chipassay.results.profile import Curve, Link, Profile
from chipassay.results.schema import Row
from chipassay.results.units import share, short, size

from .plot import Axis, Plot, Point, Series, failures, limited, per_time, positive, why_missing

MEMORY_OPS = ("copy", "triad")
BARS = "Dots: medians; bars: 5th to 95th percentile."
WIDE_RANGE = 20
"""Values further apart than this need a logarithmic axis."""

Model = Callable[[float], float]
"""What the profile says y is at x."""


def of_op(rows: Sequence[Row], *ops: str) -> list[Row]:
    """The rows of some operations."""
    return [row for row in rows if row.op in ops]


def chips(rows: Sequence[Row]) -> list[str]:
    """The chips in the rows, in order of appearance."""
    return list(dict.fromkeys(row.chip_id or "unknown chip" for row in rows))


def matmul(rows: Sequence[Row], profile: Profile | None) -> Plot:
    """Rate against size by dtype, with the profile's curves."""
    chosen = cold_first(of_op(rows, "matmul"))
    groups = _grouped(chosen, lambda row: ((row.dtype or "unknown"),))
    series = []
    for (chip, (dtype,)), members in groups.items():
        points = [
            Point(edge(row.flops), row.rate_flops_per_s, *per_time(row, row.flops))
            for row in members
            if row.flops is not None and row.rate_flops_per_s is not None and positive(row.flops) and positive(row.rate_flops_per_s)
        ]
        curve = profile.matmul.get(dtype) if profile is not None and profile.chip_id == chip else None
        series.append(Series(_label(groups, chip, dtype), dtype, chip, tuple(points), _drawn(points, _matmul_rate(curve))))
    return _finished(
        Plot(
            name="matmul",
            title="Matrix multiplication: rate against size",
            description="Achieved rate of matrix multiplication against the geometric mean of m, n and k, one series per dtype.",
            x=Axis("geometric mean of m, n, k", lambda x: f"{x:.0f}", base=2),
            y=Axis("FLOP/s", short),
            notes=(BARS, *_curve_note(series, profile.matmul if profile else {})),
        ),
        series,
        chosen,
        "matmul",
        "measure it with: chipassay run --only matmul",
    )


def memory(rows: Sequence[Row], profile: Profile | None) -> Plot:
    """Bandwidth against bytes moved."""
    chosen = of_op(rows, *MEMORY_OPS)
    several_caches = len({row.cache for row in chosen if row.status == "ok"}) > 1
    groups = _grouped(chosen, lambda row: (row.op or "", (row.cache or "unknown") if several_caches else ""))
    series = []
    for (chip, (op, cache)), members in groups.items():
        points = [
            Point(row.bytes, row.bandwidth_bytes_per_s, *per_time(row, row.bytes))
            for row in members
            if row.bytes is not None
            and row.bandwidth_bytes_per_s is not None
            and positive(row.bytes)
            and positive(row.bandwidth_bytes_per_s)
        ]
        name = f"{op}, {cache} cache" if cache else op
        series.append(Series(_label(groups, chip, name), name, chip, tuple(points)))
    curve = profile.memory if profile is not None else None
    if profile is not None and curve is not None:
        all_points = [p for s in series if s.shape == profile.chip_id for p in s.points]
        line = _drawn(all_points, _bandwidth(curve))
        if line:
            series.append(Series("profile's curve", "model", profile.chip_id, (), line))
    return _finished(
        Plot(
            name="memory",
            title="Memory: bandwidth against size",
            description="Achieved memory bandwidth of copy and triad against the bytes that one call moves.",
            x=Axis("bytes moved by one call", size, base=2),
            y=Axis("B/s", short, base=None),
            notes=(BARS, *_curve_note(series, {"memory": curve} if curve else {})),
        ),
        series,
        chosen,
        "copy or triad",
        "measure them with: chipassay run --only copy,triad",
    )


def attention(rows: Sequence[Row], profile: Profile | None) -> Plot:
    """Rate against sequence length."""
    chosen = cold_first(of_op(rows, "attention"))
    groups = _grouped(chosen, lambda row: (row.dtype or "unknown", bool(row.causal), row.direction or "forward"))
    series = []
    for (chip, (dtype, causal, direction)), members in groups.items():
        usable = [
            (row.seq_kv, row.rate_flops_per_s, row)
            for row in members
            if row.seq_kv is not None and row.rate_flops_per_s is not None and positive(row.seq_kv) and positive(row.rate_flops_per_s)
        ]
        points = tuple(Point(seq, rate, *per_time(row, row.flops)) for seq, rate, row in usable)
        curve = profile.attention.get(dtype) if profile is not None and profile.chip_id == chip and direction == "forward" else None
        # The curve is in FLOPs, and FLOPs at one length differ with batch and heads: a line only where each length has one value.
        work = {row.seq_kv: row.flops for _, _, row in usable if row.seq_kv is not None and row.flops is not None}
        line: tuple[tuple[float, float], ...] = ()
        if curve is not None and len({(row.seq_kv, row.flops) for _, _, row in usable}) == len(work) > 1:
            line = tuple((seq, flops / curve.time_s(flops)) for seq, flops in sorted(work.items()))
        name = dtype + (", causal" if causal else "") + (f", {direction}" if direction != "forward" else "")
        series.append(Series(_label(groups, chip, name), name, chip, points, line))
    return _finished(
        Plot(
            name="attention",
            title="Attention: rate against sequence length",
            description="Achieved rate of attention against the number of key and value positions.",
            x=Axis("key/value positions", lambda x: f"{x:.0f}", base=2),
            y=Axis("FLOP/s", short),
            notes=(BARS, *_curve_note(series, profile.attention if profile else {})),
        ),
        series,
        chosen,
        "attention",
        "measure it with: chipassay run --only attention",
    )


def all_reduce_bandwidth(rows: Sequence[Row], profile: Profile | None) -> Plot:
    """Bus bandwidth against message size, with the link's fit."""
    plot = Plot(
        name="busbw",
        title="All-reduce: bus bandwidth against message size",
        description="Bus bandwidth of all-reduce against the message size, one series per transport and group size.",
        x=Axis("message size", size, base=2),
        y=Axis("B/s", short),
    )
    return _all_reduce(plot, rows, profile, lambda row: row.busbw_bytes_per_s, _link_busbw, spread=_busbw_spread)


def all_reduce_time(rows: Sequence[Row], profile: Profile | None) -> Plot:
    """Time against message size: the flat left end is the latency."""
    plot = Plot(
        name="latency",
        title="All-reduce: time against message size",
        description="Time of all-reduce against the message size; where it is flat, it is latency.",
        x=Axis("message size", size, base=2),
        y=Axis("time", _time_tick),
    )
    return _all_reduce(plot, rows, profile, lambda row: row.time_median_s, _link_time, spread=lambda row: (row.time_p05_s, row.time_p95_s))


def edge(flops: float) -> float:
    """Geometric mean of m, n and k from 2 m n k.

    >>> edge(2 * 64 * 64 * 64)
    64.0
    """
    return float(round((flops / 2) ** (1 / 3), 6))


def bus_factor(group_size: int) -> float:
    """All-reduce bus factor by the field's definition."""
    return 2 * (group_size - 1) / group_size


def _all_reduce(
    plot: Plot,
    rows: Sequence[Row],
    profile: Profile | None,
    value: Callable[[Row], float | None],
    model: Callable[[Link], Model],
    spread: Callable[[Row], tuple[float | None, float | None]],
) -> Plot:
    chosen = cold_first(of_op(rows, "all_reduce"))
    groups = _grouped(chosen, lambda row: (row.backend or "unknown", row.group_size or 0))
    series, links = [], []
    for (chip, (transport, group)), members in groups.items():
        points = []
        for row in members:
            y = value(row)
            if row.size_bytes is not None and y is not None and positive(row.size_bytes) and positive(y):
                points.append(Point(row.size_bytes, y, *spread(row)))
        link = _link(profile, chip, transport, group)
        if link is not None:
            links.append(link)
        name = f"{transport}, {group} ranks"
        series.append(Series(_label(groups, chip, name), name, chip, tuple(points), _drawn(points, model(link) if link else None)))
    notes = [BARS]
    if links:
        notes.append("Lines: the profile's link fit, " + "; ".join(_fit(f"{k.transport}, {k.group_size} ranks", k) for k in links) + ".")
    return _finished(
        replace(plot, notes=tuple(notes)), series, chosen, "all-reduce", "it needs two or more ranks: chipassay run --only all_reduce"
    )


def _link(profile: Profile | None, chip: str, transport: str, group: int) -> Link | None:
    if profile is None or profile.chip_id != chip or group < 2:
        return None
    return next((k for k in profile.links if (k.pattern, k.transport, k.group_size) == ("all_reduce", transport, group)), None)


def _link_time(link: Link) -> Model:
    return lambda size_bytes: link.latency_s + size_bytes * bus_factor(link.group_size) / link.busbw_bytes_per_s


def _link_busbw(link: Link) -> Model:
    return lambda size_bytes: size_bytes * bus_factor(link.group_size) / _link_time(link)(size_bytes)


def _busbw_spread(row: Row) -> tuple[float | None, float | None]:
    work = row.busbw_bytes_per_s * row.time_median_s if row.busbw_bytes_per_s is not None and row.time_median_s is not None else None
    return per_time(row, work)


def _matmul_rate(curve: Curve | None) -> Model | None:
    return None if curve is None else lambda x: 2 * x**3 / curve.time_s(2 * x**3)


def _bandwidth(curve: Curve) -> Model:
    return lambda x: x / curve.time_s(x)


def _drawn(points: Sequence[Point], model: Model | None, steps: int = 48) -> tuple[tuple[float, float], ...]:
    """The model over the range of the points."""
    xs = [p.x for p in points]
    if model is None or not xs or min(xs) == max(xs):
        return ()
    low, high = log(min(xs)), log(max(xs))
    return tuple((x, model(x)) for x in (exp(low + (high - low) * i / steps) for i in range(steps + 1)))


def _time_tick(value: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")):
        if value >= scale * 0.999:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.0e} s"


def _grouped(rows: Sequence[Row], key: Callable[[Row], tuple[Any, ...]]) -> dict[tuple[str, tuple[Any, ...]], list[Row]]:
    """The ok rows by chip and key, in a stable order."""
    groups: dict[tuple[str, tuple[Any, ...]], list[Row]] = {}
    for row in rows:
        if row.status == "ok":
            groups.setdefault((row.chip_id or "unknown chip", key(row)), []).append(row)
    return dict(sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])))


def _label(groups: Mapping[tuple[str, tuple[Any, ...]], object], chip: str, name: str) -> str:
    return f"{name} on {chip}" if len({c for c, _ in groups}) > 1 else name


def _fit(name: str, fit: Curve | Link) -> str:
    details = [f"{fit.points} points"] if fit.points else []
    details += [f"spread {share(fit.spread)}"] if fit.spread is not None else []
    details += [fit.evidence.level] if fit.evidence.level != "measured" else []
    return name + (f" ({', '.join(details)})" if details else "")


def _curve_note(series: Sequence[Series], curves: Mapping[str, Curve]) -> tuple[str, ...]:
    if not any(s.model for s in series):
        return ()
    hues = {s.hue.split(",")[0] for s in series if s.model}
    fits = [_fit(name, curve) for name, curve in curves.items() if name in hues or "model" in hues]
    return (f"Lines: the profile's fitted curve, {'; '.join(fits)}.",)


def _finished(plot: Plot, series: Sequence[Series], chosen: Sequence[Row], what: str, mend: str) -> Plot:
    """The plot with its series, or with the sentence that says why there are none."""
    drawn = tuple(s for s in series if s.points or s.model)
    if not any(s.points for s in drawn):
        return replace(plot, notes=(), missing=why_missing(chosen, what, mend))
    notes = list(plot.notes)
    failed = [row for row in chosen if row.status != "ok"]
    if failed:
        notes.append(f"Not in the chart: {failures(failed)}.")
    ys = [point.y for s in drawn for point in s.points]
    # A linear axis would press the slower of two very different chips flat.
    y_axis = replace(plot.y, base=10) if plot.y.base is None and max(ys) > WIDE_RANGE * min(ys) else plot.y
    kernels = sorted({row.kernel for row in chosen if row.status == "ok" and row.kernel})
    if len(kernels) > 1:
        notes.append(f"Kernels shown: {', '.join(kernels)}.")
    return limited(replace(plot, y=y_axis, series=drawn, notes=tuple(notes)))
