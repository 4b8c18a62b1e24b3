"""The search: every plan of a space on every number of chips, those that cannot be among the best left out unseen.

Exact within the space, in three steps. Plans that cannot beat the best so far by their compute alone are left out (``bound``). Of plans
that differ in recomputation alone the first that fits is the best, since recomputing only adds time. The others are timed by closed
forms, and the best of those predicted one by one, with their pipelines played through, until no other can come below the best.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from chipassay.results.prices import Price

from ..cluster import Group
from ..errors import NoPlanFits
from ..machine import Machine
from ..memory import memory_by_kind, total_bytes
from ..models import Transformer
from ..plan import ORDER, Plan
from ..plans import Array, Plans
from ..predict import Prediction, predict_ready
from ..ready import ready
from ..search import BATCH_TOLERANCE, CHUNK, Priced, default_global_batch, no_plan_fits
from ..step import KINDS, step
from .answer import Candidate, NoPlanReaches, PlanAnswer
from .bound import Compute, in_any_order, least_played, moved_by_order
from .front import AGAINST, Against, Front, least_of_both
from .objective import Judge, judge
from .pool import Pool
from .space import Space, arrangements, base_plans, counts, joined, nothing_to_try, with_recompute
from .why import SAME

PLAYED = 20
"""The best by closed forms that are predicted one by one at least."""
MOST_PLAYED = 80
"""Where playing stops, and the answer says that it is not proven."""
TOGETHER = 64
"""Numbers of chips whose plans are weighed together."""
SPARE = 2
"""Plans that are kept for each one asked for: some turn out to be another one's twin."""
SLICE = 8 * CHUNK
"""Plans that are weighed together at most, so that memory stays small whatever the space."""
FRONT_SHOWN = 24
"""Plans of a front that are predicted: of more, so many from end to end."""

Report = Callable[[int, int, str], None]
"""Called with (done, total, what is being done)."""


