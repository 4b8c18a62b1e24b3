"""Charts of what goes between chips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from chipassay.results.profile import Link, Profile
from chipassay.results.schema import Row
from chipassay.results.units import short, size

from .charting import BARS, Model, drawn, finished, fit_words, grouped, label, of_op, usual
from .plot import Axis, Plot, Point, Series, per_time, positive


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
    chosen = usual(of_op(rows, "all_reduce"))
    groups = grouped(chosen, lambda row: (row.backend or "unknown", row.group_size or 0))
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
        series.append(Series(label(groups, chip, name), name, chip, tuple(points), drawn(points, model(link) if link else None)))
    notes = [BARS]
    if links:
        notes.append(
            "Lines: the profile's link fit, " + "; ".join(fit_words(f"{k.transport}, {k.group_size} ranks", k) for k in links) + "."
        )
    return finished(
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


def _time_tick(value: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")):
        if value >= scale * 0.999:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.0e} s"
