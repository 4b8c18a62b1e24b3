"""What a run comes to: best rates, bandwidths, and how many of this chip one reference chip is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from chipassay.results.beyond_cache import cold_first, measures_memory
from chipassay.results.errors import ChipassayError
from chipassay.results.profile import LEVELS, Profile
from chipassay.results.schema import Row
from chipassay.results.units import bandwidth, rate, seconds, size

from .report.summary import Card, Input, Summary

REFERENCE_CHIP = "h100-sxm-80gb"
REFERENCE_MODEL = "llama3-8b"


def _best(rows: Iterable[Row], figure: Callable[[Row], float | None]) -> Row | None:
    return max((row for row in rows if row.status == "ok" and figure(row)), key=lambda row: figure(row) or 0.0, default=None)


def _share(row: Row) -> str:
    return "peak unknown" if row.peak_fraction is None else f"{100 * row.peak_fraction:.0f} % of peak ({row.peak_evidence})"


def _shape(row: Row) -> str:
    if row.op == "matmul":
        return f"{row.m}x{row.n}x{row.k}"
    if row.op == "attention":
        return f"{'causal, ' if row.causal else ''}{row.seq_q} tokens, head size {row.head_dim}"
    return size(row.bytes or 0.0)


def cards(rows: Sequence[Row]) -> tuple[Card, ...]:
    """The key figures: the best achieved of each kind, and in how it was achieved."""
    found = []
    for op in ("matmul", "attention"):
        for dtype in sorted({row.dtype for row in rows if row.op == op and row.dtype}):
            of_kind = cold_first([row for row in rows if row.op == op and row.dtype == dtype])
            best = _best(of_kind, lambda row: row.rate_flops_per_s)
            if best is not None and best.rate_flops_per_s:
                note = f"{_share(best)}; {_shape(best)}, {best.kernel}"
                found.append(Card(f"{op} {dtype}", rate(best.rate_flops_per_s), note, "measured"))
    for op in ("copy", "triad"):
        best = _best([row for row in rows if row.op == op and measures_memory(row)], lambda row: row.bandwidth_bytes_per_s)
        if best is not None and best.bandwidth_bytes_per_s:
            found.append(Card(f"memory {op}", bandwidth(best.bandwidth_bytes_per_s), f"{_share(best)}; {_shape(best)}", "measured"))
    reduced = cold_first([row for row in rows if row.op == "all_reduce" and row.status == "ok"])
    best = _best(reduced, lambda row: row.busbw_bytes_per_s)
    if best is not None and best.busbw_bytes_per_s:
        small = min(reduced, key=lambda row: row.size_bytes or 0)
        latency = f"{seconds(small.time_median_s or 0)} at {size(small.size_bytes or 0)}"
        note = f"{best.group_size} ranks, {best.backend}, {size(best.size_bytes or 0)}; {latency}"
        found.append(Card("all-reduce bus bandwidth", bandwidth(best.busbw_bytes_per_s), note, "measured"))
    return tuple(found)


def summarise(rows: Sequence[Row], profile: Profile) -> Summary:
    """Cards, and the exchange rate against the reference chip with the evidence of every input; or why there is none."""
    from chipassay.results.catalogue import load_chips
    from chipassay.results.published import profile_from_catalogue
    from chipassay.scaling.exchange import per_chip_worth
    from chipassay.scaling.models import load_model
    from chipassay.scaling.text import worth_sentence

    try:
        reference = profile_from_catalogue(REFERENCE_CHIP)
        worth = per_chip_worth(load_model(REFERENCE_MODEL), reference, profile)
    except ChipassayError as error:
        name = load_chips()[REFERENCE_CHIP].name
        return Summary(cards(rows), f"For training {REFERENCE_MODEL}, the worth of one {name} in this chip cannot be told: {error}")
    inputs = tuple(
        Input(what=f"{given.what}: {given.value}", level=given.evidence.level, source=given.evidence.source) for given in worth.inputs
    )
    return Summary(cards(rows), worth_sentence(worth), tuple(sorted(inputs, key=lambda given: LEVELS.index(given.level))))


SOURCE_SHOWN = 100
"""Characters of a source on a terminal line; the report and --json have it whole."""


def _clipped(text: str) -> str:
    return text if len(text) <= SOURCE_SHOWN else f"{text[:SOURCE_SHOWN].rstrip()} ..."


def summary_lines(summary: Summary) -> list[str]:
    """The summary as lines for the terminal."""
    width = max((len(card.title) for card in summary.cards), default=0)
    value = max((len(card.value) for card in summary.cards), default=0)
    lines = [f"  {card.title:<{width}}  {card.value:>{value}}  {card.note}" for card in summary.cards]
    lines += ["", summary.sentence]
    if summary.inputs:
        lines.append("inputs of that sentence:")
        lines += [f"  {given.level:<9}  {given.what}  [{_clipped(given.source)}]" for given in summary.inputs]
    return lines
