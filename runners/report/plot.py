"""A chart as plain data: axes, series of points, roofs. What to draw is decided without matplotlib, so it can be tested without it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from chipassay.results.schema import Row

MAX_SERIES = 12
"""More series than this in one chart cannot be told apart."""
MAX_POINTS = 600
"""Points drawn per series: more would only lie on top of each other."""
MAX_REASONS = 3
"""Distinct reasons quoted where a chart is missing."""

_CELLS_X, _CELLS_Y = 160, 120
"""Points that share a cell of this grid are one dot to the eye."""


@dataclass(frozen=True)
class Point:
    """One dot, with the ends of its error bar where the spread is known."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """Points that belong together. ``hue`` picks the colour, ``shape`` the marker; ``model`` is the fitted curve as (x, y), with
    NaN for y where it is torn; ``breaks`` are its places where another law takes over."""

    label: str
    hue: str
    shape: str
    points: tuple[Point, ...]
    model: tuple[tuple[float, float], ...] = ()
    breaks: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Roof:
    """A line that nothing should rise above. ``label`` stands in the legend, the short ``tag`` at the line itself.

    ``hue`` None: drawn in the colour of the text.
    """

    label: str
    tag: str
    line: tuple[tuple[float, float], tuple[float, float]]
    dashed: bool
    hue: str | None = None

    @property
    def sloped(self) -> bool:
        """True for a memory roof, false for a compute roof."""
        return self.line[0][1] != self.line[1][1]


@dataclass(frozen=True)
class Axis:
    """One axis: its name with unit, how a tick reads, and its scale (``base`` None: linear from zero)."""

    label: str
    tick: Callable[[float], str]
    base: int | None = 10


@dataclass(frozen=True)
class Plot:
    """One chart. ``missing`` says why it is empty; then nothing else of it is shown but the title."""

    name: str
    title: str
    description: str
    x: Axis
    y: Axis
    series: tuple[Series, ...] = ()
    roofs: tuple[Roof, ...] = ()
    notes: tuple[str, ...] = ()
    missing: str | None = None


def positive(value: float | None) -> bool:
    """Whether a value can stand on a logarithmic axis.

    >>> positive(1.0), positive(0.0), positive(None), positive(float("nan"))
    (True, False, False, False)
    """
    return value is not None and value > 0 and math.isfinite(value)


def per_time(row: Row, work: float | None) -> tuple[float | None, float | None]:
    """Work per second at the 95th and the 5th percentile of the time: low and high end of the bar."""
    slow, fast = row.time_p95_s, row.time_p05_s
    if work is None or slow is None or fast is None or not positive(slow) or not positive(fast):
        return None, None
    return work / slow, work / fast


def thin(points: Sequence[Point], limit: int = MAX_POINTS) -> tuple[Point, ...]:
    """At most ``limit`` points that look the same: one per cell of a fine logarithmic grid, then evenly many of those, ends kept."""
    if len(points) <= limit:
        return tuple(points)
    ordered = sorted(points, key=lambda p: (p.x, p.y))
    xs, ys = [math.log(p.x) for p in ordered], [math.log(p.y) for p in ordered]
    x_step = (max(xs) - min(xs)) / _CELLS_X or 1.0
    y_step = (max(ys) - min(ys)) / _CELLS_Y or 1.0
    cells: dict[tuple[int, int], Point] = {}
    for point, x, y in zip(ordered, xs, ys, strict=True):
        cells.setdefault((int(x // x_step), int(y // y_step)), point)
    kept = list(cells.values())
    kept += [] if kept[-1] == ordered[-1] else [ordered[-1]]
    if len(kept) > limit:
        last = len(kept) - 1
        kept = [kept[round(i * last / (limit - 1))] for i in range(limit)]
    return tuple(kept)


def limited(plot: Plot) -> Plot:
    """The plot with as many series and points as an eye can take, and a note about what was left out."""
    notes = list(plot.notes)
    series = sorted(plot.series, key=lambda s: -len(s.points))[:MAX_SERIES]
    series = [s for s in plot.series if s in series]
    if len(series) < len(plot.series):
        notes.append(f"{len(plot.series) - len(series)} smaller series are left out of this chart; the CSV has them.")
    thinned = tuple(replace(s, points=thin(s.points)) for s in series)
    total, drawn = sum(len(s.points) for s in series), sum(len(s.points) for s in thinned)
    if drawn < total:
        notes.append(f"{drawn:,} of {total:,} points are drawn; the others would lie on top of these.")
    return replace(plot, series=thinned, notes=tuple(notes))


def why_missing(rows: Sequence[Row], what: str, mend: str) -> str:
    """The sentence in place of a chart: nothing was asked for, or everything asked for failed and why.

    >>> why_missing([], "attention", "run it")
    'No attention was measured: the rows hold none; run it.'
    >>> why_missing([Row(status="skipped", reason="one chip")], "all-reduce", "use two chips")
    'No all-reduce has a number: 1 skipped (one chip).'
    """
    if not rows:
        return f"No {what} was measured: the rows hold none; {mend}."
    if all(row.status == "ok" for row in rows):
        return f"No {what} can be drawn: the rows that are ok hold no usable number."
    return f"No {what} has a number: {failures(rows)}."


def clipped(text: str, limit: int = 240) -> str:
    """A long text cut to ``limit`` characters, on one line.

    >>> clipped("out of  memory", 9)
    'out of...'
    """
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."


def failures(rows: Sequence[Row]) -> str:
    """Rows without a number, counted by status, with the commonest reasons."""
    parts = []
    for status, count in Counter(row.status or "unknown" for row in rows if row.status != "ok").most_common():
        reasons = [reason for reason, _ in Counter(r.reason for r in rows if (r.status or "unknown") == status and r.reason).most_common()]
        told = "; ".join(clipped(reason) for reason in reasons[:MAX_REASONS]) + (
            f"; and {len(reasons) - MAX_REASONS} more reasons" if len(reasons) > MAX_REASONS else ""
        )
        parts.append(f"{count:,} {status.replace('_', ' ')}" + (f" ({told})" if told else ""))
    return ", ".join(parts)
