"""What the charts share: which rows are drawn, how they fall into series, and the sentences under a chart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import exp, log
from typing import Any

from chipassay.results.best import best_rows
from chipassay.results.beyond_cache import cold_first
from chipassay.results.profile import Curve, Link
from chipassay.results.schema import Row
from chipassay.results.units import share

from .plot import Plot, Point, Series, failures, limited, why_missing

BARS = "Dots: the fastest correct implementation of each case (its median, or what its tool tells instead); bars: 5th to 95th percentile."
WIDE_RANGE = 20
"""Values further apart than this need a logarithmic axis."""

Model = Callable[[float], float]
"""What the profile says y is at x."""


def basis(level: str) -> str:
    """Whose word a peak is: published ones are the datasheet's, others are called by their evidence.

    >>> basis("published"), basis("derived")
    ('datasheet', 'derived')
    """
    return "datasheet" if level == "published" else level


def of_op(rows: Sequence[Row], *ops: str) -> list[Row]:
    """The rows of some operations of one chip, with nothing beside them: ``gather`` is a collective, too."""
    return [row for row in rows if row.op in ops and row.group_size is None and row.beside is None]


def chips(rows: Sequence[Row]) -> list[str]:
    """The chips in the rows, in order of appearance."""
    return list(dict.fromkeys(row.chip_id or "unknown chip" for row in rows))


def usual(rows: Sequence[Row]) -> list[Row]:
    """The rows measured as a chart means it without saying so: cold, and launched as programs launch; others where there are no such."""
    cold = cold_first(rows)
    return [row for row in cold if row.launch != "graph"] or cold


def drawn(points: Sequence[Point], model: Model | None, steps: int = 48) -> tuple[tuple[float, float], ...]:
    """The model over the range of the points."""
    xs = [p.x for p in points]
    if model is None or not xs or min(xs) == max(xs):
        return ()
    low, high = log(min(xs)), log(max(xs))
    return tuple((x, model(x)) for x in (exp(low + (high - low) * i / steps) for i in range(steps + 1)))


def grouped(rows: Sequence[Row], key: Callable[[Row], tuple[Any, ...]]) -> dict[tuple[str, tuple[Any, ...]], list[Row]]:
    """The best row of each case by chip and key, in a stable order: a dot for every kernel would hide what the chip can do."""
    groups: dict[tuple[str, tuple[Any, ...]], list[Row]] = {}
    for row in best_rows(rows):
        groups.setdefault((row.chip_id or "unknown chip", key(row)), []).append(row)
    return dict(sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])))


def label(groups: Mapping[tuple[str, tuple[Any, ...]], object], chip: str, name: str) -> str:
    """The series' name, with its chip where there are several."""
    return f"{name} on {chip}" if len({c for c, _ in groups}) > 1 else name


def fit_words(name: str, fit: Curve | Link) -> str:
    """What was fitted, to how many points, and how well."""
    details = [f"{fit.points} point{'' if fit.points == 1 else 's'}"] if fit.points else []
    details += [f"spread {share(fit.spread)}"] if fit.spread is not None else []
    details += [fit.evidence.level] if fit.evidence.level != "measured" else []
    return name + (f" ({', '.join(details)})" if details else "")


def curve_note(series: Sequence[Series], curves: Mapping[str, Curve]) -> tuple[str, ...]:
    """The sentence about the lines, where there are any."""
    if not any(s.model for s in series):
        return ()
    hues = {s.hue.split(",")[0] for s in series if s.model}
    fits = [fit_words(name, curve) for name, curve in curves.items() if name in hues or "model" in hues]
    return (f"Lines: the profile's fitted curve, {'; '.join(fits)}.",)


def finished(plot: Plot, series: Sequence[Series], chosen: Sequence[Row], what: str, mend: str) -> Plot:
    """The plot with its series, or with the sentence that says why there are none."""
    kept = tuple(s for s in series if s.points or s.model)
    if not any(s.points for s in kept):
        return replace(plot, notes=(), missing=why_missing(chosen, what, mend))
    notes = list(plot.notes)
    failed = [row for row in chosen if row.status != "ok"]
    if failed:
        notes.append(f"Not in the chart: {failures(failed)}.")
    ys = [point.y for s in kept for point in s.points]
    # A linear axis would press the slower of two very different chips flat.
    y_axis = replace(plot.y, base=10) if plot.y.base is None and max(ys) > WIDE_RANGE * min(ys) else plot.y
    kernels = sorted({row.kernel for row in best_rows(chosen) if row.kernel})
    if len(kernels) > 1:
        notes.append(f"Kernels shown: {', '.join(kernels)}.")
    return limited(replace(plot, y=y_axis, series=kept, notes=tuple(notes)))
