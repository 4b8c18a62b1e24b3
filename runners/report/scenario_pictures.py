"""Pictures of a scenario's answers by matplotlib, each fit to be printed alone: the finding as its title, the source under it."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chipassay.results.safe_text import printable
from chipassay.results.units import short

from ..scenario.answer import by_place, figure, value_of
from ..scenario.labels import label
from ..scenario.records import Answer, Case, axis_name
from .facts import chipassay_version
from .fit_picture import TEXT
from .scaling_pictures import _figure, _styled
from .style import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 8.0
LOOKS = (
    ("blue", "o", ""), ("orange", "s", "////"), ("vermilion", "^", "...."), ("sky", "D", "xxxx"), ("green", "v", "\\\\\\\\"),
    ("purple", "P", "++++"), ("grey", "X", "----"),
)  # fmt: skip
"""Colour, marker and pattern of the first, second, ... series: neighbours differ in lightness, so that grey tells them apart, too."""
CLAIM, CLAIM_LABEL = "#9a9a9a", "where the claim holds"
SOURCE_WIDTH, TITLE_WIDTH = 130, 78
SOURCE_MOST = 900
"""Characters of one note under a picture."""
SOURCE_LINE_IN, LEGEND_LINE_IN, TITLE_LINE_IN = 0.15, 0.25, 0.2
TICK_WIDTH, NARROW, MANY = 11, 7, 6
"""Characters of a line of a place's name below the axis; where there are more than so many names, all panels together."""
PRINTED = ("Models", "Networks", "Software", "One quote only")
"""What is assumed that stands under a picture, without its sources; the page has the rest."""
SOURCED = re.compile(r" \([^()]*(?:\([^()]*\)[^()]*)*\)(?=; each)")
ADDRESS = re.compile(r"https?://(?:www\.)?([^/\s]+)\S*")
"""Of a page; on paper its site is enough, and the page of the scenario has all of it."""
BEYOND = 10.0
"""Times the largest value: the end of an interval that has none."""
LOG_FROM = 6.0
"""Values that span more than this factor are drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Layout:
    """Which axis of the cases runs along the picture, which one is told by colour and marker, and which one makes panels."""

    along: tuple[str, ...]
    series: tuple[str, ...]
    bars: bool = False


LAYOUTS: Mapping[str, Layout] = {
    "exchange": Layout(("network", "model"), ("model", "chip", "precision")),
    "train_time": Layout(("days",), ("model", "chip")),
    "cluster": Layout(("model",), ("precision", "cluster", "batch")),
    "link": Layout(("tp",), ("model",), bars=True),
    "ways": Layout(("chip",), ("model",), bars=True),
}
"""Kind of question -> its layout; the first axis that varies is taken."""


def draw_answer(answer: Answer) -> Figure:
    """The picture of an answer. Raises ChipassayError without matplotlib."""
    drawn: Mapping[str, Callable[[Answer], Figure]] = {"mix": draw_mixes, "rent": draw_rent}
    return drawn.get(answer.question.kind, draw_cases)(answer)


@_styled
def draw_cases(answer: Answer) -> Figure:
    """Values with their intervals along one axis, a panel for each place on what is left of the others; the claim's range is grey."""
    layout = LAYOUTS[answer.question.kind]
    varied = [axis for axis in dict.fromkeys(name for case in answer.cases for name in case.axes) if len(by_place(axis, answer.cases)) > 1]
    along = next((axis for axis in layout.along if axis in varied), layout.along[-1])
    series = next((axis for axis in layout.series if axis in varied and axis != along), "")
    rest = [axis for axis in varied if axis not in (along, series)]
    panels: dict[str, list[Case]] = {}
    for case in answer.cases:
        panels.setdefault(", ".join(label(case.axes[axis]) for axis in rest if axis in case.axes), []).append(case)
    drawing = _figure(WIDTH_IN, 4.2 if len(panels) == 1 else 4.4)
    many = drawing.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    names = list(by_place(series, answer.cases)) if series else [""]
    finite = [end for case in answer.cases for end in (case.low, case.value, case.high) if math.isfinite(end)]
    limits = [end for end in (answer.question.limits.at_least, answer.question.limits.at_most) if math.isfinite(end)]
    low, high = (min([*finite, *limits], default=1.0), max([*finite, *limits], default=1.0))
    logarithmic = not layout.bars and low > 0 and high / low > LOG_FROM
    for axes, (title, cases) in zip(many, panels.items(), strict=True):
        _panel(axes, cases, along, series, names, layout.bars, BEYOND * high)
        axes.set_title(printable(title, 60), fontsize=10, loc="left")
        _scale(axes, low, high, logarithmic, layout.bars)
        _claim(axes, answer)
    many[0].set_ylabel(textwrap.fill(printable(answer.question.measure, 80), 28))
    for axes in many:
        names = [tick.get_text() for tick in axes.get_xticklabels()]
        axes.set_xticks(axes.get_xticks(), [textwrap.fill(name, NARROW if len(names) * len(many) > MANY else TICK_WIDTH) for name in names])
        axes.set_xlabel(axis_name(along) if along != "days" else "days that the run may take")
    handles, _ = many[0].get_legend_handles_labels()
    claimed = [handle for handle in handles if handle.get_label() == CLAIM_LABEL]
    _framed(drawing, answer, [*(handle for handle in handles if handle not in claimed), *claimed], 5)
    return drawing


