"""A plot drawn by matplotlib as a small inline SVG. The only file here that knows matplotlib."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chipassay.results.errors import ChipassayError

from .plot import Axis, Plot, Roof
from .style import FAINT, INK, PALETTE, colours_of, looks
from .svg import inline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

WIDTH_IN, HEIGHT_IN = 4.6, 3.3
TEXT_PT = 12.0
"""At 4.6 inches this is 11 pixels and more on a phone 360 pixels wide; style.css makes it smaller where charts are wider."""
TAG_GAP_PT = 13.0
"""Least distance between the baselines of two roof tags."""
ALONG = (0.42, 0.36, 0.55, 0.75)
"""Where along a slope its tag stands, lowest slope first: left of the tags of compute roofs, right of triad's dots."""
MAX_TICKS = 5

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "chipassay",
    "text.parse_math": False,  # a name with dollar signs is a name, not mathematics
    "font.size": TEXT_PT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "path.simplify": False,
}


def draw(plot: Plot) -> str:
    """The plot as SVG text that can stand in an HTML page: unique ids, no metadata, colours that follow light and dark."""
    try:
        from matplotlib import style
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_library("matplotlib") from error
    with style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the page's own font draws the text
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN))
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0.15, 0.165, 0.825, 0.745))
        fill(axes, plot, figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    return inline(buffer.getvalue(), plot.name, plot.title, plot.description)


def missing_library(name: str) -> ChipassayError:
    """The error for an extra that is not installed."""
    return ChipassayError(f"drawing and pages need {name}, which is not installed; run: pip install 'chipassay[report]'")


def fill(axes: Axes, plot: Plot, figure: Figure | SubFigure) -> None:
    """Draw the plot into axes; the names of both stand in the corners of the figure, or the part of one, that the axes fill."""
    chosen = looks((s.hue, s.shape) for s in plot.series)
    for series in plot.series:
        look = chosen[series.hue, series.shape]
        colour = INK if series.hue == "model" else PALETTE[look.colour]
        if series.model:
            axes.plot(*zip(*series.model, strict=True), color=colour, linewidth=1.3, zorder=2)
        if series.breaks:
            axes.plot(*zip(*series.breaks, strict=True), color=colour, marker="|", linestyle="none", markersize=13, zorder=2.2)
        for point in series.points:
            if point.low is not None and point.high is not None:
                axes.plot((point.x, point.x), (point.low, point.high), color=colour, linewidth=1.0, zorder=2.5)
        if series.points:
            xs, ys = [p.x for p in series.points], [p.y for p in series.points]
            axes.plot(xs, ys, color=colour, marker=look.marker, linestyle="none", markersize=5.5, markeredgewidth=0, zorder=3)
    _scale(axes, plot)
    colours = colours_of((*(s.hue for s in plot.series), *(r.hue for r in plot.roofs if r.hue is not None)))
    for roof in plot.roofs:
        colour = INK if roof.hue is None else PALETTE[colours[roof.hue]]
        dashes: dict[str, Any] = {"dashes": (5, 3)} if roof.dashed else {}
        axes.plot(*zip(*roof.line, strict=True), color=colour, linewidth=1.4, zorder=1.8, **dashes)
    _label_roofs(axes, plot.roofs)
    # Axis names stand outside the ticks: the vertical one above its axis, so that nobody has to tilt the head.
    figure.text(0.01, 0.985, plot.y.label, ha="left", va="top")
    figure.text(0.975, 0.012, plot.x.label, ha="right", va="bottom")


def _scale(axes: Axes, plot: Plot) -> None:
    xs = [p.x for s in plot.series for p in s.points] + [x for roof in plot.roofs for x, _ in roof.line]
    ys = [p.y for s in plot.series for p in s.points] + [y for roof in plot.roofs if not roof.sloped for _, y in roof.line]
    ys += [end for s in plot.series for p in s.points for end in (p.low, p.high) if end is not None and end > 0]
    x_low, x_high = _limits(xs, plot.x, 0.05)
    y_low, y_high = _limits(ys, plot.y, 0.08)
    if plot.roofs:
        y_high *= (y_high / y_low) ** 0.05  # room for the label above the highest roof
    for axis, direction, low, high in ((plot.x, "x", x_low, x_high), (plot.y, "y", y_low, y_high)):
        if axis.base is not None:
            getattr(axes, f"set_{direction}scale")("log", base=axis.base)
        getattr(axes, f"set_{direction}lim")(low, high)
        ticks = ticks_of(axis, low, high)
        getattr(axes, f"set_{direction}ticks")(ticks, [axis.tick(t) for t in ticks])
        getattr(axes, f"{direction}axis").minorticks_off()
    axes.tick_params(length=3, width=0.8, pad=3)


def _limits(values: Sequence[float], axis: Axis, margin: float) -> tuple[float, float]:
    if axis.base is None:
        return 0.0, max(values) * (1 + margin)
    low, high = min(values), max(values)
    if high / low < 1.5:
        low, high = low / 2, high * 2
    room = (high / low) ** margin
    return low / room, high * room


def ticks_of(axis: Axis, low: float, high: float) -> list[float]:
    """At most MAX_TICKS round values between the limits: powers of the base, or 1, 2, 5 where there are too few of them."""
    if axis.base is None:
        step = _nice((high - low) / MAX_TICKS)
        return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    # The small slack keeps a limit that is a power of the base itself.
    first, last = math.ceil(math.log(low, axis.base) - 1e-9), math.floor(math.log(high, axis.base) + 1e-9)
    if last - first >= 2 or axis.base == 2:
        stride = max(1, math.ceil((last - first + 1) / MAX_TICKS))
        return [float(axis.base) ** e for e in range(first, last + 1, stride)]
    for mantissas in ((1, 2, 5), (1, 2, 3, 5), (1, 2, 3, 4, 5, 6, 8)):
        ticks = [m * 10.0**e for e in range(first - 1, last + 1) for m in mantissas if low <= m * 10.0**e <= high]
        if len(ticks) > 2:
            break
    return ticks


def _nice(step: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(step))
    return next(m * magnitude for m in (1.0, 2.0, 5.0, 10.0) if m * magnitude >= step * 0.999)


def _label_roofs(axes: Axes, roofs: Sequence[Roof]) -> None:
    """Compute roofs are tagged left of where they begin, above the slopes, where no point can be; slopes along themselves."""
    base = -math.inf
    for roof in sorted((r for r in roofs if not r.sloped), key=lambda r: r.line[0][1]):
        start = roof.line[0]
        height = _points(axes, *start)[1]
        # Tags only ever move up: below them are the slopes.
        base = max(height, base + TAG_GAP_PT)
        leader = {"arrowstyle": "-", "color": INK, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0}
        axes.annotate(
            roof.tag, start, xytext=(-16, base - height), textcoords="offset points", ha="right", va="center_baseline", arrowprops=leader
        )
    sloped = sorted((r for r in roofs if r.sloped), key=lambda r: r.line[0][1] / r.line[0][0])
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    for index, roof in enumerate(sloped):
        slope = roof.line[0][1] / roof.line[0][0]
        x_low, x_high = max(left, bottom / slope), roof.line[1][0]
        # The lowest is tagged below its line, the others above theirs, further along where there are many.
        x = x_low * (x_high / x_low) ** ALONG[min(index, len(ALONG) - 1)]
        (x0, y0), (x1, y1) = _points(axes, x, x * slope), _points(axes, x * 10, x * 10 * slope)
        angle = math.atan2(y1 - y0, x1 - x0)
        off = 4.0 if index > 0 or len(sloped) == 1 else -12.5
        axes.annotate(
            roof.tag,
            (x, x * slope),
            xytext=(-off * math.sin(angle), off * math.cos(angle)),
            textcoords="offset points",
            rotation=math.degrees(angle),
            rotation_mode="anchor",
            ha="center",
            va="baseline",
        )


def _points(axes: Axes, x: float, y: float) -> tuple[float, float]:
    """A place in the data as points (1/72 inch) on the figure."""
    px, py = axes.transData.transform((x, y))
    dpi = axes.figure.dpi
    return px * 72.0 / dpi, py * 72.0 / dpi
