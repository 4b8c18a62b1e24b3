"""The highest MFU that published runs have measured on a chip in a dtype: a plan that is predicted beyond it is told so.

``highest_mfu.csv`` is worked out from the runs of the validation by ``python -m chipassay.scaling.planner.measured``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from chipassay.results.datafile import read_lines

from ..predict import Prediction

HIGHEST_MFU = Path(__file__).with_name("highest_mfu.csv")


@dataclass(frozen=True)
class Highest:
    """The best of the published runs on one chip in one dtype."""

    chip_id: str
    dtype: str
    mfu_causal: float
    """Model FLOPs over the datasheet's peak, the attention of causal models counted half: long sequences do not raise it."""
    runs: int
    """Among which it is the highest, all of known models and plans."""
    sources: int
    """That these runs were published by."""
    run: str
    """Its id in validation/training_runs.csv."""
    source: str


COLUMNS = tuple(field.name for field in fields(Highest))


@lru_cache(maxsize=1)
def load_highest(path: Path = HIGHEST_MFU) -> Mapping[tuple[str, str], Highest]:
    """(chip, dtype) -> the highest measured. Raises FileError for a file that cannot be read."""
    found = {}
    for line in read_lines(path, COLUMNS):
        words = {name: line.required(name) for name in ("chip_id", "dtype", "run", "source")}
        runs, sources = (line.whole_or_none(name) or 0 for name in ("runs", "sources"))
        one = Highest(**words, mfu_causal=line.number_or_none("mfu_causal") or 0.0, runs=runs, sources=sources)
        found[one.chip_id, one.dtype] = one
    return MappingProxyType(found)


def beyond_measured(prediction: Prediction, chip_id: str) -> str:
    """What to say of a prediction whose MFU is above all that was measured on its chip in its dtype; empty where it is not, or where
    nothing was measured."""
    highest = load_highest().get((chip_id, prediction.dtype))
    if highest is None or prediction.mfu_causal is None or prediction.mfu_causal <= highest.mfu_causal:
        return ""
    among = f"the highest of {highest.runs} published runs" if highest.runs > 1 else "the only published run"
    return (
        f"MFU {100 * prediction.mfu_causal:.1f} % (causal attention counted half) is above {among} on {chip_id} in {prediction.dtype}: "
        f"{100 * highest.mfu_causal:.1f} % ({highest.source}). Take it for what tuned software may come to, not for what is sure."
    )


def work_out() -> Iterator[Highest]:
    """The table, from all published runs: those whose model had to be guessed, and whole trainings with their restarts, do not count."""
    from ..validation.rows import TRAINING_RUNS, read_runs
    from ..validation.validate import case_of, machine_of, validate

    best: dict[tuple[str, str], tuple[float, str, str]] = {}
    runs: dict[tuple[str, str], list[str]] = {}
    for outcome in validate(read_runs(TRAINING_RUNS)):
        if not outcome.in_headline or not outcome.measured_step_s:
            continue
        case = case_of(outcome.run)
        machine = machine_of(case.tries[0][0], case.dtype)
        if case.guessed or machine.peak_flops_per_s is None:
            continue
        flops = case.model.training_flops_per_token(causal=True) * outcome.tokens
        mfu = flops / outcome.measured_step_s / machine.peak_flops_per_s
        key = (outcome.chip_id, machine.dtype)
        runs.setdefault(key, []).append(outcome.run.source)
        best[key] = max(best.get(key, (0.0, "", "")), (mfu, outcome.run.id, outcome.run.source))
    for key, (mfu, run, source) in sorted(best.items()):
        yield Highest(*key, round(mfu, 4), len(runs[key]), len(set(runs[key])), run, source)


def written(found: Iterator[Highest]) -> str:
    """The table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(one, name) for name in COLUMNS] for one in found)
    return text.getvalue()


if __name__ == "__main__":
    HIGHEST_MFU.write_text(written(work_out()), encoding="utf-8")
