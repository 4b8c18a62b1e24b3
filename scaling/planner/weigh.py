"""Weighing: every plan of a space on some numbers of chips, of which those that cannot be among the best are left out untimed.

Nothing that could be best is lost. Plans that cannot beat the best so far by their compute alone are left out (``bound``). Of plans that
differ in recomputation alone the first that fits is the best, since recomputing only adds time. Orders of ranks are tried only where one
could bring a plan among the best. What is left is timed by closed forms.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..cluster import Group
from ..machine import Machine
from ..memory import memory_by_kind, total_bytes
from ..models import Transformer
from ..plans import Array, Plans
from ..search import CHUNK, Priced
from ..spare import usable_bytes
from ..step import KINDS, step
from .bound import Compute, in_any_order, least_played, moved_by_order
from .front import Against, Front
from .objective import Judge
from .pool import Pool
from .space import Space, arrangements, base_plans, joined, with_recompute

SLICE = 32 * CHUNK
"""Plans that are weighed together at most, so that memory stays small whatever the space."""


@dataclass
class Weighing:
    """One search under way: what is asked, and the best and the front of what has been looked at."""

    model: Transformer
    group: Group
    machine: Machine
    judge: Judge
    space: Space
    batch: int
    tolerance: float
    """Share by which the batch may move on all of the chips."""
    limit_s_per_token: float | None
    against: Against | None
    pool: Pool
    front: Front = field(default_factory=Front)
    seen: int = 0
    timed: int = 0
    leanest: Priced | None = None
    """The plans of which one needed least memory, while none fits."""
    fits: bool = False

    def numbers(self, several: Sequence[int], report: Callable[[float], None]) -> None:
        """All plans on these numbers of chips; ``report`` is told the share that is done."""
        for place, schedule in enumerate(self.space.schedules):
            found = []
            for chips in several:
                tolerance = self.tolerance if chips == self.group.count else 0.0
                found.append(base_plans(self.model, self.group, chips, self.batch, self.space, schedule, tolerance))
            if any(map(len, found)):
                plans = joined([plans for plans in found if len(plans)])
                for start in range(0, len(plans), SLICE):
                    report((place + start / len(plans)) / len(self.space.schedules))
                    self._plans(plans.take(slice(start, start + SLICE)))

    def _plans(self, base: Plans) -> None:
        """Plans as they come from the grid, then with all that recomputes in them."""
        kinds = self.space.recomputes()
        self.seen += len(base) * sum(len(self.space.variants(kind)) for kind in kinds)
        compute = Compute.of(self.model, base, self.machine)
        usable = usable_bytes(self.machine.memory_bytes, self.space.spare)
        left = np.arange(len(base))
        for kind in kinds:
            rest = left
            for share in self.space.variants(kind):
                plans = with_recompute(base.take(rest), kind, share)
                promising = self._promising(plans, compute.take(rest))
                plans, rest = plans.take(promising), rest[promising]
                if not len(plans):
                    break
                needed = self._needed(plans)
                fitting = needed <= usable
                if fitting.any():
                    self.fits = True
                    self._time(plans.take(fitting), compute.take(rest[fitting]), needed[fitting])
                elif not self.fits:
                    self._remember_leanest(plans, needed)
                if self.against != "memory":  # more recomputation is slower, and pays only by the memory that it frees
                    rest = rest[~fitting]
            if kind == "none":
                left = rest

    def _promising(self, plans: Plans, compute: Compute) -> Array:
        """Which plans may be among the best, or on the front, by their compute alone."""
        least_s = compute.least_step_s(plans)
        return self._may_count(plans, self.judge.least(plans, least_s), least_s, None)

    def _may_count(self, plans: Plans, value: Array, step_s: Array, needed: Array | None) -> Array:
        """Which plans that come to no less than ``value``, in no shorter a step, may be among the best or on the front."""
        s_per_token = step_s / (plans.global_batch * self.model.seq_len)
        kept = value <= self.pool.limit
        if self.against is not None:
            second = self._second(plans, s_per_token, needed)
            kept = kept | (~self.front.beaten(s_per_token, second) if second is not None else True)
        return kept if self.limit_s_per_token is None else kept & (s_per_token <= self.limit_s_per_token)

    def _second(self, plans: Plans, s_per_token: Array, needed: Array | None) -> Array | None:
        """What the front holds against time; None where that is not known yet."""
        if self.against == "cost":
            cost: Array = self.judge.usd_per_token(s_per_token, plans.chips)
            return cost
        return needed if self.against == "memory" else plans.chips.astype(float)

    def _needed(self, plans: Plans) -> Array:
        return _over(plans, lambda chunk, _: [total_bytes(memory_by_kind(self.model, chunk, self.machine))])[0]

    def _remember_leanest(self, plans: Plans, needed: Array) -> None:
        least = int(np.argmin(needed))
        if self.leanest is None or needed[least] < self.leanest.needed_bytes[0]:
            lean = slice(least, least + 1)
            self.leanest = Priced(plans.take(lean), self.machine, needed[lean], np.full(1, np.inf), self.space.spare)

    def _time(self, plans: Plans, compute: Compute, needed: Array) -> None:
        """Time plans that fit, in all their orders of ranks, and keep the best.

        After the first order only those are timed again that another one may bring among the best, and of these only those are kept that
        it makes better in something.
        """
        promising = np.ones(len(plans), bool)
        known: list[Array] = []
        for arranged, which in arrangements(plans, self.space, self.group.chips_per_node):
            rows = np.flatnonzero(which & promising)
            if not len(rows):
                continue
            timed = arranged.take(rows)
            columns = _over(timed, partial(self._step, compute.take(rows)))
            parts, moved = dict(zip(KINDS, columns[: len(KINDS)], strict=True)), columns[len(KINDS) :]
            self.timed += len(rows)
            better = ~np.any([np.all(before[:, rows] <= np.stack(moved), axis=0) for before in known], axis=0) if known else slice(None)
            everywhere = np.full((len(moved), len(plans)), np.inf)
            everywhere[:, rows] = moved
            known.append(everywhere)
            kept = {kind: seconds[better] for kind, seconds in parts.items()}
            self._keep(timed.take(better), kept, needed[rows[better]])
            if len(known) == 1:
                least = in_any_order(parts)
                promising = np.zeros(len(plans), bool)
                value = self.judge.of_many(timed, least)
                promising[rows] = self._may_count(timed, value, np.sum(list(least.values()), axis=0), needed[rows])

    def _step(self, compute: Compute, chunk: Plans, place: slice) -> list[Array]:
        found = step(self.model, chunk, self.machine, self.group, compute.take(place).known)
        return [*(found.parts_s[kind] for kind in KINDS), *moved_by_order(found)]

    def _keep(self, plans: Plans, parts_s: Mapping[str, Array], needed: Array) -> None:
        """Show timed plans to the pool and to the front."""
        if not len(plans):
            return
        values, ratio = self.judge.of_many(plans, parts_s), least_played(plans, parts_s, self.model.layers)
        s_per_token = np.sum(list(parts_s.values()), axis=0) / (plans.global_batch * self.model.seq_len)
        if self.limit_s_per_token is not None:
            soon = s_per_token * ratio <= self.limit_s_per_token
            plans, values, ratio, s_per_token, needed = plans.take(soon), values[soon], ratio[soon], s_per_token[soon], needed[soon]
        self.pool.add(values, values * ratio, plans)
        second = self._second(plans, s_per_token, needed) if self.against is not None and len(plans) else None
        if second is not None:
            self.front.add(s_per_token, second, plans)


def _over(plans: Plans, formula: Callable[[Plans, slice], list[Array]]) -> list[Array]:
    """Arrays that a formula gives for plans, in chunks (with their places) over the machine's cores (NumPy lets them run together)."""
    places = [slice(start, start + CHUNK) for start in range(0, max(1, len(plans)), CHUNK)]
    if len(places) == 1:
        return formula(plans, places[0])
    with ThreadPoolExecutor(min(len(places), os.cpu_count() or 1)) as workers:
        found = workers.map(lambda place: formula(plans.take(place), place), places)
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]
