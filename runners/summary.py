"""What a run comes to: best rates, bandwidths, and how many of this chip one reference chip is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from chipassay.results.best import best_rows
from chipassay.results.beyond_cache import beyond_cache, cold_first
from chipassay.results.errors import ChipassayError
from chipassay.results.operations import limited_by, place, time_per_kernel_s
from chipassay.results.profile import LEVELS, Profile
from chipassay.results.schema import Row
from chipassay.results.units import bandwidth, rate, seconds, size

from .normalise_links import plain
from .report.shape import shape, unusual_arithmetic
from .report.summary import Card, Input, Summary
from .report.words_between import bad_links, pattern_words, straggler

REFERENCE_CHIP = "h100-sxm-80gb"
REFERENCE_MODEL = "llama3-8b"


def _best(rows: Iterable[Row], figure: Callable[[Row], float | None]) -> Row | None:
    return max((row for row in best_rows(rows) if figure(row)), key=lambda row: figure(row) or 0.0, default=None)


def _share(row: Row) -> str:
    return "peak unknown" if row.peak_fraction is None else f"{100 * row.peak_fraction:.0f} % of peak ({row.peak_evidence})"


def cards(rows: Sequence[Row]) -> tuple[Card, ...]:
    """The key figures: the best achieved of each kind, and in how it was achieved. What a row above a physical limit says is not among
    them as long as the same case has another."""
    groups: dict[tuple[tuple[int, str], str], list[Row]] = {}
    for row in rows:
        if row.beside is not None or limited_by(row) == "collective":
            continue
        groups.setdefault((place(row.op or ""), _title(row)), []).append(row)
    made = {"compute": _rate_card, "memory": _memory_card, "link": _link_card, "overhead": _launch_card}
    found = []
    for (_, title), group in sorted(groups.items()):
        kind = limited_by(group[0])
        card = made[kind](title, group) if kind in made else None
        found += [card] if card is not None else []
    return (*found, *_collective_cards(rows))


def _title(row: Row) -> str:
    """What rows must share to be compared for one headline."""
    op, kind = (row.op or "unknown").replace("_", " "), limited_by(row)
    backward = row.direction if row.direction not in (None, "forward") else None
    if kind == "compute":
        scaling = None if row.scaling is None else f"scales {row.scaling.replace('_', ' ')}"
        return " ".join(filter(None, (op, backward, row.dtype, scaling, unusual_arithmetic(row))))
    if kind == "link":
        return " ".join(filter(None, ((row.path or op).replace("_", " "), row.host_memory)))
    if kind == "overhead":
        return f"{op}, {row.launch or 'unknown'}"
    return " ".join(filter(None, ("memory", op, backward)))


def _rate_card(title: str, group: Sequence[Row]) -> Card | None:
    best = _best(cold_first(group), lambda row: row.rate_flops_per_s)
    if best is None or not best.rate_flops_per_s:
        return None
    return Card(title, rate(best.rate_flops_per_s), f"{_share(best)}; {shape(best)}, {best.kernel}", "measured")


def _memory_card(title: str, group: Sequence[Row]) -> Card | None:
    best = _best(filter(beyond_cache, group), lambda row: row.bandwidth_bytes_per_s)
    if best is None or not best.bandwidth_bytes_per_s:
        return None
    return Card(title, bandwidth(best.bandwidth_bytes_per_s), f"{_share(best)}; {size(best.bytes or 0.0)}, {best.kernel}", "measured")


def _link_card(title: str, group: Sequence[Row]) -> Card | None:
    best = _best(group, lambda row: row.bandwidth_bytes_per_s)
    if best is None or not best.bandwidth_bytes_per_s:
        return None
    return Card(title, bandwidth(best.bandwidth_bytes_per_s), f"{size(best.bytes or 0.0)}, {best.kernel}", "measured")


def _launch_card(title: str, group: Sequence[Row]) -> Card | None:
    best = min(best_rows(group), key=lambda row: time_per_kernel_s(row) or float("inf"), default=None)
    per_kernel_s = None if best is None else time_per_kernel_s(best)
    return None if best is None or per_kernel_s is None else Card(title, f"{seconds(per_kernel_s)} a kernel", str(best.kernel), "measured")


def _collective_cards(rows: Sequence[Row]) -> list[Card]:
    """A card for each pattern and transport: what large messages reach and small ones take, in the largest group that was measured."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.status == "ok" and plain(row) and row.launch != "graph":
            groups.setdefault((row.op or "", row.backend or ""), []).append(row)
    several = {op for op, _ in groups if sum(other == op for other, _ in groups) > 1}
    found = []
    for (op, transport), group in sorted(groups.items(), key=lambda item: (item[0][0] != "all_reduce", item[0])):
        name = pattern_words(op) + (f" over {transport}" if op in several else "")
        card = _collective_card(name, cold_first(group))
        found += [card] if card is not None else []
    return found


