"""What each way to the speed of a reference cluster takes: chips, power and money, over the reference's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from chipassay.results.errors import InputError
from chipassay.results.prices import price
from chipassay.scaling.cost import run_cost
from chipassay.scaling.energy import KWH_J, energy_of
from chipassay.scaling.models import load_model
from chipassay.scaling.predict import Prediction

from ..fewest import fewest, impossible
from ..fields import Field
from ..labels import label
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
    """Value: money or power of the whole run over the reference's. Raises InputError where a price is missing: it is no answer."""
    options = question.options
    group = group_from(options["reference"])
    name = "MW" if options["of"] == "power" else "million USD"
    for model, chip in itertools.product(options["models"], options["chips"]):
        run = scenario.runs[model]
        axes = {"model": model, "chip": chip}
        reference = fastest(model, options["reference"], scenario, run.batch)
        beside = _numbers(reference, group.profile.chip_id, run.tokens, scenario)
        search = fewest(model, chip, None, scenario)

        def spread_to(other: Prediction, chip: str = chip, reference: Prediction = reference) -> float:
            return ratio_spread(reference, group, other, group_of(chip, other.chips))

        found = search.reaching(reference.tokens_per_s)
        case = None if found else impossible(search, reference.tokens_per_s, spread_to, axes, inputs_of(reference))
        # Of what may do it within the interval, the fewest chips say from what money or power on.
        shown = found or (search.at(int(case.low)) if case is not None and math.isfinite(case.low) else None)
        if shown is None:
            assert case is not None
            yield case
            continue
        numbers = _numbers(shown, chip, run.tokens, scenario)
        value, against = numbers[name], beside[name]
        for chip_id, known in ((chip, value), (group.profile.chip_id, against)):
            if not isinstance(known, float):
                raise InputError(
                    f"question {question.id}: no quote of {chip_id} is known by {scenario.prices_until}; add a [[price]] for it"
                )
        ratio, spread = value / against, spread_to(shown)  # type: ignore[operator]
        if case is not None:
            yield replace(case, low=ratio / spread)
            continue
        numbers |= {f"{name} of the reference": against, "price of the reference": beside["price"]}
        yield Case(axes, ratio, ratio / spread, ratio * spread, numbers, inputs=inputs_of(reference, shown))


def _numbers(found: Prediction, chip: str, tokens: float, scenario: Scenario) -> dict[str, float | str | None]:
    energy = energy_of(found, group_of(chip, found.chips).profile, tokens=tokens)
    stand_in, why = scenario.price_like.get(chip, (chip, ""))
    quote = price(stand_in, as_of=scenario.prices_until)
    cost = run_cost(found, tokens, quote)
    told = None if quote is None else f"{label(chip)} {quote.describe()}{f', {why}' if why else ''}"
    return {
        "chips": float(found.chips), "days": cost.days, "MW": energy.step_joules / found.step_time_s / 1e6,
        "MWh": None if energy.run_kwh is None else energy.run_kwh * KWH_J / 3.6e9,
        "million USD": None if cost.usd is None else cost.usd / 1e6, "price": told, "plan": found.plan.describe(),
    }  # fmt: skip
