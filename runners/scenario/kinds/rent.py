"""What a training run costs on rented chips: every chip and number of them, by quotes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from chipassay.results.errors import InputError
from chipassay.results.prices import price
from chipassay.scaling.cost import run_cost
from chipassay.scaling.errors import IllegalPlan, MissingCell, NoPlanFits
from chipassay.scaling.models import load_model

from ..fields import Field
from ..records import Case, Question, Scenario
from ..sides import check_chip, fastest, group_of, inputs_of


def check_quoted(name: str) -> None:
    check_chip(name)
    if price(name) is None:
        raise InputError(f"nobody is known to rent {name} out: no quote of it is in results/data/prices.csv; leave it out")


FIELDS = {
    "chips": Field(str, '["h100-sxm-80gb"]', many=True, check=check_quoted),
    "models": Field(str, '["llama3-8b"]', many=True, check=load_model),
    "counts": Field(int, "[8, 64, 512]", many=True),
    "days_at_most": Field(float, "90"),
}
NEEDED = ("chips", "models", "counts")
WORDS = ("model", "chip", "count")
NEEDS_RUN = True


def chips_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(options.get("chips", ()))


def cases(question: Question, scenario: Scenario) -> Iterator[Case]:
    """Value: USD of the run; interval by time and by quotes. Numbers that do not hold the model, or take too long, are left out."""
    options = question.options
    for model in options["models"]:
        run = scenario.runs[model]
        found: list[Case] = []
        for chip, count in itertools.product(options["chips"], options["counts"]):
            quote = price(chip, as_of=scenario.prices_until)
            if quote is None:
                continue
            try:
                prediction = fastest(model, group_of(chip, count), scenario, run.batch)
            except (NoPlanFits, IllegalPlan, MissingCell):
                continue
            cost = run_cost(prediction, run.tokens, quote)
            if cost.usd is None or cost.usd_low is None or cost.usd_high is None or cost.days > options.get("days_at_most", float("inf")):
                continue
            numbers: dict[str, float | str | None] = {
                "days": cost.days, "days, low": cost.days_low, "days, high": cost.days_high,
                "USD per chip and hour": quote.usd, "price": quote.describe(), "plan": prediction.plan.describe(),
            }  # fmt: skip
            axes = {"model": model} if len(options["models"]) > 1 else {}
            axes |= {"chip": chip, "count": f"{count} chips"}
            found.append(Case(axes, cost.usd, cost.usd_low, cost.usd_high, numbers, inputs=inputs_of(prediction)))
        yield from marked(found)


def marked(cases: Sequence[Case]) -> list[Case]:
    """The cases, each told whether no other is both cheaper and faster.

    >>> a, b, c = (Case({}, usd, usd, usd, {"days": days}) for usd, days in ((1, 9), (2, 3), (3, 5)))
    >>> [case.numbers["unbeaten"] for case in marked([a, b, c])]
    ['yes', 'yes', None]
    """

    def beaten(case: Case) -> bool:
        here = (case.value, float(case.numbers["days"] or 0))
        return any(
            other.value <= here[0]
            and float(other.numbers["days"] or 0) <= here[1]
            and (other.value, float(other.numbers["days"] or 0)) != here
            for other in cases
        )

    return [replace(case, numbers={"unbeaten": None if beaten(case) else "yes", **case.numbers}) for case in cases]
