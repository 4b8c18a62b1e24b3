"""Quantities of chips beside their siblings: the same case on several chips of a kind, and on one chip by several kernels."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from chipassay.results import units

from .quantity import Quantity, Seen, by_name, of_machine, of_rows
from .table import Device, Table

TRIM = 0.05
"""Chips of one node differ by 5 % (ml-engineering, compute/accelerator/README.md): who is further off does not make the baseline."""


def baseline(values: Sequence[float], trim: float = TRIM) -> float:
    """What healthy chips give: the median, then the median of those within ``trim`` of it. In whatever order they come.

    SuperBench drops outliers from a mean until none is left, one after the other; beginning at the median needs no order. Of two chips
    the faster one is the baseline.

    >>> baseline([1.0, 1.01, 0.99, 1.6])
    1.0
    """
    if len(values) < 3:
        return min(values)
    middle = statistics.median(values)
    return statistics.median([value for value in values if abs(value / middle - 1) <= trim] or [middle])


def _groups(table: Table) -> list[tuple[str, dict[Device, list[int]], float]]:
    """(chip_id, device -> its rows, the baseline's time) of each case that was measured on several chips."""
    return table.once("siblings", lambda: list(_find_groups(table)))


def _find_groups(table: Table) -> Iterator[tuple[str, dict[Device, list[int]], float]]:
    cases: dict[tuple[Any, ...], dict[Device, list[int]]] = defaultdict(lambda: defaultdict(list))
    several = {chip: {table.device(index) for index in indices} for chip, indices in table.by_chip.items()}
    for index, row in enumerate(table.rows):
        alone = row.members is None and (row.node_count or 1) == 1
        if row.status == "ok" and row.time_median_s and alone and len(several[table.names[index]]) > 1:
            cases[table.names[index], row.kernel, row.backend, row.tool, table.case(index)][table.device(index)].append(index)
    for key, devices in cases.items():
        if len(devices) > 1:
            times = [_time(table, indices) for indices in devices.values()]
            yield key[0], devices, baseline(times)


def _time(table: Table, indices: Sequence[int]) -> float:
    """Of a chip that was visited several times, the median."""
    return statistics.median(table.rows[index].time_median_s or 0.0 for index in indices)


def sibling_ratio(table: Table) -> Iterator[Seen]:
    """Time over that of the other chips for the same case."""
    for chip_id, devices, base_s in _groups(table):
        for device, indices in devices.items():
            for index in indices:
                ratio = (table.rows[index].time_median_s or 0.0) / base_s
                yield Seen(ratio, index, chip_id, partial(_device_words, table, device, chip_id, base_s, len(devices) - 1, 1))


def slow_chip(table: Table) -> Iterator[Seen]:
    """For each chip of several the median of its times over those of the others, over all cases."""
    ratios: dict[tuple[str, Device], list[float]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    for chip_id, devices, base_s in _groups(table):
        counts[chip_id] = max(counts[chip_id], len(devices))
        for device, indices in devices.items():
            ratios[chip_id, device].append(_time(table, indices) / base_s)
    for (chip_id, device), found in ratios.items():
        words = partial(_device_words, table, device, chip_id, 0.0, counts[chip_id] - 1, len(found))
        yield Seen(statistics.median(found), None, chip_id, words)


_FIELDS = ("device", "base", "others", "cases")


def _device_words(table: Table, device: Device, chip_id: str, base_s: float, others: int, cases: int) -> dict[str, str]:
    return {"device": table.device_words(device, chip_id), "base": units.seconds(base_s), "others": str(others), "cases": str(cases)}


def kernel_ratio(table: Table) -> Iterator[Seen]:
    """Time over that of the fastest other kernel for the same case on the same chip."""
    cases: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(table.rows):
        if row.status == "ok" and row.time_median_s and table.kinds[index] != "collective":
            cases[table.names[index], table.device(index), row.run_id, table.case(index)].append(index)
    for members in cases.values():
        if len(members) < 2:
            continue
        best = min(members, key=lambda index: table.rows[index].time_median_s or 0.0)
        for index in members:
            if index != best:
                other = table.rows[best]
                words = {"kernel": table.rows[index].kernel or "this one", "other": other.kernel or other.backend or "another"}
                value = (table.rows[index].time_median_s or 0.0) / (other.time_median_s or 1.0)
                yield Seen(value, index, table.names[index], partial(dict, words))


QUANTITIES: Mapping[str, Quantity] = by_name(
    of_rows(sibling_ratio, *_FIELDS),
    of_machine(slow_chip, *_FIELDS),
    of_rows(kernel_ratio, "kernel", "other"),
)
