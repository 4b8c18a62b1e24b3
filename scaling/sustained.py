"""Chips whose rate in a long run was published or measured (sustained.csv): what full clocks would take of their power follows from it.

The other chips share one fitted constant (``constants.FULL_CLOCK_W_PER_TFLOPS``), from boards of 400 W and more. A small board made for
inference, with the silicon of a large one behind a cap of 70 W, is no such board.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from chipassay.results.datafile import Line, read_lines
from chipassay.results.errors import FileError
from chipassay.results.evidence import LEVELS, Evidence

from .constants import FULL_CLOCK_W_PER_TFLOPS, Constant

SUSTAINED_CSV = Path(__file__).with_name("sustained.csv")
COLUMNS = ("chip_id", "dtype", "tflop_per_s", "power_w", "evidence", "source")


@dataclass(frozen=True)
class SustainedRate:
    """What one chip reaches in large products that go on until its power and clocks have settled."""

    chip_id: str
    dtype: str
    flops_per_s: float
    power_w: float
    """The cap on the board's power that it was reached under."""
    evidence: Evidence


def _rate(line: Line) -> SustainedRate:
    found = {}
    for name in ("tflop_per_s", "power_w"):
        value = line.number_or_none(name)
        if not value or value < 0:
            raise FileError(line.path, "a rate needs a number above 0", line=line.number, field=name, mend="fill it or take the row out")
        found[name] = value
    level = next(known for known in LEVELS if known == line.one_of("evidence", LEVELS))
    evidence = Evidence(level, line.required("source"))
    return SustainedRate(line.required("chip_id"), line.required("dtype"), found["tflop_per_s"] * 1e12, found["power_w"], evidence)


@lru_cache(maxsize=4)
def load_sustained_rates(path: Path = SUSTAINED_CSV) -> tuple[SustainedRate, ...]:
    """All rows, in the order of the table. Raises FileError, with line and column, for a cell that cannot be."""
    return tuple(_rate(line) for line in read_lines(path, COLUMNS))


def full_clock_power(chip_id: str, dtype: str, short_flops_per_s: float) -> Constant:
    """Watts that full clocks would take for each TFLOP/s on this chip: the shared constant, or where the chip has a row what makes the
    law of ``machine.sustained_share`` give the row's rate at the row's power.

    ``short_flops_per_s``: what the profile holds for large products of that dtype, in short runs.

    >>> full_clock_power("a100-sxm-80gb", "fp16", 258e12) is FULL_CLOCK_W_PER_TFLOPS
    True
    >>> round(full_clock_power("t4-pcie-16gb", "fp16", 40e12).value, 1)
    8.1
    """
    rate = next((one for one in load_sustained_rates() if (one.chip_id, one.dtype) == (chip_id, dtype)), None)
    if rate is None:
        return FULL_CLOCK_W_PER_TFLOPS
    kept = min(1.0, rate.flops_per_s / short_flops_per_s)
    value = rate.power_w / (short_flops_per_s / 1e12 * kept**3)
    return Constant(FULL_CLOCK_W_PER_TFLOPS.name, value, FULL_CLOCK_W_PER_TFLOPS.meaning, rate.evidence)
