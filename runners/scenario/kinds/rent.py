"""What a training run costs on rented chips: of each the plans that the plan search finds cheapest, without limit and within some days.

Every number of chips is looked at that can be rented and divides the work: any within a node, beyond that whole nodes. Restarts and
checkpoints are counted (``scaling/goodput.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chipassay.results.errors import InputError
from chipassay.results.prices import Price, price
from chipassay.scaling.cluster import Group
from chipassay.scaling.cost import DAY_S, RunCost, run_cost
from chipassay.scaling.errors import IllegalPlan, MissingCell, NoPlanFits
from chipassay.scaling.goodput import checkpoint_bytes, goodput
from chipassay.scaling.models import Transformer, load_model
from chipassay.scaling.plan_text import write_plan
from chipassay.scaling.planner.answer import NoPlanReaches, PlanAnswer
from chipassay.scaling.planner.planner import plan_best
from chipassay.scaling.planner.space import Space
from chipassay.scaling.predict import Prediction
from chipassay.scaling.text import amount, fitting

from ..answer import by_place, spanned
from ..fields import Field
from ..labels import label
from ..records import Case, Question, Run, Scenario
from ..sides import check_chip, group_of, inputs_of, ratio_spread, settings_of

BEST = 3
"""Plans of each search that are looked at: restarts may put another one first."""
NEXT = 3
"""Other chips that are told beside the cheapest by a deadline."""
WITHOUT_LIMIT = "without limit"


def check_quoted(name: str) -> None:
    check_chip(name)
    if price(name) is None:
        raise InputError(f"nobody is known to rent {name} out: no quote of it is in results/data/prices.csv; leave it out")


FIELDS = {
    "chips": Field(str, '["h100-sxm-80gb"]', many=True, check=check_quoted),
    "models": Field(str, '["llama3-8b"]', many=True, check=load_model),
    "most_chips": Field(int, "1024"),
    "days": Field(float, "[7, 30]", many=True),
}
"""``days``: for each of them the cheapest that is done by then is told, too."""
NEEDED = ("chips", "models", "most_chips")
WORDS = ("model", "chip", "count")
MORE_WORDS = ("by_deadline", "not_told_apart", "quoted", "at_lowest")
NEEDS_RUN = True


def chips_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(options.get("chips", ()))


@dataclass(frozen=True)
class Offer:
    """One chip, number of them and plan, and what the run costs on it."""

    prediction: Prediction
    group: Group
    cost: RunCost
    quote: Price

    @property
    def usd(self) -> float:
        assert self.cost.usd is not None  # there is a quote
        return self.cost.usd

    @property
    def chip(self) -> str:
        return self.group.profile.chip_id


def cases(question: Question, scenario: Scenario) -> Iterator[Case]:
    """Value: USD of the run; interval by its time and from the lowest to the highest quote. Of each chip the plans that no other of it
    beats in both time and money, and its cheapest within each number of days. A chip that cannot train the model is told with a reason.
    """
    options = question.options
    days = sorted(options.get("days", ()))
    for model in options["models"]:
        here: dict[str, str] = {"model": model} if len(options["models"]) > 1 else {}
        found: list[Offer] = []
        try:
            for place, chip in enumerate(options["chips"], 1):
                scenario.watch(f"{label(chip)}, {place} of {len(options['chips'])} chips")
                quote = price(chip, as_of=scenario.prices_until)
                group = group_of(chip, options["most_chips"])
                try:
                    if quote is None:
                        raise MissingCell(f"no quote of {chip} is known by {scenario.prices_until}")
                    found += offers(load_model(model), group, scenario, scenario.runs[model], quote, days)
                except (NoPlanFits, IllegalPlan, MissingCell) as error:
                    yield Case(here | {"chip": chip, "count": "none"}, math.inf, math.inf, math.inf, reason=str(error))
        except KeyboardInterrupt:
            yield from told(found, here, days)
            raise
        yield from told(found, here, days)


def offers(model: Transformer, group: Group, scenario: Scenario, run: Run, quote: Price, days: Sequence[float]) -> list[Offer]:
    """Of one chip: its front of time and money and its cheapest within each number of days, of each number of chips the cheapest.

    Raises NoPlanFits, IllegalPlan or MissingCell where no plan of it can be had.
    """

    def search(tokens_per_s: float | None) -> PlanAnswer:
        answer = plan_best(
            model, group, run.batch, objective="cost", price=quote, top=BEST, space=Space(settings=settings_of(scenario)),
            tokens_per_s=tokens_per_s, against="cost" if tokens_per_s is None else None,
        )  # fmt: skip
        if answer.interrupted:
            raise KeyboardInterrupt
        return answer

    whole = search(None)
    plans = [one.prediction for one in (*whole.candidates, *whole.front)]
    least_share = goodput(group.count, checkpoint_bytes(model, whole.best.prediction.plan)).share
    for limit in days:
        try:
            plans += [one.prediction for one in search(run.tokens / (limit * DAY_S * least_share)).candidates]
        except NoPlanReaches:
            continue  # this chip is too slow for so few days, whatever their number
    cheapest: dict[int, Offer] = {}
    for plan in plans:
        share = goodput(plan.chips, checkpoint_bytes(model, plan.plan)).share
        offer = Offer(plan, group.with_count(plan.chips), run_cost(plan, run.tokens, quote, goodput=share), quote)
        known = cheapest.get(plan.chips)
        if known is None or (offer.usd, offer.cost.days) < (known.usd, known.cost.days):
            cheapest[plan.chips] = offer
    return list(cheapest.values())


def told(found: Sequence[Offer], here: dict[str, str], days: Sequence[float]) -> Iterator[Case]:
    """The offers as cases, each beside the cheapest of all."""
    if not found:
        return
    best = min(found, key=lambda offer: offer.usd)
    chosen = {limit: cheapest_within(found, limit) for limit in (*days, math.inf)}
    cases = []
    for offer in found:
        cost, quote = offer.cost, offer.quote
        assert cost.usd_low is not None
        assert cost.usd_high is not None
        ratio = offer.usd / best.usd
        spread = ratio_spread(offer.prediction, offer.group, best.prediction, best.group)
        memory = f"{offer.prediction.memory_total_bytes / 1e9:.1f} of {offer.prediction.memory_limit_bytes / 1e9:.1f} GB"
        numbers: dict[str, float | str | None] = {
            "days": cost.days, "days, low": cost.days_low, "days, high": cost.days_high,
            "cheapest": "; ".join(_deadline(limit) for limit, one in chosen.items() if one is offer) or None,
            "over the cheapest": ratio,
            "told apart": None if offer is best else "yes" if ratio / spread > 1 else "no",
            "quotes": float(quote.quotes),
            "USD per chip and hour": quote.usd,
            "USD at the lowest quote": offer.usd * quote.lowest_usd / quote.usd,
            "lowest quote": quote.lowest_usd,
            "USD at the highest quote": offer.usd * quote.highest_usd / quote.usd,
            "goodput": f"{cost.goodput:.1%}",
            "memory": f"{memory}, {fitting(offer.prediction)}",
            "price": f"{label(offer.chip)} {quote.describe()}",
            "plan": offer.prediction.plan.describe(),
            "in full": f"chipassay predict --model {offer.prediction.model} --cluster {offer.group.name} --batch "
            f"{offer.prediction.plan.global_batch} --plan {write_plan(offer.prediction.plan)}",
        }  # fmt: skip
        axes = here | {"chip": offer.chip, "count": f"{offer.prediction.chips} chip{'s' if offer.prediction.chips > 1 else ''}"}
        cases.append(Case(axes, offer.usd, cost.usd_low, cost.usd_high, numbers, inputs=inputs_of(offer.prediction)))
    yield from marked(cases)


def cheapest_within(found: Sequence[Offer], days: float) -> Offer | None:
    """The cheapest that is done in so many days by the best estimate."""
    return min((offer for offer in found if offer.cost.days <= days), key=lambda offer: offer.usd, default=None)


def _deadline(days: float) -> str:
    return WITHOUT_LIMIT if math.isinf(days) else f"within {days:g} days"


def _limit(deadline: str) -> float:
    """Days of what ``_deadline`` wrote.

    >>> _limit(_deadline(0.5)), _limit(_deadline(math.inf))
    (0.5, inf)
    """
    return math.inf if deadline == WITHOUT_LIMIT else float(deadline.split()[1])


def marked(cases: Sequence[Case]) -> list[Case]:
    """The cases, each told whether no other is both cheaper and faster.

    >>> a, b, c = (Case({}, usd, usd, usd, {"days": days}) for usd, days in ((1, 9), (2, 3), (3, 5)))
    >>> [case.numbers["unbeaten"] for case in marked([a, b, c])]
    ['yes', 'yes', None]
    """

    def beaten(case: Case) -> bool:
        here = (case.value, days_of(case))
        return any(other.value <= here[0] and days_of(other) <= here[1] and (other.value, days_of(other)) != here for other in cases)

    return [replace(case, numbers={"unbeaten": None if beaten(case) else "yes", **case.numbers}) for case in cases]


def days_of(case: Case) -> float:
    """Days that a case takes."""
    return _number(case, "days")


def _number(case: Case, name: str) -> float:
    value = case.numbers[name]
    assert isinstance(value, (float, int))
    return float(value)


def where(case: Case) -> str:
    """``24 L40S``.

    >>> where(Case({"chip": "l40s-pcie-48gb", "count": "24 chips"}, 1.0, 1.0, 1.0))
    '24 L40S'
    """
    return f"{case.axes['count'].partition(' ')[0]} {label(case.axes['chip'])}"


def _usd(value: float) -> str:
    return f"{amount(value)} USD"


def _winners(cases: Sequence[Case]) -> dict[str, Case]:
    """The deadlines, the shortest first, each with its cheapest case."""
    found = {limit: case for case in cases for limit in str(case.numbers.get("cheapest") or "").split("; ") if limit}
    return dict(sorted(found.items(), key=lambda one: _limit(one[0])))


def _can(cases: Sequence[Case]) -> list[Case]:
    return [case for case in cases if math.isfinite(case.value)]


def _chips_cheapest(cases: Sequence[Case], name: str = "") -> list[Case]:
    """Of each chip the case that costs least, by the value or by another number, the least first."""
    cost = (lambda case: _number(case, name)) if name else (lambda case: case.value)
    least: dict[str, Case] = {}
    for case in sorted(_can(cases), key=cost):
        least.setdefault(case.axes["chip"], case)
    return list(least.values())


def words(cases: Sequence[Case]) -> dict[str, str]:
    """The words that only this kind has."""
    if not _can(cases):
        return dict.fromkeys(MORE_WORDS, "none")
    best, lowest = _chips_cheapest(cases)[0], _chips_cheapest(cases, "USD at the lowest quote")[0]
    close = [label(case.axes["chip"]) for case in _chips_cheapest(cases)[1:] if case.numbers["told apart"] == "no"]
    quotes = _number(best, "quotes")
    return {
        "by_chip": "; ".join(f"{label(chip)} {spanned(some)}" for chip, some in by_place("chip", _can(cases)).items()),
        "by_deadline": "; ".join(f"{limit} {_usd(case.value)} on {where(case)}" for limit, case in _winners(cases).items()),
        "not_told_apart": ", ".join(close) or "no other chip",
        "quoted": "one quote" if quotes == 1 else f"the median of {quotes:.0f} quotes",
        "at_lowest": f"{_usd(_number(lowest, 'USD at the lowest quote'))} on {where(lowest)} at {_number(lowest, 'lowest quote'):.4g} USD",
    }


def notes(cases: Sequence[Case]) -> Iterator[str]:
    """What somebody about to pay has to know."""
    for limit, case in _winners(cases).items():
        days = f"{amount(days_of(case))} days ({amount(_number(case, 'days, low'))} to {amount(_number(case, 'days, high'))})"
        money = f"{_usd(case.value)} ({amount(case.low)} to {amount(case.high)})"
        yield (
            f"Cheapest {limit}: {where(case)}, {money}, {days}, goodput {case.numbers['goodput']}; memory {case.numbers['memory']}; "
            f"price: {case.numbers['price']}. In full: {case.numbers['in full']}"
        )
        by_then = [one for one in _can(cases) if days_of(one) <= _limit(limit)]
        if others := [one for one in _chips_cheapest(by_then) if one is not case][:NEXT]:
            listed = "; ".join(f"{where(one)} {_usd(one.value)}, {amount(days_of(one))} days" for one in others)
            yield f"Next {limit}: {listed}."
    each = _chips_cheapest(cases)
    if each:
        best = each[0]
        close = [
            f"{where(case)} ({_number(case, 'over the cheapest'):.2f} times)" for case in each[1:] if case.numbers["told apart"] == "no"
        ]
        if close:
            told_by = "the 80 % interval of the ratio of their speeds, at median quotes"
            yield f"Not told apart from {where(best)} by {told_by}: {', '.join(close)}."
        single = [label(case.axes["chip"]) for case in each if _number(case, "quotes") == 1]
        if single:
            unknown = "so nothing is known of the spread of their prices, and their intervals are too narrow"
            yield f"One quote only, {unknown}: {', '.join(single)}."
        lowest = [
            f"{where(case)} {_usd(_number(case, 'USD at the lowest quote'))} ({_number(case, 'lowest quote'):.4g} USD an hour)"
            for case in _chips_cheapest(cases, "USD at the lowest quote")[:BEST]
        ]
        yield f"Whoever gets the lowest quote of each chip pays less: {'; '.join(lowest)}."
        yield "Rent of the chips alone: no storage, no traffic out of the cloud, no idle days; whether so many are to be had is not known."
    for case in cases:
        if math.isinf(case.value):
            yield f"{label(case.axes['chip'])} is left out: {case.reason}"
