"""What each way to the speed of a reference cluster takes: chips, power and money, over the reference's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from chipassay.results.prices import price
from chipassay.scaling.cost import run_cost
from chipassay.scaling.energy import KWH_J, energy_of
from chipassay.scaling.errors import IllegalPlan, MissingCell, NoPlanFits
from chipassay.scaling.models import load_model
from chipassay.scaling.predict import Prediction

from ..fewest import fewest
from ..fields import Field
from ..records import Case, Question, Scenario
from ..sides import check_chip, check_cluster, fastest, group_from, group_of, inputs_of, ratio_spread

FIELDS = {
    "reference": Field(str, '"1024xh100-sxm-80gb"', check=check_cluster),
    "chips": Field(str, '["h800-sxm-80gb"]', many=True, check=check_chip),
    "models": Field(str, '["gpt3-175b"]', many=True, check=load_model),
    "of": Field(str, '"usd"', choices=("usd", "power")),
}
NEEDED = ("reference", "chips", "models", "of")
WORDS = ("chip", "model")
NEEDS_RUN = True


def chips_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(options.get("chips", ()))


def cases(question: Question, scenario: Scenario) -> Iterator[Case]:
    """Value: money or power of the whole run over the reference's."""
    options = question.options
    group = group_from(options["reference"])
    for model, chip in itertools.product(options["models"], options["chips"]):
        run = scenario.runs[model]
        axes = {"model": model, "chip": chip}
        reference = fastest(model, group, scenario, run.batch)
        search = fewest(model, chip, None, scenario)
        try:
            found = search.reaching(reference.tokens_per_s)
        except (NoPlanFits, IllegalPlan, MissingCell) as error:
            yield Case(axes, math.inf, math.inf, math.inf, reason=str(error))
            continue
        if found is None:
            yield Case(axes, math.inf, math.inf, math.inf, reason=search.why_not(reference.tokens_per_s))
            continue
        numbers = _numbers(found, chip, run.tokens, scenario)
        beside = _numbers(reference, group.profile.chip_id, run.tokens, scenario)
        name = "MW" if options["of"] == "power" else "million USD"
        value, against = numbers[name], beside[name]
        if not isinstance(value, float) or not isinstance(against, float):
            yield Case(axes, math.inf, math.inf, math.inf, numbers, f"no quote of {chip} is known at that time")
            continue
        numbers[f"{name} of the reference"] = against
        spread = ratio_spread(reference, group, found, group_of(chip, found.chips))
        yield Case(axes, value / against, value / against / spread, value / against * spread, numbers, inputs=inputs_of(found))


def _numbers(found: Prediction, chip: str, tokens: float, scenario: Scenario) -> dict[str, float | str | None]:
    energy = energy_of(found, group_of(chip, found.chips).profile, tokens=tokens)
    stand_in, why = scenario.price_like.get(chip, (chip, ""))
    quote = price(stand_in, as_of=scenario.prices_until)
    cost = run_cost(found, tokens, quote)
    told = None if quote is None else f"{quote.describe()}{f'; {why}' if why else ''}"
    return {
        "chips": float(found.chips), "days": cost.days, "MW": energy.step_joules / found.step_time_s / 1e6,
        "MWh": None if energy.run_kwh is None else energy.run_kwh * KWH_J / 3.6e9,
        "million USD": None if cost.usd is None else cost.usd / 1e6, "price": told, "plan": found.plan.describe(),
    }  # fmt: skip
