"""A square of colours: one value for each pair of ranks. Drawn here, as SVG that stands in the page."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from chipassay.results.pairs import Fault, PairMatrix, Worse, faults, pairs_of
from chipassay.results.schema import Row
from chipassay.results.units import bandwidth, seconds, short, size

from .charting import chips
from .words_between import listed, pattern_words

SHOWN_AT_MOST = 64
"""More ranks than this are drawn in blocks, each with the worst of its pairs."""
NUMBERED_AT_MOST = 8
"""Up to so many ranks a cell has room for its number."""
FAINTEST, DARKEST = 0.06, 0.92
"""Opacity of the best and the worst value."""
LEAST_SPAN = 1.5
"""The darkest colour is for values at least so many times worse than the best."""
SIDE = 280.0
LEFT, TOP = 34.0, 22.0
SCALE_STEPS = 24


@dataclass(frozen=True)
class Heat:
    """One square, darker where it is worse. ``values[i][j]`` belongs to ``labels[i]`` and ``labels[j]``; None: not measured."""

    name: str
    title: str
    description: str
    labels: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    text: Callable[[float], str]
    short: Callable[[float], str]
    worse: Worse
    unit: str = ""
    """What the values are, for the CSV."""
    marked: frozenset[tuple[int, int]] = frozenset()
    """Cells with a frame: what the caption names."""
    notes: tuple[str, ...] = ()
    missing: str | None = None


def pair_heats(rows: Sequence[Row]) -> list[Heat]:
    """Bandwidth and latency of every pair, for each chip, operation and transport that was measured in pairs."""
    found = []
    known = chips(rows)
    for number, chip in enumerate(known):
        own = rows if len(known) == 1 else [row for row in rows if (row.chip_id or "unknown chip") == chip]
        for pairs in pairs_of(own):
            name = slug(pairs.op, pairs.transport, *((str(number + 1),) if number else ()))
            what = f"{pattern_words(pairs.op)} over {pairs.transport}" + (f" on {chip}" if len(known) > 1 else "")
            busbw, latency = pairs.busbw_bytes_per_s, pairs.latency_s
            found.append(
                _heat(busbw, "low", f"pairs-busbw-{name}", f"Every pair: bandwidth of {what}, {size(busbw.size_bytes)}", bandwidth, short)
            )
            found.append(
                _heat(latency, "high", f"pairs-latency-{name}", f"Every pair: time of {what}, {size(latency.size_bytes)}", seconds, _number)
            )
    return found


def slug(*names: str) -> str:
    """Names from the rows as part of an id: nothing in it needs escaping.

    >>> slug("send_recv", 'a"><b', "2")
    'send_recv-a-b-2'
    """
    return "-".join(re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-") for name in names)


def _heat(matrix: PairMatrix, worse: Worse, name: str, title: str, text: Callable[[float], str], brief: Callable[[float], str]) -> Heat:
    worst = faults(matrix, worse)
    position = {rank: i for i, rank in enumerate(matrix.ranks)}
    each = -(-len(matrix.ranks) // SHOWN_AT_MOST)
    count = -(-len(matrix.ranks) // each)
    values = tuple(tuple(_block(matrix, i, j, each, worse) for j in range(count)) for i in range(count))
    known = [value for row in values for value in row if value is not None]
    ranks = [matrix.ranks[i * each : (i + 1) * each] for i in range(count)]
    found = f"Named: {listed(worst)}." if worst else "No link, rank or node stands out from the others."
    middle = f"Ranks along both sides; the median pair has {text(sorted(known)[len(known) // 2])}." if known else ""
    unit = "Numbers in the cells are microseconds." if brief is _number and count <= NUMBERED_AT_MOST else ""
    blocks = f"Blocks of {each} ranks, each with the worst of its pairs." if each > 1 else unit
    return Heat(
        name=name,
        title=title,
        description=f"{title}. {found}",
        labels=tuple(str(own[0]) if len(own) == 1 else f"{own[0]}-{own[-1]}" for own in ranks),
        values=values,
        text=text,
        short=brief,
        worse=worse,
        unit="B/s" if worse == "low" else "s",
        marked=frozenset(cell for fault in worst for cell in _cells(fault, matrix, position, each)),
        notes=tuple(filter(None, (found, middle, blocks))),
        missing=None if known else "No pair has a number.",
    )


def _block(matrix: PairMatrix, i: int, j: int, each: int, worse: Worse) -> float | None:
    block = matrix.values[i * each : (i + 1) * each, j * each : (j + 1) * each]
    known = [float(value) for value in block.ravel() if not math.isnan(value)]
    return None if not known else min(known) if worse == "low" else max(known)


def _cells(fault: Fault, matrix: PairMatrix, position: dict[int, int], each: int) -> list[tuple[int, int]]:
    own = [position[rank] for rank in fault.ranks]
    if fault.kind == "link":
        pairs = [(own[0], own[1])]
    else:
        others = range(len(matrix.ranks))
        pairs = [(i, j) for i in own for j in others if not math.isnan(matrix.values[i, j]) and matrix.across[i, j] == fault.across]
    return [cell for i, j in pairs for cell in ((i // each, j // each), (j // each, i // each))]


def draw_heat(heat: Heat) -> str:
    """The square as SVG: a rectangle a pair with its value as a tooltip, and a scale below. Colours follow light and dark."""
    count = len(heat.labels)
    cell = SIDE / count
    known = [value for row in heat.values for value in row if value is not None]
    low, high = min(known), max(known)
    parts = [
        f'<svg viewBox="0 0 331 {TOP + SIDE + 40:g}" role="img" aria-labelledby="{heat.name}-title {heat.name}-desc">',
        f'<title id="{heat.name}-title">{escape(heat.title)}</title><desc id="{heat.name}-desc">{escape(heat.description)}</desc>',
    ]
    stride = max(1, math.ceil(count / 16))
    for i, label in enumerate(heat.labels):
        middle = (i + 0.5) * cell
        if i % stride == 0:
            parts.append(_text(LEFT + middle, TOP - 7, label, "middle") + _text(LEFT - 6, TOP + middle + 3.5, label, "end"))
        for j, value in enumerate(heat.values[i]):
            parts.append(_cell(heat, i, j, value, cell, low, high))
    parts += _frames(heat, cell)
    parts += _scale(heat, low, high)
    return "".join([*parts, "</svg>"])


def _cell(heat: Heat, i: int, j: int, value: float | None, cell: float, low: float, high: float) -> str:
    x, y, gap = LEFT + j * cell, TOP + i * cell, min(1.0, cell / 10)
    where = f'x="{x:.2f}" y="{y:.2f}" width="{cell - gap:.2f}" height="{cell - gap:.2f}"'
    pair = f"{heat.labels[i]} and {heat.labels[j]}"
    if value is None:
        said = "" if i == j else f"<title>{escape(pair)}: not measured</title>"
        return f'<rect {where} fill="none" stroke="var(--line)" stroke-width="0.5">{said}</rect>'
    opacity = _opacity(value, low, high, heat.worse)
    drawn = f'<rect {where} fill="var(--blue)" fill-opacity="{opacity:.2f}"><title>{escape(f"{pair}: {heat.text(value)}")}</title></rect>'
    if len(heat.labels) > NUMBERED_AT_MOST:
        return drawn
    return drawn + _text(x + cell / 2, y + cell / 2 + 3.5, heat.short(value), "middle", "cell")


def _frames(heat: Heat, cell: float) -> list[str]:
    return [
        f'<rect x="{LEFT + j * cell:.2f}" y="{TOP + i * cell:.2f}" width="{cell - 1:.2f}" height="{cell - 1:.2f}" fill="none" '
        f'stroke="var(--vermilion)" stroke-width="{min(2.5, max(1.0, cell / 8)):.2f}"/>'
        for i, j in sorted(heat.marked)
    ]


def _scale(heat: Heat, low: float, high: float) -> list[str]:
    """From best to worst, left to right, with the values at its ends."""
    y, width = TOP + SIDE + 12, SIDE / SCALE_STEPS
    best, worst = (high, low) if heat.worse == "low" else (low, high)
    steps = [
        f'<rect x="{LEFT + i * width:.2f}" y="{y:g}" width="{width:.2f}" height="8" fill="var(--blue)" '
        f'fill-opacity="{FAINTEST + (DARKEST - FAINTEST) * i / (SCALE_STEPS - 1):.2f}"/>'
        for i in range(SCALE_STEPS)
    ]
    return [*steps, _text(LEFT, y + 21, heat.text(best), "start"), _text(LEFT + SIDE, y + 21, heat.text(worst), "end")]


def _opacity(value: float, low: float, high: float, worse: Worse) -> float:
    """Darker is worse, by the logarithm; values that hardly differ all stay faint, so that noise does not look like a fault."""
    span = max(math.log(high / low), math.log(LEAST_SPAN))
    share = math.log(high / value) / span if worse == "low" else math.log(value / low) / span
    return FAINTEST + (DARKEST - FAINTEST) * share


def _text(x: float, y: float, text: str, anchor: str, kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{escape(text)}</text>'


def _number(value: float) -> str:
    """A time without its unit where a cell has no room: microseconds.

    >>> _number(12.34e-6)
    '12'
    """
    return f"{value * 1e6:.3g}" if value < 10e-6 else f"{value * 1e6:.0f}"