@dataclass
class _Search:
    """One search under way: what is asked, and what has been found."""

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

    def numbers(self, several: Sequence[int]) -> None:
        """All plans on these numbers of chips."""
        for schedule in self.space.schedules:
            found = []
            for chips in several:
                tolerance = self.tolerance if chips == self.group.count else 0.0
                found.append(base_plans(self.model, self.group, chips, self.batch, self.space, schedule, tolerance))
            if any(map(len, found)):
                plans = joined([plans for plans in found if len(plans)])
                for start in range(0, len(plans), SLICE):
                    self._plans(plans.take(slice(start, start + SLICE)))

    def _plans(self, base: Plans) -> None:
        """Plans as they come from the grid, then with all that recomputes in them."""
        kinds = self.space.recomputes()
        self.seen += len(base) * sum(len(self.space.variants(kind)) for kind in kinds)
        compute = Compute.of(self.model, base, self.machine)
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
                fitting = needed <= self.machine.memory_bytes
                if fitting.any():
                    self.fits = True
                    self._time(plans.take(fitting), needed[fitting])
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
        return _over(plans, lambda chunk: [total_bytes(memory_by_kind(self.model, chunk, self.machine))])[0]

    def _remember_leanest(self, plans: Plans, needed: Array) -> None:
        least = int(np.argmin(needed))
        if self.leanest is None or needed[least] < self.leanest.needed_bytes[0]:
            lean = slice(least, least + 1)
            self.leanest = Priced(plans.take(lean), self.machine, needed[lean], np.full(1, np.inf))

    def _time(self, plans: Plans, needed: Array) -> None:
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
            columns = _over(timed, self._step)
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

    def _step(self, chunk: Plans) -> list[Array]:
        found = step(self.model, chunk, self.machine, self.group)
        return [*(found.parts_s[kind] for kind in KINDS), *moved_by_order(found)]

    def _keep(self, plans: Plans, parts_s: Mapping[str, Array], needed: Array) -> None:
        """Show timed plans to the pool and to the front."""
        if not len(plans):
            return
        values, ratio = self.judge.of_many(plans, parts_s), least_played(plans, parts_s)
        s_per_token = np.sum(list(parts_s.values()), axis=0) / (plans.global_batch * self.model.seq_len)
        if self.limit_s_per_token is not None:
            soon = s_per_token * ratio <= self.limit_s_per_token
            plans, values, ratio, s_per_token, needed = plans.take(soon), values[soon], ratio[soon], s_per_token[soon], needed[soon]
        self.pool.add(values, values * ratio, plans)
        second = self._second(plans, s_per_token, needed) if self.against is not None and len(plans) else None
        if second is not None:
            self.front.add(s_per_token, second, plans)

    def played(self, report: Report) -> tuple[list[Candidate], bool]:
        """The best of the pool, each predicted by itself, best first; and whether no other plan can be better than the first."""
        found: list[Candidate] = []
        proven = True
        try:
            for place, (least, plan) in enumerate(zip(self.pool.least, self.pool.plans, strict=True)):
                best = min((one.value for one in found), default=np.inf)
                if place >= max(PLAYED, self.pool.top) and least >= best:
                    break
                if place == MOST_PLAYED:
                    proven = False
                    break
                report(place, max(place, min(len(self.pool.plans), PLAYED)), "playing pipelines through")
                candidate = self.candidate(predict_ready(self.model, plan, self.machine, self.group.with_count(plan.chips)))
                if self.limit_s_per_token is None or 1 / candidate.prediction.tokens_per_s <= self.limit_s_per_token:
                    found.append(candidate)
        except KeyboardInterrupt:
            if not found:
                raise
            proven = False
        found = _without_twins(sorted(found, key=lambda one: one.value))
        if found and self.pool.dropped < found[0].value:
            proven = False
        return found, proven

    def candidate(self, prediction: Prediction) -> Candidate:
        cost = None
        if self.judge.usd_per_chip_hour is not None:
            cost = float(self.judge.usd_per_token(1 / prediction.tokens_per_s, prediction.chips))
        return Candidate(prediction, self.judge.of(prediction), cost)

    def front_played(self) -> tuple[Candidate, ...]:
        """The front's plans predicted, and of them again those that none beats."""
        plans = self.front.plans
        if len(plans) > FRONT_SHOWN:
            plans = [plans[round(place)] for place in np.linspace(0, len(plans) - 1, FRONT_SHOWN)]
        found = [self.candidate(predict_ready(self.model, plan, self.machine, self.group.with_count(plan.chips))) for plan in plans]
        if not found:
            return ()
        first = np.array([1 / one.prediction.tokens_per_s for one in found])
        second = np.array([one.respect(self.against or "chips") for one in found])
        return tuple(found[index] for index in least_of_both(first, second).tolist())


def _without_twins(found: list[Candidate]) -> list[Candidate]:
    """Candidates, best first, without those that are another one in an order of ranks that makes no difference."""
    kept: list[Candidate] = []
    last: dict[Plan, float] = {}
    for one in found:
        alike = replace(one.prediction.plan, order=ORDER)
        if one.value > last.get(alike, 0.0) * (1 + SAME):
            kept.append(one)
            last[alike] = one.value
    return kept


def _over(plans: Plans, formula: Callable[[Plans], list[Array]]) -> list[Array]:
    """Arrays that a formula gives for plans, in chunks over the machine's cores (NumPy lets them run together)."""
    chunks = [plans.take(slice(start, start + CHUNK)) for start in range(0, max(1, len(plans)), CHUNK)]
    if len(chunks) == 1:
        return formula(plans)
    with ThreadPoolExecutor(min(len(chunks), os.cpu_count() or 1)) as workers:
        return [np.concatenate(parts) for parts in zip(*workers.map(formula, chunks), strict=True)]


