"""Why two rows of the same case cannot be compared: measured in different ways, slowed by the clock, impossible, or without a number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas
from numpy.typing import NDArray

from ..best import IMPOSSIBLE
from .columns import METHOD_NAMES
from .comparison import Settings
from .estimates import Ints
from .match import CONDITION_NAMES, Matched, codes

SLOW_CLOCK = "the clock is far below the peak's"
"""A flag of runners/plausibility.py: such a row tells of the clock, not of the code."""

POWER_CAP = "power_cap"
"""What runners/devices/ call a slowdown by the limit on power."""

Words = NDArray[np.object_]


def why_not(matched: Matched, used: NDArray[np.bool_], settings: Settings) -> Words:
    """Why each pair cannot be compared; empty where it can."""
    frame = matched.columns.frame
    reasons = np.full(len(matched), "", dtype=object)

    def mark(pairs: Ints, words: Sequence[str]) -> None:
        for pair, told in zip(pairs, words, strict=True):
            reasons[pair] = reasons[pair] or told

    for side, name in ((False, "base"), (True, "new")):
        row = matched.new_row if side else matched.base_row
        good = np.bincount(matched.pair[used & (matched.is_new == side)], minlength=len(matched)) > 0
        bad = np.flatnonzero(~good)
        mark(
            bad,
            [
                f"{name} has no number: {status}" + (f" ({reason})" if isinstance(reason, str) else "")
                for status, reason in _texts(frame, row[bad], ("status", "reason"))
            ],
        )
    strange = np.flatnonzero(matched.strange)
    mark(strange, _differences(frame, matched.base_row[strange], matched.new_row[strange], CONDITION_NAMES))
    methods = tuple(name for name in METHOD_NAMES if name not in settings.ignored)
    several = _several(matched, used, methods)
    mark(several, _differences(frame, matched.base_row[several], matched.new_row[several], methods))
    for words, doubtful in _doubtful(frame).items():
        for side, name in ((False, "base"), (True, "new")):
            hit = np.unique(matched.pair[used & doubtful & (matched.is_new == side)])
            mark(hit, [f"{name}: {words}"] * len(hit))
    if settings.normalised:
        unknown = np.unique(matched.pair[used & frame["peak_fraction"].isna().to_numpy()])
        mark(unknown, ["the peak is not known"] * len(unknown))
    return reasons


def _several(matched: Matched, used: NDArray[np.bool_], names: Sequence[str]) -> Ints:
    """Pairs whose rows do not all agree in ``names``."""
    rows = np.flatnonzero(used)
    code, pair = codes(matched.columns.frame.iloc[rows], names), matched.pair[rows]
    low, high = np.full(len(matched), np.iinfo(np.int64).max), np.full(len(matched), -1)
    np.minimum.at(low, pair, code)
    np.maximum.at(high, pair, code)
    return np.flatnonzero(high > low)


def _texts(frame: pandas.DataFrame, rows: Ints, names: Sequence[str]) -> list[tuple[object, ...]]:
    part = frame.iloc[rows]
    return list(zip(*(part[name].astype(object).tolist() for name in names), strict=True)) if len(rows) else []


def _differences(frame: pandas.DataFrame, base: Ints, new: Ints, names: Sequence[str]) -> list[str]:
    told = []
    for left, right in zip(_texts(frame, base, names), _texts(frame, new, names), strict=True):
        parts = [
            f"{name.replace('_', ' ')} {_value(name, a)} against {_value(name, b)}"
            for name, a, b in zip(names, left, right, strict=True)
            if not (a == b or (_unknown(a) and _unknown(b)))
        ]
        told.append("measured in different ways: " + (", ".join(parts) or "runs of one side differ among themselves"))
    return told


def _unknown(value: object) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _value(name: str, value: object) -> str:
    if _unknown(value):
        return {"tool": "chipassay", "time_statistic": "median"}.get(name, "unknown")
    return str(value)


def _doubtful(frame: pandas.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Words for what makes a row tell of something else than the code, and which rows they are true of."""
    flags = frame["flags"].cat.categories

    def flagged(begins: str) -> NDArray[np.bool_]:
        hit = [flag for flag in flags if any(part.strip().startswith(begins) for part in str(flag).split(";"))]
        return frame["flags"].isin(hit).to_numpy()

    # The power limit alone holds every large product of a healthy H100 or H200. Where the clock was read on the chip around each call,
    # the verdict takes it into account (judge.py).
    reasons = frame["throttle_reasons"].cat.categories
    capped = frame["throttle_reasons"].isin([reason for reason in reasons if set(str(reason).split(";")) == {POWER_CAP}]).to_numpy()
    known = capped & frame["clock_method"].isin(["device"]).to_numpy()
    return {
        "the chip was throttled (clock-limited)": frame["throttled"].isin([True]).to_numpy() & ~known,
        "the clock was far below the peak's (clock-limited)": flagged(SLOW_CLOCK) & ~known,
        "faster than is possible": flagged(IMPOSSIBLE),
    }
