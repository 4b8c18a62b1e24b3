"""Errors of sources that no constant has seen: each calibrated constant fitted again without one source, and that source predicted.

``python -m chipassay.scaling.validation.fit`` makes left_out.csv; the constants it was made with stand in it, so that a test can tell
when it is stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from chipassay.results.datafile import read_lines

LEFT_OUT_CSV = Path(__file__).with_name("left_out.csv")
COLUMNS = ("source", "n", "median", "bias", "constants")
ALL = "(none left out)"
"""The line that holds the constants as they are in the model."""


@dataclass(frozen=True)
class LeftOut:
    """One source, predicted with constants that were fitted without it."""

    source: str
    n: int
    median: float
    """Of |error|."""
    bias: float
    constants: Mapping[str, float]


def leave_one_source_out(
    sources: Iterable[str],
    refit: Callable[[Sequence[str]], Mapping[str, float]],
    errors: Callable[[str, Mapping[str, float]], Sequence[float]],
) -> list[LeftOut]:
    """Each source with the constants that ``refit`` gives for the others.

    ``refit(others)`` -> constant -> value; ``errors(source, constants)`` -> the source's errors under them.

    >>> def refit(others): return {"c": float(len(others))}
    >>> leave_one_source_out(["a", "b"], refit, lambda source, constants: [constants["c"], 3.0])[0].median
    2.0
    """
    import numpy as np

    every = list(sources)
    found = []
    for source in every:
        constants = refit([other for other in every if other != source])
        off = errors(source, constants)
        found.append(LeftOut(source, len(off), float(np.median(np.abs(off))), float(np.median(off)), constants))
    return found


def words(constants: Mapping[str, float]) -> str:
    """Constants in one cell.

    >>> words({"HOST_S_PER_KERNEL": 1.6e-05, "OVERLAP_COST": 0.13})
    'HOST_S_PER_KERNEL=1.6e-05 OVERLAP_COST=0.13'
    """
    return " ".join(f"{name}={value:.6g}" for name, value in constants.items())


@lru_cache(maxsize=1)
def read_left_out(path: Path = LEFT_OUT_CSV) -> tuple[LeftOut, ...]:
    """The lines of left_out.csv; none where it was never made."""
    if not path.exists():
        return ()
    found = []
    for line in read_lines(path, COLUMNS):
        constants = {name: float(value) for name, value in (one.split("=") for one in line.text("constants").split())}
        median, bias = (float(line.text(name) or "nan") for name in ("median", "bias"))
        found.append(LeftOut(line.required("source"), line.whole_or_none("n") or 0, median, bias, constants))
    return tuple(found)


def left_out_medians() -> Mapping[str, float]:
    """Source -> its median |error| with constants fitted without it."""
    return {one.source: one.median for one in read_left_out() if one.source != ALL}
