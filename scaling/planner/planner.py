"""The best plans on up to so many chips: all are weighed, and the best predicted one by one, with their pipelines played through, until no
other can come below the best. Exact within the space where the answer says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from chipassay.results.prices import Price

from ..cluster import Group
from ..errors import NoPlanFits
from ..models import Transformer
from ..plan import ORDER, Plan
from ..predict import predict_ready
from ..ready import ready
from ..search import BATCH_TOLERANCE, default_global_batch, no_plan_fits
from ..text import amount
from .answer import Candidate, NoPlanReaches, PlanAnswer
from .front import AGAINST, Against, least_of_both
from .measured import beyond_measured
from .objective import judge
from .pool import Pool
from .space import Space, counts, nothing_to_try
from .weigh import Weighing
from .why import SAME

PLAYED = 20
"""The best by closed forms that are predicted one by one at least."""
MOST_PLAYED = 80
"""Where playing stops, and the answer says that it is not proven."""
TOGETHER = 64
"""Numbers of chips whose plans are weighed together."""
SPARE = 2
"""Plans that are kept for each one asked for: some turn out to be another one's twin."""
FRONT_SHOWN = 24
"""Plans of a front that are predicted: of more, so many from end to end."""

Report = Callable[[int, int, str], None]
"""Called with (done, total, what is being done)."""


def _played(weighing: Weighing, report: Report) -> tuple[list[Candidate], bool, bool]:
    """The best of the pool, each predicted by itself, best first; whether no other plan can be better than the first; and whether an
    interrupt ended this early."""
    pool = weighing.pool
    first = np.argsort(pool.closed, kind="stable")[: max(PLAYED, pool.top)].tolist()
    later = [index for index in range(len(pool.plans)) if index not in set(first)]
    found: list[Candidate] = []
    best, proven, interrupted = np.inf, True, False
    try:
        for place, index in enumerate([*first, *later]):
            if place >= len(first) and pool.least[index] >= best:
                break
            if place == MOST_PLAYED:
                proven = False
                break
            report(place, max(place, len(first)), "playing pipelines through")
            candidate = _candidate(weighing, pool.plans[index])
            if weighing.limit_s_per_token is None or 1 / candidate.prediction.tokens_per_s <= weighing.limit_s_per_token:
                found.append(candidate)
                best = min(best, candidate.value)
    except KeyboardInterrupt:
        if not found:
            raise
        proven, interrupted = False, True
    found = _without_twins(sorted(found, key=lambda one: one.value))
    if found and pool.dropped < best:
        proven = False
    return found, proven, interrupted


def _candidate(weighing: Weighing, plan: Plan) -> Candidate:
    """A plan predicted by itself."""
    prediction = predict_ready(weighing.model, plan, weighing.machine, weighing.group.with_count(plan.chips))
    cost = None
    if weighing.judge.usd_per_chip_hour is not None:
        cost = float(weighing.judge.usd_per_token(1 / prediction.tokens_per_s, prediction.chips))
    return Candidate(prediction, weighing.judge.of(prediction), cost)


def _front_played(weighing: Weighing) -> tuple[tuple[Candidate, ...], bool]:
    """The front's plans predicted, and of them again those that none beats; and whether no interrupt ended this early."""
    plans = weighing.front.plans
    if len(plans) > FRONT_SHOWN:
        plans = [plans[round(place)] for place in np.linspace(0, len(plans) - 1, FRONT_SHOWN)]
    found: list[Candidate] = []
    whole = True
    try:
        found.extend(_candidate(weighing, plan) for plan in plans)
    except KeyboardInterrupt:
        whole = False
    if not found:
        return (), whole
    first = np.array([1 / one.prediction.tokens_per_s for one in found])
    second = np.array([one.respect(weighing.against or "chips") for one in found])
    return tuple(found[index] for index in least_of_both(first, second).tolist()), whole


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


def _part(report: Report, done: int, total: int, words: str, share: float) -> None:
    """Reports hundredths of groups: one of them may hold most of the plans."""
    report(round(100 * (done + share)), 100 * total, words)


