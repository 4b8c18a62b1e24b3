"""What the verdicts say of runs of the same code: every FASTER or SLOWER among them is a false alarm."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from chipassay.results.compare.comparison import THRESHOLDS, Settings
from chipassay.results.errors import InputError
from chipassay.results.schema import Row, case_key

if TYPE_CHECKING:
    import pandas

    from chipassay.results.compare.columns import Columns

LEAST_RUNS = 4
"""Two halves of two runs each: fewer tell nothing of what lies between runs of one side."""
MOST_SPLITS = 10
"""Ways to halve the runs that are tried; they tell much the same things again."""
ACCEPTED = 0.01
"""Share of false alarms that the recommended threshold stays under."""
ALL = "all"
PAIR_NAMES = ("kind", "ratio", "ratio_low", "ratio_high", "p_adjusted", "threshold", "verdict")


@dataclass(frozen=True)
class Alarms:
    """One kind of metric (or ``all``). ``judged`` counts comparisons that use each run once, so that ``low`` and ``high`` may be believed.

    They are the 95 % interval of the rate ``false / judged`` (Clopper and Pearson 1934). Rows of one pair of runs share its shift, so the
    true one is wider. ``shift_median``, ``shift_most``: relative differences over every pair of sides. ``needed``: the smallest threshold
    at which under ACCEPTED of those pairs would have been alarms.
    """

    kind: str
    judged: int
    false: int
    unclear: int
    low: float
    high: float
    pairs: int
    shift_median: float
    shift_most: float
    needed: float
    threshold: float | None
    """The one in use; None for ``all``."""

    @property
    def rate(self) -> float:
        """Share of the judged comparisons that were false alarms."""
        return self.false / self.judged if self.judged else math.nan


@dataclass(frozen=True)
class SelfTest:
    """A machine against itself: one run a side, and half of all runs a side. The last of each is over all kinds."""

    chips: tuple[str, ...]
    runs: int
    cases: int
    """Measured in at least two runs."""
    everywhere: int
    """Measured in all of them."""
    single: tuple[Alarms, ...]
    pooled: tuple[Alarms, ...]
    settings: Settings


def self_test(runs: Sequence[Sequence[Row]], settings: Settings) -> SelfTest:
    """``runs``: rows of each run, in the order in which they were measured, of the same code on the same machine.

    Raises InputError for fewer than LEAST_RUNS, or where no case was measured twice.
    """
    from chipassay.results.compare.columns import columns_of_rows

    if len(runs) < LEAST_RUNS or len(runs) % 2:
        raise InputError(f"a self-test needs an even number of runs, at least {LEAST_RUNS}; there are {len(runs)}")
    columns = [columns_of_rows(rows, f"run {position + 1}") for position, rows in enumerate(runs)]
    every = range(len(runs))
    half = len(runs) // 2
    # The longest time apart that uses each run once: a base is seldom measured right before.
    once = [(first, first + half) for first in range(half)]
    single = _alarms([(columns[a], columns[b], (a, b) in once) for a, b in combinations(every, 2)], settings)
    sides = [tuple(every[::2]), *(side for side in combinations(every, half) if 0 in side and side != tuple(every[::2]))]
    step = max(1, (len(sides) - 1) // MOST_SPLITS)
    chosen = sides[:1] + sides[1::step][:MOST_SPLITS]
    halves = []
    for position, side in enumerate(chosen):
        base, new = ([row for i in every if (i in side) is taken for row in runs[i]] for taken in (True, False))
        halves.append((columns_of_rows(base, "base"), columns_of_rows(new, "new"), position == 0))
    pooled = _alarms(halves, settings)
    if not single[-1].pairs:
        raise InputError("no case was measured in two runs; give a self-test more time by --budget or fewer cases by --only")
    seen = Counter(key for rows in runs for key in {(row.chip_id, case_key(row)) for row in rows if row.status == "ok"})
    return SelfTest(
        chips=tuple(sorted({chip or "unknown chip" for chip, _ in seen})),
        runs=len(runs),
        cases=sum(count > 1 for count in seen.values()),
        everywhere=sum(count == len(runs) for count in seen.values()),
        single=single,
        pooled=pooled,
        settings=settings,
    )


def _alarms(sides: Sequence[tuple[Columns, Columns, bool]], settings: Settings) -> tuple[Alarms, ...]:
    """Alarms by kind, then over all, of (base, new, whether it counts for the rate)."""
    import pandas

    from chipassay.results.compare.compare import compare

    frames = []
    for base, new, once in sides:
        found = compare(base, new, settings).pairs[[*PAIR_NAMES]]
        frames.append(found[found["verdict"] != "NOT-COMPARABLE"].assign(once=once))
    pairs = pandas.concat(frames, ignore_index=True)
    pairs["significant"] = _significant(pairs, settings.alpha)
    kinds = [kind for kind in THRESHOLDS if (pairs["kind"] == kind).any()]
    parts = [_of_kind(kind, pairs[pairs["kind"] == kind], settings) for kind in kinds]
    return (*parts, _of_kind(ALL, pairs, settings))


def _significant(pairs: pandas.DataFrame, alpha: float) -> pandas.Series:
    """Which pairs would be FASTER or SLOWER if any change mattered. Those that a threshold let pass and that still are UNCLEAR are so for
    their clock, whatever the threshold."""
    import numpy as np

    moved = (pairs["p_adjusted"] < alpha) & ((pairs["ratio_low"] > 1) | (pairs["ratio_high"] < 1))
    by_clock = (pairs["verdict"] == "UNCLEAR") & (np.abs(np.log(pairs["ratio"])) > np.log1p(pairs["threshold"]))
    return moved & ~by_clock


def _of_kind(kind: str, pairs: pandas.DataFrame, settings: Settings) -> Alarms:
    import numpy as np

    judged = pairs[pairs["once"]]
    false = int(judged["verdict"].isin(("FASTER", "SLOWER")).sum())
    shifts = np.abs(np.log(pairs["ratio"].to_numpy(dtype=float)))
    shifts = shifts[np.isfinite(shifts)]
    low, high = exact_interval(false, len(judged))
    return Alarms(
        kind=kind,
        judged=len(judged),
        false=false,
        unclear=int((judged["verdict"] == "UNCLEAR").sum()),
        low=low,
        high=high,
        pairs=len(pairs),
        shift_median=math.expm1(float(np.median(shifts))) if len(shifts) else math.nan,
        shift_most=math.expm1(float(shifts.max())) if len(shifts) else math.nan,
        needed=needed_threshold(pairs.loc[pairs["significant"], "ratio"].tolist(), len(pairs)),
        threshold=settings.thresholds.get(kind),
    )


def needed_threshold(alarms: Sequence[Any], total: int) -> float:
    """The smallest threshold, rounded up to a tenth of a percent, at which under ACCEPTED of ``total`` pairs are alarms.

    ``alarms``: the ratios of those that are significant.

    >>> needed_threshold([1.052, 0.99, 1.01], total=50), needed_threshold([1.052, 1.02], total=101), needed_threshold([], total=50)
    (0.053, 0.021, 0.0)
    """
    sizes = sorted((math.expm1(abs(math.log(float(ratio)))) for ratio in alarms), reverse=True)
    accepted = max(0, math.ceil(ACCEPTED * total) - 1)
    if len(sizes) <= accepted:
        return 0.0
    # A threshold is passed by what is above it, so the next tenth holds back the largest that must not pass.
    return math.floor(sizes[accepted] * 1000 + 1) / 1000


def exact_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (Clopper and Pearson, Biometrika 26, 1934).

    >>> low, high = exact_interval(0, 60)
    >>> low, round(high, 4)
    (0.0, 0.0596)
    """
    if not trials:
        return 0.0, 1.0
    from scipy.stats import binomtest

    found = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)
