"""Every published run against its prediction: error, interval, and the reason where there is none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from chipassay.results.errors import ChipassayError
from chipassay.scaling import constants
from chipassay.scaling.cluster import Group
from chipassay.scaling.machine import Machine
from chipassay.scaling.models import Transformer
from chipassay.scaling.ready import ready
from chipassay.scaling.uncertainty import regime

from .clusters import group_of, profile_of
from .core import Predicted, predicted_step_s
from .metrics import measured_step_s
from .models import model_of, padded
from .plans import Choices, chip_counts, choices_of
from .rows import Run
from .tables import Unusable

DTYPES = ((r"fp8|float8", "fp8"), (r"bf16", "bf16"), (r"fp16|half", "fp16"), (r"tf32", "tf32"), (r"fp32|float32", "fp32"))
LOOSE_METRICS = ("gpu_hours",)
"""Metrics that include restarts and other stages: shown, and left out of the headline."""


@dataclass(frozen=True)
class Outcome:
    """One run and its prediction. Where there is none, ``reason`` says why and the numbers are None."""

    run: Run
    chip_id: str
    measured_step_s: float | None = None
    predicted_step_s: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    in_sample: bool = False
    """A constant of the model was calibrated on this source."""
    open_fields: tuple[str, ...] = ()
    plan: str = ""
    tokens: float = 1.0
    """Of one step of that plan, per chip."""
    regime: str = ""
    reason: str = ""
    """Why there is no prediction; else what weakens it."""

    @property
    def error(self) -> float | None:
        """Predicted over measured step time, minus 1, whatever was measured: above 0 the model is too slow."""
        return None if self.predicted_step_s is None or not self.measured_step_s else self.predicted_step_s / self.measured_step_s - 1

    @property
    def usable(self) -> bool:
        return self.error is not None

    @property
    def scored(self) -> bool:
        """Counts in the tables: usable, not suspect."""
        return self.usable and self.run.scored

    @property
    def in_headline(self) -> bool:
        """Counts in the headline: scored, and measured as a step or a rate."""
        return self.scored and self.run.measured_metric not in LOOSE_METRICS

    @property
    def inside(self) -> bool:
        """Whether the measured step lies in the interval."""
        if self.low_s is None or self.high_s is None or self.measured_step_s is None:
            return False
        return self.low_s <= self.measured_step_s <= self.high_s

    def in_metric(self, step_s: float) -> float:
        """A step time as a value of what the source measured."""
        assert self.measured_step_s is not None
        ratio = step_s / self.measured_step_s
        value = self.run.measured_value
        return value * ratio if self.run.measured_metric in ("step_time_s", "days", "gpu_hours") else value / ratio


def dtype_of(run: Run) -> str | None:
    """The dtype that the row's words mean; None where it has none: the best of the chip (``fp16/bf16`` counts as bf16, being no slower).

    Raises Unusable for words that mean none.
    """
    found = next((dtype for pattern, dtype in DTYPES if re.search(pattern, run.dtype, re.IGNORECASE)), None)
    if found is None and run.dtype:
        raise Unusable(f"the dtype {run.dtype!r} is not known: {', '.join(dtype for _, dtype in DTYPES)} are")
    return found


_MACHINES: dict[tuple[int, int, bool, str | None, float], Machine] = {}


def machine_of(group: Group, dtype: str | None) -> Machine:
    """The group's chip made ready; once for each chip, dtype and size of node, and value of the constant that is in it."""
    key = (id(group.profile), group.chips_per_node, group.count == 1, dtype, constants.FULL_CLOCK_W_PER_TFLOPS.value)
    if key not in _MACHINES:
        _MACHINES[key] = ready(group, dtype)
    return _MACHINES[key]


@lru_cache(maxsize=1)
def fitted_sources() -> tuple[str, ...]:
    """How the sources begin on which a constant of the model was calibrated."""
    return tuple(sorted({source for constant in constants.CALIBRATED for source in constant.fitted_on}))


