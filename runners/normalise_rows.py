"""Which rows a profile believes: of one chip, possible, the best of each case, cold where they were measured cold; and their evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chipassay.results.best import impossible
from chipassay.results.catalogue import Chip
from chipassay.results.evidence import Evidence
from chipassay.results.operations import limited_by
from chipassay.results.schema import Row

from .plausibility import RATE_TOLERANCE


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


def fit_evidence(rows: Sequence[Row]) -> Evidence:
    """The same, and what the rows do not tell: whether the cache was cold, and what the inputs held.

    >>> fit_evidence([Row(tool="x", tool_version="1", source_hash="0a", kernel="k")]).source
    'x 1 (file 0a): 1 case, k; not told whether the cache was cold; not told what the inputs held'
    """
    found = evidence_of(rows)
    gaps = [
        words
        for missing, words in (
            (any(row.cache is None for row in rows), "not told whether the cache was cold"),
            (any(row.data is None for row in rows if row.tool), "not told what the inputs held"),
        )
        if missing
    ]
    return Evidence(found.level, "; ".join([found.source, *gaps]), found.date)


def doubt(row: Row, chip: Chip | None) -> str | None:
    """Why a row cannot be, in words; None where nothing speaks against it. Other tools flag nothing, so their rates are held against
    the datasheet here."""
    if impossible(row):
        return "flagged as above a physical limit"
    peak = chip.peak_flops_per_s.get(row.dtype or "") if chip else None
    rate = row.flops / row.time_median_s if row.flops and row.time_median_s else 0.0
    if peak and limited_by(row) == "compute" and rate > RATE_TOLERANCE * peak:
        return "above the datasheet's peak rate"
    return None


def cold_or_untold(rows: Sequence[Row]) -> list[Row]:
    """The cold rows; where there are none, those of tools that do not tell. Warm rows say nothing of what a program meets.

    >>> [row.cache for row in cold_or_untold([Row(), Row(cache="cold"), Row(cache="warm")])], cold_or_untold([Row(cache="warm")])
    (['cold'], [])
    """
    return [row for row in rows if row.cache == "cold"] or [row for row in rows if row.cache is None]


def preferred(rows: list[Row], wanted: Callable[[Row], bool]) -> list[Row]:
    """The rows that are wanted; all of them where none is."""
    return [row for row in rows if wanted(row)] or rows


def one_variant(rows: list[Row], first: Sequence[str | None] = (None,)) -> list[Row]:
    """The rows of one variant, as other tools name them: the first of ``first`` that is there, else the most frequent one.

    >>> rows = [Row(variant="a"), Row(variant="b"), Row(variant="b")]
    >>> [row.variant for row in one_variant(rows)], [row.variant for row in one_variant(rows, (None, "a"))]
    (['b', 'b'], ['a'])
    """
    variants = [row.variant for row in rows]
    chosen = next((variant for variant in first if variant in variants), None)
    if chosen is None and None not in variants and variants:
        chosen = max(sorted({variant or "" for variant in variants}), key=variants.count)
    return [row for row in rows if row.variant == chosen]
