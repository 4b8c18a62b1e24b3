"""How many of one chip do the work of another: chip for chip, or for a number of them at one batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from chipassay.scaling.errors import IllegalPlan, NoPlanFits
from chipassay.scaling.exchange import twins
from chipassay.scaling.models import load_model
from chipassay.scaling.predict import Prediction

from ..fewest import fewest, impossible, span
from ..fields import Field
from ..records import Case, Question, Scenario
from ..sides import check_chip, group_of, inputs_of, per_chip, ratio_spread

FIELDS = {
    "top_chips": Field(str, '["h100-sxm-80gb"]', many=True, check=check_chip),
    "chips": Field(str, '["h800-sxm-80gb"]', many=True, check=check_chip),
    "models": Field(str, '["llama2-7b"]', many=True, check=load_model),
    "networks": Field(str, '["ndr400x8", "roce400x8"]', many=True),
    "precisions": Field(str, '["bf16", "fp8"]', many=True),
    "count": Field(int, "100"),
}
"""``networks``: of the other chips; the top chip has its own. ``count``: so many of the top chip, at one batch for both sides; without it,
chip for chip: each on the fewest nodes that hold the model, at 8 sequences per chip."""
NEEDED = ("top_chips", "chips", "models")
WORDS = ("top_chip", "chip", "model", "network", "precision")
NEEDS_RUN = False


def chips_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    return (*options.get("top_chips", ()), *options.get("chips", ()))


def cases(question: Question, scenario: Scenario) -> Iterator[Case]:
    """Value: other chips for one top chip, or for ``count`` of them."""
    options = question.options
    networks, precisions = options.get("networks", (None,)), options.get("precisions", (None,))
    for top, chip, model, network, precision in itertools.product(
        options["top_chips"], options["chips"], options["models"], networks, precisions
    ):
        if top == chip or (len(options["top_chips"]) > 1 and twins(top, chip)):
            continue  # beside the chip that it was cut from, a chip is no older one
        axes = {"top_chip": top} if len(options["top_chips"]) > 1 else {}
        axes |= {"chip": chip, "model": model}
        axes |= {"network": network} if network else {}
        axes |= {"precision": precision} if precision else {}
        try:
            if "count" in options:
                yield _of_count(axes, scenario, model, top, options["count"], chip, network, precision)
            else:
                yield _chip_for_chip(axes, scenario, model, top, chip, network, precision)
        except (NoPlanFits, IllegalPlan) as error:
            yield Case(axes, math.inf, math.inf, math.inf, reason=str(error))


def _chip_for_chip(
    axes: Mapping[str, str], scenario: Scenario, model: str, top: str, chip: str, network: str | None, precision: str | None
) -> Case:
    a, a_group = per_chip(model, top, None, precision, scenario)
    b, b_group = per_chip(model, chip, network, precision, scenario)
    ratio = (a.tokens_per_s / a.chips) / (b.tokens_per_s / b.chips)
    spread = ratio_spread(a, a_group, b, b_group)
    numbers: dict[str, float | str | None] = {
        "dtype": b.dtype if a.dtype == b.dtype else f"{b.dtype} ({a.dtype})", "chips": f"{a.chips} and {b.chips}",
        "plan": b.plan.describe(),
    }  # fmt: skip
    return Case(axes, ratio, ratio / spread, ratio * spread, numbers, inputs=inputs_of(a, b))


def _of_count(
    axes: Mapping[str, str], scenario: Scenario, model: str, top: str, count: int, chip: str, network: str | None, precision: str | None
) -> Case:
    reference = fewest(model, top, None, scenario, None, precision).most_of(count)
    others = fewest(model, chip, network, scenario, reference.plan.global_batch, precision)
    aim, group = reference.tokens_per_s, group_of(top, reference.chips)

    def spread_to(other: Prediction) -> float:
        return ratio_spread(reference, group, other, group_of(chip, other.chips, network))

    found = others.reaching(aim)
    if found is None:
        return impossible(others, aim, spread_to, axes, inputs_of(reference))
    spread = spread_to(found)
    numbers: dict[str, float | str | None] = {
        "used of the top chips": float(reference.chips),
        "dtype": found.dtype, "batch": float(found.plan.global_batch), "plan": found.plan.describe(),
    }  # fmt: skip
    return Case(axes, found.chips, *span(others, found.chips, aim / spread, aim * spread), numbers, inputs=inputs_of(reference, found))
