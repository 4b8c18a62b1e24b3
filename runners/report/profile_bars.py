"""Two profiles as bars of ratios, one a figure, on a logarithmic axis with 1 in the middle. Drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chipassay.results.profile_diff import Difference
from chipassay.results.safe_text import printable

from ..profile_words import ratio_words, verdict_words
from .draw import missing_library, ticks_of
from .plot import Axis
from .style import INK, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"higher": "blue", "lower": "vermilion", "equal": "green", "unclear": "orange", "unsure": "grey"}
"""By verdict, and each bar has its verdict in words, too."""
LINE_IN = 0.235
"""Height of a line."""
WIDTH_IN = 11.0
MOST_SPAN = 4.0
"""Bars and intervals that go further end in an arrow; the number beside them goes on."""
LEAST_SPAN = 1.3
STYLE: dict[str, Any] = {
    **{f"{name}color": INK for name in ("axes.edge", "axes.label", "text.", "xtick.", "ytick.")},
    "font.size": 9.0,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "chipassay",
    "font.family": "sans-serif",
}


def bars(found: Sequence[Difference], title: str) -> Figure:
    """A bar for each figure that both chips know, under the name of its group.

    Raises ChipassayError where matplotlib is missing.
    """
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_library("matplotlib") from error
    lines = _lines(found)
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH_IN, LINE_IN * (len(lines) + 6)))
        height = figure.get_figheight()
        axes = figure.add_axes((0.36, 3.2 * LINE_IN / height, 0.33, 1 - 6 * LINE_IN / height))
        _draw(axes, lines)
        figure.text(0.01, 1 - 0.5 * LINE_IN / height, printable(title), ha="left", va="top", fontsize=12, fontweight="bold")
        words = "Black lines: 95 % interval, where both know their errors. Right: B / A, verdict, evidence of A, of B."
        figure.text(0.01, 0.6 * LINE_IN / height, words, ha="left", va="bottom", color=INK)
    return figure


def _lines(found: Sequence[Difference]) -> list[Difference | str]:
    """Groups with their differences; those without a ratio are in the table, not here."""
    lines: list[Difference | str] = []
    for group in dict.fromkeys(one.group for one in found):
        own = [one for one in found if one.group == group and one.ratio]
        lines += [group, *own] if own else []
    return lines or ["no known figure in common"]


def _draw(axes: Axes, lines: Sequence[Difference | str]) -> None:
    shown = [one for one in lines if isinstance(one, Difference) and one.ratio]
    ends = [max(end, 1 / end) for one in shown for end in (one.ratio, one.low, one.high) if end]
    span = min(max(LEAST_SPAN, 1.05 * max(ends, default=LEAST_SPAN)), MOST_SPAN)
    axes.set_xscale("log")
    axes.set_xlim(1 / span, span)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    for place, one in enumerate(lines):
        if isinstance(one, str):
            axes.text(-0.01, place, one, transform=axes.get_yaxis_transform(), ha="right", va="center", fontweight="bold")
        else:
            _bar(axes, place, one, span)
    axes.axvline(1.0, color=INK, linewidth=0.9, zorder=3)
    ticks = [tick for tick in ticks_of(Axis("", str), 1 / span, span) if 1 / span <= tick <= span]
    if span < 3:
        ticks = [tick for tick in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.7, 2, 2.5) if 1 / span <= tick <= span]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks([])
    axes.grid(axis="x", color="#dddddd", linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", top=True, labeltop=True)
    for side in ("left", "right"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("B / A (logarithmic)")


def _bar(axes: Axes, place: int, one: Difference, span: float) -> None:
    assert one.ratio is not None
    ratio = _within(one.ratio, span)
    axes.barh(place, ratio - 1, left=1, height=0.62, color=PALETTE[COLOURS[one.verdict]], zorder=2)
    # A ratio of 1 has no length: a mark shows that the figure is there.
    axes.plot(
        [ratio],
        [place],
        marker="o" if ratio == one.ratio else "<" if one.ratio < 1 else ">",
        markersize=3.6,
        color=PALETTE[COLOURS[one.verdict]],
        zorder=5,
        clip_on=False,
        markeredgecolor=INK,
        markeredgewidth=0.4,
    )
    if one.low is not None and one.high is not None:
        axes.plot([_within(one.low, span), _within(one.high, span)], [place, place], color=INK, linewidth=1.0, zorder=4)
    axes.text(-0.01, place, printable(one.name), transform=axes.get_yaxis_transform(), ha="right", va="center")
    words = f"{ratio_words(one.ratio)}  {verdict_words(one)}: {one.a.level}, {one.b.level}"
    axes.text(1.02, place, words, transform=axes.get_yaxis_transform(), ha="left", va="center")


def _within(ratio: float, span: float) -> float:
    return min(max(ratio, 1 / span), span)