def _groups(numbers: Sequence[int], objective: str) -> list[list[int]]:
    """Numbers of chips that are looked at together, the groups in the order in which they leave most of the later ones out.

    For time the most chips come first, which nearly always are the fastest; for the fewest chips one number after the other.
    """
    if objective == "chips":
        return [[chips] for chips in numbers]
    if objective == "time":
        numbers = numbers[::-1]
        return [list(numbers[:1]), *(list(numbers[start : start + TOGETHER]) for start in range(1, len(numbers), TOGETHER))]
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
    batch = global_batch or default_batch(model, group, objective)
    judged = judge(objective, model, group, machine.dtype, price)
    if against == "cost":
        judge("cost", model, group, machine.dtype, price)
    if against is not None and against not in AGAINST:
        raise ValueError(against)
    limit = None if tokens_per_s is None else 1 / tokens_per_s
    tolerance = 0.0 if global_batch else BATCH_TOLERANCE
    weighing = Weighing(model, group, machine, judged, space, batch, tolerance, limit, against, Pool(SPARE * top))
    numbers = counts(model, group, batch, space)
    interrupted = False
    found: list[Candidate] = []
    proven = True
    groups = _groups(numbers, objective)
    try:
        for done, several in enumerate(groups):
            words = f"{several[0]} chips" if len(several) == 1 else f"{min(several)} to {max(several)} chips"
            weighing.numbers(several, partial(_part, report, done, len(groups), words))
            if objective == "chips" and weighing.pool.plans:
                found, proven, interrupted = _played(weighing, report)
                if found:
                    break
                weighing.pool = Pool(SPARE * top)
    except KeyboardInterrupt:
        interrupted = True
        if not weighing.pool.plans:
            raise
    if not found:
        found, proven, stopped = _played(weighing, report)
        interrupted = interrupted or stopped
    if not found:
        raise _nothing(weighing, tokens_per_s, price)
    front, whole = _front_played(weighing) if against is not None else ((), True)
    interrupted = interrupted or not whole
    return PlanAnswer(
        objective=judged.objective,
        candidates=tuple(found[:top]),
        front=front,
        against=against,
        chips_available=group.count,
        plans_seen=weighing.seen,
        plans_timed=weighing.timed,
        proven=proven and not interrupted,
        interrupted=interrupted,
        price=price,
        spare=space.spare,
        notes=tuple(filter(None, [beyond_measured(found[0].prediction, group.profile.chip_id), _too_slow_perhaps(found[0], tokens_per_s)])),
    )


def _too_slow_perhaps(first: Candidate, tokens_per_s: float | None) -> str:
    """What to say of a plan that is fast enough as predicted, but not at the slow end of its interval; else nothing."""
    p = first.prediction
    slow = p.tokens_per_s * p.step_time_s / p.high_s
    if tokens_per_s is None or slow >= tokens_per_s:
        return ""
    return (
        f"at the slow end of its interval the first makes {amount(slow)} tokens/s, less than the {amount(tokens_per_s)} asked for; "
        f"who must be sure asks for {p.high_s / p.step_time_s:.2f} times as many tokens/s, or takes so many fewer days."
    )


def default_batch(model: Transformer, group: Group, objective: str) -> int:
    """Sequences of a step where nobody says. By time at least one for each chip of the cluster; where the number of chips is what is
    looked for, as many whatever the cluster."""
    return default_global_batch(model, group.count if objective == "time" else 1)


def _nothing(weighing: Weighing, tokens_per_s: float | None, price: Price | None) -> Exception:
    """Why there is no answer."""
    if not weighing.seen:
        return nothing_to_try(weighing.model, weighing.group, weighing.batch, weighing.space)
    if tokens_per_s is not None:
        fastest = plan_best(weighing.model, weighing.group, weighing.batch, top=1, space=weighing.space, price=price).best.prediction
        return NoPlanReaches(
            f"no plan of {weighing.model.name} on up to {weighing.group.name} reaches {tokens_per_s:,.4g} tokens/s; the fastest, on "
            f"{fastest.chips} chips, makes {fastest.tokens_per_s:,.4g}: take more chips, a larger batch, or more time",
            fastest.tokens_per_s,
        )
    if weighing.leanest is not None:
        return no_plan_fits(weighing.model, weighing.group, weighing.leanest, weighing.seen)
    return NoPlanFits(f"{weighing.model.name} does not fit on {weighing.group.name}")
