"""Measured against modelled times: a panel for each kind of operation, the ratio below it. Drawn by matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chipassay.results.errors import FileError
from chipassay.results.safe_text import printable
from chipassay.results.units import seconds

from ..fitting.cross_validate import Fitted
from .draw import missing_library
from .style import PALETTE, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {"matmul": "Matrix products", "attention": "Attention", "memory": "Bound by memory", "links": "Collectives"}
"""Kind of model -> heading of its panel, in their order."""
FORMATS = ("svg", "png")
POINTS_AT_MOST = 3000
"""Dots of one series: more lie on top of each other, and an SVG of 30,000 takes a browser seconds."""
PANEL_IN = 4.4
HEIGHT_IN = 6.6
LEGEND_AT_MOST = 7
"""Names in a legend, those with most rows: more would cover the dots. Others are drawn, and counted."""
RATIO_SPAN = (0.5, 2.0)
"""What the lower panel shows at least; dots beyond RATIO_MOST lie on its edge."""
RATIO_MOST = 4.0
BAND = 0.10
"""The grey band: 10 % either way."""
GRID, TEXT = "#d9d9d9", "#222222"
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "chipassay",
    "text.parse_math": False,
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}


def check_name(path: Path) -> None:
    """Raise FileError for a name whose ending is not one of FORMATS, ChipassayError without matplotlib."""
    if path.suffix.lower().lstrip(".") not in FORMATS:
        raise FileError(path, f"is a picture of no kind that is written here ({', '.join(FORMATS)})", mend="end its name in .svg or .png")
    if find_spec("matplotlib") is None:
        raise missing_library("matplotlib")


def write_picture(fitted: Sequence[Fitted], name: str, path: Path) -> None:
    """Write the picture. Raises FileError where the disk does not allow it, ChipassayError without matplotlib."""
    check_name(path)
    buffer = io.BytesIO()
    suffix = path.suffix.lower().lstrip(".")
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    try:
        from matplotlib import style
    except ImportError as error:
        raise missing_library("matplotlib") from error
    with style.context(["default", STYLE]):
        figure = draw_fits(fitted, name)
        figure.savefig(buffer, format=suffix, dpi=120, metadata=metadata)
    try:
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror})", mend="choose another place with --picture") from error


def draw_fits(fitted: Sequence[Fitted], name: str) -> Figure:
    """A column for each kind of operation that has a model."""
    from matplotlib.figure import Figure

    kinds = [kind for kind in TITLES if any(one.kind == kind for one in fitted)]
    figure = Figure(figsize=(PANEL_IN * max(1, len(kinds)), HEIGHT_IN), layout="constrained")
    figure.suptitle(printable(f"{name}: measured and modelled"), x=0.01, ha="left", fontweight="bold")
    if not kinds:
        figure.text(0.5, 0.5, "nothing in this profile was fitted to rows", ha="center")
        return figure
    grid = figure.subplots(2, len(kinds), sharex="col", squeeze=False, height_ratios=(3, 1.5))
    for column, kind in enumerate(kinds):
        above, below = grid[0][column], grid[1][column]
        _panel(above, below, [one for one in fitted if one.kind == kind])
        above.set_title(TITLES[kind], loc="left")
        below.set_xlabel("time by the model")
        if column == 0:
            above.set_ylabel("time measured")
            below.set_ylabel("measured / modelled")
    return figure


def _panel(above: Axes, below: Axes, fitted: Sequence[Fitted]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    series = {one.hue: [other for other in fitted if other.hue == one.hue] for one in fitted}
    chosen = looks((hue, "fit") for hue in series)
    largest = 1.0
    for number, (hue, group) in enumerate(sorted(series.items(), key=lambda item: -sum(len(one.rows) for one in item[1]))):
        measured_s, modelled_s = (np.concatenate([getattr(one, name) for one in group]) for name in ("measured_s", "modelled_s"))
        label = _label(hue, measured_s, modelled_s) if number < LEGEND_AT_MOST else None
        if len(measured_s) > POINTS_AT_MOST:
            kept = np.random.default_rng(0).choice(len(measured_s), POINTS_AT_MOST, replace=False)
            measured_s, modelled_s = measured_s[kept], modelled_s[kept]
        look = chosen[hue, "fit"]
        crowded = len(measured_s) > 300
        dots: dict[str, Any] = {
            "color": PALETTE[look.colour],
            "marker": look.marker,
            "linestyle": "none",
            "markersize": 2.2 if crowded else 4.5,
            "alpha": 0.35 if crowded else 0.8,
            "markeredgewidth": 0,
        }
        ratio = measured_s / modelled_s
        above.plot(modelled_s, measured_s, label=label, zorder=2 + number / 100, **dots)
        below.plot(modelled_s, np.clip(ratio, 1 / RATIO_MOST, RATIO_MOST), zorder=2 + number / 100, **dots)
        largest = max(largest, float(np.max(np.abs(np.log(ratio)))))
    low, high = (pick(float(pick(getattr(one, name))) for one in fitted for name in ("measured_s", "modelled_s")) for pick in (min, max))
    low, high = low / 1.3, high * 1.3
    above.plot((low, high), (low, high), color=TEXT, linewidth=0.9, zorder=1.5)
    below.axhspan(1 - BAND, 1 + BAND, color=GRID, zorder=0.5)
    below.axhline(1.0, color=TEXT, linewidth=0.9, zorder=1.5)
    reach = min(RATIO_MOST, max(RATIO_SPAN[1], math.exp(largest))) * 1.08
    for axes, limits in ((above, (low, high)), (below, (1 / reach, reach))):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(*limits)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_major_formatter(FuncFormatter(_time))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
    above.yaxis.set_major_formatter(FuncFormatter(_time))
    ticks = [tick for tick in (0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0) if 1 / reach <= tick <= reach]
    below.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    below.yaxis.minorticks_off()
    if len(series) > LEGEND_AT_MOST:
        above.plot([], [], linestyle="none", label=f"and {len(series) - LEGEND_AT_MOST} more")
    above.legend(loc="upper left", fontsize=8, frameon=False, handletextpad=0.2, markerscale=1.6)


def _time(value: float, position: object) -> str:
    number, unit = seconds(value).split()
    return f"{float(number):g} {unit}"


def _label(hue: str, measured_s: Any, modelled_s: Any) -> str:
    off = np.abs(modelled_s / measured_s - 1)
    if len(off) == 1:
        return printable(f"{hue}: 1 row")
    return printable(f"{hue}: {len(off)} rows, median {100 * float(np.median(off)):.1f} % off")