def _groups(numbers: Sequence[int], objective: str) -> list[list[int]]:
    """Numbers of chips that are looked at together, the groups in the order in which they leave most of the later ones out.

    For time the most chips come first, which nearly always are the fastest; for the fewest chips one number after the other.
    """
    if objective == "chips":
        return [[chips] for chips in numbers]
    if objective == "time":
        numbers = numbers[::-1]
        return [numbers[:1], *(list(numbers[start : start + TOGETHER]) for start in range(1, len(numbers), TOGETHER))]
    return [list(numbers[start : start + TOGETHER]) for start in range(0, len(numbers), TOGETHER)]


def _silent(done: int, total: int, words: str) -> None:
    """Reports nothing."""


def plan_best(
    model: Transformer,
    group: Group,
    global_batch: int | None = None,
    *,
    objective: str = "time",
    top: int = 10,
    space: Space | None = None,
    price: Price | None = None,
    tokens_per_s: float | None = None,
    against: Against | None = None,
    report: Report = _silent,
) -> PlanAnswer:
    """The ``top`` best plans of a model on at most the group's chips.

    ``objective``: ``time``, ``cost`` (needs ``price``), ``energy``, or ``chips`` (fewest that reach ``tokens_per_s``, which holds for
    the others too where it is given). ``against``: also the front of time against that. An interrupt ends the search with what it
    has, marked as such. Raises NoPlanFits, NoPlanReaches, IllegalPlan where the batch or the space leaves no plan, MissingCell where
    the objective needs what nobody knows.
    """
    space = space or Space()
    machine = ready(group, space.settings.dtype)
    space = replace(space, settings=replace(space.settings, dtype=machine.dtype))
    batch = global_batch or default_global_batch(model, group.count)
    judged = judge(objective, model, group, machine.dtype, price)
    if against == "cost":
        judge("cost", model, group, machine.dtype, price)
    if against is not None and against not in AGAINST:
        raise ValueError(against)
    limit = None if tokens_per_s is None else 1 / tokens_per_s
    tolerance = 0.0 if global_batch else BATCH_TOLERANCE
    search = _Search(model, group, machine, judged, space, batch, tolerance, limit, against, Pool(SPARE * top))
    numbers = counts(model, group, batch, space)
    interrupted = False
    found: list[Candidate] = []
    proven = True
    groups = _groups(numbers, objective)
    try:
        for done, several in enumerate(groups):
            report(done, len(groups), f"{several[0]} chips" if len(several) == 1 else f"{min(several)} to {max(several)} chips")
            search.numbers(several)
            if objective == "chips" and search.pool.plans:
                found, proven = search.played(report)
                if found:
                    break
                search.pool = Pool(SPARE * top)
    except KeyboardInterrupt:
        interrupted = True
        if not search.pool.plans:
            raise
    if not found:
        found, proven = search.played(report)
    if not found:
        raise _nothing(search, tokens_per_s, price)
    return PlanAnswer(
        objective=judged.objective,
        candidates=tuple(found[:top]),
        front=search.front_played() if against is not None else (),
        against=against,
        chips_available=group.count,
        plans_seen=search.seen,
        plans_timed=search.timed,
        proven=proven and not interrupted,
        interrupted=interrupted,
        price=price,
    )


def _nothing(search: _Search, tokens_per_s: float | None, price: Price | None) -> Exception:
    """Why there is no answer."""
    if not search.seen:
        return nothing_to_try(search.model, search.group, search.batch, search.space)
    if tokens_per_s is not None:
        fastest = plan_best(search.model, search.group, search.batch, top=1, space=search.space, price=price).best.prediction
        return NoPlanReaches(
            f"no plan of {search.model.name} on up to {search.group.name} reaches {tokens_per_s:,.4g} tokens/s; the fastest, on "
            f"{fastest.chips} chips, makes {fastest.tokens_per_s:,.4g}: take more chips, a larger batch, or more time",
            fastest.tokens_per_s,
        )
    if search.leanest is not None:
        return no_plan_fits(search.model, search.group, search.leanest)
    return NoPlanFits(f"{search.model.name} does not fit on {search.group.name}")
