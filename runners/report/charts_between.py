"""Charts of what goes between chips: bus bandwidth and time against message size, with the profile's links."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from chipassay.results.beyond_cache import cold_first
from chipassay.results.catalogue import load_chips
from chipassay.results.link import Link
from chipassay.results.pairs import pairs_of
from chipassay.results.profile import Profile
from chipassay.results.schema import Row
from chipassay.results.units import bandwidth, seconds, short, size

from ..normalise_links import is_collective, placement, plain, usual_buffers
from .charting import BARS, chips, finished, fit_words, grouped, label
from .plot import Axis, Plot, Point, Roof, Series, per_time, positive
from .words_between import group_words, pattern_words


@dataclass(frozen=True)
class Family:
    """Patterns that share a chart."""

    name: str
    title: str
    ops: tuple[str, ...]


FAMILIES = (
    Family("", "All-reduce", ("all_reduce",)),
    Family("-sharded", "All-gather and reduce-scatter", ("all_gather", "reduce_scatter")),
    Family("-exchange", "All-to-all and send/receive", ("all_to_all", "all_to_all_v", "send_recv")),
    Family("-rooted", "From and to one rank", ("broadcast", "reduce", "gather_to_root", "scatter_from_root")),
)
UNSIZED = ("barrier",)
ON_THE_HOST = ("gloo", "mpi")
"""Transports of CPU ranks: the chips' link is not theirs."""
STEPS = 48
"""Points of a drawn fit."""
JUMP = 0.01
"""Lines that meet so closely at a change are drawn as one."""

Key = tuple[str, str, int, str, str]
"""Pattern, transport, group size, placement, ``graph`` or nothing."""


def collectives(rows: Sequence[Row], profile: Profile | None) -> list[Plot]:
    """Bandwidth and time of each family that was measured; of all-reduce always, to say why it was not."""
    known = {op for family in FAMILIES for op in family.ops} | set(UNSIZED)
    others = tuple(sorted({row.op or "" for row in rows if is_collective(row)} - known))
    families = (*FAMILIES, Family("-other", "Other collectives", others)) if others else FAMILIES
    plots = []
    for family in families:
        own = [row for row in rows if row.op in family.ops and row.beside is None]
        both = [busbw(own, profile, family), times(own, profile, family)]
        # What was measured in pairs alone stands in the heat map.
        plots += [plot for plot in both if family is FAMILIES[0] or plot.series]
    return plots


def busbw(rows: Sequence[Row], profile: Profile | None, family: Family = FAMILIES[0]) -> Plot:
    """Bus bandwidth against message size, with the links' fits and what the chips' link could carry."""
    plot = Plot(
        name=f"busbw{family.name}",
        title=f"{family.title}: bus bandwidth against message size",
        description=f"Bus bandwidth of {family.title.lower()} against the message size, one series per pattern, transport and group.",
        x=Axis("message size", size, base=2),
        y=Axis("B/s", short),
    )
    return _plot(plot, rows, profile, family, lambda row: row.busbw_bytes_per_s, _busbw_at, _busbw_spread)


def times(rows: Sequence[Row], profile: Profile | None, family: Family = FAMILIES[0]) -> Plot:
    """Time against message size: the flat left end is the latency."""
    plot = Plot(
        name=f"latency{family.name}",
        title=f"{family.title}: time against message size",
        description=f"Time of {family.title.lower()} against the message size; where it is flat, it is latency.",
        x=Axis("message size", size, base=2),
        y=Axis("time", _time_tick),
    )
    return _plot(plot, rows, profile, family, lambda row: row.time_median_s, Link.time_s, lambda row: (row.time_p05_s, row.time_p95_s))