def _collective_card(name: str, group: Sequence[Row]) -> Card | None:
    ranks = max(row.group_size or 0 for row in group)
    group = [row for row in group if row.group_size == ranks]
    small = min(group, key=lambda row: (row.size_bytes or 0, row.time_median_s or 0.0))
    best = _best(group, lambda row: row.busbw_bytes_per_s)
    if best is None or not best.busbw_bytes_per_s:
        known = small.time_median_s and not small.size_bytes
        return Card(name, seconds(small.time_median_s or 0), f"{ranks} ranks, {small.backend}", "measured") if known else None
    latency = f"{seconds(small.time_median_s or 0)} at {size(small.size_bytes or 0)}"
    note = f"{ranks} ranks, {best.backend}, {size(best.size_bytes or 0)}; {latency}"
    return Card(f"{name} bus bandwidth", bandwidth(best.busbw_bytes_per_s), note, "measured")


def _warnings(rows: Sequence[Row]) -> tuple[str, ...]:
    late = straggler(rows)
    return (*([late] if late else []), *bad_links(rows))


def summarise(rows: Sequence[Row], profile: Profile) -> Summary:
    """Cards, and the exchange rate against the reference chip with the evidence of every input; or why there is none."""
    from chipassay.results.catalogue import load_chips
    from chipassay.results.shipped import find_profile
    from chipassay.scaling.exchange import per_chip_worth
    from chipassay.scaling.models import load_model
    from chipassay.scaling.text import worth_sentence

    try:
        reference = find_profile(REFERENCE_CHIP)
        worth = per_chip_worth(load_model(REFERENCE_MODEL), reference, profile)
    except ChipassayError as error:
        name = load_chips()[REFERENCE_CHIP].name
        untold = f"For training {REFERENCE_MODEL}, the worth of one {name} in this chip cannot be told: {error}"
        return Summary(cards(rows), untold, warnings=_warnings(rows))
    inputs = tuple(
        Input(what=f"{given.what}: {given.value}", level=given.evidence.level, source=given.evidence.source) for given in worth.inputs
    )
    ordered = tuple(sorted(inputs, key=lambda given: LEVELS.index(given.level)))
    return Summary(cards(rows), worth_sentence(worth), ordered, _warnings(rows))


SOURCE_SHOWN = 100
"""Characters of a source on a terminal line; the report and --json have it whole."""


def _clipped(text: str) -> str:
    return text if len(text) <= SOURCE_SHOWN else f"{text[:SOURCE_SHOWN].rstrip()} ..."


def summary_lines(summary: Summary) -> list[str]:
    """The summary as lines for the terminal."""
    width = max((len(card.title) for card in summary.cards), default=0)
    value = max((len(card.value) for card in summary.cards), default=0)
    lines = [f"  {card.title:<{width}}  {card.value:>{value}}  {card.note}" for card in summary.cards]
    lines += ["", *summary.warnings, *([""] if summary.warnings else []), summary.sentence]
    if summary.inputs:
        lines.append("inputs of that sentence:")
        lines += [f"  {given.level:<9}  {given.what}  [{_clipped(given.source)}]" for given in summary.inputs]
    return lines
