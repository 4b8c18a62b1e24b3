"""How often chips fail: the rates of published runs (failures.csv), one of them the default."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from chipassay.results.datafile import Line, read_lines
from chipassay.results.errors import FileError
from chipassay.results.evidence import LEVELS, Evidence

FAILURES_CSV = Path(__file__).with_name("failures.csv")
DEFAULT = "llama3-405b"
"""The best documented of the large runs."""


@dataclass(frozen=True)
class FailureRate:
    """What stopped one run, or the jobs of one cluster, without anybody's plan."""

    id: str
    chip: str
    chip_days: float
    failures: float
    what: str
    evidence: Evidence

    @property
    def per_chip_hour(self) -> float:
        return self.failures / (24 * self.chip_days)


def _rate(line: Line) -> FailureRate:
    chip_days, failures = line.number_or_none("chip_days"), line.number_or_none("failures")
    for name, value in (("chip_days", chip_days), ("failures", failures)):
        if not value:
            raise FileError(line.path, "a rate needs a number above 0", line=line.number, field=name, mend="fill it or take the row out")
    assert chip_days is not None
    assert failures is not None
    level = next(known for known in LEVELS if known == line.one_of("evidence", LEVELS))
    return FailureRate(
        line.required("id"),
        line.required("chip"),
        chip_days,
        failures,
        line.required("what"),
        Evidence(level, f"{line.required('what')}: {line.required('source')}"),
    )


@lru_cache(maxsize=4)
def load_failure_rates(path: Path = FAILURES_CSV) -> tuple[FailureRate, ...]:
    """All published rates, in the order of the table. Raises FileError, with line and column, for a cell that cannot be."""
    return tuple(_rate(line) for line in read_lines(path, ("id", "chip", "chip_days", "failures", "what", "evidence", "source")))


def default_rate() -> FailureRate:
    """The rate that stands in where none is given.

    >>> f"{default_rate().per_chip_hour:.3g}"
    '1.97e-05'
    """
    return next(rate for rate in load_failure_rates() if rate.id == DEFAULT)


def rate_range() -> tuple[float, float]:
    """The lowest and the highest published rate per chip and hour: they differ by a factor of six."""
    rates = [rate.per_chip_hour for rate in load_failure_rates()]
    return min(rates), max(rates)
