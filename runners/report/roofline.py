"""The roofline: what arithmetic intensity allows on a chip, and what was reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from chipassay.results.best import best_rows
from chipassay.results.beyond_cache import measures_memory
from chipassay.results.catalogue import load_chips
from chipassay.results.operations import NARROW_SUMS, STREAM_OPS, limited_by
from chipassay.results.profile import Profile
from chipassay.results.schema import Row
from chipassay.results.shipped import find_profile, shipped_ids
from chipassay.results.units import bandwidth, rate, share, short

from ..check import expected_models
from .charting import BARS, basis, chips, of_op, usual
from .plot import Axis, Plot, Point, Roof, Series, clipped, limited, per_time, positive, why_missing

SAME_PEAK = 1.02
"""Peaks closer than this share one line: fp16 and bf16 mostly have the same."""


ROOFLINES = 6
"""Drawings at most, one a chip."""


def rooflines(rows: Sequence[Row], profiles: Sequence[Profile]) -> list[Plot]:
    """A drawing for each chip that computed something: the roofs of several in one cannot be told apart. A chip without a profile of
    the user's has the one that ships, or the catalogue's roofs."""
    known = [chip for chip in chips(rows) if any(_chip(row) == chip and row.status == "ok" and _computes(row) for row in rows)]
    if len(known) <= 1:
        return [roofline(rows, profiles[0] if profiles else _shipped(known[0]) if known else None)]
    plots = []
    for number, chip in enumerate(known[:ROOFLINES], 1):
        own = next((one for one in profiles if one.chip_id == chip), None) or _shipped(chip)
        plot = roofline([row for row in rows if _chip(row) == chip], own)
        plots.append(replace(plot, name=f"{plot.name}-{number}", title=f"Roofline of {chip}: rate against arithmetic intensity"))
    if len(known) > ROOFLINES:
        more = f"{len(known) - ROOFLINES} more chips have no roofline here: make their reports apart."
        plots[-1] = replace(plots[-1], notes=(*plots[-1].notes, more))
    return plots


def _shipped(chip: str) -> Profile | None:
    return find_profile(chip) if chip in load_chips() or chip in shipped_ids() else None


def roofline(rows: Sequence[Row], profile: Profile | None) -> Plot:
    """Rate against arithmetic intensity, under the roofs of memory and arithmetic."""
    plot = Plot(
        name="roofline",
        title="Roofline: rate against arithmetic intensity",
        description="Achieved rate against FLOPs per byte, with memory bandwidth and arithmetic peaks as roofs.",
        x=Axis("FLOPs per byte moved", short),
        y=Axis("FLOP/s", short),
        notes=(BARS,),
    )
    computing = usual([row for row in rows if _computes(row)])
    groups: dict[tuple[str, str, str], list[Point]] = {}
    best = best_rows(computing)
    for row in best:
        flops, moved, y = row.flops, row.bytes, row.rate_flops_per_s
        if flops is None or moved is None or y is None or not (positive(flops) and positive(moved) and positive(y)):
            continue
        groups.setdefault((row.op or "", row.dtype or "unknown", _chip(row)), []).append(Point(flops / moved, y, *per_time(row, flops)))
    if not groups:
        missing = why_missing(computing, "matmul, attention or triad", "measure with: chipassay run")
        return replace(plot, notes=(), missing=missing)
    several = len({chip for _, _, chip in groups}) > 1
    series = tuple(
        Series(f"{dtype} {op}" + (f" on {chip}" if several else ""), dtype, f"{op} {chip}" if several else op, tuple(points))
        for (op, dtype, chip), points in sorted(groups.items())
    )
    left = min(p.x for s in series for p in s.points)
    right = max(p.x for s in series for p in s.points)
    roofs, notes = _roofs(rows, profile, left / 2, right * 2)
    return limited(replace(plot, series=series, roofs=roofs, notes=(*plot.notes, *notes, *_against_model(best, profile))))


def _against_model(rows: Sequence[Row], profile: Profile | None) -> list[str]:
    """How near the products come to what the profile's model of shapes expects of each, in a sentence; none where it knows none of them."""
    found: list[tuple[float, Row]] = []
    if profile is None:
        return []
    for row in rows:
        if row.op == "matmul" and row.chip_id == profile.chip_id and row.status == "ok" and row.rate_flops_per_s and _is_plain(row):
            expected = expected_models.product(row, profile)
            found += [] if expected is None else [(row.rate_flops_per_s / expected.value, row)]
    if not found:
        return []
    least, row = min(found, key=lambda one: one[0])
    middle = statistics.median(one for one, _ in found)
    words = f"{row.dtype} {row.m} x {row.n} x {row.k}" + (f" {row.layout}" if row.layout else "")
    of = f"what the profile's model of shapes expects (median of {len(found)})"
    return [f"Products reach {share(middle)} of {of}, the least {share(least)} ({words})."]


