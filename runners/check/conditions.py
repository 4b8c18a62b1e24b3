"""Quantities of one row alone: against what is expected of it, and under which conditions it was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from functools import partial

from chipassay.results import units
from chipassay.results.schema import Row

from ..collective.straggler import ONE_SLOW
from .expected_links import FROM_PROFILE
from .figure import in_words
from .quantity import Quantity, Seen, by_name, of_rows
from .table import Table

BROKEN = ("error", "timeout")
FULL_POWER = 0.85
"""Share of the maker's power from which on a chip that is held by a limit is held by its own: drivers average the last second, so that
short rows show less (an H200 of 700 W: 675 to 699 in some row of a run of a minute or more)."""
OWN_TRANSPORTS = ("cuda", "rocm")
"""Kinds of device that have a collective library of their own."""


def share_of_low(table: Table) -> Iterator[Seen]:
    """The figure over the least that is normal for it; of each case the fastest kernel alone, for it says what the chip can do."""
    for index, found in enumerate(table.expectations):
        own = table.figures[index]
        if found is not None and own is not None and table.best[index] and found.low > 0:
            yield Seen(own.value / found.low, index, table.names[index], partial(_expected, table, index))


def share_of_figure(table: Table) -> Iterator[Seen]:
    """The same where the expectation is a published figure of this case, not a curve or a share."""
    for seen in share_of_low(table):
        found = table.expectations[seen.index or 0]
        if found is not None and found.level == "published" and not found.source.startswith(FROM_PROFILE):
            yield seen


def share_of_high(table: Table) -> Iterator[Seen]:
    """The figure over the most that was expected of it."""
    for index, found in enumerate(table.expectations):
        own = table.figures[index]
        if found is not None and own is not None:
            yield Seen(own.value / found.high, index, table.names[index], partial(_expected, table, index))


def _expected(table: Table, index: int) -> dict[str, str]:
    found, own = table.expectations[index], table.figures[index]
    if found is None or own is None:
        return {}
    return {
        "expected": in_words(found.metric, found.value),
        "low": in_words(found.metric, found.low),
        "of_expected": units.share(own.value / found.value),
        "level": found.level,
        "source": found.source,
    }


def has_figure(table: Table) -> Iterator[Seen]:
    """1 where a row that is called ok holds a time or a figure; for the operator `missing`."""
    for index, row in enumerate(table.rows):
        if row.status != "ok" or table.figures[index] is not None or row.time_median_s:
            yield Seen(1.0, index, table.names[index])


def incorrect(table: Table) -> Iterator[Seen]:
    """1 where the result was wrong."""
    for index, row in enumerate(table.rows):
        if row.status == "incorrect":
            yield Seen(1.0, index, table.names[index], partial(dict, reason=row.reason or "no reason is told"))


def broken(table: Table) -> Iterator[Seen]:
    """1 where measuring failed: an error or a timeout."""
    for index, row in enumerate(table.rows):
        if row.status in BROKEN:
            words = f"{(row.status or '').replace('_', ' ')}: {row.reason or 'no reason is told'}"
            yield Seen(1.0, index, table.names[index], partial(dict, reason=words))


def no_room(table: Table) -> Iterator[Seen]:
    """1 where the case did not fit the memory."""
    for index, row in enumerate(table.rows):
        if row.status == "out_of_memory":
            yield Seen(1.0, index, table.names[index], partial(dict, reason=row.reason or "no reason is told"))


def error_share(table: Table) -> Iterator[Seen]:
    """The result's error over the error that would be too much."""
    for index, row in enumerate(table.rows):
        if row.status == "ok" and row.error is not None and row.error_limit:
            yield Seen(row.error / row.error_limit, index, table.names[index])


def spread(table: Table) -> Iterator[Seen]:
    """The 95th percentile of the samples over the 5th."""
    for index, row in enumerate(table.rows):
        if row.status == "ok" and row.time_p05_s and row.time_p95_s:
            yield Seen(row.time_p95_s / row.time_p05_s, index, table.names[index])


def throttled(table: Table) -> Iterator[Seen]:
    """1 where the chip reported a slowdown for more than its power limit, or its clock fell, while it was measured; 0 where it did not."""
    for index, row in enumerate(table.rows):
        if row.status == "ok" and row.throttled is not None:
            why = row.throttle_reasons or "no reason is told"
            yield Seen(float(row.throttled and not at_power_limit(row)), index, table.names[index], partial(dict, reason=why))