def regime_of(run: Run, predicted: Predicted, model: Transformer) -> str:
    """Kind of run, by what its step waits for (uncertainty.py): intervals are judged by these."""
    if run.measured_metric in LOOSE_METRICS:
        return "whole trainings"
    return "experts" if model.experts is not None else regime(predicted.parts_s)


@dataclass(frozen=True, eq=False)
class Case:
    """A run made ready to be predicted: its model, and for each number of chips it may have had the chips and the plans."""

    run: Run
    model: Transformer
    tries: tuple[tuple[Group, Choices], ...]
    dtype: str | None
    weak: tuple[str, ...]
    """What of the model was guessed, in words."""
    guessed: int


def case_of(run: Run) -> Case:
    """The run made ready. Raises a ChipassayError with the reason where it cannot be."""
    model, weak = model_of(run)
    model, rounded = padded(run, model)
    dtype = dtype_of(run)
    tries = []
    counts = chip_counts(run)
    for count in counts:
        group = group_of(run, count)
        try:
            tries.append((group, choices_of(run, model, count, dtype)))
        except Unusable:
            # Where the number of chips is open, one that no plan cuts well does not count.
            if count == counts[-1] and not tries:
                raise
    return Case(run, model, tuple(tries), dtype, (*weak, *filter(None, [rounded])), len(weak))


Try = tuple[float, Predicted, float, Group, Choices]
"""(predicted over measured, the best plan, measured seconds, the chips, all plans) for one number of chips."""


def _chosen(run: Run, found: Sequence[Try]) -> Try:
    """Of several numbers of chips: for a throughput the fewest on which a plan fits, for a whole training the one in the middle."""
    if run.tokens_b:
        return sorted(found, key=lambda one: one[0])[len(found) // 2]
    return next((one for one in found if one[1].fits), found[-1])


def outcome_of(case: Case) -> Outcome:
    """The case predicted. Raises Unusable where no plan is legal, or the measured value tells no step time."""
    run, model = case.run, case.model
    found: list[Try] = []
    refused: Unusable | None = None
    for group, choices in case.tries:
        machine = machine_of(group, case.dtype)
        try:
            one = predicted_step_s(model, group, machine, choices.plans, case.guessed + len(choices.open_fields))
        except Unusable as error:
            refused = error
            continue
        measured = measured_step_s(run, model, one.plan, machine, choices.batch_scale)
        found.append((one.step_s / measured, one, measured, group, choices))
    if not found:
        raise refused or Unusable("no plan to try")
    _, predicted, measured, group, choices = _chosen(run, found)
    opened = (*choices.open_fields, *(("num_chips",) if len(case.tries) > 1 else ()))
    words = [*case.weak]
    words += [f"open: {', '.join(opened)} (best of {predicted.tried} plans)"] if opened else []
    words += [] if predicted.fits else ["does not fit by the model"]
    words += ["includes restarts"] if run.measured_metric in LOOSE_METRICS else []
    return Outcome(
        run,
        group.profile.chip_id,
        measured,
        predicted.step_s,
        low_s=min(one.low_s / step_s for _, one, step_s, _, _ in found) * measured,
        high_s=max(one.high_s / step_s for _, one, step_s, _, _ in found) * measured,
        in_sample=bool(fitted_sources()) and run.source.startswith(fitted_sources()),
        open_fields=opened,
        plan=predicted.plan.describe(),
        tokens=float(predicted.plan.global_batch) * model.seq_len / group.count,
        regime=regime_of(run, predicted, model),
        reason="; ".join(words),
    )


def validate_run(run: Run) -> Outcome:
    """One run against its prediction; a run that cannot be predicted comes back with its reason."""
    try:
        return outcome_of(case_of(run))
    except ChipassayError as error:
        return Outcome(run, chip_of(run), reason=str(error))


def chip_of(run: Run) -> str:
    """The catalogue id of the run's chip; empty where its words mean none."""
    try:
        return profile_of(run).chip_id
    except ChipassayError:
        return ""


def validate(runs: Iterable[Run]) -> Iterator[Outcome]:
    """Each run against its prediction, in their order."""
    for run in runs:
        yield validate_run(run)