def _is_plain(row: Row) -> bool:
    return row.scaling in (None, "per_tensor") and row.math_mode not in NARROW_SUMS


def best_bandwidth(rows: Sequence[Row], chip: str) -> tuple[str, float] | None:
    """The operation and value of the best measured memory bandwidth of a chip. What stays in a cache does not count."""
    measured = [
        (row.bandwidth_bytes_per_s, row.op or "")
        for row in of_op(rows, *STREAM_OPS)
        if (row.chip_id or "unknown chip") == chip and row.status == "ok" and measures_memory(row) and row.bandwidth_bytes_per_s is not None
    ]
    if not measured:
        return None
    value, op = max(measured)
    return op, value


def _roofs(rows: Sequence[Row], profile: Profile | None, left: float, right: float) -> tuple[tuple[Roof, ...], list[str]]:
    """The roofs over an axis from ``left`` to ``right``, and what to say about those that are not known."""
    peaks = _peaks(profile)
    known = chips(rows)
    several = len(known) > 1
    tops = {chip: max((r.rate_flops_per_s or 0.0 for r in rows if _chip(r) == chip and r.status == "ok"), default=0.0) for chip in known}
    slopes: list[tuple[str, str, float, bool, float]] = []
    ridge_bandwidth: float | None = None
    if profile is not None:
        tops[profile.chip_id] = max((value for _, value, _ in peaks), default=tops.get(profile.chip_id, 0.0))
    for chip in known:
        best = best_bandwidth(rows, chip)
        if best is not None:
            label = f"{best[0]} {bandwidth(best[1])}, best measured" + (f" on {chip}" if several else "")
            slopes.append((label, _plain(chip) if several else best[0], best[1], False, tops[chip]))
            if profile is not None and chip == profile.chip_id:
                ridge_bandwidth = best[1]
    datasheet = profile.peak_bandwidth_bytes_per_s if profile is not None else None
    if profile is not None and datasheet is not None:
        whose = basis(datasheet.evidence.level)
        slopes.append((f"memory {bandwidth(datasheet.value)}, {whose}", whose, datasheet.value, True, tops[profile.chip_id]))
        ridge_bandwidth = max(datasheet.value, ridge_bandwidth or 0.0)
    roofs = []
    for label, tag, value, dashed, top in slopes:
        end = min(right, top / value) if top else right
        start = min(left, end / 10)
        roofs.append(Roof(label, tag, ((start, start * value), (end, end * value)), dashed))
    for dtypes, value, level in peaks:
        start = value / ridge_bandwidth if ridge_bandwidth else left
        label = f"{', '.join(dtypes)} peak {rate(value)}, {basis(level)}" + (f" of {profile.chip_id}" if several and profile else "")
        roofs.append(Roof(label, _tag(dtypes), ((min(start, right / 10), value), (right, value)), True, dtypes[0]))
    notes = ["Solid slope: best measured memory bandwidth. Dashed: what the peaks allow (dense, without sparsity)."] if roofs else []
    if not peaks:
        whose = "No profile was given" if profile is None else f"The profile of {profile.chip_id} knows no peak"
        notes.append(f"{whose}, so no compute roof is drawn.")
    if all(dashed for _, _, _, dashed, _ in slopes):
        notes.append("No copy or triad was measured out of cache, so no measured memory roof is drawn.")
    return tuple(roofs), notes


def _computes(row: Row) -> bool:
    """Arithmetic, and of what waits for memory the two that have a place of their own in a roofline: triad and decoding."""
    return limited_by(row) == "compute" or row.op in ("triad", "decode")


def _chip(row: Row) -> str:
    return row.chip_id or "unknown chip"


def _peaks(profile: Profile | None) -> list[tuple[list[str], float, str]]:
    """(dtypes, value, evidence) of the compute roofs, lowest first; dtypes with the same peak share one."""
    merged: list[tuple[list[str], float, str]] = []
    for dtype, peak in sorted(profile.peak_flops_per_s.items(), key=lambda item: (item[1].value, item[0])) if profile is not None else []:
        if not positive(peak.value):
            continue
        if merged and peak.value <= merged[-1][1] * SAME_PEAK and merged[-1][2] == peak.evidence.level:
            merged[-1][0].append(dtype)
        else:
            merged.append(([dtype], peak.value, peak.evidence.level))
    return merged


def _tag(dtypes: Sequence[str]) -> str:
    joined = ", ".join(dtypes)
    return joined if len(joined) <= 12 else f"{dtypes[0]} +{len(dtypes) - 1}"


def _plain(name: str) -> str:
    """A chip's name short enough to stand in the drawing, in characters that matplotlib's font has."""
    return clipped("".join(c if " " <= c <= "~" else "?" for c in name), 18)
