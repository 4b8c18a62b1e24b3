"""How many times as fast as another cluster each of several is, for the same model and batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from chipassay.scaling.errors import IllegalPlan, NoPlanFits
from chipassay.scaling.models import load_model

from ..fields import Field
from ..records import Case, Question, Scenario
from ..sides import check_cluster, fastest, group_from, inputs_of, ratio_spread, traffic_share

FIELDS = {
    "clusters": Field(str, '["1024xh800-sxm-80gb@roce400x8"]', many=True, check=check_cluster),
    "against": Field(str, '"1024xa800-sxm-80gb@roce200x8"', check=check_cluster),
    "models": Field(str, '["gpt3-175b"]', many=True, check=load_model),
    "precisions": Field(str, '["bf16", "fp8"]', many=True),
    "against_precision": Field(str, '"bf16"'),
    "batches": Field(int, "[1536]", many=True),
}
NEEDED = ("clusters", "against", "models")
WORDS = ("cluster", "model", "precision", "batch")
NEEDS_RUN = False


def chips_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(group_from(text).profile.chip_id for text in (*options.get("clusters", ()), options["against"]))


def cases(question: Question, scenario: Scenario) -> Iterator[Case]:
    """Value: tokens per second over those of ``against``, each with its best plan."""
    options = question.options
    other_group = group_from(options["against"])
    for text, model, precision, given in itertools.product(
        options["clusters"], options["models"], options.get("precisions", (None,)), options.get("batches", (None,))
    ):
        group = group_from(text)
        axes = {"cluster": group.name} if len(options["clusters"]) > 1 else {}
        axes |= {"model": model} | ({"precision": precision} if precision else {}) | ({"batch": f"batch {given}"} if given else {})
        run = scenario.runs.get(model)
        batch = given or (None if run is None else run.batch)
        try:
            one = fastest(model, text, scenario, batch, precision)
            # In its own best precision where the two are not asked for one.
            other = fastest(model, options["against"], scenario, batch, options.get("against_precision"))
        except (NoPlanFits, IllegalPlan) as error:
            yield Case(axes, 0.0, 0.0, 0.0, reason=str(error))  # what cannot run has no speed
            continue
        ratio, spread = one.tokens_per_s / other.tokens_per_s, ratio_spread(one, group, other, other_group)
        numbers: dict[str, float | str | None] = {
            "tokens/s": one.tokens_per_s, "against": other.tokens_per_s, "traffic": f"{traffic_share(one):.1%}",
            "plan": one.plan.describe(),
        }  # fmt: skip
        yield Case(axes, ratio, ratio / spread, ratio * spread, numbers, inputs=inputs_of(one, other))
