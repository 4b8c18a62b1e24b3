"""Pools on one kind alone, of all microbatch sizes, as arrays: what runs side by side, and what is left over beside other pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .candidates import Rows, pools_of
from .choices import microbatch_axis
from .pools import Pool
from .tables import Tables

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Pures:
    """Pools on one kind. Arrays of one length."""

    rows: tuple[Rows, ...]
    starts: Array
    """Index of the first pool of each of ``rows``."""
    used: Array
    """Chips."""
    rate: Array
    """Sequences per second at the most."""
    slowest_s: Array
    """At least so long takes the slowest stage."""
    sum_s: Array
    """At least so long takes a microbatch through all stages."""
    usual_sum_s: Array
    """About so long."""
    held: Array
    ring_s: Array
    own_s: Array
    """As in ``Rows``."""
    unit: Array
    """Sequences that all its pipelines take at once."""
    seen: int

    def __len__(self) -> int:
        return len(self.used)

    def pool(self, index: int) -> Pool:
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.rows[part].pool(index - int(self.starts[part]))

    @property
    def best_rate(self) -> float:
        """Sequences per second of a chip at best."""
        return float((self.rate / self.used).max()) if len(self) else 0.0

    def done(self, time_s: float) -> Array:
        """Sequences that each does in a time, in whole microbatches; of those that do as many, the faster counts a little more."""
        left_s = time_s - self.usual_sum_s
        whole = self.unit * np.maximum(0.0, np.floor(left_s / self.slowest_s + 1e-9) + 1.0)
        exact = np.maximum(0.0, self.rate * (left_s + self.slowest_s))
        done: Array = whole + 1e-3 * exact
        return done

    def best_within(self, chips: Array, time_s: float) -> Array:
        """For each number of chips the pool that does most in a time, -1 where none does anything."""
        if not len(self):
            return np.full(len(chips), -1)
        order = np.argsort(self.used, kind="stable")
        done = self.done(time_s)[order]
        most = np.maximum.accumulate(done)
        first = np.maximum.accumulate(np.where(done > np.concatenate([[0.0], most[:-1]]), np.arange(len(order)), -1))
        place = np.searchsorted(self.used[order], chips, side="right") - 1
        chosen = np.where(place >= 0, first[place], -1)
        best: Array = np.where(chosen >= 0, order[chosen], -1)
        return best


def pures_of(tables: Tables, kind: int, global_batch: int, every: bool) -> Pures:
    """All pools of a kind."""
    both = [pools_of(tables, (kind,), size, global_batch, every) for size in microbatch_axis(global_batch)]
    found = [rows for rows, _ in both if rows is not None]

    def column(values: Sequence[Array]) -> Array:
        return np.concatenate(values) if values else np.zeros(0)

    return Pures(
        rows=tuple(found),
        starts=np.cumsum([0, *(len(rows) for rows in found)])[:-1],
        used=column([rows.used(kind) for rows in found]),
        rate=column([rows.rate for rows in found]),
        slowest_s=column([rows.slowest_s for rows in found]),
        sum_s=column([rows.sum_s for rows in found]),
        usual_sum_s=column([rows.usual_sum_s for rows in found]),
        held=column([rows.held for rows in found]),
        ring_s=column([rows.ring_s for rows in found]),
        own_s=column([rows.own_s for rows in found]),
        unit=column([rows.replicas * rows.microbatch for rows in found]),
        seen=sum(seen for _, seen in both),
    )
