"""A forest plot: for each pair its change with the interval, against the band of changes that do not matter. A table with a drawing a line,
so that long names fold on a phone and a screen reader hears the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .picture_data import csv_text, data_link

WIDTH, HEIGHT = 300.0, 20.0
"""Of a drawing; the page stretches it to its line."""
LEAST_SPAN = 1.12
"""The axis reaches at least from 1/1.12 to 1.12, so that noise does not look like a change."""
MOST_SPAN = 8.0
"""Beyond this the interval ends in an arrow."""
STEPS = (1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 8.0)
"""Where ticks may stand, and their reciprocals."""


@dataclass(frozen=True)
class Change:
    """One line: new over base time with its 95 % interval; ``threshold`` is the relative change that matters."""

    label: str
    ratio: float
    low: float
    high: float
    threshold: float
    verdict: str


@dataclass(frozen=True)
class Line:
    """A change with its drawing."""

    change: Change
    words: str
    interval: str
    drawing: str
    """The inside of an SVG of WIDTH times HEIGHT."""


@dataclass(frozen=True)
class Forest:
    """The picture. ``ticks``: place, as a share of the width, and text on the axis above it."""

    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]
    link: str


def forest(changes: Sequence[Change]) -> Forest:
    """The changes in their order, drawn to one scale: the logarithm of the ratio, 1 in the middle."""
    from ..comparison.words import change, interval

    ends = [end for one in changes for end in (one.low, one.high, one.ratio)]
    widest = max((max(end, 1 / end) for end in ends if end > 0), default=LEAST_SPAN)
    span = min(max(widest * 1.03, LEAST_SPAN), MOST_SPAN)
    lines = tuple(Line(one, change(one.ratio), interval(one.low, one.high), _drawing(one, span)) for one in changes)
    columns = ("case", "ratio", "ratio_low", "ratio_high", "threshold", "verdict")
    cells = ((one.label, one.ratio, one.low, one.high, one.threshold, one.verdict) for one in changes)
    return Forest(lines, _ticks(span), data_link(csv_text(columns, cells)))


def _place(ratio: float, span: float) -> float:
    return WIDTH / 2 * (1 + math.log(ratio) / math.log(span))


def _ticks(span: float) -> tuple[tuple[float, str], ...]:
    """One, and the two largest steps on each side that leave room for their words."""
    inside = [step for step in STEPS if step <= span]
    chosen = [inside[-1]] if inside else []
    chosen += [step for step in reversed(inside[:-1]) if math.log(step) < 0.45 * math.log(inside[-1])][:1]
    ticks = [(1.0, "same")]
    for step in chosen:
        ticks += [(step, _tick(step)), (1 / step, _tick(1 / step))]
    return tuple((_place(ratio, span) / WIDTH, text) for ratio, text in sorted(ticks))


def _tick(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %" if 0.5 < ratio < 2 else f"x {ratio:.3g}"


def _drawing(one: Change, span: float) -> str:
    """Band, middle line, interval and point. Only numbers go in, so there is nothing to escape."""
    band = 1 + min(max(one.threshold, 0.0), 1.0)
    left, right = max(_place(1 / band, span), 0.0), min(_place(band, span), WIDTH)
    low, high = _place(one.low, span), _place(one.high, span)
    middle, y = min(max(_place(one.ratio, span), 3.0), WIDTH - 3.0), HEIGHT / 2
    parts = [
        f'<rect class="band" x="{left:.1f}" y="0" width="{right - left:.1f}" height="{HEIGHT:g}"/>',
        f'<path class="one" d="M{WIDTH / 2:g} 0V{HEIGHT:g}"/>',
        f'<path class="bar" d="M{max(low, 0.0):.1f} {y:g}H{min(high, WIDTH):.1f}"/>',
    ]
    if low < 0:
        parts.append(f'<path class="tip" d="M0 {y:g}l6 -4v8z"/>')
    if high > WIDTH:
        parts.append(f'<path class="tip" d="M{WIDTH:g} {y:g}l-6 -4v8z"/>')
    # A dot as the round cap of a line without length stays round when the drawing is stretched.
    return "".join([*parts, f'<path class="dot" d="M{middle:.1f} {y:g}h0"/>'])
