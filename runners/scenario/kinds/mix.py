"""Several kinds of chips in one job, beside the best of them alone and whole separate jobs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from chipassay.scaling.cluster import parse_cluster
from chipassay.scaling.errors import IllegalPlan, NoPlanFits
from chipassay.scaling.exchange import SHARED_MODEL_SIGMA
from chipassay.scaling.models import load_model
from chipassay.scaling.uncertainty import Z80

from ..fields import Field
from ..records import Case, Question, Scenario
from ..sides import check_mix, settings_of

FIELDS = {
    "clusters": Field(str, '["64xa800-sxm-80gb+64xv100-sxm2-32gb"]', many=True, check=check_mix),
    "models": Field(str, '["llama2-13b"]', many=True, check=load_model),
    "batch": Field(int, "1024"),
}
NEEDED = ("clusters", "models")
WORDS = ("mix", "model")
NEEDS_RUN = False


def chips_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(group.profile.chip_id for text in options.get("clusters", ()) for group in parse_cluster(text).groups)


def cases(question: Question, scenario: Scenario) -> Iterator[Case]:
    """Value: speed of the best plan in which every kind works, over the best plan that leaves one out. 0: no such plan fits."""
    from chipassay.scaling.mixed.search import plan_mixed

    options = question.options
    for text, model in itertools.product(options["clusters"], options["models"]):
        axes = {"mix": text, "model": model}
        run = scenario.runs.get(model)
        batch = options.get("batch") or (None if run is None else run.batch)
        settings = None if scenario.as_of is None else replace(settings_of(scenario), sequence_parallel=True)
        try:
            found = plan_mixed(model, text, batch, settings=settings)
        except (NoPlanFits, IllegalPlan) as error:
            yield Case(axes, 0.0, 0.0, 0.0, reason=str(error))
            continue
        if found.interrupted:
            raise KeyboardInterrupt
        alone = max(found.without, key=lambda option: option.tokens_per_s, default=None)
        mixed, even = found.all_kinds, found.even_split
        numbers: dict[str, float | str | None] = {
            "mixed, tokens/s": None if mixed is None else mixed.tokens_per_s,
            "best part alone, tokens/s": None if alone is None else alone.tokens_per_s,
            "which part": None if alone is None else ", ".join(alone.kinds),
            "even split, tokens/s": None if even is None else even.tokens_per_s,
            "separate jobs, tokens/s": found.separate_tokens_per_s,
            "plan": None if mixed is None else mixed.text,
        }
        if mixed is None:
            yield Case(axes, 0.0, 0.0, 0.0, numbers, "no plan in which every kind works fits their memory")
        elif alone is None:
            yield Case(axes, math.inf, math.inf, math.inf, numbers, "no part of it can train this model alone")
        else:
            # The leading chips stand on both sides, so what is unsure of them cancels; the model's error of a ratio is left.
            ratio, spread = mixed.tokens_per_s / alone.tokens_per_s, math.exp(Z80 * SHARED_MODEL_SIGMA)
            yield Case(axes, ratio, ratio / spread, ratio * spread, numbers, inputs=tuple(mixed.prediction.inputs))
