"""The numbers behind a picture as CSV, and the link that saves them: it works without a script and without a network."""

from __future__ import annotations

import csv
import io
from base64 import b64encode
from collections.abc import Iterable

from chipassay.results.cells import to_text

from .heat import Heat
from .plot import Plot


def csv_text(header: Iterable[str], lines: Iterable[Iterable[object]]) -> str:
    """A CSV whose cells are written as in a results CSV: full precision, nothing that a spreadsheet takes for a formula.

    >>> csv_text(["name", "s"], [["=cmd()", 0.1], ["a, b", None]]).splitlines()
    ['name,s', "'=cmd(),0.1", '"a, b",']
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([to_text(cell) for cell in header])
    writer.writerows([to_text(cell) for cell in line] for line in lines)
    return buffer.getvalue()


def data_link(text: str) -> str:
    """Text as an address that holds it. A lone surrogate of a broken file name becomes a question mark.

    >>> data_link("a")
    'data:text/csv;charset=utf-8;base64,YQ=='
    """
    return f"data:text/csv;charset=utf-8;base64,{b64encode(text.encode('utf-8', 'replace')).decode('ascii')}"


def picture_csv(plot: Plot | Heat) -> str:
    """What is drawn, a number a line: the points with their bars, the fitted lines, the limits; of a heat map its cells."""
    if isinstance(plot, Heat):
        cells = ((plot.labels[i], plot.labels[j], value) for i, line in enumerate(plot.values) for j, value in enumerate(line))
        return csv_text(("from", "to", plot.unit), (cell for cell in cells if cell[2] is not None))
    lines: list[tuple[object, ...]] = []
    for series in plot.series:
        lines += [(series.label, "measured", point.x, point.y, point.low, point.high) for point in series.points]
        lines += [(series.label, "fit", x, y, None, None) for x, y in series.model if y == y]  # NaN tears a line apart
    for roof in plot.roofs:
        lines += [(roof.label, "limit", x, y, None, None) for x, y in roof.line]
    return csv_text(("series", "what", plot.x.label, plot.y.label, "low", "high"), lines)