def _plot(
    plot: Plot,
    rows: Sequence[Row],
    profile: Profile | None,
    family: Family,
    value: Callable[[Row], float | None],
    model: Callable[[Link, float], float],
    spread: Callable[[Row], tuple[float | None, float | None]],
) -> Plot:
    chosen = [row for row in cold_first(rows) if plain(row) or row.status != "ok"]
    in_matrix = {(pairs.op, pairs.transport) for pairs in pairs_of(chosen)}
    chosen = [row for row in chosen if not ((row.op, row.backend) in in_matrix and row.group_size == 2 and row.members)]
    groups = grouped(chosen, _key)
    several = len({row.op for row in chosen}) > 1
    series, fits, left_out = [], [], 0
    for (chip, key), group in groups.items():
        members = usual_buffers(group)
        left_out += len(group) - len(members)
        points = []
        for row in members:
            y = value(row)
            if row.size_bytes is not None and y is not None and positive(row.size_bytes) and positive(y):
                points.append(Point(row.size_bytes, y, *spread(row)))
        link = _link(profile, chip, key)
        name = ", ".join(filter(None, (pattern_words(key[0]) if several else "", group_words(*key[1:]))))
        line = _drawn(link, points, model) if link is not None else ()
        breaks = tuple((x, model(link, x)) for x in link.changes_bytes) if link is not None and line else ()
        if link is not None and line:
            fits.append(f"{fit_words(name, link)}{_changes(link)}")
        series.append(Series(label(groups, chip, name), name, chip, tuple(points), line, breaks))
    notes = [BARS]
    if fits:
        marked = "; upright ticks: where the protocol changes" if any(s.breaks for s in series) else ""
        notes.append(f"Lines: the profile's link fits{marked}. " + ("; ".join(fits) + "." if plot.name.startswith("busbw") else ""))
    if left_out:
        notes.append(f"{left_out} rows of other dtypes or buffers are in the table alone.")
    roofs, words = _limit(chosen, series) if plot.name.startswith("busbw") else ((), ())
    plot = replace(plot, notes=(*(note.strip() for note in notes), *words), roofs=roofs)
    return finished(plot, series, chosen, family.title.lower(), f"it needs two or more ranks: chipassay run --only {family.ops[0]}")


def _key(row: Row) -> Key:
    return row.op or "", row.backend or "unknown", row.group_size or 0, placement(row), "graph" if row.launch == "graph" else ""


def _link(profile: Profile | None, chip: str, key: Key) -> Link | None:
    if profile is None or profile.chip_id != chip:
        return None
    found = (k for k in profile.links if k.busbw_bytes_per_s > 0)
    return next(
        (k for k in found if (k.pattern, k.transport, k.group_size, k.placement, "graph" if k.launch == "graph" else "") == key), None
    )


def _drawn(link: Link, points: Sequence[Point], model: Callable[[Link, float], float]) -> tuple[tuple[float, float], ...]:
    """The link's time or bandwidth over the range of the points; not a number where it jumps, so that the line breaks there."""
    xs = sorted(point.x for point in points)
    if not xs or xs[0] == xs[-1]:
        return ()
    low, high = math.log(xs[0]), math.log(xs[-1])
    line = [(x, model(link, x)) for x in (math.exp(low + (high - low) * i / STEPS) for i in range(STEPS + 1))]
    for change in link.changes_bytes:
        before, after = model(link, change * (1 - 1e-9)), model(link, change)
        line += [(change * (1 - 1e-9), before), (change, after)]
        line += [(change * (1 - 5e-10), math.nan)] if abs(math.log(after / before)) > JUMP else []
    return tuple(sorted(line, key=lambda point: point[0]))


def _changes(link: Link) -> str:
    return f", changes near {', '.join(map(size, link.changes_bytes))}" if link.changes_bytes else ""


def _limit(rows: Sequence[Row], series: Sequence[Series]) -> tuple[tuple[Roof, ...], tuple[str, ...]]:
    """What the chip's link carries one way, where the catalogue knows it and a group inside a node was measured over it."""
    xs = [point.x for one in series for point in one.points]
    roofs = []
    for chip_id in chips(rows):
        chip = load_chips().get(chip_id)
        own = [row for row in rows if row.chip_id == chip_id and row.backend not in ON_THE_HOST and placement(row) == "inside"]
        if chip is not None and chip.link_bytes_per_s_one_way and own and xs:
            limit = chip.link_bytes_per_s_one_way
            name = f"{chip.link} of {chip_id}, one way: {bandwidth(limit)}, {chip.evidence.level}"
            middle = math.sqrt(min(xs) * max(xs))
            roofs.append(Roof(name, chip.link, ((middle, limit), (max(max(xs), middle * 2), limit)), dashed=True))
    note = "A reduction in the switch carries less than the bus bandwidth counts, and may pass the link's limit."
    return tuple(roofs), (note,) if roofs and any("all-reduce" in one.label or "all_reduce" in one.hue for one in series) else ()


def _busbw_at(link: Link, size_bytes: float) -> float:
    return size_bytes * link.bus_factor / link.time_s(size_bytes)


def _busbw_spread(row: Row) -> tuple[float | None, float | None]:
    work = row.busbw_bytes_per_s * row.time_median_s if row.busbw_bytes_per_s is not None and row.time_median_s is not None else None
    return per_time(row, work)


def _time_tick(value: float) -> str:
    return seconds(value).replace(".00 ", " ").replace(".0 ", " ")
