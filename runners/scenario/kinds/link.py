"""What a cut link costs: a chip beside the one that it was cut from, by the width of tensor parallelism."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from chipassay.results.catalogue import find_chip
from chipassay.results.errors import InputError
from chipassay.scaling.as_of import of_its_time
from chipassay.scaling.cluster import Group
from chipassay.scaling.errors import IllegalPlan, NoPlanFits
from chipassay.scaling.grid import grid
from chipassay.scaling.models import load_model
from chipassay.scaling.predict import Prediction, predict_ready
from chipassay.scaling.ready import ready
from chipassay.scaling.search import PLAYED, default_global_batch, price
from chipassay.scaling.uncertainty import LEVEL_SIGMA, MODEL_SIGMA, Z80

from ..fields import Field
from ..records import Case, Question, Scenario
from ..sides import check_chip, group_of, inputs_of, settings_of, traffic_share


def check_cut(name: str) -> None:
    check_chip(name)
    if not find_chip(name).sibling:
        raise InputError(f"{name} was cut from no other chip by the catalogue; name one such as h800-sxm-80gb")


TRAFFIC_SIGMA = math.hypot(LEVEL_SIGMA["derived"], MODEL_SIGMA["network"])
"""Of the log of the seconds that a cut link adds: the link is derived from its twin's, and the model's error is that of traffic."""
FIELDS = {
    "chips": Field(str, '["a800-sxm-80gb", "h800-sxm-80gb"]', many=True, check=check_cut),
    "models": Field(str, '["llama2-70b"]', many=True, check=load_model),
    "tps": Field(int, "[1, 2, 4, 8]", many=True),
    "count": Field(int, "1024"),
}
NEEDED = ("chips", "models", "tps", "count")
WORDS = ("chip", "model", "tp")
NEEDS_RUN = False


def chips_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(options.get("chips", ()))


def cases(question: Question, scenario: Scenario) -> Iterator[Case]:
    """Value: percent more time for a step, each chip with its own best plan at that width, and last at any of the grid's.

    All but the traffic is the same on both chips, and the plan is another only where that saves traffic, so the interval is that of the
    traffic's extra seconds.
    """
    options = question.options
    for chip, model, tp in itertools.product(options["chips"], options["models"], (*options["tps"], None)):
        axes = {"chip": chip, "model": model, "tp": "best TP" if tp is None else f"TP {tp}"}
        whole, cut = group_of(find_chip(chip).sibling, options["count"]), group_of(chip, options["count"])
        run = scenario.runs.get(model)
        try:
            one = best_at(model, whole, scenario, None if run is None else run.batch, tp)
        except (NoPlanFits, IllegalPlan):
            continue  # a model that this width cannot hold has no such bar
        other = best_at(model, cut, scenario, None if run is None else run.batch, tp)
        extra = 100 * (other.step_time_s / one.step_time_s - 1)
        spread = math.exp(Z80 * TRAFFIC_SIGMA)
        numbers: dict[str, float | str | None] = {
            "step on the whole chip, s": one.step_time_s, "step on the cut chip, s": other.step_time_s,
            "traffic": f"{traffic_share(other):.1%}", "plan": other.plan.describe(),
            "plan on the whole chip": "the same" if other.plan == one.plan else one.plan.describe(),
        }  # fmt: skip
        yield Case(
            axes, extra, min(extra / spread, extra * spread), max(extra / spread, extra * spread), numbers, inputs=inputs_of(one, other)
        )


def best_at(model: str, group: Group, scenario: Scenario, batch: int | None, tp: int | None) -> Prediction:
    """The best plan of the scenario's date with tensor parallelism of one width, or of any.

    Raises NoPlanFits or IllegalPlan where there is none.
    """
    transformer, machine = load_model(model), ready(group)
    sequences = batch or default_global_batch(transformer, group.count)
    settings = replace(settings_of(scenario, sequences), dtype=machine.dtype)
    plans = grid(transformer, group.count, group.chips_per_node, sequences, settings)
    plans = plans if scenario.as_of is None else of_its_time(plans, scenario.as_of)
    plans = plans if tp is None else plans.take(plans.tp == tp)
    if not len(plans):
        raise IllegalPlan(f"no split of {group.count} chips has tp {tp} at a batch of {sequences}")
    priced = price(transformer, plans, machine, group)
    if not priced.fitting:
        raise NoPlanFits(f"no plan of {model} on {group.name} with tp {tp} fits; use more chips")
    found = (predict_ready(transformer, plans.plan(index), machine, group) for index in priced.fastest(PLAYED)[0])
    return min(found, key=lambda prediction: prediction.step_time_s)