def _panel(axes: Axes, cases: Sequence[Case], along: str, series: str, names: Sequence[str], bars: bool, beyond: float) -> None:
    """``beyond``: where an interval without an upper end is cut off, above what is shown."""
    places = list(by_place(along, cases))
    step = (0.8 if bars else 0.6) / len(names)
    for index, name in enumerate(names):
        colour, marker, hatch = LOOKS[index % len(LOOKS)]
        own = [case for case in cases if not series or case.axes.get(series) == name]
        at = [places.index(case.axes[along]) + (index - (len(names) - 1) / 2) * step for case in own]
        done = [(x, case) for x, case in zip(at, own, strict=True) if math.isfinite(case.value)]
        xs, values = [x for x, _ in done], [case.value for _, case in done]
        ends = [[max(0.0, case.value - case.low) for _, case in done], [max(0.0, min(case.high, beyond) - case.value) for _, case in done]]
        shown = label(name) if name else None
        if bars:
            look: dict[str, Any] = {"color": PALETTE[colour], "edgecolor": "white", "hatch": hatch, "linewidth": 0.5}
            axes.bar(xs, values, width=step * 0.92, label=shown, zorder=2, **look)
            axes.errorbar(xs, values, yerr=ends, fmt="none", ecolor=TEXT, elinewidth=1.0, capsize=2, zorder=3)
        else:
            line: dict[str, Any] = {
                "color": PALETTE[colour],
                "marker": marker,
                "markersize": 6,
                "markeredgecolor": TEXT,
                "markeredgewidth": 0.5,
            }
            axes.errorbar(xs, values, yerr=ends, linestyle="none", elinewidth=1.4, capsize=3, label=shown, zorder=3, **line)
        for x, case in zip(at, own, strict=True):
            if not math.isfinite(case.value):
                beside: dict[str, Any] = {"xytext": (-8, -2), "textcoords": "offset points", "rotation": 90, "ha": "center", "va": "top"}
                axes.annotate(value_of(case), (x, 1.0), xycoords=axes.get_xaxis_transform(), fontsize=7.5, color=TEXT, **beside)
                top: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "markersize": 6, "clip_on": False, "zorder": 5}
                axes.plot([x], [1.0], marker=marker, color=PALETTE[colour], **top)
                if math.isfinite(case.low):
                    axes.plot([x, x], [case.low, beyond], color=PALETTE[colour], linewidth=1.4, marker="_", markersize=6, zorder=3)
    axes.set_xticks(range(len(places)), [label(place) for place in places], fontsize=9)
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.grid(axis="x", visible=False)


