"""Pictures of the scaling model by matplotlib: where a step's time goes, the curve over numbers of chips, which input matters."""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from chipassay.results.errors import FileError, InputError
from chipassay.results.safe_text import printable
from chipassay.results.units import seconds, short

from .draw import missing_library
from .fit_picture import STYLE, check_name
from .style import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chipassay.scaling.curve import ScalingCurve
    from chipassay.scaling.predict import Prediction
    from chipassay.scaling.sensitivity import Sensitivity

P = ParamSpec("P")

LOOKS: dict[str, tuple[str, str, str]] = {
    "matmul": ("matrix products", "blue", ""),
    "attention": ("attention", "sky", ""),
    "memory_bound": ("memory-bound", "green", ""),
    "recompute": ("recomputed", "blue", "////"),
    "optimizer": ("optimizer", "green", "////"),
    "host": ("host", "grey", ""),
    "tensor_parallel": ("tensor parallel", "vermilion", ""),
    "context_parallel": ("context parallel", "vermilion", "////"),
    "expert_parallel": ("expert parallel", "vermilion", "...."),
    "data_parallel": ("data parallel", "orange", ""),
    "pipeline_send": ("pipeline sends", "purple", ""),
    "pipeline_bubble": ("pipeline bubble", "purple", "////"),
    "offload": ("offload", "yellow", ""),
    "stragglers": ("stragglers", "grey", "////"),
}
"""Kind of the breakdown -> its name, a colour of the palette and a pattern: chips at work, then their communication, then waiting."""
LEAST_SHOWN = 0.002
"""Kinds below this share of every step are drawn but not named."""
LEAST_LABELLED, LEAST_ON_PATTERN = 0.05, 0.09
"""Parts of at least this share of the longest bar carry their number; on a pattern it needs a frame, and more room."""
LEAST_ELASTICITY = 0.005
"""Inputs below it are not drawn: at 10 % they move the step by less than 0.05 %."""
LIGHT = ("sky", "orange", "yellow", "grey", "purple")
"""Colours on which dark text is read better than white."""
LINE_AT_MOST = 44
"""Characters of a name at a bar."""
WIDTH_IN, DPI = 8.0, 120


def write_figure(figure: Figure, path: Path) -> None:
    """Save as .svg or .png, the same bytes for the same figure. Raises FileError for another ending, or where the disk refuses."""
    check_name(path)
    suffix = path.suffix.lower().lstrip(".")
    buffer = io.BytesIO()
    from matplotlib import style

    with style.context(["default", STYLE]):
        figure.savefig(buffer, format=suffix, dpi=DPI, metadata={"Date": None} if suffix == "svg" else {"Software": None})
    try:
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror})", mend="choose another place") from error


def _figure(width_in: float, height_in: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """The drawing function, run in the house style. It then raises ChipassayError without matplotlib."""

    @functools.wraps(draw)
    def drawn(*arguments: P.args, **options: P.kwargs) -> Figure:
        try:
            from matplotlib import style
        except ImportError as error:
            raise missing_library("matplotlib") from error
        with style.context(["default", STYLE]):
            return draw(*arguments, **options)

    return drawn


@_styled
def draw_breakdown(predictions: Sequence[Prediction], names: Sequence[str] | None = None) -> Figure:
    """A bar for each prediction, its step time by kind. ``names`` stand at the bars (default: cluster and plan)."""
    if not predictions:
        raise InputError("a breakdown needs at least one prediction")
    labels = [f"{p.cluster}: {p.plan.describe()}" for p in predictions] if names is None else names
    longest_s = max(p.step_time_s for p in predictions)
    figure = _figure(WIDTH_IN, 1.7 + 0.8 * len(predictions))
    axes = figure.subplots()
    kinds = [kind for kind in LOOKS if any(p.breakdown_s.get(kind, 0) > 0 for p in predictions)]
    kinds += sorted({kind for p in predictions for kind, value in p.breakdown_s.items() if value > 0} - set(LOOKS))
    named = {kind for kind in kinds if any(p.breakdown_s.get(kind, 0) >= LEAST_SHOWN * p.step_time_s for p in predictions)}
    left = [0.0] * len(predictions)
    for kind in kinds:
        name, colour, hatch = LOOKS.get(kind, (kind, "grey", "xx"))
        widths = [p.breakdown_s.get(kind, 0.0) for p in predictions]
        look: dict[str, Any] = {"color": PALETTE[colour], "edgecolor": "white", "linewidth": 0.5, "hatch": hatch, "height": 0.62}
        axes.barh(range(len(predictions)), widths, left=left, label=name if kind in named else None, zorder=2, **look)
        for row, (start, width, p) in enumerate(zip(left, widths, predictions, strict=True)):
            if width >= (LEAST_ON_PATTERN if hatch else LEAST_LABELLED) * longest_s:
                _label(axes, start + width / 2, row, f"{width / p.step_time_s:.0%}", colour, bool(hatch))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for row, p in enumerate(predictions):
        axes.plot((p.low_s, p.high_s), (row + 0.41, row + 0.41), color="#222222", linewidth=1.2, marker="|", markersize=6, zorder=3)
        axes.annotate(seconds(p.step_time_s), (max(p.step_time_s, p.high_s), row), xytext=(5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(predictions)), [_wrapped(label) for label in labels], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(max(p.step_time_s, p.high_s) for p in predictions) * 1.14)
    axes.set_xlabel("seconds of one step (line: 80 % interval)")
    axes.grid(axis="y", visible=False)
    models = ", ".join(dict.fromkeys(p.model for p in predictions))
    figure.suptitle(printable(f"Where the time of a step of {models} goes", 80), x=0.01, ha="left", fontweight="bold")
    figure.legend(loc="outside lower center", ncols=min(5, len(named)), frameon=False, fontsize=8, handlelength=1.4)
    return figure


def _wrapped(label: str) -> str:
    """A long name over up to three lines."""
    return textwrap.fill(printable(label, 3 * LINE_AT_MOST), LINE_AT_MOST)


def _label(axes: Axes, x: float, y: float, text: str, colour: str, hatched: bool) -> None:
    dark = colour in LIGHT or hatched
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85} if hatched else None
    axes.text(x, y, text, ha="center", va="center", fontsize=8, color="#111111" if dark else "white", bbox=box, zorder=4)


