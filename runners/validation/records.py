"""Runs and their predictions as records: the CSV of --out, and the JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chipassay.scaling.validation.validate import Outcome

from ..writing import write_text

COLUMNS = (
    "id", "source", "chip", "metric", "measured", "predicted", "low", "high", "error", "in_sample", "reason", "scored", "regime", "plan",
)  # fmt: skip


def as_record(outcome: Outcome) -> dict[str, Any]:
    """One run: measured, predicted and the 80 % interval in the metric's own unit; ``error`` is of the step time, whatever the metric."""
    run = outcome.run
    record: dict[str, Any] = dict.fromkeys(COLUMNS)
    record.update(
        id=run.id,
        source=run.source,
        chip=outcome.chip_id or run.chip,
        metric=run.measured_metric,
        measured=run.measured_value,
        in_sample=outcome.in_sample,
        reason=outcome.reason,
        scored=outcome.scored,
        regime=outcome.regime,
        plan=outcome.plan,
    )
    if outcome.predicted_step_s is not None and outcome.low_s is not None and outcome.high_s is not None:
        low, high = sorted((outcome.in_metric(outcome.low_s), outcome.in_metric(outcome.high_s)))
        record.update(predicted=outcome.in_metric(outcome.predicted_step_s), low=low, high=high, error=outcome.error)
    return record


def as_records(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [as_record(outcome) for outcome in outcomes]


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else value


def write_csv(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write COLUMNS for each run, in their order. Raises FileError where the disk does not allow it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in record.items()} for record in as_records(outcomes))
    write_text(path, text.getvalue())
