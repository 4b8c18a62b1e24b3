"""Published runs on several kinds of chips against their predictions: as text, and as records for --out and --json."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chipassay.scaling.mixed.validate import MixedOutcome, MixedSummary, summarise_mixed

from ..writing import write_text

COLUMNS = ("id", "source", "chip", "metric", "measured", "predicted", "low", "high", "error", "in_sample", "reason", "scored", "plan")


def as_record(outcome: MixedOutcome) -> dict[str, Any]:
    """One run; steps in seconds. No constant of the model was fitted on any of them."""
    run = outcome.run
    return {
        "id": run.id,
        "source": run.source,
        "chip": run.mix,
        "metric": run.metric,
        "measured": outcome.measured_step_s,
        "predicted": outcome.predicted_step_s,
        "low": outcome.low_s,
        "high": outcome.high_s,
        "error": outcome.error,
        "in_sample": False,
        "reason": outcome.reason,
        "scored": outcome.scored,
        "plan": outcome.plan,
    }


def write_csv(outcomes: Sequence[MixedOutcome], path: Path) -> None:
    """Write COLUMNS for each run, in their order. Raises FileError where the disk does not allow it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for outcome in outcomes:
        record = {name: "yes" if value is True else "no" if value is False else value for name, value in as_record(outcome).items()}
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in record.items()})
    write_text(path, text.getvalue())


def describe(outcomes: Sequence[MixedOutcome]) -> str:
    """Errors by source, and each run that has none with its reason."""
    lines = [_of_source(summary) for summary in summarise_mixed(outcomes)]
    reasons: dict[tuple[str, str], int] = {}
    for outcome in outcomes:
        if outcome.error is None:
            key = (outcome.run.source, outcome.reason)
            reasons[key] = reasons.get(key, 0) + 1
    if reasons:
        lines.append("not predicted:")
        lines += [f"  {count:>3}  {source[:60]}: {reason}" for (source, reason), count in reasons.items()]
    return "\n".join(lines)


def _of_source(summary: MixedSummary) -> str:
    rank = "" if summary.rank_correlation is None else f", rank correlation {summary.rank_correlation:.2f}"
    return (
        f"{summary.source}: {summary.runs} runs\n"
        f"  |error| mean {summary.mean_error:.1%}, median {summary.median_error:.1%}, bias {summary.bias:+.1%}{rank}\n"
        f"  the plan ranked first takes {summary.first_over_best:.2f} of the best measured; {summary.inside:.0%} inside the 80 % interval"
    )
