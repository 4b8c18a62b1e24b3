"""Pictures of exchanges by matplotlib: speed over chips for both sides, and how many chips one is worth over the size of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chipassay.results.errors import InputError
from chipassay.results.safe_text import printable

from ..exchange.answer import Answer, Question
from .scaling_pictures import _figure, _styled
from .style import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chipassay.scaling.exchange import Exchange, Point

COLOURS = ("blue", "vermilion", "green", "purple", "orange", "sky", "grey")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
SIZE_IN = (8.0, 5.4)
NAME_AT_MOST = 40
LINEAR_UP_TO = 20
"""Chips for one up to which the axis is linear from 0."""
FEW_DECADES = 1000.0
"""Times its start that an axis may end at for 2 and 5 to be written beside 1 in each decade."""
MANY = 7
"""Models from which their names stand aslant."""
BESIDE = {
    "time": "as fast as",
    "cost": "for the same cost of a run as",
    "rent": "for the same rent as",
    "power": "on the same power as",
    "energy": "on the same energy a run as",
}
WORDS = {
    "time": "for the same time to train",
    "cost": "for the same cost of a run",
    "rent": "for the same rent",
    "power": "for the same power",
    "energy": "for the same energy of a run",
}


def draw_exchanges(question: Question, answers: Sequence[Answer]) -> Figure:
    """Of one model the curve of speed over chips, of several the exchange rate over their size."""
    if not any(answer.exchange is not None for answer in answers):
        raise InputError("there is no exchange to draw; leave --picture out to see why")
    return draw_rates(question, answers) if len(question.models) > 1 else draw_curves(question, answers)


@_styled
def draw_curves(question: Question, answers: Sequence[Answer]) -> Figure:
    """Speed over numbers of chips: the reference's line, one for each other side, the reference's speed across, and the answers: on it
    where the speed is to be the same, else each at its own."""
    from matplotlib.ticker import LogLocator, NullFormatter

    found = [(answer.exchange, answer.curve) for answer in answers if answer.exchange is not None and answer.curve is not None]
    figure = _figure(*SIZE_IN)
    axes = figure.subplots()
    first, curves = found[0]
    aim = first.reference_run.tokens_per_s
    _titles(figure, axes, question, f"How many chips train {first.model} {BESIDE[first.same]} {question.count:,} {question.reference.name}")
    _line(axes, curves[0], 0, first.reference_chip)
    axes.axhline(aim, color="#222222", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.plot([question.count], [aim], marker="o", markersize=9, color=PALETTE[COLOURS[0]], markeredgecolor="#222222", zorder=4)
    for place, (e, both) in enumerate(found, 1):
        _line(axes, both[1], place, _answered(e))
        if e.count is not None and e.same == "time":
            _answer(axes, e, aim, place)
        elif e.count is not None and e.other_run is not None:
            look: dict[str, Any] = {
                "marker": MARKS[place % len(MARKS)],
                "color": PALETTE[COLOURS[place % len(COLOURS)]],
                "markersize": 9,
                "zorder": 4,
            }
            axes.plot([e.count], [e.other_run.tokens_per_s], markeredgecolor="#222222", **look)
    axes.set_xscale("log")
    axes.set_yscale("log")
    sequences = next(answer.model.seq_len for answer in answers if answer.exchange is first)
    axes.set_xlabel(f"chips, at a batch of {first.global_batch:,} sequences of {sequences:,} tokens")
    axes.set_ylabel("tokens per second")
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if high < FEW_DECADES * low:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    return figure


def _line(axes: Axes, points: Sequence[Point], place: int, name: str) -> None:
    colour = PALETTE[COLOURS[place % len(COLOURS)]]
    look: dict[str, Any] = {"color": colour, "marker": MARKS[place % len(MARKS)], "markersize": 4, "linewidth": 1.6, "zorder": 3}
    axes.plot([point.chips for point in points], [point.tokens_per_s for point in points], label=printable(name, 80), **look)


def _answered(e: Exchange) -> str:
    if e.count is None:
        return f"{e.other_chip}: no number of them"
    if e.count_low is None or e.count_high is None or e.count_low == e.count_high:
        return f"{e.other_chip}: {e.count:,}"
    high = "none" if math.isinf(e.count_high) else f"{e.count_high:,.0f}"
    return f"{e.other_chip}: {e.count:,} (80 %: {e.count_low:,.0f} to {high})"


def _answer(axes: Axes, e: Exchange, aim: float, place: int) -> None:
    """The number where the line crosses the aim, with its interval on the aim's line."""
    assert e.count is not None
    assert e.count_low is not None
    assert e.count_high is not None
    colour = PALETTE[COLOURS[place % len(COLOURS)]]
    high = e.count_high if math.isfinite(e.count_high) else axes.get_xlim()[1]
    axes.plot((e.count_low, high), (aim, aim), color=colour, linewidth=5, alpha=0.45, solid_capstyle="butt", zorder=2)
    axes.plot([e.count], [aim], marker=MARKS[place % len(MARKS)], markersize=9, color=colour, markeredgecolor="#222222", zorder=4)


