"""Quantities of the machine: which of its chips, links or slots is not what it is taken for. One value for each kind of chip, or part."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from chipassay.results import units
from chipassay.results.catalogue import Chip, load_chips
from chipassay.results.pairs import PairMatrix, Worse, faults, pairs_of, sentence

from ..collective.straggler import ONE_SLOW
from .conditions import drew_full_power
from .expected import expected_of_chip
from .figure import BUSBW
from .limits import pcie_bytes_per_s
from .quantity import Quantity, Seen, by_name, of_machine
from .table import Table
from .transport import NETWORK, UNKNOWN, kind_of, transport

LARGE_BYTES = 64 * 2**20
"""Messages whose time is their bytes' and not their latency, whatever the link."""
LANES = ((0.15, "1 or 2 lanes"), (0.30, "4 lanes"), (0.60, "8 lanes, or a slot one generation older"))
"""Share of a slot with 16 lanes that a pinned copy reaches -> what it lies on: with all lanes 0.84, so 0.42, 0.21 and 0.10 with a half, a
quarter and an eighth of them; the bounds lie between."""
FEWEST_ROWS = 3
FAR_BELOW = 0.75
LEAST_MISFIT = 0.05
"""Published figures of healthy chips are no nearer to each other (logarithm)."""
ALL_TO_ALL_LINKS = ("NVSwitch", "NVL72")
"""Links of which two chips see the whole; in a mesh a pair sees one link of many."""


def known_chip(table: Table) -> Iterator[Seen]:
    """1 for each kind of chip that the catalogue knows; for the operator `missing`."""
    for chip_id, indices in table.by_chip.items():
        if table.chips[indices[0]] is not None:
            yield Seen(1.0, None, chip_id)


def over_pcie(table: Table) -> Iterator[Seen]:
    """Best bus bandwidth of large messages inside a node over PCIe's rate, for chips that have a faster link that joins them all."""
    for chip_id, indices in table.by_chip.items():
        chip = table.chips[indices[0]]
        if chip is None or not chip.pcie_bytes_per_s or (chip.link_bytes_per_s_one_way or 0.0) < 3 * chip.pcie_bytes_per_s:
            continue
        found = [own.value for index in indices if (own := table.figures[index]) and own.metric == BUSBW and _joined(table, index, chip)]
        if found:
            words = {"what": units.bandwidth(max(found)), "limit": units.bandwidth(chip.pcie_bytes_per_s), "link": chip.link}
            yield Seen(max(found) / chip.pcie_bytes_per_s, None, chip_id, partial(dict, words))


def _joined(table: Table, index: int, chip: Chip) -> bool:
    """Whether the chip's own link should have carried the row: a large message in one node, by a library that uses the link."""
    row = table.rows[index]
    ranks, domain = row.group_size or 0, chip.link_domain_size or 1
    whole = ranks == domain or any(word in chip.link for word in ALL_TO_ALL_LINKS)
    if (row.size_bytes or 0) < LARGE_BYTES or row.beside is not None or row.backend in ("gloo", "mpi"):
        return False
    # Rows that say they went over PCIe or a network are no surprise, and a bridge may not be there.
    return whole and 2 <= ranks <= domain and transport(row, chip).kind not in ("pcie", NETWORK, UNKNOWN)


def slot_share(table: Table) -> Iterator[Seen]:
    """For each chip and direction the fastest pinned copy over PCIe's rate with 16 lanes."""
    best: dict[tuple[str, str, str], tuple[float, float]] = {}
    for index, row in enumerate(table.rows):
        own, limit = table.figures[index], pcie_bytes_per_s(row, table.chips[index])
        if own is not None and limit:
            key = (table.names[index], table.device_words(table.device(index), table.names[index]), row.path or "")
            best[key] = max(best.get(key, (0.0, limit)), (own.value, limit))
    for (chip_id, device, path), (value, limit) in best.items():
        lanes = next((words for share, words in LANES if value / limit < share), "all lanes")
        words = {"device": device, "what": units.bandwidth(value), "limit": units.bandwidth(limit), "path": path.replace("_", " ")}
        yield Seen(value / limit, None, chip_id, partial(dict, words, lanes=lanes))


def other_card(table: Table) -> Iterator[Seen]:
    """How many times nearer the figures are to what another form factor of the same chip should show than to the chip's own, where two
    kinds of them or more (arithmetic, memory, links) agree in that and one at least is far below the chip's own."""
    for chip_id, indices in table.by_chip.items():
        own = table.chips[indices[0]]
        judged = [index for index in indices if table.best[index] and table.expectations[index] is not None]
        if own is None or len(judged) < FEWEST_ROWS:
            continue
        shares: dict[str, list[float]] = defaultdict(list)
        for index in judged:
            shares[table.kinds[index]].append(_share(table, index))
        if len(shares) < 2 or all(statistics.median(found) >= FAR_BELOW for found in shares.values()):
            continue
        fits = [(fit, other) for other in _other_forms(own) if (fit := _fit(table, judged, other)) is not None]
        if fits:
            (theirs, mine), other = min(fits, key=lambda pair: pair[0][0])
            words = {"other": other.id, "form": other.form_factor, "own_form": own.form_factor, "rows": str(len(judged))}
            yield Seen(mine / max(theirs, LEAST_MISFIT), None, chip_id, partial(dict, words))


def _other_forms(chip: Chip) -> list[Chip]:
    """``a100-pcie-40gb`` and ``a100-pcie-80gb`` for ``a100-sxm-80gb``."""
    stem = chip.id.split("-")[0]
    return [other for other in load_chips().values() if other.id.split("-")[0] == stem and other.form_factor != chip.form_factor]


