"""How far off predictions are: by source, chip and regime, the ranking of plans, chips against each other, and the headline."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .left_out import left_out_medians
from .validate import Outcome

FEWEST_PLANS = 5
"""Plans of one model on one cluster, from which on their ranking is judged."""


@dataclass(frozen=True)
class Summary:
    """The errors of some runs. Shares, not percent; an error is predicted over measured step time, minus 1."""

    name: str
    n: int
    median: float
    """Of the error's absolute value."""
    p90: float
    """Its 90th percentile."""
    bias: float
    """Median of the signed error: below 0 the model is too fast."""
    rank: float | None
    """Spearman's correlation of predicted and measured time per token; None for fewer than three runs or one value."""
    inside: float
    """Share of the runs whose measured step lies in the 80 % interval."""
    in_sample: bool
    """A constant was calibrated on one of them at least."""
    left_out: float | None = None
    """Median |error| with the constants fitted without this source; None where it is out of sample, or was never left out."""

    @property
    def honest(self) -> float:
        """The median |error| that no calibration has seen, as far as it is known."""
        return self.median if self.left_out is None else self.left_out


@dataclass(frozen=True)
class ChipRatio:
    """One chip against another under the same code: throughput per chip, measured and predicted, medians over pairs of runs."""

    name: str
    n: int
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1, ties at their mean."""
    array = np.asarray(values, float)
    _, back, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2.0)[back]


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation (Spearman 1904): Pearson's of the ranks, ties at their mean.

    >>> spearman([1, 2, 3, 4], [10, 20, 40, 30])
    0.8
    """
    if len(first) < 3:
        return None
    a, b = ranks(first), ranks(second)
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return round(float(a @ b) / spread, 12) if spread > 0 else None


def _per_token(outcome: Outcome, step_s: float | None) -> float:
    """Seconds that scale with the step, comparable between runs of different batches."""
    assert step_s is not None
    return step_s / outcome.tokens


def summarise(name: str, outcomes: Sequence[Outcome]) -> Summary:
    """The errors of scored outcomes (at least one)."""
    errors = np.array([outcome.error for outcome in outcomes], float)
    off = np.abs(errors)
    measured = [_per_token(outcome, outcome.measured_step_s) for outcome in outcomes]
    predicted = [_per_token(outcome, outcome.predicted_step_s) for outcome in outcomes]
    return Summary(
        name,
        len(outcomes),
        float(np.median(off)),
        float(np.quantile(off, 0.9)),
        float(np.median(errors)),
        spearman(measured, predicted),
        sum(outcome.inside for outcome in outcomes) / len(outcomes),
        any(outcome.in_sample for outcome in outcomes),
    )


def summaries(outcomes: Iterable[Outcome], key: Callable[[Outcome], str]) -> list[Summary]:
    """One summary for each value of ``key`` over the scored outcomes, in the order of the table."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.scored:
            found.setdefault(key(outcome), []).append(outcome)
    return [summarise(name, some) for name, some in found.items()]


def by_source(outcomes: Iterable[Outcome]) -> list[Summary]:
    left_out = left_out_medians()
    found = summaries(outcomes, lambda outcome: outcome.run.source)
    return [replace(one, left_out=left_out.get(one.name) if one.in_sample else None) for one in found]


def by_chip(outcomes: Iterable[Outcome]) -> list[Summary]:
    return summaries(outcomes, lambda outcome: outcome.chip_id)


def by_regime(outcomes: Iterable[Outcome]) -> list[Summary]:
    return summaries(outcomes, lambda outcome: outcome.regime)


def headline(outcomes: Iterable[Outcome]) -> float | None:
    """Mean over the sources of the median |error|: each experiment counts once, however many rows it has. A source on which a constant was
    calibrated counts with the constants fitted without it. Whole trainings, whose hours include restarts, are left out. None where nothing
    is scored."""
    medians = [one.honest for one in by_source([outcome for outcome in outcomes if outcome.in_headline])]
    return float(np.mean(medians)) if medians else None


def plan_rankings(outcomes: Iterable[Outcome]) -> list[Summary]:
    """Runs of one source that differ in the plan alone (same model, chip and number of chips), FEWEST_PLANS at least."""
    found: dict[tuple[object, ...], list[Outcome]] = {}
    for outcome in outcomes:
        run = outcome.run
        if outcome.scored and run.layers and run.hidden and run.num_chips:
            key = (run.source, outcome.chip_id, run.num_chips, run.layers, run.hidden, run.heads, run.seq_len)
            found.setdefault(key, []).append(outcome)
    return [
        summarise(f"{key[2]} x {key[1]}, {key[3]} layers of {key[4]}, {key[5]} heads: {key[0]}", some)
        for key, some in found.items()
        if len({outcome.plan for outcome in some}) >= FEWEST_PLANS
    ]


def _code_base(source: str) -> str:
    """What two tables of one publication share: the source without what follows a colon, a comma or a bracket."""
    return re.split(r"[:,(]", source)[0].strip()


def chip_ratios(outcomes: Iterable[Outcome]) -> list[ChipRatio]:
    """Pairs of runs of one publication with the same model, length, chips, cut and recomputation, on two kinds of chip."""
    found: dict[tuple[object, ...], list[Outcome]] = {}
    for outcome in outcomes:
        run = outcome.run
        if outcome.scored and run.layers and run.hidden:
            shape = (run.layers, run.hidden, run.seq_len, run.num_chips, run.tp, run.pp, run.recompute, run.zero_stage)
            found.setdefault((_code_base(run.source), *shape), []).append(outcome)
    pairs: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for key, some in found.items():
        for position, one in enumerate(some):
            for other in some[position + 1 :]:
                if other.chip_id == one.chip_id:
                    continue
                first, second = sorted((one, other), key=lambda outcome: outcome.chip_id)
                ratio = [_per_token(second, getattr(second, name)) / _per_token(first, getattr(first, name)) for name in STEPS]
                pairs.setdefault((first.chip_id, second.chip_id, str(key[0])), []).append((ratio[0], ratio[1]))
    return [_ratio(first, second, code, ratios) for (first, second, code), ratios in pairs.items()]


def _ratio(first: str, second: str, code: str, ratios: Sequence[tuple[float, float]]) -> ChipRatio:
    """The medians of pairs of (measured, predicted) throughput of the first chip over the second, the faster one named first."""
    measured, predicted = (float(np.median(some)) for some in zip(*ratios, strict=True))
    if measured < 1:
        return ChipRatio(f"{second} : {first}, {code}", len(ratios), 1 / measured, 1 / predicted)
    return ChipRatio(f"{first} : {second}, {code}", len(ratios), measured, predicted)


STEPS = ("measured_step_s", "predicted_step_s")
