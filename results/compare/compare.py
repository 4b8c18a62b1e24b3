"""The verdict on each pair, and what to say of the comparison as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas
from numpy.typing import NDArray
from scipy import stats

from ..best import IMPOSSIBLE
from ..operations import LEAST_INTENSITY, LIMITED_BY
from ..schema import KEY_NAMES
from .columns import METHOD_NAMES, Columns
from .comparison import Comparison, Settings, Side
from .effects import Effects, effects
from .estimates import Floats, Ints, Samples
from .match import CONDITION_NAMES, Matched, match

SLOW_CLOCK = "the clock is far below the peak's"
"""A flag of runners/plausibility.py: such a row tells of the clock, not of the code."""
CLOCK_METHODS = ("device", "nvml")
"""Ways of reading a clock that are good enough to count cycles by."""
MOVED_PAIRS = 5
"""With fewer pairs of a kind, moving together says nothing."""

Words = NDArray[np.object_]


def compare(base: Columns, new: Columns, settings: Settings | None = None) -> Comparison:
    """Every pair with its verdict (``comparison.PAIR_COLUMNS``), and what has no partner."""
    settings = settings or Settings()
    matched = match(base, new, settings.ignored)
    frame = matched.columns.frame
    ok = (frame["status"] == "ok").to_numpy(dtype=bool, na_value=False)
    of_pairs = matched.pair >= 0
    used = of_pairs & ok
    kind = _kinds(frame.iloc[matched.base_row])
    offset = _offset(frame, settings.normalised)
    found = effects(
        _samples(matched.columns, used, offset), _told(frame, offset), np.where(used, matched.pair, -1), matched.is_new, list(kind)
    )
    reasons = _not_comparable(matched, used, ok, settings)
    thresholds = np.array([settings.thresholds.get(name, max(settings.thresholds.values())) for name in kind], dtype=float)
    clock = _clock_ratio(matched, used)
    judged = _Judged(found, thresholds, clock, kind, reasons, settings)
    columns = {name: frame[name].iloc[matched.base_row].to_numpy(dtype=object, na_value=None) for name in KEY_NAMES}
    columns |= _pair_columns(matched, found, judged, kind, thresholds, clock, offset)
    sides = _side(base), _side(new)
    return Comparison(*sides, pandas.DataFrame(columns), _unmatched(matched), settings, _notes(*sides, judged, settings, frame))


def _side(columns: Columns) -> Side:
    chips = tuple(sorted(str(chip) for chip in columns.frame["chip_id"].dropna().unique()))
    runs = pandas.MultiIndex.from_arrays(
        [columns.frame["run_id"].cat.codes, columns.frame["file"].where(columns.frame["run_id"].isna(), -1)]
    )
    return Side(columns.name, columns.files, chips, len(runs.unique()), len(columns))


def _kinds(frame: pandas.DataFrame) -> Words:
    """``operations.limited_by`` of each line."""
    op = frame["op"].astype(object).to_numpy()
    known = np.array([LIMITED_BY.get(name, "") for name in op], dtype=object)
    dense = frame["flops"].fillna(0.0).to_numpy() > LEAST_INTENSITY * frame["bytes"].fillna(0.0).to_numpy()
    collective = frame["m"].isna().to_numpy() & (frame["group_size"].notna() | frame["busbw_bytes_per_s"].notna()).to_numpy()
    return np.where(collective, "collective", np.where(known != "", known, np.where(dense, "compute", "memory"))).astype(object)


def _offset(frame: pandas.DataFrame, normalised: bool) -> Floats:
    """What is added to the log of a time so that it becomes the log of a cost: nothing, or what makes it one over the share of peak."""
    if not normalised:
        return np.zeros(len(frame))
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(frame["peak_fraction"].to_numpy()) - np.log(frame["time_median_s"].to_numpy()))


def _samples(columns: Columns, used: NDArray[np.bool_], offset: Floats) -> Samples:
    counts = np.where(used, np.diff(columns.starts), 0)
    values = columns.samples_s
    if offset.any():
        values = values * np.exp(np.repeat(np.nan_to_num(offset), np.diff(columns.starts)))
    # A sample of no time at all has no logarithm; a row that holds one is taken as it is told.
    broken = np.unique(np.searchsorted(columns.starts, np.flatnonzero(~(values > 0)), side="right") - 1)
    counts[broken] = 0
    return Samples(values, columns.starts[:-1], counts)


def _told(frame: pandas.DataFrame, offset: Floats) -> tuple[Floats, Floats, Floats]:
    """Log of each row's own median, and of the ends of its interval. A row with a bandwidth alone tells the time of a byte."""
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.log(frame["time_low_s"].to_numpy()), np.log(frame["time_high_s"].to_numpy())
        median = np.log(frame["time_median_s"].to_numpy())
        median = np.where(np.isnan(median), -np.log(frame["bandwidth_bytes_per_s"].to_numpy()), median)
    return median + offset, low + offset, high + offset


