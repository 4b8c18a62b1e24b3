"""Rows to profile: the best correct implementation of each case, fitted by operation and dtype."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from chipassay.results.beyond_cache import measures_memory, measures_overhead
from chipassay.results.catalogue import load_chips
from chipassay.results.errors import InputError, UnknownName
from chipassay.results.profile import Curve, Evidence, Link, Profile, Quantity
from chipassay.results.schema import Row

from .fit import fit_curve, fit_time

SHAPE = ("m", "n", "k", "layout", "batch", "heads", "kv_heads", "seq_q", "seq_kv", "head_dim", "causal", "direction", "elements")


def best_rows(rows: Iterable[Row]) -> list[Row]:
    """Of each case the fastest correct implementation: a profile says what the chip can do, the CSV keeps who did it."""
    best: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row.status == "ok" and row.time_median_s:
            key = (row.op, row.dtype, row.cache, row.group_size, row.size_bytes, *(getattr(row, name) for name in SHAPE))
            if key not in best or row.time_median_s < (best[key].time_median_s or 0.0):
                best[key] = row
    return list(best.values())


def choose_chip(rows: Sequence[Row], chip_id: str | None) -> list[Row]:
    """The rows of one chip. Raises InputError when there are several and none is named, UnknownName when it is not there."""
    chips = sorted({row.chip_id or "unknown" for row in rows})
    if chip_id is None:
        if len(chips) > 1:
            raise InputError(f"the rows are of {len(chips)} chips ({', '.join(chips)}); choose one with --chip")
        return list(rows)
    if chip_id not in chips:
        raise UnknownName("chip", chip_id, chips)
    return [row for row in rows if row.chip_id == chip_id]


def evidence_of(rows: Sequence[Row]) -> Evidence:
    """The birth certificate of what is fitted to these rows."""
    runs = sorted({row.run_id or "unknown run" for row in rows})
    methods = sorted({str(row.method_version) for row in rows if row.method_version is not None})
    kernels = sorted({row.kernel for row in rows if row.kernel})
    dates = sorted(row.measured_at_utc for row in rows if row.measured_at_utc)
    source = f"chipassay run {', '.join(runs)}: {len(rows)} cases, {', '.join(kernels)}, method {', '.join(methods)}"
    return Evidence("measured", source, dates[-1][:10] if dates else None)


def normalise(rows: Sequence[Row], chip_id: str | None = None) -> Profile:
    """The profile of the chip that ``rows`` measured.

    Raises InputError when the rows are of several chips and none is chosen, or when none of them holds a measurement.
    """
    chosen = best_rows(choose_chip(rows, chip_id))
    if not chosen:
        raise InputError("no row with status ok: there is nothing to make a profile of")
    first = chosen[0]
    chip = load_chips().get(first.chip_id or "")
    measured = evidence_of(chosen)
    memory_bytes = first.device_memory_bytes
    return Profile(
        chip_id=first.chip_id or "unknown",
        name=first.device_name or "unknown",
        matmul=_curves(chosen, "matmul"),
        attention=_curves(chosen, "attention", lambda row: row.direction == "forward"),
        memory=_memory(chosen),
        links=tuple(_links(chosen)),
        peak_flops_per_s=_peaks(chosen),
        peak_bandwidth_bytes_per_s=(
            Quantity(chip.memory_bandwidth_bytes_per_s, chip.evidence) if chip and chip.memory_bandwidth_bytes_per_s else None
        ),
        memory_bytes=None if memory_bytes is None else Quantity(float(memory_bytes), Evidence("measured", "device query", measured.date)),
        power_w=Quantity(chip.power_w, chip.evidence) if chip and chip.power_w else None,
    )


def _curves(rows: Sequence[Row], op: str, keep: Callable[[Row], bool] = lambda row: True) -> dict[str, Curve]:
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.op == op and row.dtype and row.cache == "cold" and keep(row):
            grouped[row.dtype].append(row)
    return {
        dtype: fit_curve([row.flops or 0.0 for row in group], [row.time_median_s or 0.0 for row in group], evidence_of(group))
        for dtype, group in sorted(grouped.items())
    }


def _memory(rows: Sequence[Row]) -> Curve | None:
    group = [row for row in rows if measures_memory(row) or measures_overhead(row)]
    if not any(map(measures_memory, group)):
        return None
    return fit_curve([row.bytes or 0.0 for row in group], [row.time_median_s or 0.0 for row in group], evidence_of(group))


def _links(rows: Sequence[Row]) -> Iterable[Link]:
    grouped: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        if row.group_size and row.algbw_bytes_per_s and row.busbw_bytes_per_s and row.cache == "cold":
            grouped[row.op or "", row.backend or "", row.group_size].append(row)
    for (pattern, transport, group_size), group in sorted(grouped.items()):
        # Volume on the bus = S x bus factor, so that the slope is 1 / busbw.
        factor = (group[0].busbw_bytes_per_s or 0.0) / (group[0].algbw_bytes_per_s or 1.0)
        volumes = [(row.size_bytes or 0) * factor for row in group]
        latency_s, per_byte_s, spread = fit_time(volumes, [row.time_median_s or 0.0 for row in group])
        yield Link(
            pattern=pattern,
            transport=transport,
            group_size=group_size,
            latency_s=latency_s,
            busbw_bytes_per_s=1 / per_byte_s,
            evidence=evidence_of(group),
            points=len(group),
            spread=spread,
        )


def _peaks(rows: Sequence[Row]) -> dict[str, Quantity]:
    chip = load_chips().get(rows[0].chip_id or "")
    if chip is not None:
        return {dtype: Quantity(peak, chip.evidence) for dtype, peak in chip.peak_flops_per_s.items()}
    peaks = {}
    for row in rows:
        # A CPU is in no datasheet: the peak is the one the rows were held against.
        if row.op == "matmul" and row.dtype and row.rate_flops_per_s and row.peak_fraction:
            source = "cores x FLOPs per cycle x measured clock, as when the rows were measured"
            peaks[row.dtype] = Quantity(row.rate_flops_per_s / row.peak_fraction, Evidence("derived", source))
    return peaks
