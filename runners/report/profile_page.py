"""A profile, or two side by side, as a picture (.png, .svg) or as one page (.html) that opens without a network."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chipassay.results.errors import FileError
from chipassay.results.profile import Profile
from chipassay.results.profile_diff import differences
from chipassay.results.safe_text import printable

from ..profile_text import Table
from ..profile_words import closing, coverage_words, date_of, diff_tables, held_out_table, show_tables
from . import facts
from .draw import STYLE, fill, missing_library
from .page import TEMPLATES, page_environment
from .pictures import Key, Picture, legend, picture
from .plot import Axis, Plot
from .profile_bars import bars
from .profile_plots import profile_plots
from .style import FAINT, INK, PALETTE
from .svg import inline
from .visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

PANEL_IN = (6.2, 5.5)
"""Of one chart of a .png, its legend beside."""
DPI = 130
LEGEND_COLUMNS = 2
FORMATS = (".png", ".svg")
"""Pictures; any other name gives a page."""
_NO_AXIS = Axis("", str)


def write_one(profile: Profile, path: Path) -> None:
    """Draw a profile. Raises ChipassayError where a library is missing, FileError where the file cannot be written."""
    plots = profile_plots(profile)
    title = f"{profile.name} ({profile.chip_id})"
    told = coverage_words(profile) + (f"; latest source of {date_of(profile)}" if date_of(profile) else "")
    if path.suffix.lower() in FORMATS:
        _save(_panels(plots, title, told), path)
        return
    tables, missing, sources = show_tables(profile)
    tested = held_out_table(profile)
    tables += [tested] if tested is not None else []
    notes = [("Unknown", missing), ("Sources", sources)]
    _write(path, _page(title, told, [picture(plot) for plot in plots], tables, notes))


def write_two(a: Profile, b: Profile, path: Path) -> None:
    """Draw two profiles side by side; errors as ``write_one``."""
    found = differences(a, b)
    title = f"{b.chip_id} (B) over {a.chip_id} (A)"
    figure = bars(found, title)
    if path.suffix.lower() in FORMATS:
        _save(figure, path)
        return
    plot = Plot("profile-ratios", "Ratios", f"B over A for each figure: {closing(a, b, found)}", _NO_AXIS, _NO_AXIS)
    shown = Picture(plot, visible(_svg(figure, plot)), (), "")
    _write(path, _page(title, closing(a, b, found), [], diff_tables(found), [], wide=shown))


def _panels(plots: Sequence[Plot], title: str, told: str) -> Figure:
    """All charts in two columns, each with its legend below its title."""
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_library("matplotlib") from error
    lines = max(1, (len(plots) + 1) // 2)
    with style.context(["default", {**STYLE, "grid.color": "#dddddd"}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(2 * PANEL_IN[0], lines * PANEL_IN[1] + 0.8), facecolor="white")
        rows: Any = figure.subfigures(2, 1, height_ratios=(0.8, lines * PANEL_IN[1]))
        head, body = rows
        head.text(0.012, 0.8, printable(title), ha="left", va="top", fontsize=16, fontweight="bold")
        head.text(0.012, 0.3, printable(told), ha="left", va="top", fontsize=11)
        if not plots:
            body.text(0.5, 0.5, "nothing is known that could be drawn", ha="center")
        parts = body.subfigures(lines, 2, squeeze=False).ravel()
        for part, plot in zip(parts, plots, strict=False):
            _panel(part, plot)
    return figure


def _panel(part: SubFigure, plot: Plot) -> None:
    """Title and legend above, the chart below in a part of its own, so that its axis names keep to it."""
    keys = legend(plot)
    head_in = 0.42 + 0.19 * ((len(keys) + LEGEND_COLUMNS - 1) // LEGEND_COLUMNS)
    rows: Any = part.subfigures(2, 1, height_ratios=(head_in, PANEL_IN[1] - head_in))
    head, body = rows
    head.text(0.03, 1 - 0.08 / head_in, plot.title, ha="left", va="top", fontsize=13, fontweight="bold")
    if keys:
        place = {"loc": "upper left", "bbox_to_anchor": (0.02, 1 - 0.32 / head_in), "ncols": LEGEND_COLUMNS}
        head.legend(handles=[_handle(key) for key in keys], **place, frameon=False, fontsize=9.5, handlelength=1.6, borderpad=0)
    axes = body.add_axes((0.13, 0.15, 0.84, 0.77))
    fill(axes, plot, body)


def _handle(key: Key) -> Any:
    """A key of the page's legend as matplotlib draws it."""
    from matplotlib.lines import Line2D

    from .style import DASHES, LINE, MARKERS

    colour = INK if key.colour == "ink" else PALETTE[key.colour]
    if key.path in (LINE, DASHES):
        dashes: dict[str, Any] = {"dashes": (3, 2)} if key.path == DASHES else {}
        return Line2D([], [], color=colour, linewidth=1.5, label=printable(key.label), **dashes)
    marker = next(name for name, path in MARKERS.items() if path == key.path)
    return Line2D([], [], color=colour, marker=marker, linewidth=1.3, markersize=6, label=printable(key.label))


def _save(figure: Figure, path: Path) -> None:
    from matplotlib import rc_context

    suffix = path.suffix.lower().lstrip(".")
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    try:
        with rc_context({"svg.hashsalt": "chipassay"}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
            figure.savefig(path, format=suffix, dpi=DPI, metadata=metadata)
    except OSError as error:
        raise _unwritten(path, error) from error


def _svg(figure: Figure, plot: Plot) -> str:
    """The bars inside a page: black and grey follow light and dark."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    text = buffer.getvalue().replace("#dddddd", FAINT)
    return inline(text, plot.name, plot.title, plot.description)


def _page(
    title: str,
    told: str,
    charts: Sequence[Picture],
    tables: Sequence[Table],
    notes: Sequence[tuple[str, Sequence[str]]],
    wide: Picture | None = None,
) -> str:
    environment = page_environment()
    from markupsafe import Markup

    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8").strip())
    return environment.get_template("profile.html.j2").render(
        title=title,
        told=told,
        charts=charts,
        wide=wide,
        tables=tables,
        notes=[(name, lines) for name, lines in notes if lines],
        version=facts.chipassay_version(),
        style=style,
        safe=Markup,
    )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", errors="xmlcharrefreplace", newline="\n")
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> FileError:
    return FileError(path, f"cannot be written ({error.strerror})", mend="give --picture a path in a folder that exists")