@_styled
def draw_curve(curve: ScalingCurve) -> Figure:
    """Tokens per second over numbers of chips beside ideal scaling; below, efficiency and MFU."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

    points = [point for point in curve.points if point.runs]
    figure = _figure(WIDTH_IN * 0.8, 5.6)
    kind = "batch grows with the chips" if curve.weak else "one batch"
    figure.suptitle(printable(f"{curve.model} on {curve.chip_id}: {kind}", 80), x=0.01, ha="left", fontweight="bold")
    if not points:
        figure.text(0.5, 0.5, "no number of chips can run it", ha="center")
        return figure
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    found = [point.prediction for point in points if point.prediction is not None]
    chips = [p.chips for p in found]
    speeds = [p.tokens_per_s for p in found]
    ideal = [speeds[0] / chips[0] * count for count in chips]
    above.plot(chips, ideal, color="#222222", linewidth=1.0, linestyle=(0, (5, 3)), label="ideal", zorder=2)
    low, high = ([p.tokens_per_s * p.step_time_s / end for p, end in zip(found, ends, strict=True)] for ends in _ends(found))
    above.fill_between(chips, low, high, color=PALETTE["blue"], alpha=0.18, linewidth=0, label="80 % interval", zorder=1.5)
    above.plot(chips, speeds, color=PALETTE["blue"], marker="o", markersize=5, label="predicted", zorder=3)
    for scale in (above.set_xscale, above.set_yscale):
        scale("log")
    above.set_ylabel("tokens per second")
    above.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    above.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    above.yaxis.set_minor_formatter(NullFormatter())
    above.legend(frameon=False, fontsize=9)
    efficiencies = [point.efficiency or 0.0 for point in points]
    below.plot(chips, efficiencies, color=PALETTE["blue"], marker="o", markersize=5, label="efficiency")
    known = [(p.chips, p.mfu) for p in found if p.mfu is not None]
    if known:
        below.plot(*zip(*known, strict=True), color=PALETTE["vermilion"], marker="s", markersize=5, label="MFU")
    below.set_ylim(0, max(1.05, *(value * 1.08 for value in efficiencies)))
    below.yaxis.set_major_formatter(PercentFormatter(1.0))
    below.set_xticks(chips, [f"{count:,}" for count in chips], rotation=0 if len(chips) < 9 else 60)
    below.xaxis.set_minor_locator(_none())
    cannot = [f"{point.chips:,}" for point in curve.points if not point.runs]
    below.set_xlabel(printable(f"chips ({', '.join(cannot)} cannot run it)" if cannot else "chips", 80))
    below.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


def _none() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _ends(found: Sequence[Prediction]) -> tuple[list[float], list[float]]:
    """Step times at the ends of the interval: slowest first."""
    return [p.high_s for p in found], [p.low_s for p in found]


@_styled
def draw_tornado(sensitivity: Sensitivity, most: int = 12) -> Figure:
    """A bar for each input: the step's change with it better to one side, worse to the other; the most influential on top."""
    step_s = sensitivity.prediction.step_time_s
    # A price moves no step: with one, its bar would be empty.
    shown = [one for one in sensitivity.influences if abs(one.step_elasticity) >= LEAST_ELASTICITY or one.worse_s is None][:most]
    figure = _figure(WIDTH_IN, 1.5 + 0.36 * max(2, len(shown)))
    p = sensitivity.prediction
    figure.suptitle(printable(f"What moves the step of {p.model} on {p.cluster}", 80), x=0.01, ha="left", fontweight="bold")
    if not shown:
        figure.text(0.5, 0.5, "no input moves it", ha="center")
        return figure
    axes = figure.subplots()
    change = shown[0].change
    ends = [(one.better_s / step_s - 1, 0.0 if one.worse_s is None else one.worse_s / step_s - 1) for one in shown]
    reach = max(abs(value) for pair in ends for value in pair) or 1.0
    looks: dict[str, Any] = {"height": 0.66, "zorder": 2}
    rows = range(len(shown))
    axes.barh(rows, [better for better, _ in ends], color=PALETTE["blue"], label=f"{change:.0%} better", **looks)
    axes.barh(rows, [worse for _, worse in ends], color=PALETTE["vermilion"], label=f"{change:.0%} worse", **looks)
    for row, (one, (better, worse)) in enumerate(zip(shown, ends, strict=True)):
        for value, side in ((better, -1), (worse, 1)):
            text = "no plan fits" if side > 0 and one.worse_s is None else f"{value:+.1%}"
            place: dict[str, Any] = {"xytext": (4 * side, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
            axes.annotate(text, (value, row), ha="left" if side > 0 else "right", **place)
    axes.axvline(0, color="#222222", linewidth=0.9, zorder=3)
    axes.set_yticks(rows, [printable(one.name, LINE_AT_MOST) for one in shown])
    axes.invert_yaxis()
    axes.set_xlim(-1.28 * reach, 1.28 * reach)
    axes.xaxis.set_major_formatter(lambda value, _: "0" if abs(value) < 1e-9 else f"{value:+.0%}" if reach > 0.03 else f"{value:+.1%}")
    axes.set_xlabel(f"change of the step time of {seconds(step_s)}")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    return figure
