"""What a comparison is: two sides, their pairs with a verdict each, and what found no partner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas

Verdict = Literal["FASTER", "SLOWER", "SAME", "UNCLEAR", "NOT-COMPARABLE"]
VERDICTS: tuple[Verdict, ...] = ("SLOWER", "FASTER", "UNCLEAR", "SAME", "NOT-COMPARABLE")
"""In the order in which a reader wants to see them."""

THRESHOLDS: Mapping[str, float] = {"compute": 0.03, "memory": 0.03, "link": 0.05, "collective": 0.05, "overhead": 0.10}
"""Practical threshold by what limits an operation (``operations.limited_by``): a smaller change is nobody's concern. Judgement, not
measured: GPUs of one node differ by 5 % and more (ml-engineering), links and launches by more than arithmetic. What a machine allows,
`chipassay compare --self-test` measures."""
ALPHA = 0.01
"""Of comparisons in which nothing changed, at most this share has a false FASTER or SLOWER anywhere in it."""


@dataclass(frozen=True)
class Settings:
    """How strict to be. ``thresholds``: relative change by kind of metric below which a difference does not matter."""

    alpha: float = ALPHA
    thresholds: Mapping[str, float] = field(default_factory=lambda: dict(THRESHOLDS))
    normalised: bool = False
    """Shares of peak are compared in place of times: for different chips."""
    ignored: tuple[str, ...] = ()
    """Key columns that partners may differ in; of several candidates a side, the fastest correct one is taken."""


@dataclass(frozen=True)
class Side:
    """One side: what the user called it and what it holds."""

    name: str
    files: tuple[str, ...]
    chips: tuple[str, ...]
    runs: int
    rows: int


PAIR_COLUMNS: Mapping[str, str] = {
    "base_chip": "chip id of the base row",
    "new_chip": "chip id of the new row",
    "device_index": "which of the machine's chips, where rows tell",
    "kind": "`compute`, `memory`, `link`, `collective`, `overhead`: what limits the operation",
    "base_time_s": "median of the base, over all its runs",
    "new_time_s": "median of the new side",
    "ratio": "new over base time (normalised: base over new share of peak); above 1 is slower",
    "ratio_low": "lower end of its 95 % interval",
    "ratio_high": "upper end",
    "p_value": "two-sided rank test on the raw samples",
    "p_adjusted": "after correction over all pairs (Benjamini and Hochberg)",
    "base_samples": "raw samples of the base that entered",
    "new_samples": "of the new side",
    "base_runs": "runs of the base that were pooled",
    "new_runs": "of the new side",
    "clock_ratio": "new over base chip clock, where both were read",
    "cycles_ratio": "ratio times clock_ratio: what is left when the clock is taken out",
    "threshold": "relative change below which a difference does not matter",
    "verdict": "FASTER, SLOWER, SAME, UNCLEAR or NOT-COMPARABLE",
    "reason": "why UNCLEAR or NOT-COMPARABLE, or what to know; else empty",
    "broken": "true where the base row was ok and the new one is not",
}
"""Columns of ``Comparison.pairs`` beside the key columns of the schema (``schema.KEY_NAMES``), which name the case."""


@dataclass(frozen=True)
class Comparison:
    """``pairs``: one row a pair, in the order of the base (columns: KEY_NAMES, then PAIR_COLUMNS).

    ``unmatched``: what has no partner (KEY_NAMES, ``side`` = ``base`` or ``new``, ``chip``, ``status``, ``time_s``, ``reason``).
    """

    base: Side
    new: Side
    pairs: pandas.DataFrame
    unmatched: pandas.DataFrame
    settings: Settings = field(default_factory=Settings)
    notes: tuple[str, ...] = ()
    """What to know of the comparison as a whole, a sentence each: chips differ, everything moved together, ..."""
