"""A timeline as a picture: a row per stage, time to the right, waiting in grey. Drawn by matplotlib (extra ``report``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chipassay.results.errors import ChipassayError

from .passes import Kind
from .timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

COLOURS = {Kind.FORWARD: "#0072b2", Kind.BACKWARD: "#009e73", Kind.BACKWARD_INPUT: "#009e73", Kind.BACKWARD_WEIGHT: "#e69f00"}
"""Of the palette for colour-blind readers of Okabe and Ito, "Color Universal Design" (2008)."""
WAITING = "#d9d9d9"
LEGEND = {
    Kind.FORWARD: "forward", Kind.BACKWARD: "backward", Kind.BACKWARD_INPUT: "backward for the inputs",
    Kind.BACKWARD_WEIGHT: "backward for the weights",
}  # fmt: skip
NAMES = {"gpipe": "GPipe", "1f1b": "1F1B", "interleaved": "Interleaved 1F1B", "zero-bubble": "Zero bubble (ZB-H1)", "dualpipe": "DualPipe"}

PASSES_ACROSS = 120
"""Passes of one stage that a picture shows side by side; a longer step is shown by its first and last part."""
WIDTH_IN, LEFT_IN, RIGHT_IN = 12.0, 0.85, 0.15
LARGEST_PT, SMALLEST_PT = 7.0, 4.5
DIGIT_IN_PER_PT = 0.0092
"""Width of a digit of matplotlib's own font, by its size."""


def gantt(timeline: Timeline) -> Figure:
    """The step as a figure. Raises ChipassayError where matplotlib is missing.

    Later chunks of a stage are lighter; a forward and a backward that overlap share their row in halves.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ChipassayError("the picture needs matplotlib, which is not installed; run: pip install 'chipassay[report]'") from error

    count = timeline.stages.count
    row_in = min(0.34, 7.0 / count)
    height_in = count * row_in + 1.35
    figure = Figure(figsize=(WIDTH_IN, height_in))
    windows = _windows(timeline)
    axes = figure.subplots(1, len(windows), sharey=True, squeeze=False, width_ratios=[end - start for start, end in windows])[0]
    figure.subplots_adjust(
        left=LEFT_IN / WIDTH_IN, right=1 - RIGHT_IN / WIDTH_IN, top=1 - 0.72 / height_in, bottom=0.5 / height_in, wspace=0.03
    )
    scale, unit = _unit(timeline.makespan_s)
    drawn_s = sum(end - start for start, end in windows)
    inches_per_s = (WIDTH_IN - LEFT_IN - RIGHT_IN) / drawn_s
    for ax, (start_s, end_s) in zip(axes, windows, strict=True):
        _draw(ax, timeline, start_s, end_s, scale, inches_per_s if row_in > 0.13 else 0.0)
    _frame(axes, count, unit)
    figure.text(LEFT_IN / WIDTH_IN, 1 - 0.28 / height_in, _title(timeline, scale, unit), fontsize=11, fontweight="bold")
    _legend(figure, timeline, LEFT_IN / WIDTH_IN, 1 - 0.62 / height_in)
    return figure


def _windows(timeline: Timeline) -> list[tuple[float, float]]:
    """(start, end) of what is shown, in seconds: the whole step, or its beginning and its end, each past the fill and the drain."""
    total_s = timeline.makespan_s
    first_stage = timeline.stage == 0
    if first_stage.sum() <= PASSES_ACROSS:
        return [(0.0, total_s)]
    backward = timeline.kind != Kind.FORWARD
    fill_s = timeline.end_s[first_stage & backward].min()
    drain_s = total_s - timeline.end_s[first_stage & ~backward].max()
    part_s = max(1.3 * fill_s, 1.3 * drain_s, total_s * PASSES_ACROSS / 2 / first_stage.sum())
    return [(0.0, part_s), (total_s - part_s, total_s)] if 2 * part_s < 0.9 * total_s else [(0.0, total_s)]


def _draw(ax: Axes, timeline: Timeline, start_s: float, end_s: float, scale: float, inches_per_s: float) -> None:
    """Boxes and numbers of one window; ``inches_per_s`` 0: rows too low for numbers."""
    from matplotlib.collections import PolyCollection

    shown = np.flatnonzero((timeline.end_s > start_s) & (timeline.start_s < end_s))
    stage, kind, chunk = timeline.stage[shown], timeline.kind[shown], timeline.chunk[shown]
    left, right = timeline.start_s[shown] * scale, timeline.end_s[shown] * scale
    lower = timeline.paired[shown] & (kind != Kind.FORWARD)
    top = stage - 0.44 + 0.44 * lower
    bottom = stage + 0.44 - 0.44 * (timeline.paired[shown] & ~lower)
    corners = np.stack([np.stack([left, top], 1), np.stack([right, top], 1), np.stack([right, bottom], 1), np.stack([left, bottom], 1)], 1)
    looks = list(zip(kind.tolist(), chunk.tolist(), strict=True))
    colours = {(code, part): _tint(COLOURS[Kind(code)], part, timeline.chunk_count) for code, part in set(looks)}
    faces = [colours[look] for look in looks]
    inches = (timeline.end_s[shown] - timeline.start_s[shown]) * inches_per_s
    edge = 0.5 if np.median(inches if inches_per_s else [0.0]) > 0.05 else 0.0
    ax.add_collection(PolyCollection(list(corners), facecolors=faces, edgecolors="white", linewidths=edge))
    ax.set_facecolor(WAITING)
    ax.set_xlim(start_s * scale, end_s * scale)
    if inches_per_s:
        middle = np.stack([(np.maximum(left, start_s * scale) + np.minimum(right, end_s * scale)) / 2, (top + bottom) / 2], 1)
        _number(ax, timeline, shown, middle, inches, [_luminance(face) < 0.45 for face in faces])


def _number(ax: Axes, timeline: Timeline, shown: Array, middle: Array, inches: Array, dark: list[bool]) -> None:
    """Write each pass's microbatch into its box; kinds whose boxes are too narrow for the longest number go without."""
    microbatch, digits = timeline.microbatch[shown], len(str(timeline.stages.microbatches - 1))
    alike = 2 * timeline.kind[shown] + timeline.paired[shown]
    for look in set(alike.tolist()):
        usual_in = float(np.median(inches[alike == look]))
        size = min(LARGEST_PT * (0.8 if look % 2 else 1.0), usual_in / (DIGIT_IN_PER_PT * (digits + 0.4)))
        if size < SMALLEST_PT:
            continue
        for index in np.flatnonzero((alike == look) & (inches > 0.8 * usual_in)):
            x, y = middle[index]
            ax.text(
                x, y, str(microbatch[index]), ha="center", va="center_baseline", fontsize=size, clip_on=True,
                color="white" if dark[index] else "black",
            )  # fmt: skip


