"""Predicted against measured step times of published training runs, coloured by source; the errors below. Drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chipassay.results.errors import FileError
from chipassay.results.safe_text import printable
from chipassay.scaling.validation.validate import Outcome

from .draw import missing_library
from .fit_picture import BAND, GRID, STYLE, TEXT, check_name
from .style import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEGEND_AT_MOST = 12
"""Groups of sources in the legend, those with most runs, in six colours and two shapes: more would leave no room."""
CROWD = 200
"""Dots of one group, from which on they are small."""
ENDS = frozenset(
    {"README", "SC21", "docs/performance.md", "measured", "MPT", "performance", "training", "pre-training", "et", "Dec", "June"}
)
"""Words with which a title begins after a publication's name."""
MARKERS = ("o", "^")
OTHERS = "#9a9a9a"
"""Colour of the groups that the legend has no room for."""
ERROR_MOST = 1.0
"""Errors beyond lie on the edge of the lower panel."""

__all__ = ["check_name", "draw_scatter", "source_group", "write_picture"]


def source_group(source: str) -> str:
    """The publication that a source belongs to: its first words, up to a bracket, a comma, a number or one of ENDS.

    >>> source_group("vTrain (MICRO 2024, arXiv 2312.12391) measured validation data, single node")
    'vTrain'
    >>> source_group("NVIDIA Megatron-Bridge 25.11 performance summary (DGX-GB300)")
    'NVIDIA Megatron-Bridge'
    >>> source_group("Megatron-LM README Sept 2020, data-parallel scaling table DGX-A100")
    'Megatron-LM'
    """
    words: list[str] = []
    for word in source.replace(",", " , ").split():
        if words and (word[0] in '(,"/0123456789' or word in ENDS):
            break
        words.append(word.rstrip(":"))
        if word.endswith(":"):
            break
    return " ".join(words[:3]) or source


def write_picture(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the picture as .png or .svg. Raises FileError where the disk does not allow it, ChipassayError without matplotlib."""
    check_name(path)
    try:
        from matplotlib import style
    except ImportError as error:
        raise missing_library("matplotlib") from error
    buffer = io.BytesIO()
    suffix = path.suffix.lower().lstrip(".")
    with style.context(["default", STYLE]):
        draw_scatter(outcomes).savefig(buffer, format=suffix, dpi=120, metadata={"Date": None} if suffix == "svg" else {"Software": None})
    try:
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror})", mend="choose another place with --picture") from error


def draw_scatter(outcomes: Sequence[Outcome]) -> Figure:
    """Above predicted against measured seconds of a step, both logarithmic, with a band of 10 %; below the errors."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 9.5), layout="constrained")
    shown = [outcome for outcome in outcomes if outcome.scored]
    figure.suptitle(f"Training steps: predicted and measured, {len(shown)} published runs", x=0.01, ha="left", fontweight="bold")
    if not shown:
        figure.text(0.5, 0.5, "no run could be predicted", ha="center")
        return figure
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.3))
    groups: dict[str, list[Outcome]] = {}
    for outcome in shown:
        groups.setdefault(source_group(outcome.run.source), []).append(outcome)
    colours = [PALETTE[name] for name in PALETTE if name not in ("grey", "yellow")]
    for number, (name, some) in enumerate(sorted(groups.items(), key=lambda item: -len(item[1]))):
        named = number < LEGEND_AT_MOST
        colour = colours[number % len(colours)] if named else OTHERS
        marker = MARKERS[number // len(colours) % len(MARKERS)] if named else "."
        _dots(above, below, some, name if named else None, colour, marker, 2 + number / 100)
    if len(groups) > LEGEND_AT_MOST:
        above.plot([], [], linestyle="none", color=OTHERS, marker=".", label=f"and {len(groups) - LEGEND_AT_MOST} more")
    _frame(above, below, shown)
    return figure


def _dots(above: Axes, below: Axes, some: Sequence[Outcome], name: str | None, colour: str, marker: str, order: float) -> None:
    measured = np.array([outcome.measured_step_s for outcome in some], float)
    predicted = np.array([outcome.predicted_step_s for outcome in some], float)
    label = None
    if name is not None:
        label = printable(f"{name}: {len(some)}, median {100 * float(np.median(np.abs(predicted / measured - 1))):.1f} % off")
    crowded = len(some) > CROWD
    dots: dict[str, Any] = {
        "color": colour,
        "marker": marker,
        "linestyle": "none",
        "markersize": 2.5 if crowded else 5.0,
        "alpha": 0.4 if crowded else 0.8,
        "markeredgewidth": 0,
        "zorder": order,
    }
    above.plot(measured, predicted, label=label, **dots)
    below.plot(measured, 100 * np.clip(predicted / measured - 1, -ERROR_MOST, ERROR_MOST), **dots)


def _frame(above: Axes, below: Axes, shown: Sequence[Outcome]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    steps = [value for outcome in shown for value in (outcome.measured_step_s, outcome.predicted_step_s) if value]
    low, high = min(steps) / 1.4, max(steps) * 1.4
    line = np.array([low, high])
    above.fill_between(line, line * (1 - BAND), line * (1 + BAND), color=GRID, zorder=0.5, linewidth=0)
    above.plot(line, line, color=TEXT, linewidth=0.9, zorder=1.5)
    above.set_xscale("log")
    above.set_yscale("log")
    above.set_xlim(low, high)
    above.set_ylim(low, high)
    for axis in (above.xaxis, above.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g} s"))
        axis.set_minor_formatter(NullFormatter())
    above.set_ylabel("predicted")
    above.legend(loc="upper left", fontsize=8, frameon=False, handletextpad=0.2, markerscale=1.4)
    below.axhspan(-100 * BAND, 100 * BAND, color=GRID, zorder=0.5)
    below.axhline(0.0, color=TEXT, linewidth=0.9, zorder=1.5)
    below.set_ylim(-105 * ERROR_MOST, 105 * ERROR_MOST)
    below.set_ylabel("error, %")
    below.set_xlabel("measured step")
