"""How many chips train a model in so many days."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from chipassay.scaling.cost import DAY_S
from chipassay.scaling.models import load_model

from ..fewest import fewest, impossible, span
from ..fields import Field
from ..records import Case, Question, Scenario
from ..sides import check_chip, inputs_of

FIELDS = {
    "chips": Field(str, '["a100-sxm-80gb"]', many=True, check=check_chip),
    "models": Field(str, '["gpt3-175b"]', many=True, check=load_model),
    "days": Field(float, "[30, 90]", many=True),
    "networks": Field(str, '["hdr200x8"]', many=True),
}
NEEDED = ("chips", "models", "days")
WORDS = ("chip", "model", "days", "network")
NEEDS_RUN = True


def chips_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(options.get("chips", ()))


def cases(question: Question, scenario: Scenario) -> Iterator[Case]:
    """Value: chips in whole nodes, without failures and restarts."""
    options = question.options
    for chip, model, network in itertools.product(options["chips"], options["models"], options.get("networks", (None,))):
        search = fewest(model, chip, network, scenario)
        for days in options["days"]:
            axes = {"chip": chip} if len(options["chips"]) > 1 else {}
            axes |= {"model": model, "days": f"{days:g} days"} | ({"network": network} if network else {})
            tokens_per_s = scenario.runs[model].tokens / (days * DAY_S)
            found = search.reaching(tokens_per_s)
            if found is None:
                yield impossible(search, tokens_per_s, lambda other: other.step_time_s / other.low_s, axes)
                continue
            numbers: dict[str, float | str | None] = {
                "tokens": scenario.runs[model].tokens, "MFU": None if found.mfu is None else f"{found.mfu:.1%}",
                "plan": found.plan.describe(),
            }  # fmt: skip
            ends = (tokens_per_s * end / found.step_time_s for end in (found.low_s, found.high_s))
            yield Case(axes, found.chips, *span(search, found.chips, *ends), numbers, inputs=inputs_of(found))
