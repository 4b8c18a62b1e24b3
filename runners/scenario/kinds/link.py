"""What a cut link costs: a chip beside the one that it was cut from, by the width of tensor parallelism."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from chipassay.results.catalogue import find_chip
from chipassay.results.errors import InputError
from chipassay.scaling.cluster import Group
from chipassay.scaling.errors import IllegalPlan, NoPlanFits
from chipassay.scaling.models import load_model
from chipassay.scaling.predict import Prediction, predict_ready
from chipassay.scaling.ready import ready
from chipassay.scaling.search import default_global_batch, price_all
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
    """Value: percent more time for a step, each chip with its own best plan at that width.

    All but the traffic is the same on both chips, and the plan is another only where that saves traffic, so the interval is that of the
    traffic's extra seconds.
    """
    options = question.options
    for chip, model, tp in itertools.product(options["chips"], options["models"], options["tps"]):
        axes = {"chip": chip, "model": model, "tp": f"TP {tp}"}
        whole, cut = group_of(find_chip(chip).sibling, options["count"]), group_of(chip, options["count"])
        run = scenario.runs.get(model)
        try:
            one = best_at(model, whole, scenario, None if run is None else run.batch, tp)
        except (NoPlanFits, IllegalPlan):
            continue  # a model that this width cannot hold has no such bar
        own = best_at(model, cut, scenario, None if run is None else run.batch, tp)
        same = predict_ready(load_model(model), one.plan, ready(cut, one.dtype), cut)
        other = min(own, same, key=lambda found: found.step_time_s)  # closed forms may rank a plan first that is not
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


def best_at(model: str, group: Group, scenario: Scenario, batch: int | None, tp: int) -> Prediction:
    """The best plan with tensor parallelism of one width. Raises NoPlanFits where none fits."""
    transformer = load_model(model)
    sequences = batch or default_global_batch(transformer, group.count)
    machine = ready(group)
    priced = price_all(transformer, group, machine, sequences, settings_of(scenario, sequences))
    times = np.where(priced.plans.tp == tp, priced.step_time_s, np.inf)
    best = int(np.argmin(times))
    if not np.isfinite(times[best]):
        raise NoPlanFits(f"{model} fits on no plan of {group.name} with tp {tp}; use more chips")
    return predict_ready(transformer, replace(priced.plans.plan(best), dtype=machine.dtype), machine, group)
