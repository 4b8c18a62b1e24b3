"""Every published run on several kinds of chips against its prediction, and the claims that it is checked for sense against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from chipassay.results.errors import ChipassayError

from ..ready import ready
from ..validation.summary import spearman
from .evaluate import predict_mixed
from .kinds import Kind
from .records import MixedPrediction
from .runs import MixedRun, read_mixed_runs, setup_of
from .setups import Setup
from .tables import Tables


@dataclass(frozen=True)
class MixedOutcome:
    """One run and its prediction. Where there is none, ``reason`` says why and the numbers are None."""

    run: MixedRun
    measured_step_s: float | None = None
    predicted_step_s: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    plan: str = ""
    reason: str = ""
    """Why there is no prediction; else what weakens it."""

    @property
    def error(self) -> float | None:
        """Predicted over measured, minus 1: above 0 the model is too slow."""
        return None if self.predicted_step_s is None or not self.measured_step_s else self.predicted_step_s / self.measured_step_s - 1

    @property
    def scored(self) -> bool:
        return self.error is not None and self.run.scored

    @property
    def inside(self) -> bool:
        """Whether the measured step lies in the interval."""
        if self.low_s is None or self.high_s is None or self.measured_step_s is None:
            return False
        return self.low_s <= self.measured_step_s <= self.high_s


def predict_run(setup: Setup) -> MixedPrediction:
    """The step of a row by the model. Raises InputError where the plan cannot run."""
    kinds = []
    for group in setup.cluster.groups:
        chip = group.profile.chip_id
        kind = Kind(group, ready(group.with_count(max(group.count, group.chips_per_node)), setup.dtype.get(chip)))
        kinds.append(replace(kind, host_s_per_kernel=setup.host_s_per_kernel.get(chip, kind.host_s_per_kernel)))
    return predict_mixed(Tables(setup.model, tuple(kinds), setup.plan.settings, setup.between), setup.plan)


def validate_mixed_run(run: MixedRun) -> MixedOutcome:
    """One run against its prediction; one that cannot be predicted comes back with its reason."""
    try:
        prediction = predict_run(setup_of(run))
    except ChipassayError as error:
        return MixedOutcome(run, run.measured_s, reason=str(error))
    reason = "" if prediction.fits else "does not fit by the model"
    return MixedOutcome(run, run.measured_s, prediction.step_time_s, prediction.low_s, prediction.high_s, prediction.text, reason)


def validate_mixed(runs: Iterable[MixedRun] | None = None) -> Iterator[MixedOutcome]:
    """Each run against its prediction, in their order; all of the shipped table if None."""
    for run in read_mixed_runs() if runs is None else runs:
        yield validate_mixed_run(run)


@dataclass(frozen=True)
class MixedSummary:
    """The errors of one source's scored runs."""

    source: str
    runs: int
    mean_error: float
    """Of |error|."""
    median_error: float
    bias: float
    """Median of the error itself."""
    rank_correlation: float | None
    """Spearman's, of predicted and measured step times; None: fewer than three runs."""
    first_over_best: float
    """Measured step of the plan that is predicted to be fastest, over the best measured."""
    inside: float
    """Share of the runs whose measured step lies in the interval."""


def summarise_mixed(outcomes: Sequence[MixedOutcome]) -> list[MixedSummary]:
    """One summary per source, in the order of the table."""
    sources = dict.fromkeys(outcome.run.source for outcome in outcomes if outcome.scored)
    found = []
    for source in sources:
        some = [outcome for outcome in outcomes if outcome.scored and outcome.run.source == source]
        measured = [float(outcome.measured_step_s or 0.0) for outcome in some]
        predicted = [float(outcome.predicted_step_s or 0.0) for outcome in some]
        errors = np.array([outcome.error for outcome in some], float)
        found.append(
            MixedSummary(
                source, len(some), float(np.abs(errors).mean()), float(np.median(np.abs(errors))), float(np.median(errors)),
                spearman(measured, predicted) if len(some) > 2 else None, measured[int(np.argmin(predicted))] / min(measured),
                sum(outcome.inside for outcome in some) / len(some),
            )
        )  # fmt: skip
    return found
