"""The pictures in the order of the page, each with its drawing, its legend and the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chipassay.results.profile import Profile
from chipassay.results.schema import Row

from . import charts, charts_between, charts_memory
from .draw import draw
from .fits import overlaid, profiles_of
from .heat import Heat, draw_heat, pair_heats
from .picture_data import data_link, picture_csv
from .plot import Plot
from .roofline import rooflines
from .style import DASHES, LINE, colours_of, looks
from .visible import visible


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a colour of the palette, or ``ink``; a shape as an SVG path; and the name."""

    colour: str
    path: str
    label: str


@dataclass(frozen=True)
class Picture:
    """A plot with its drawing; ``svg`` is empty where ``plot.missing`` says why. ``link`` holds its numbers as CSV."""

    plot: Plot | Heat
    svg: str = ""
    legend: tuple[Key, ...] = ()
    link: str = ""


def sections(rows: Sequence[Row], profile: Profile | None) -> list[tuple[str, str, list[Plot | Heat]]]:
    """The charts in the order of the page, as (heading, one line to read first, plots). Some stand only where there are rows for them;
    where all rows are other tools', every one: what they do not measure is no gap.
    """
    profiles = profiles_of(rows, profile)
    each: list[Profile | None] = [*profiles] or [None]
    waiting, transfer = charts_memory.waiting_for_memory(rows), charts_memory.transfer(rows)

    def fitted(make: Callable[[Sequence[Row], Profile | None], Plot]) -> Plot:
        return overlaid([make(rows, one) for one in each], profiles)

    between = [charts_between.collectives(rows, one) for one in each]
    found: list[tuple[str, str, list[Plot | Heat]]] = [
        (
            "Compute",
            "How near arithmetic comes to what the chip and its memory allow.",
            [*rooflines(rows, profiles), fitted(charts.matmul)],
        ),
        (
            "Memory and attention",
            "Bytes per second from and to memory, and the rate of attention as sequences grow.",
            [fitted(charts_memory.memory), fitted(charts.attention), *(plot for plot in (waiting, transfer) if plot.series)],
        ),
        (
            "Between chips",
            "Bus bandwidth counts what each link carries, so it can be compared between group sizes.",
            [*(overlaid(plots, profiles) for plots in zip(*between, strict=True)), *pair_heats(rows)],
        ),
    ]
    if any(row.tool is None for row in rows):
        return found
    drawn = [(title, lead, [plot for plot in plots if plot.missing is None]) for title, lead, plots in found]
    return [section for section in drawn if section[2]]


def picture(plot: Plot | Heat) -> Picture:
    """The plot, drawn."""
    if plot.missing is not None:
        return Picture(plot)
    link = data_link(picture_csv(plot))
    if isinstance(plot, Heat):
        return Picture(plot, visible(draw_heat(plot)), (), link)
    return Picture(plot, visible(draw(plot)), legend(plot), link)


def legend(plot: Plot) -> tuple[Key, ...]:
    """What stands beside a chart: its series, then its limits."""
    chosen = looks((s.hue, s.shape) for s in plot.series)
    keys = []
    for series in plot.series:
        look = chosen[series.hue, series.shape]
        keys.append(Key(look.colour, look.path, series.label) if series.points else Key("ink", LINE, series.label))
    colours = colours_of((*(s.hue for s in plot.series), *(r.hue for r in plot.roofs if r.hue is not None)))
    keys += [Key("ink" if r.hue is None else colours[r.hue], DASHES if r.dashed else LINE, r.label) for r in plot.roofs]
    return tuple(keys)