def _share(table: Table, index: int) -> float:
    own, expected = table.figures[index], table.expectations[index]
    return own.value / expected.value if own is not None and expected is not None else 1.0


def _fit(table: Table, indices: list[int], other: Chip) -> tuple[float, float] | None:
    """Mean over kinds of the distance, as a logarithm, of the figures from what ``other`` should show, and from what the own chip should.

    None where a kind speaks against ``other``."""
    theirs: dict[str, list[float]] = defaultdict(list)
    mine: dict[str, list[float]] = defaultdict(list)
    for index in indices:
        own, found = table.figures[index], expected_of_chip(table.rows[index], other)
        if own is not None and found is not None:
            theirs[table.kinds[index]].append(math.log(own.value / found.value))
            mine[table.kinds[index]].append(math.log(_share(table, index)))
    pairs = [(abs(statistics.median(theirs[kind])), abs(statistics.median(mine[kind]))) for kind in theirs]
    if len(pairs) < 2 or any(fit > own + LEAST_MISFIT for fit, own in pairs):
        return None
    return statistics.fmean(fit for fit, _ in pairs), statistics.fmean(own for _, own in pairs)


def memory_share(table: Table) -> Iterator[Seen]:
    """Memory that the driver shows over the chip's."""
    for chip_id, indices in table.by_chip.items():
        chip = table.chips[indices[0]]
        sizes = [size for index in indices if (size := table.rows[index].device_memory_bytes)]
        if chip is not None and chip.memory_bytes and sizes:
            words = {"what": units.size(min(sizes)), "limit": units.size(chip.memory_bytes)}
            yield Seen(min(sizes) / chip.memory_bytes, None, chip_id, partial(dict, words))


def mig_slice(table: Table) -> Iterator[Seen]:
    """1 where the driver calls the chip a slice of one."""
    for chip_id, indices in table.by_chip.items():
        name = next((row.device_name for i in indices if " MIG " in ((row := table.rows[i]).device_name or "").upper() + " "), None)
        if name:
            yield Seen(1.0, None, chip_id, partial(dict, device=name))


def throttled_share(table: Table) -> Iterator[Seen]:
    """Share of the rows during which the chip was slowed down, of those that know."""
    yield from _throttled(table, lambda reasons: True)


def power_capped_share(table: Table) -> Iterator[Seen]:
    """Share of the rows during which the driver named power as the reason of a slowdown, of chips that never drew their full power."""
    yield from (seen for seen in _throttled(table, lambda reasons: "power" in reasons.lower()) if not drew_full_power(table, seen.chip))


def _throttled(table: Table, counts: Callable[[str], bool]) -> Iterator[Seen]:
    for chip_id, indices in table.by_chip.items():
        known = [row for index in indices if (row := table.rows[index]).status == "ok" and row.throttled is not None]
        slowed = [row for row in known if row.throttled and counts(row.throttle_reasons or "")]
        if len(known) >= FEWEST_ROWS:
            reasons = Counter(row.throttle_reasons for row in slowed if row.throttle_reasons)
            reason = reasons.most_common(1)[0][0] if reasons else "no reason is told"
            yield Seen(len(slowed) / len(known), None, chip_id, partial(dict, reason=str(reason), rows=str(len(known))))


def slow_rank(table: Table) -> Iterator[Seen]:
    """For each rank the share of the collectives of all ranks in which it was the slow one, beyond the noise."""
    for chip_id, indices in table.by_chip.items():
        judged = [row for index in indices if (row := table.rows[index]).straggler_ratio and row.members is None]
        slow = defaultdict(list)
        for row in judged:
            if row.flags and ONE_SLOW in row.flags:
                slow[row.straggler_rank].append(row.straggler_ratio or 1.0)
        for rank, ratios in slow.items():
            if len(judged) >= FEWEST_ROWS:
                words = {"rank": str(rank), "ratio": f"{statistics.median(ratios):.2f}", "rows": str(len(judged))}
                yield Seen(len(ratios) / len(judged), None, chip_id, partial(dict, words))


def pair_fault(table: Table) -> Iterator[Seen]:
    """How many times slower a link, a rank or a node is than the other pairs make expect."""
    for chip_id, indices in table.by_chip.items():
        for pairs in pairs_of(table.rows[index] for index in indices):
            own = kind_of(chip.link) if (chip := table.chips[indices[0]]) is not None else None
            both: tuple[tuple[PairMatrix, Worse], ...] = ((pairs.busbw_bytes_per_s, "low"), (pairs.latency_s, "high"))
            for matrix, worse in both:
                for fault in faults(matrix, worse):
                    what = f"{pairs.op.replace('_', ' ')} of {units.size(matrix.size_bytes)}"
                    words = {"fault": sentence(fault), "of": what, "link": "network" if fault.across else own or "link"}
                    yield Seen(fault.slowdown, None, chip_id, partial(dict, words))


QUANTITIES: Mapping[str, Quantity] = by_name(
    of_machine(known_chip),
    of_machine(over_pcie, "what", "limit", "link"),
    of_machine(slot_share, "device", "what", "limit", "path", "lanes"),
    of_machine(other_card, "other", "form", "own_form", "rows"),
    of_machine(memory_share, "what", "limit"),
    of_machine(mig_slice, "device"),
    of_machine(throttled_share, "reason", "rows"),
    of_machine(power_capped_share, "reason", "rows"),
    of_machine(slow_rank, "rank", "ratio", "rows"),
    of_machine(pair_fault, "fault", "of", "link"),
)
