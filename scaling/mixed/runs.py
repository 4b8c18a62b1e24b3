"""Published runs on several kinds of chips: their table, and the plan that each row's words describe."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from chipassay.results.datafile import read_lines

from ..validation.tables import Unusable
from .amp_runs import mix_setup
from .sailor_runs import sailor_setup
from .setups import Setup

HETEROGENEOUS_RUNS = Path(__file__).with_name("heterogeneous_runs.csv")


@dataclass(frozen=True)
class MixedRun:
    """One row: a measured step, or a claim about a speed-up."""

    line: int
    id: str
    source: str
    model: str
    mix: str
    split: str
    metric: str
    value: str
    notes: str
    evidence: str
    scored: bool
    """Whether its error counts; a suspect row does not."""

    @property
    def measured_s(self) -> float | None:
        return float(self.value) if self.metric == "step_time_s" else None


@lru_cache(maxsize=1)
def read_mixed_runs() -> tuple[MixedRun, ...]:
    """All rows of the table.

    >>> sum(run.measured_s is not None for run in read_mixed_runs())
    52
    """
    columns = ("id", "source", "model", "mix", "split_description", "measured_metric", "measured_value", "notes", "evidence", "score")
    found = []
    for line in read_lines(HETEROGENEOUS_RUNS, columns):
        name, source, model, mix, split, metric, value, notes, evidence, score = (line.text(column) for column in columns)
        found.append(MixedRun(line.number, name, source, model, mix, split, metric, value, notes, evidence, score != "no"))
    return tuple(found)


def setup_of(run: MixedRun) -> Setup:
    """The row made ready. Raises Unusable where it describes no run of a transformer by a plan."""
    if run.id.startswith("amp-"):
        return mix_setup(run.split)
    if run.id.startswith("sailor-"):
        return sailor_setup(run.split)
    raise Unusable("a claim about a speed-up, not one run by one plan")