@_styled
def draw_rates(question: Question, answers: Sequence[Answer]) -> Figure:
    """Chips for one reference chip over the size of the model, with intervals; a model that no number can train is marked at the top."""
    figure = _figure(*SIZE_IN)
    axes = figure.subplots()
    _titles(figure, axes, question, f"Chips for one {question.reference.name} {WORDS[question.same]}, by size of model")
    names = [side.name for side in question.others]
    models = sorted(question.models, key=lambda model: model.parameters)
    places = {model.name: place for place, model in enumerate(models)}
    largest = 1.0
    for series, name in enumerate(names):
        shift = 0.06 * (series - (len(names) - 1) / 2)  # so that intervals stand beside each other
        rated = sorted(((places[one.model.name], one.exchange) for one in answers if one.other == name and one.exchange), key=_place)
        rated = [(place, e) for place, e in rated if e.count is not None]
        ends = [(_ends(e), (e.count or 0) / e.reference_count) for _, e in rated]
        largest = max([largest, *(high for (_, high), _ in ends if math.isfinite(high)), *(value for _, value in ends)])
        below = [value - low for (low, _), value in ends]
        above = [high - value if math.isfinite(high) else 0.0 for (_, high), value in ends]
        axes.errorbar(
            [place + shift for place, _ in rated], [value for _, value in ends], yerr=(below, above), label=printable(name, NAME_AT_MOST),
            color=PALETTE[COLOURS[series % len(COLOURS)]], marker=MARKS[series % len(MARKS)], markersize=6, linewidth=1.6, capsize=3,
        )  # fmt: skip
    _none_at(axes, answers, names, places)
    axes.axhline(1.0, color="#222222", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    if largest > LINEAR_UP_TO:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.3g}")
    else:
        axes.set_ylim(0, 1.12 * largest)
    axes.set_xlim(-0.5, len(models) - 0.5)
    labels = [f"{printable(model.name, 24)}\n{model.parameters / 1e9:,.3g} billion" for model in models]
    axes.set_xticks(range(len(models)), labels, fontsize=8, rotation=0 if len(models) < MANY else 60)
    axes.set_ylabel(f"chips for one {question.reference.name}")
    axes.set_xlabel("model, and its parameters")
    figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    return figure


def _place(pair: tuple[int, Exchange]) -> int:
    return pair[0]


def _counts(answer: Answer) -> bool:
    return answer.exchange is not None and answer.exchange.count is not None


def _none_at(axes: Axes, answers: Sequence[Answer], names: Sequence[str], places: Mapping[str, int]) -> None:
    """Where there is no number, that is written over the model: once where it is the reference that cannot run it."""
    for name, place in places.items():
        missing = [answer for answer in answers if answer.model.name == name and not _counts(answer)]
        look: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center", "fontsize": 8}
        if len(missing) == len(names) and all(answer.exchange is None for answer in missing):
            axes.annotate("the reference\ncannot run it", (place, 1.0), xytext=(0, -24), color="#555555", **look)
            continue
        for line, answer in enumerate(missing):
            colour = PALETTE[COLOURS[names.index(answer.other) % len(COLOURS)]]
            axes.annotate("none", (place, 1.0), xytext=(0, -12 - 11 * line), color=colour, **look)


def _ends(e: Exchange) -> tuple[float, float]:
    """The interval, for one reference chip."""
    assert e.count is not None
    low, high = (e.count if end is None else end for end in (e.count_low, e.count_high))
    return min(low, e.count) / e.reference_count, high / e.reference_count


def _titles(figure: Figure, axes: Axes, question: Question, title: str) -> None:
    figure.suptitle(printable(title, 90), x=0.01, ha="left", fontweight="bold")
    when = f" Chips and software of {question.as_of}." if question.as_of else ""
    axes.set_title(
        f"Each side with its own best plan, predicted by chipassay; bars: 80 % intervals.{when}", loc="left", fontsize=9, color="#555555"
    )