def _frame(axes: Array, count: int, unit: str) -> None:
    first = axes[0]
    first.set_ylim(count - 0.5, -0.5)
    every = 1 if count <= 16 else 8
    first.set_yticks(range(0, count, every), [f"stage {stage}" for stage in range(0, count, every)], fontsize=8)
    for number, ax in enumerate(axes):
        ax.tick_params(axis="both", length=2 if number == 0 else 0, labelsize=8)
        ax.tick_params(axis="x", length=2)
        for side, spine in ax.spines.items():
            spine.set_visible(side == "bottom")
    axes[-1].set_xlabel(unit, fontsize=8, loc="right", labelpad=1)
    if len(axes) > 1:
        for ax, x in ((axes[0], 1.0), (axes[1], 0.0)):
            ax.plot([x, x], [0, 1], transform=ax.transAxes, color="black", linewidth=1, linestyle=(0, (2, 2)), clip_on=False)


def _title(timeline: Timeline, scale: float, unit: str) -> str:
    stages = timeline.stages
    name = NAMES["interleaved" if stages.chunks > 1 else stages.schedule]
    size = f"{stages.count} stages" + (f" of {stages.chunks} chunks" if stages.chunks > 1 else "")
    time = f"{timeline.makespan_s * scale:.4g} {unit}"
    return f"{name}: {size}, {stages.microbatches} microbatches, {time}, {100 * timeline.bubble_share:.1f} % waiting"


def _legend(figure: Figure, timeline: Timeline, left: float, bottom: float) -> None:
    from matplotlib.patches import Patch

    kinds = sorted(set(timeline.kind.tolist()))
    words = {COLOURS[Kind(kind)]: LEGEND[Kind(kind)] for kind in reversed(kinds)}
    if {Kind.BACKWARD, Kind.BACKWARD_INPUT} <= set(kinds):
        words[COLOURS[Kind.BACKWARD]] = "backward (whole, or for the inputs alone)"
    keys = [
        Patch(facecolor=colour, label=words[colour]) for colour in sorted(words, key=lambda colour: list(COLOURS.values()).index(colour))
    ]
    keys.append(Patch(facecolor=WAITING, label="waiting"))
    if timeline.chunk_count > 1:
        lighter = "entered at the last stage" if timeline.stages.schedule == "dualpipe" else "later chunks"
        keys.append(Patch(facecolor=_tint(COLOURS[Kind.FORWARD], 1, 2), label=f"lighter: {lighter}"))
    figure.legend(
        handles=keys, loc="lower left", bbox_to_anchor=(left, bottom), ncols=len(keys), fontsize=8, frameon=False, borderaxespad=0,
        handlelength=1, handleheight=0.9, columnspacing=1.4, borderpad=0,
    )  # fmt: skip


def _tint(colour: str, chunk: int, chunks: int) -> tuple[float, float, float]:
    """The colour, lighter for later chunks, by up to half of the way to white."""
    white = 0.55 * chunk / max(chunks - 1, 1)
    red, green, blue = (int(colour[at : at + 2], 16) / 255 * (1 - white) + white for at in (1, 3, 5))
    return red, green, blue


def _luminance(colour: tuple[float, float, float]) -> float:
    """Relative luminance, roughly: enough to choose black or white letters."""
    red, green, blue = colour
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _unit(seconds: float) -> tuple[float, str]:
    """(units per second, its name) for a time of about that size."""
    for scale, name in ((1.0, "s"), (1e3, "ms")):
        if seconds * scale >= 1:
            return scale, name
    return 1e6, "us"
