"""Small tables of what a curve cannot show: how far ranks lie apart, and what runs at the same time takes from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chipassay.results.best import best_rows
from chipassay.results.profile import Profile
from chipassay.results.schema import Row
from chipassay.results.units import seconds, share, size

from ..normalise_links import plain
from .words_between import group_words, pattern_words

LINES_AT_MOST = 40


@dataclass(frozen=True)
class Sheet:
    """A table with a heading and a sentence on how to read it."""

    title: str
    lead: str
    headings: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def sheets(rows: Sequence[Row], profile: Profile | None) -> list[Sheet]:
    """The tables that have lines."""
    return [sheet for sheet in (ranks(rows), overlap(profile), load(profile)) if sheet.lines]


def ranks(rows: Sequence[Row]) -> Sheet:
    """The largest message of each pattern and group: its ranks' own times."""
    largest: dict[tuple[object, ...], Row] = {}
    for row in best_rows(rows):
        if plain(row) and row.slowest_rank_time_s and row.fastest_rank_time_s and (row.group_size or 0) > 1:
            key = (row.chip_id, row.op, row.backend, row.group_size, row.members)
            if key not in largest or (row.size_bytes or 0) > (largest[key].size_bytes or 0):
                largest[key] = row
    # Pairs would fill the table: the heat map has them.
    shown = [row for row in largest.values() if not (row.group_size == 2 and row.members)]
    return Sheet(
        "Ranks against each other",
        "Each rank's own median time of the same call. Own work: the same bytes without the others, which is where a slow chip shows.",
        ("collective", "message", "fastest rank", "median rank", "slowest rank", "slowest / fastest", "slowest own work"),
        tuple(_ranks_line(row, len({row.chip_id for row in shown}) > 1) for row in shown[:LINES_AT_MOST]),
    )


def _ranks_line(row: Row, several_chips: bool) -> tuple[str, ...]:
    slowest, fastest = row.slowest_rank_time_s or 0.0, row.fastest_rank_time_s or 1.0
    own = "unknown"
    if row.straggler_ratio is not None and row.straggler_rank is not None:
        own = f"rank {row.straggler_rank}, {row.straggler_ratio:.2f} times the median"
    middle = "unknown" if row.median_rank_time_s is None else seconds(row.median_rank_time_s)
    name = f"{pattern_words(row.op)}, {group_words(row.backend or 'unknown', row.group_size or 0)}"
    return (
        name + (f" ({row.members})" if row.members else "") + (f" on {row.chip_id or 'unknown chip'}" if several_chips else ""),
        size(row.size_bytes or 0),
        seconds(fastest),
        middle,
        seconds(slowest),
        f"{slowest / fastest:.2f}",
        own,
    )


def overlap(profile: Profile | None) -> Sheet:
    """What a matrix product and a collective take from each other."""
    return Sheet(
        "Compute and communication at the same time",
        "Times beside each other over times alone. Hidden: the share of the collective's time alone that costs nothing beside compute.",
        ("collective", "message", "product", "collective slower", "product slower", "hidden", "evidence"),
        tuple(
            (
                f"{pattern_words(found.pattern)}, {group_words(found.transport, found.group_size)}",
                size(found.size_bytes),
                found.product,
                _times(found.communication_slowdown),
                _times(found.compute_slowdown),
                "unknown" if found.hidden_share is None else share(found.hidden_share),
                found.evidence.level,
            )
            for found in (profile.overlaps if profile is not None else ())
        ),
    )


def load(profile: Profile | None) -> Sheet:
    """What like groups take from each other when they run at the same time."""
    return Sheet(
        "Groups at the same time",
        "Time of a group's collective while its like run on the other chips, over its time alone: the median over sizes, and the range.",
        ("collective", "groups at once", "slower", "range", "sizes", "evidence"),
        tuple(
            (
                f"{pattern_words(found.pattern)}, {group_words(found.transport, found.group_size, found.placement)}",
                str(found.groups),
                _times(found.slowdown),
                f"{_times(found.slowdown_low)} to {_times(found.slowdown_high)}",
                str(found.points),
                found.evidence.level,
            )
            for found in (profile.loads if profile is not None else ())
        ),
    )


def _times(slowdown: float | None) -> str:
    return "unknown" if slowdown is None else f"{slowdown:.2f} x"
