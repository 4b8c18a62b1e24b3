"""The page: everything above put into one self-contained HTML file that opens without a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chipassay.results.errors import FileError
from chipassay.results.profile import Profile
from chipassay.results.schema import Row

from . import charts, charts_between, charts_memory, facts
from .draw import draw, missing_library
from .heat import Heat, draw_heat, pair_heats
from .plot import Plot
from .roofline import roofline
from .sheets import sheets
from .style import DASHES, LINE, colours_of, looks
from .summary import Summary
from .table import UNSURE, WIDE_SPREAD, tables

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a colour of the palette, or ``ink``; a shape as an SVG path; and the name."""

    colour: str
    path: str
    label: str


@dataclass(frozen=True)
class Chart:
    """A plot with its drawing; ``svg`` is empty where ``plot.missing`` says why."""

    plot: Plot | Heat
    svg: str
    legend: tuple[Key, ...]


def write_report(rows: Sequence[Row], profile: Profile | None, summary: Summary | None, path: str | Path) -> None:
    """Write the report of ``rows`` as one HTML file.

    Raises ChipassayError when the extra ``report`` is not installed, FileError when the file cannot be written.
    """
    text = render(rows, profile, summary)
    try:
        # A lone surrogate from a broken file name becomes a character reference instead of an error.
        Path(path).write_text(text, encoding="utf-8", errors="xmlcharrefreplace", newline="\n")
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror})", mend="give a path in a folder that exists") from error


def render(rows: Sequence[Row], profile: Profile | None, summary: Summary | None) -> str:
    """The report as text: the same input gives the same text."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise missing_library("jinja2") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8").strip() for name in ("style.css", "sort.js"))
    shown = tables(rows)
    return environment.get_template("page.html.j2").render(
        chips=facts.headers(rows),
        version=facts.chipassay_version(),
        total=len(rows),
        statuses=facts.statuses(rows),
        summary=summary or Summary(),
        sections=[(title, lead, [_chart(plot) for plot in plots]) for title, lead, plots in sections(rows, profile)],
        sheets=sheets(rows, profile),
        tables=shown,
        left_out=sum(table.left_out for table in shown),
        facts=facts.environment(rows),
        profile=profile,
        wide_spread=WIDE_SPREAD,
        unsure=UNSURE,
        safe=Markup,
        style=Markup(style),
        script=Markup(script),
        script_hash=hash_source(script),
    )


def sections(rows: Sequence[Row], profile: Profile | None) -> list[tuple[str, str, list[Plot | Heat]]]:
    """The charts in the order of the page, as (heading, one line to read first, plots). Some stand only where there are rows for them."""
    waiting, transfer = charts_memory.waiting_for_memory(rows), charts_memory.transfer(rows)
    return [
        (
            "Compute",
            "How near arithmetic comes to what the chip and its memory allow.",
            [roofline(rows, profile), charts.matmul(rows, profile)],
        ),
        (
            "Memory and attention",
            "Bytes per second from and to memory, and the rate of attention as sequences grow.",
            [charts_memory.memory(rows, profile), charts.attention(rows, profile), *(plot for plot in (waiting, transfer) if plot.series)],
        ),
        (
            "Between chips",
            "Bus bandwidth counts what each link carries, so it can be compared between group sizes.",
            [*charts_between.collectives(rows, profile), *pair_heats(rows)],
        ),
    ]


def hash_source(script: str) -> str:
    """The content security policy's name for one inline script: no other script may run, not even one that got past escaping."""
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _chart(plot: Plot | Heat) -> Chart:
    if plot.missing is not None:
        return Chart(plot, "", ())
    if isinstance(plot, Heat):
        return Chart(plot, draw_heat(plot), ())
    return Chart(plot, draw(plot), _legend(plot))


def _legend(plot: Plot) -> tuple[Key, ...]:
    chosen = looks((s.hue, s.shape) for s in plot.series)
    keys = []
    for series in plot.series:
        look = chosen[series.hue, series.shape]
        keys.append(Key(look.colour, look.path, series.label) if series.points else Key("ink", LINE, series.label))
    colours = colours_of((*(s.hue for s in plot.series), *(r.hue for r in plot.roofs if r.hue is not None)))
    keys += [Key("ink" if r.hue is None else colours[r.hue], DASHES if r.dashed else LINE, r.label) for r in plot.roofs]
    return tuple(keys)