def _scale(axes: Axes, low: float, high: float, logarithmic: bool, bars: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if logarithmic:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.25, high * 1.4)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0 if bars or low < 0.4 * high else low - 0.15 * (high - low), high + 0.12 * (high - low))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}" if abs(value) < 1e5 else short(value)))


def _claim(axes: Axes, answer: Answer) -> None:
    """The range in which the claim holds."""
    limits = answer.question.limits
    if not limits.given:
        return
    bottom, top = axes.get_ylim()
    low = limits.at_least if math.isfinite(limits.at_least) else bottom
    high = limits.at_most if math.isfinite(limits.at_most) else top
    axes.axhspan(max(low, bottom), min(high, top), color=CLAIM, alpha=0.25, linewidth=0, zorder=0.5, label=CLAIM_LABEL)
    for end in (limits.at_least, limits.at_most):
        if math.isfinite(end):
            axes.axhline(end, color=TEXT, linewidth=1.0, linestyle=(0, (5, 3)), zorder=1)
    axes.set_ylim(bottom, top)


@_styled
def draw_mixes(answer: Answer) -> Figure:
    """For each mix and model: the speed of the mix, and of an even split, over that of the best chips alone."""
    cases = answer.cases
    drawing = _figure(WIDTH_IN, 1.5 + 0.34 * len(cases))
    axes = drawing.subplots()
    blue, orange = PALETTE["blue"], PALETTE["orange"]
    seen: str | None = None
    for row, case in enumerate(cases):
        alone, even = case.numbers.get("best part alone, tokens/s"), case.numbers.get("even split, tokens/s")
        if math.isfinite(case.value):
            axes.plot((case.low, case.high), (row, row), color=TEXT, linewidth=1.2, zorder=2)
            axes.plot([case.value], [row], "o", color=blue, markersize=8, markeredgecolor=TEXT, markeredgewidth=0.5, zorder=4)
            axes.annotate(figure(case.value), (case.high, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
        if isinstance(alone, float) and isinstance(even, float):
            axes.plot([even / alone], [row], "s", color=orange, markersize=6, markeredgecolor=TEXT, markeredgewidth=0.5, zorder=3)
        if seen is not None and case.axes["mix"] != seen:
            axes.axhline(row - 0.5, color="#bbbbbb", linewidth=0.8)
        seen = case.axes["mix"]
    axes.plot([], [], "o", color=blue, markeredgecolor=TEXT, label="both kinds, split as suits them (line: 80 % interval)")
    axes.plot([], [], "s", color=orange, markeredgecolor=TEXT, label="both kinds, split evenly")
    axes.axvline(1, color=TEXT, linewidth=1.2, zorder=1)
    names = [f"{label(case.axes['mix'])}, {label(case.axes['model'])}" for case in cases]
    axes.set_yticks(range(len(cases)), [printable(name, 60) for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max([1.0, *(case.high for case in cases if math.isfinite(case.value))]))
    axes.set_xlabel(f"{answer.question.measure} (1: the older chips left out)")
    axes.grid(axis="y", visible=False)
    _framed(drawing, answer, axes.get_legend_handles_labels()[0], 2)
    return drawing


@_styled
def draw_rent(answer: Answer) -> Figure:
    """Days against dollars of each choice; those that no other beats in both are joined and named."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    drawing = _figure(WIDTH_IN, 5.4)
    axes = drawing.subplots()
    chips = by_place("chip", [case for case in answer.cases if math.isfinite(case.value)])
    for index, (chip, cases) in enumerate(chips.items()):
        colour, marker, _ = LOOKS[index % len(LOOKS)]
        filled = PALETTE[colour] if index < len(LOOKS) else "white"
        ordered = sorted(cases, key=lambda case: float(case.numbers["days"] or 0))
        days, usd = [float(case.numbers["days"] or 0) for case in ordered], [case.value for case in ordered]
        look: dict[str, Any] = {"marker": marker, "color": PALETTE[colour], "markerfacecolor": filled, "markersize": 6}
        axes.plot(days, usd, linewidth=0.6, label=label(chip), zorder=3, **look)
    front = sorted((case for case in answer.cases if case.numbers.get("unbeaten")), key=lambda case: float(case.numbers["days"] or 0))
    axes.plot(
        [float(case.numbers["days"] or 0) for case in front], [case.value for case in front], color=TEXT, linewidth=1.6,
        linestyle=(0, (5, 2)), label="no other is cheaper and faster", zorder=2,
    )  # fmt: skip
    for case in front:
        axes.plot(
            [float(case.numbers["days"] or 0)] * 2, [case.low, case.high], color=TEXT, linewidth=0.7, marker="_", markersize=4, zorder=1
        )
    for case in (front[0], front[-1]) if front else ():
        told = f"{case.axes['count'].partition(' ')[0]} x {label(case.axes['chip'])}"
        place: dict[str, Any] = {"xytext": (0, -16), "textcoords": "offset points", "ha": "center", "fontsize": 8.5, "fontweight": "bold"}
        axes.annotate(told, (float(case.numbers["days"] or 0), case.value), **place)
    for scale, axis in ((axes.set_xscale, axes.xaxis), (axes.set_yscale, axes.yaxis)):
        scale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if axis is axes.xaxis else (1, 1.5, 2, 3, 5, 7)))
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}" if value < 1e5 else short(value)))
    axes.set_xlabel("days")
    axes.set_ylabel("USD of the whole run, at the median quote")
    axes.plot([], [], color=TEXT, linewidth=0.7, marker="_", markersize=4, label="80 %: time, lowest to highest quote")
    axes.margins(y=0.06)
    _framed(drawing, answer, axes.get_legend_handles_labels()[0])
    return drawing


def _framed(drawing: Figure, answer: Answer, handles: Sequence[Any] = (), columns: int = 4) -> None:
    """The finding above, the legend and then the source below."""
    title = textwrap.fill(printable(answer.headline, 240), TITLE_WIDTH)
    drawing.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    source = "\n".join(textwrap.fill(printable(line, SOURCE_MOST), SOURCE_WIDTH) for line in source_lines(answer))
    source_in = 0.06 + SOURCE_LINE_IN * (source.count("\n") + 1)
    width_in, plot_in = drawing.get_size_inches()
    height_in = plot_in + source_in + TITLE_LINE_IN * title.count("\n")  # what is written around the plot takes nothing from it
    drawing.set_size_inches(width_in, height_in)
    legend_in = LEGEND_LINE_IN * math.ceil(len(handles) / columns)
    drawing.text(0.012, 0.9 * source_in / height_in, source, ha="left", va="top", fontsize=7.5, color=TEXT)
    if handles:
        place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, source_in / height_in), "borderaxespad": 0.2}
        drawing.legend(handles=handles, ncols=columns, frameon=False, fontsize=9, **place)
    engine: Any = drawing.get_layout_engine()  # the constrained one, by _figure
    below = (source_in + legend_in) / height_in
    engine.set(rect=(0, below, 1, 1 - below))


def source_lines(answer: Answer) -> Iterator[str]:
    """What stands under a picture: what was assumed, who said it, and who worked it out."""
    money = ("Prices",) if answer.question.options.get("of") == "usd" else ()
    if printed := [SOURCED.sub("", line) for line in answer.assumed if line.startswith(PRINTED + money)]:
        yield " ".join(printed)
    yield from (line for line in answer.notes if line.startswith(PRINTED))
    source = ADDRESS.sub(r"\1", answer.question.sources[0])
    claim = "" if not answer.question.limits.given else f" Claim: {answer.verdict.describe()} ({answer.counted}); {source}."
    yield f"Source: chipassay {chipassay_version()}; predictions, lines are 80 % intervals.{claim}"