def power_limited(table: Table) -> Iterator[Seen]:
    """1 where the power limit alone slowed the chip down, as it does healthy ones in large products; 0 where it did not, or where the
    clock was the one that the peaks hold at or above: drivers tell the limit for a second after the row that met it."""
    for index, row in enumerate(table.rows):
        if row.status == "ok" and row.throttled is not None:
            chip, clock = table.chips[index], f" at {row.clock_hz / 1e6:.0f} MHz" if row.clock_hz else ""
            slow = chip is None or not chip.boost_clock_hz or not row.clock_hz or row.clock_hz < chip.boost_clock_hz
            yield Seen(float(row.throttled and at_power_limit(row) and slow), index, table.names[index], partial(dict, clock=clock))


def at_power_limit(row: Row) -> bool:
    """Whether a cap on power is all that is told to have slowed the chip down.

    >>> at_power_limit(Row(throttle_reasons="power_cap")), at_power_limit(Row(throttle_reasons="power_cap;thermal"))
    (True, False)
    """
    reasons = [reason.lower() for reason in (row.throttle_reasons or "").split(";") if reason.strip()]
    return bool(reasons) and all("power" in reason and "cap" in reason for reason in reasons)


def drew_full_power(table: Table, chip_id: str) -> bool:
    """Whether the chip drew in some row what its maker lets it draw: then the limit that it is held to is its own."""

    def find() -> bool:
        indices = table.by_chip.get(chip_id, [])
        chip = table.chips[indices[0]] if indices else None
        most = max((table.rows[index].power_w or 0.0 for index in indices), default=0.0)
        return chip is not None and bool(chip.power_w) and most >= FULL_POWER * (chip.power_w or 0.0)

    return table.once(f"drew_full_power {chip_id}", find)


def clock_share(table: Table) -> Iterator[Seen]:
    """The chip's clock over the one that its peaks hold at; not where its own full power limit set the clock."""
    for index, row in enumerate(table.rows):
        chip = table.chips[index]
        if row.status != "ok" or not row.clock_hz or chip is None or not chip.boost_clock_hz:
            continue
        if row.throttled and at_power_limit(row) and drew_full_power(table, table.names[index]):
            continue
        words = {"clock": f"{row.clock_hz / 1e6:.0f} MHz", "limit": f"{chip.boost_clock_hz / 1e6:.0f} MHz"}
        yield Seen(row.clock_hz / chip.boost_clock_hz, index, table.names[index], partial(dict, words))


def straggler_ratio(table: Table) -> Iterator[Seen]:
    """How much longer the slowest rank takes for the same work alone, where that is beyond the noise."""
    for index, row in enumerate(table.rows):
        if row.status == "ok" and row.straggler_ratio and row.flags and ONE_SLOW in row.flags:
            words = {"rank": str(row.straggler_rank)}
            yield Seen(row.straggler_ratio, index, table.names[index], partial(dict, words))


def rank_ratio(table: Table) -> Iterator[Seen]:
    """The slowest rank's time over the median rank's."""
    for index, row in enumerate(table.rows):
        times = row.rank_times_s or ()
        if row.status == "ok" and len(times) > 2 and min(times) > 0:
            words = {"rank": str(max(range(len(times)), key=times.__getitem__))}
            yield Seen(max(times) / statistics.median(times), index, table.names[index], partial(dict, words))


def gloo_on_gpu(table: Table) -> Iterator[Seen]:
    """1 where a collective between GPUs went through gloo, which goes through the hosts' memory; 0 where another library did it."""
    for index, row in enumerate(table.rows):
        if table.kinds[index] == "collective" and row.status == "ok" and row.device_kind in OWN_TRANSPORTS and row.backend:
            yield Seen(float(row.backend == "gloo"), index, table.names[index])


_EXPECTED_FIELDS = ("expected", "low", "of_expected", "level", "source")

QUANTITIES: Mapping[str, Quantity] = by_name(
    of_rows(share_of_low, *_EXPECTED_FIELDS),
    of_rows(share_of_figure, *_EXPECTED_FIELDS),
    of_rows(share_of_high, *_EXPECTED_FIELDS),
    of_rows(has_figure),
    of_rows(incorrect, "reason"),
    of_rows(broken, "reason"),
    of_rows(no_room, "reason"),
    of_rows(error_share),
    of_rows(spread),
    of_rows(throttled, "reason"),
    of_rows(power_limited, "clock"),
    of_rows(clock_share, "clock", "limit"),
    of_rows(straggler_ratio, "rank"),
    of_rows(rank_ratio, "rank"),
    of_rows(gloo_on_gpu),
)
