"""Predictions that questions compare, and how sure a comparison of two is."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import lru_cache

from chipassay.results.errors import InputError
from chipassay.scaling.as_of import settings_as_of
from chipassay.scaling.cluster import Group, make_group, parse_cluster, resolve_profile
from chipassay.scaling.exchange import Fleet, ratio_sigma, side_of, smallest_fit
from chipassay.scaling.exchange.spread import TRAFFIC
from chipassay.scaling.machine import Input
from chipassay.scaling.models import load_model
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import Prediction
from chipassay.scaling.search import default_global_batch
from chipassay.scaling.uncertainty import Z80

from .records import Scenario

ONE_KIND = re.compile(r"(?P<count>[1-9]\d*)x(?P<chip>[^@+]+)(?:@(?P<network>[^+]+))?")


def check_chip(name: str) -> object:
    """Raise InputError for a chip without a profile."""
    return resolve_profile(name)


def parts_of(text: str) -> tuple[int, str, str | None]:
    """Number, chip and network of ``COUNTxCHIP[@FABRIC]``. Raises InputError for what is none.

    >>> parts_of("1024xh800-sxm-80gb@roce400x8")
    (1024, 'h800-sxm-80gb', 'roce400x8')
    """
    match = ONE_KIND.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r} is not COUNTxCHIP or COUNTxCHIP@FABRIC; write for example 1024xh800-sxm-80gb@roce400x8")
    parse_cluster(text)
    return int(match["count"]), match["chip"], match["network"]


def check_cluster(text: str) -> object:
    """Raise InputError for what is no number of one kind of chip."""
    return parts_of(text)


def check_mix(text: str) -> None:
    if len(parse_cluster(text).groups) < 2:
        raise InputError(f"{text!r} is one kind of chip; join several by +, as in 64xa800-sxm-80gb+64xv100-sxm2-32gb")


@lru_cache(maxsize=256)
def group_of(chip: str, count: int, fabric: str | None = None) -> Group:
    """So many chips in their usual nodes."""
    return make_group(count, resolve_profile(chip), fabric)


def settings_of(scenario: Scenario, batch: int = 1) -> Plan:
    """What all plans of a scenario share: the software of its date."""
    plan = Plan(global_batch=batch)
    return plan if scenario.as_of is None else settings_as_of(scenario.as_of, plan)


@lru_cache(maxsize=512)
def fleet_of(model: str, chip: str, network: str | None, scenario: Scenario, batch: int, dtype: str | None = None) -> Fleet:
    """One kind of chip with the best plan of each number of them that is asked for, by what was known at the scenario's date.

    The batch is moved by up to 5 % so that odd numbers of chips divide it.
    """
    settings = replace(settings_of(scenario, batch), dtype=dtype)
    return Fleet(load_model(model), side_of(chip, network), batch, settings=settings, as_of=scenario.as_of)


def fastest(model: str, cluster: str, scenario: Scenario, batch: int | None, dtype: str | None = None) -> Prediction:
    """The best plan of a model on ``COUNTxCHIP[@FABRIC]``. Raises NoPlanFits, IllegalPlan or MissingCell where there is none."""
    count, chip, network = parts_of(cluster)
    return fleet_of(model, chip, network, scenario, batch or default_global_batch(load_model(model), count), dtype).quick.best(count)


@lru_cache(maxsize=1024)
def per_chip(model: str, chip: str, fabric: str | None, dtype: str | None, scenario: Scenario) -> tuple[Prediction, Group]:
    """The best plan on the fewest whole nodes (a power of two) that hold the model, at 8 sequences per chip and step."""
    kind = side_of(chip, fabric).kinds[0]
    return smallest_fit(load_model(model), kind, replace(settings_of(scenario), dtype=dtype), scenario.as_of)


def traffic_share(prediction: Prediction) -> float:
    """Share of the step that traffic takes."""
    return sum(prediction.breakdown_s.get(kind, 0.0) for kind in TRAFFIC) / prediction.step_time_s


def ratio_spread(one: Prediction, one_group: Group, other: Prediction, other_group: Group) -> float:
    """Factor either way of the 80 % interval of a ratio of two speeds; what both sides have wrong together cancels."""
    return math.exp(Z80 * ratio_sigma(one, other, [one_group], [other_group]))


def inputs_of(*predictions: Prediction) -> tuple[Input, ...]:
    """What predictions rest on; each told once, with its cluster."""
    return tuple(
        dict.fromkeys(
            replace(found, what=f"{p.cluster.partition('@')[0].partition('x')[2]}: {found.what}") for p in predictions for found in p.inputs
        )
    )


def group_from(text: str) -> Group:
    """The group of ``COUNTxCHIP[@FABRIC]``."""
    count, chip, network = parts_of(text)
    return group_of(chip, count, network)
