"""The rows of a check, and what several quantities ask about them, found once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, TypeVar

from chipassay.results.best import CASE_NAMES, impossible
from chipassay.results.catalogue import Chip, load_chips
from chipassay.results.operations import limited_by
from chipassay.results.schema import Row

from .expected import expectation
from .figure import Figure, figure
from .finding import Expectation

Found = TypeVar("Found")

UNNAMED = "an unnamed chip"
LEAST_SHARE = 1e-3
UNTOLD_NOISE = 0.10
"""To each side of a time of which a tool tells no interval: on healthy chips nccl-tests' means of small messages move by 20 % from one
size to the next (tables of aiconfigurator-core)."""
Device = tuple[str, int | None]
"""One chip of a fleet: the hash of its host and its number there; without a number the host as a whole."""

_CASE = attrgetter(*CASE_NAMES)
_EXPECTED_BY = attrgetter(
    *(
        "chip_id",
        "op",
        "dtype",
        "m",
        "n",
        "k",
        "layout",
        "scaling",
        "batch",
        "heads",
        "seq_q",
        "seq_kv",
        "head_dim",
        "head_dim_v",
        "causal",
        "window",
    ),
    *("direction", "path", "host_memory", "variant", "size_bytes", "group_size", "members", "beside", "native", "math_mode", "backend"),
    *("kernel", "cache", "fabric", "node_count", "chip_count", "algorithm", "bytes", "flops", "status", "tool", "last_level_cache_bytes"),
)


@dataclass(frozen=True)
class Span:
    """A time and how sure it is."""

    low_s: float
    time_s: float
    high_s: float


class Table:
    """Rows under check. Each property is a list beside the rows, or an index into them."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        self._kept: dict[str, Any] = {}

    def once(self, name: str, find: Callable[[], Found]) -> Found:
        """What ``find`` gives, found at the first asking."""
        if name not in self._kept:
            self._kept[name] = find()
        kept: Found = self._kept[name]
        return kept

    @cached_property
    def chips(self) -> list[Chip | None]:
        """Of the catalogue; None where it does not know the row's chip."""
        known = load_chips()
        return [known.get(row.chip_id or "") for row in self.rows]

    @cached_property
    def kinds(self) -> list[str]:
        """What limits each row (``results.operations.limited_by``)."""
        return [limited_by(row) for row in self.rows]

    @cached_property
    def figures(self) -> list[Figure | None]:
        return [figure(row) for row in self.rows]

    @cached_property
    def expectations(self) -> list[Expectation | None]:
        """Equal cases are looked up once."""
        found: dict[tuple[Any, ...], Expectation | None] = {}
        result: list[Expectation | None] = []
        for row, own in zip(self.rows, self.figures, strict=True):
            if own is None:
                result.append(None)
                continue
            key = _EXPECTED_BY(row)
            if key not in found:
                found[key] = expectation(row)
            result.append(found[key])
        return result

    @cached_property
    def by_chip(self) -> dict[str, list[int]]:
        """chip_id -> its rows, in the order of first appearance."""
        found: dict[str, list[int]] = defaultdict(list)
        for index, row in enumerate(self.rows):
            found[row.chip_id or UNNAMED].append(index)
        return dict(found)

    @cached_property
    def names(self) -> list[str]:
        """What each row's chip is called."""
        return [row.chip_id or UNNAMED for row in self.rows]

    def device(self, index: int) -> Device:
        row = self.rows[index]
        return row.host_hash or "", row.device_index

    def device_words(self, device: Device, chip_id: str) -> str:
        """What a chip of the fleet is called: its number, and its host where there are several.

        >>> Table([Row(chip_id="a", host_hash="0f", device_index=5)]).device_words(("0f", 5), "a")
        'chip 5'
        """
        hosts = {self.rows[index].host_hash for index in self.by_chip[chip_id]}
        host = f"host {device[0][:6] or 'unknown'}"
        if device[1] is None:
            return host
        return f"chip {device[1]} of {host}" if len(hosts) > 1 else f"chip {device[1]}"

    def case(self, index: int) -> tuple[Any, ...]:
        """What was measured, whichever kernel did it; a collective's transport is part of it."""
        row = self.rows[index]
        return (*_CASE(row), row.backend if self.kinds[index] == "collective" else None)

    @cached_property
    def best(self) -> list[bool]:
        """Whether a row is the best of its case on its chip: that one says what the chip can do. A row above a limit is not."""
        leaders: dict[tuple[Any, ...], int] = {}
        for index, own in enumerate(self.figures):
            if own is None:
                continue
            key = (self.names[index], self.device(index), self.rows[index].run_id, self.case(index))
            leader = leaders.get(key)
            if leader is None or self._worth(index) > self._worth(leader):
                leaders[key] = index
        found = [False] * len(self.rows)
        for index in leaders.values():
            found[index] = True
        return found

    def _worth(self, index: int) -> tuple[bool, float]:
        own = self.figures[index]
        return not impossible(self.rows[index]), own.value if own else 0.0

    def span(self, index: int) -> Span | None:
        """The time of a call with its 95 % interval; UNTOLD_NOISE to each side where a tool tells none."""
        row = self.rows[index]
        time_s = row.time_median_s
        if row.status != "ok" or not time_s or not math.isfinite(time_s) or time_s <= 0:
            return None
        low_s, high_s = row.time_low_s, row.time_high_s
        if low_s is None or high_s is None:
            return Span(time_s * (1 - UNTOLD_NOISE), time_s, time_s * (1 + UNTOLD_NOISE))
        # An interval down to nothing is as wide as can be.
        return Span(max(min(low_s, time_s), LEAST_SHARE * time_s), time_s, max(high_s, time_s))