def _clock_ratio(matched: Matched, used: NDArray[np.bool_]) -> Floats:
    """New over base clock of each pair; NaN where either is unknown."""
    frame = matched.columns.frame
    read = used & frame["clock_method"].isin(CLOCK_METHODS).to_numpy()
    clock = frame["clock_hz"].to_numpy()
    means = []
    for side in (False, True):
        rows = np.flatnonzero(used & (matched.is_new == side))
        total = np.bincount(matched.pair[rows], np.where(read[rows], clock[rows], np.nan), len(matched))
        with np.errstate(divide="ignore", invalid="ignore"):
            means.append(total / np.bincount(matched.pair[rows], minlength=len(matched)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(means[1] / means[0])


def _not_comparable(matched: Matched, used: NDArray[np.bool_], ok: NDArray[np.bool_], settings: Settings) -> Words:
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
    from .match import codes

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

    throttled = frame["throttled"].isin([True]).to_numpy()
    return {
        "the chip was throttled (clock-limited)": throttled,
        "the clock was far below the peak's (clock-limited)": flagged(SLOW_CLOCK),
        "faster than is possible": flagged(IMPOSSIBLE),
    }


class _Judged:
    """Verdicts and reasons of all pairs."""

    def __init__(self, found: Effects, thresholds: Floats, clock: Floats, kind: Words, not_comparable: Words, settings: Settings) -> None:
        self.found, self.limit, self.alpha = found, np.log1p(thresholds), settings.alpha
        self.comparable = not_comparable == ""
        self.log_ratio = np.where(np.isfinite(found.log_ratio), found.log_ratio, np.nan)
        known = self.comparable & np.isfinite(self.log_ratio) & np.isfinite(found.half) & np.isfinite(found.p_value)
        self.p_adjusted = np.full(len(kind), np.nan)
        if known.any():
            self.p_adjusted[known] = stats.false_discovery_control(np.clip(found.p_value[known], 0.0, 1.0), method="bh")
        self.certain = known & (self.p_adjusted < self.alpha) & (np.abs(self.log_ratio) > found.half)
        large = np.abs(self.log_ratio) > self.limit
        same = known & (np.abs(self.log_ratio) + found.half < self.limit)
        cycles = self.log_ratio + np.log(clock)
        # A change of clock is no change of code: in cycles nothing moved, or it moved the other way.
        self.by_clock = self.certain & large & (kind == "compute") & np.isfinite(cycles) & (np.abs(np.log(clock)) > self.limit / 2)
        self.by_clock &= cycles * np.sign(self.log_ratio) < self.limit
        moved = self.certain & large & ~self.by_clock
        verdict = np.full(len(kind), "UNCLEAR", dtype=object)
        verdict[same] = "SAME"
        verdict[moved & (self.log_ratio > 0)] = "SLOWER"
        verdict[moved & (self.log_ratio < 0)] = "FASTER"
        verdict[~self.comparable] = "NOT-COMPARABLE"
        self.verdict = verdict
        self.reason = not_comparable.copy()
        unclear = np.flatnonzero(verdict == "UNCLEAR")
        self.reason[unclear] = [self._why(pair, known[pair], clock[pair], len(kind)) for pair in unclear]

    def _why(self, pair: int, known: bool, clock: float, pairs: int) -> str:
        found = self.found
        if not known:
            if not np.isfinite(self.log_ratio[pair]):
                return "a side tells no time"
            return "no samples and no interval: several runs a side, or a tool that keeps samples, would tell"
        if self.by_clock[pair]:
            return f"the clock changed by {100 * (clock - 1):+.1f} %: in cycles nothing changed"
        half = 100 * np.expm1(found.half[pair])
        if self.certain[pair]:
            return f"a change of {100 * np.expm1(self.log_ratio[pair]):+.1f} % is certain, but whether it is over the threshold is not"
        if found.least_p[pair] * pairs >= self.alpha and found.p_value[pair] <= found.least_p[pair] * 1.0001:
            return (
                f"too few samples: {found.base_samples[pair]} and {found.new_samples[pair]} cannot tell among {pairs:,} "
                f"{'pairs' if pairs > 1 else 'pair'}; take {_enough(self.alpha / pairs)} a side"
            )
        return f"too noisy: +-{half:.1f} % at a threshold of {100 * np.expm1(self.limit[pair]):.0f} %; take more samples or runs"


def _enough(p: float) -> int:
    """Samples a side from which the rank test can go below ``p``."""
    from .estimates import least_p

    counts = np.arange(2, 200)
    return int(counts[np.argmax(least_p(counts, counts) < p)])


def _pair_columns(
    matched: Matched, found: Effects, judged: _Judged, kind: Words, thresholds: Floats, clock: Floats, offset: Floats
) -> dict[str, object]:
    frame = matched.columns.frame
    base, new = frame.iloc[matched.base_row], frame.iloc[matched.new_row]
    ok = [(part["status"] == "ok").to_numpy(dtype=bool, na_value=False) for part in (base, new)]
    ratio = np.exp(judged.log_ratio)
    return {
        "base_chip": base["chip_id"].astype(object).to_numpy(),
        "new_chip": new["chip_id"].astype(object).to_numpy(),
        "device_index": base["device_index"].astype(object).to_numpy(),
        "kind": kind,
        "base_time_s": np.exp(found.base_log - offset[matched.base_row]) if not offset.any() else base["time_median_s"].to_numpy(),
        "new_time_s": np.exp(found.new_log - offset[matched.new_row]) if not offset.any() else new["time_median_s"].to_numpy(),
        "ratio": ratio,
        "ratio_low": np.exp(judged.log_ratio - found.half),
        "ratio_high": np.exp(judged.log_ratio + found.half),
        "p_value": found.p_value,
        "p_adjusted": judged.p_adjusted,
        "base_samples": found.base_samples,
        "new_samples": found.new_samples,
        "base_runs": found.base_runs,
        "new_runs": found.new_runs,
        "clock_ratio": clock,
        "cycles_ratio": ratio * clock,
        "threshold": thresholds,
        "verdict": judged.verdict,
        "reason": judged.reason,
        "broken": ok[0] & ~ok[1],
    }


def _unmatched(matched: Matched) -> pandas.DataFrame:
    frame = matched.columns.frame
    rows = np.flatnonzero(matched.pair == -1)
    part = frame.iloc[rows]
    columns: dict[str, object] = {name: part[name].astype(object).to_numpy() for name in KEY_NAMES}
    columns["side"] = np.where(matched.is_new[rows], "new", "base")
    columns["chip"] = part["chip_id"].astype(object).to_numpy()
    columns["status"] = part["status"].astype(object).to_numpy()
    columns["time_s"] = part["time_median_s"].to_numpy()
    columns["reason"] = part["reason"].astype(object).to_numpy()
    return pandas.DataFrame(columns)


def _notes(base: Side, new: Side, judged: _Judged, settings: Settings, frame: pandas.DataFrame) -> tuple[str, ...]:
    notes = []
    if base.chips != new.chips:
        notes.append(f"The chips differ: {', '.join(base.chips) or 'unknown'} against {', '.join(new.chips) or 'unknown'}.")
    if settings.normalised:
        other = sorted({str(value) for value in frame["peak_evidence"].dropna().unique()} - {"published"})
        if other:
            notes.append(f"Some shares are of a peak that is not published but {' or '.join(other)}.")
    known = judged.comparable & np.isfinite(judged.log_ratio)
    moves = judged.log_ratio[known]
    if len(moves) >= MOVED_PAIRS and base.chips == new.chips:
        low, middle, high = np.quantile(moves, [0.25, 0.5, 0.75])
        if abs(middle) > min(judged.limit[known]) and high - low < abs(middle):
            change = 100 * np.expm1(middle)
            notes.append(
                f"Everything moved together, by {change:+.1f} % (median of {len(moves):,} pairs): look at the machine before the code."
            )
    return tuple(notes)
