"""Rows to profile: the best correct implementation of each case, fitted by operation and dtype."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from chipassay.results.best import best_rows
from chipassay.results.beyond_cache import measures_memory, measures_overhead
from chipassay.results.catalogue import load_chips
from chipassay.results.errors import InputError, UnknownName
from chipassay.results.operations import NARROW_SUMS, USUAL_HEAD_DIM, fills_matrix_unit
from chipassay.results.profile import Curve, Evidence, Profile, Quantity
from chipassay.results.schema import Row

from .fit import fit_curve
from .normalise_links import links, loads, overlaps


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
    """The birth certificate of what is fitted to these rows: runs of chipassay, and files of other tools by name, version and hash.

    >>> evidence_of([Row(tool="nccl-tests", tool_version="2.13.8", source_hash="0a1b", kernel="nccl-tests.all_reduce")]).source
    'nccl-tests 2.13.8 (file 0a1b): 1 case, nccl-tests.all_reduce'
    """
    others = sorted({f"{row.tool} {row.tool_version or 'of unknown version'} (file {row.source_hash})" for row in rows if row.tool})
    runs = sorted({row.run_id or "unknown run" for row in rows if not row.tool})
    origin = "; ".join([*([f"chipassay run {', '.join(runs)}"] if runs else []), *others])
    methods = sorted({str(row.method_version) for row in rows if row.method_version is not None})
    kernels = sorted({row.kernel for row in rows if row.kernel})
    dates = sorted(row.measured_at_utc for row in rows if row.measured_at_utc)
    source = f"{origin}: {len(rows)} case{'s' * (len(rows) != 1)}, {', '.join(kernels)}"
    source += f", method {', '.join(methods)}" if methods else ""
    return Evidence("measured", source, dates[-1][:10] if dates else None)


def normalise(rows: Sequence[Row], chip_id: str | None = None) -> Profile:
    """The profile of the chip that ``rows`` measured: cold, and launched as programs launch; only links are told of graphs, too.

    Raises InputError when the rows are of several chips and none is chosen, or when none of them holds a measurement.
    """
    own = choose_chip(rows, chip_id)
    best = best_rows(own)
    # What a replayed graph or something beside a call makes of its time is told of links alone.
    chosen = [row for row in best if row.launch != "graph" and row.beside is None]
    found_links = tuple(links(best, evidence_of))
    if not chosen and not found_links:
        raise InputError("no row with status ok: there is nothing to make a profile of")
    first = best[0]
    chip = load_chips().get(first.chip_id or "")
    measured = evidence_of(best)
    memory_bytes = first.device_memory_bytes
    return Profile(
        chip_id=first.chip_id or "unknown",
        name=first.device_name or "unknown",
        matmul=_curves(chosen, _products),
        attention=_curves(chosen, _attention),
        memory=_memory(chosen),
        links=found_links,
        loads=tuple(loads(best, found_links, evidence_of)),
        overlaps=tuple(overlaps(best, evidence_of)),
        peak_flops_per_s=_peaks(best),
        peak_bandwidth_bytes_per_s=(
            Quantity(chip.memory_bandwidth_bytes_per_s, chip.evidence) if chip and chip.memory_bandwidth_bytes_per_s else None
        ),
        memory_bytes=None if memory_bytes is None else Quantity(float(memory_bytes), Evidence("measured", "device query", measured.date)),
        power_w=Quantity(chip.power_w, chip.evidence) if chip and chip.power_w else None,
    )


def _products(rows: Sequence[Row]) -> list[Row]:
    """The plain products that fill the chip's matrix units. Batched and grouped ones are operations of their own; fp8 counts with one scale
    a tensor and sums in fp32 where it was measured so: finer scales cost time of their own, fast sums are for the forward pass alone."""
    full = [row for row in rows if row.op == "matmul" and fills_matrix_unit(row)]
    return _preferred(_preferred(full, lambda row: row.math_mode not in NARROW_SUMS), lambda row: row.scaling in (None, "per_tensor"))


def _attention(rows: Sequence[Row]) -> list[Row]:
    """Forward passes of the kind that training is made of, as far as there are such: causal over the whole sequence, head size 128."""
    forward = [row for row in rows if row.op == "attention" and row.direction in (None, "forward")]
    whole = _preferred(forward, lambda row: row.window is None and row.head_dim_v is None)
    return _preferred(_preferred(whole, lambda row: bool(row.causal)), lambda row: row.head_dim == USUAL_HEAD_DIM)


def _preferred(rows: list[Row], wanted: Callable[[Row], bool]) -> list[Row]:
    """The rows that are wanted; all of them where none is."""
    return [row for row in rows if wanted(row)] or rows


def _curves(rows: Sequence[Row], choose: Callable[[Sequence[Row]], list[Row]]) -> dict[str, Curve]:
    """A curve a dtype through the rows that ``choose`` finds fit for it."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.dtype and row.cache == "cold":
            grouped[row.dtype].append(row)
    chosen = {dtype: choose(group) for dtype, group in sorted(grouped.items())}
    return {
        dtype: fit_curve([row.flops or 0.0 for row in group], [row.time_median_s or 0.0 for row in group], evidence_of(group))
        for dtype, group in chosen.items()
        if group
    }


def _memory(rows: Sequence[Row]) -> Curve | None:
    group = [row for row in rows if measures_memory(row) or measures_overhead(row)]
    if not any(map(measures_memory, group)):
        return None
    return fit_curve([row.bytes or 0.0 for row in group], [row.time_median_s or 0.0 for row in group], evidence_of(group))


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
