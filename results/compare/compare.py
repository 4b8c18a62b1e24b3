"""Two sides held against each other: partners, effects, verdicts, and what to say of the comparison as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas
from numpy.typing import NDArray

from ..operations import LEAST_INTENSITY, LIMITED_BY
from ..schema import KEY_NAMES
from .columns import Columns
from .comparison import Comparison, Settings, Side
from .effects import Effects, effects
from .estimates import Floats, Samples
from .incomparable import why_not
from .judge import Judged, judge
from .match import Matched, match

CLOCK_METHODS = ("device", "nvml")
"""Ways of reading a clock that are good enough to count cycles by."""
ONE_RUN = (
    "One run a side: what lies between runs of the same code is not in the intervals, beyond what each run's own visits saw; give several "
    "runs a side, or see `chipassay compare --self-test`."
)
MOVED_PAIRS = 5
"""With fewer pairs of a kind, moving together says nothing."""

Words = NDArray[np.object_]


def compare(base: Columns, new: Columns, settings: Settings | None = None) -> Comparison:
    """Every pair with its verdict (``comparison.PAIR_COLUMNS``), and what has no partner."""
    settings = settings or Settings()
    matched = match(base, new, settings.ignored)
    frame = matched.columns.frame
    used = (matched.pair >= 0) & frame["status"].isin(["ok"]).to_numpy()
    kind = _kinds(frame.iloc[matched.base_row])
    offset = _offset(frame, settings.normalised)
    samples = _samples(matched.columns, used, offset)
    visits = frame["round_count"].astype(object).fillna(1).to_numpy().astype(np.int64)
    found = effects(samples, _told(frame, offset, settings.normalised), visits, np.where(used, matched.pair, -1), matched.is_new, kind)
    thresholds = np.array([settings.thresholds.get(name, max(settings.thresholds.values())) for name in kind], dtype=float)
    clock = _clock_ratio(matched, used)
    chip = frame["chip_id"].cat.codes.to_numpy()
    # Another chip has another clock, and does other work in a cycle: only of one and the same is it the clock that changed.
    own_clock = np.where(chip[matched.base_row] == chip[matched.new_row], clock, np.nan)
    judged = judge(found, thresholds, own_clock, kind, why_not(matched, used, settings), settings)
    logs = None if settings.normalised else (found.base_log, found.new_log)
    pairs = _pairs(matched, found, judged, kind, thresholds, clock, _times(matched, used, logs))
    sides = _side(base), _side(new)
    return Comparison(*sides, pairs, _unmatched(matched), settings, _notes(*sides, judged, thresholds, settings, frame))


def _side(columns: Columns) -> Side:
    chips = tuple(sorted(str(chip) for chip in columns.frame["chip_id"].dropna().unique()))
    runs = pandas.MultiIndex.from_arrays(
        [columns.frame["run_id"].cat.codes, columns.frame["file"].where(columns.frame["run_id"].isna(), -1)]
    )
    return Side(columns.name, columns.files, chips, len(runs.unique()), len(columns))


def _kinds(frame: pandas.DataFrame) -> Words:
    """``operations.limited_by`` of each line."""
    op = frame["op"].cat
    known = np.array([*(LIMITED_BY.get(name, "") for name in op.categories), ""], dtype=object)[op.codes.to_numpy()]
    dense = frame["flops"].fillna(0.0).to_numpy() > LEAST_INTENSITY * frame["bytes"].fillna(0.0).to_numpy()
    collective = frame["m"].isna().to_numpy() & (frame["group_size"].notna() | frame["busbw_bytes_per_s"].notna()).to_numpy()
    return np.where(collective, "collective", np.where(known != "", known, np.where(dense, "compute", "memory"))).astype(object)


def _offset(frame: pandas.DataFrame, normalised: bool) -> Floats:
    """What is added to the log of a time so that it becomes the log of a cost: nothing, or what makes it one over the share of peak."""
    if not normalised:
        return np.zeros(len(frame))
    with np.errstate(divide="ignore"):
        offset = -np.log(frame["peak_fraction"].to_numpy()) - np.log(frame["time_median_s"].to_numpy())
    return np.where(np.isfinite(offset), offset, np.nan)


def _samples(columns: Columns, used: NDArray[np.bool_], offset: Floats) -> Samples:
    counts = np.where(used & ~np.isnan(offset), np.diff(columns.starts), 0)
    values = columns.samples_s
    if offset.any():
        values = values * np.exp(np.repeat(np.nan_to_num(offset), np.diff(columns.starts)))
    # A sample of no time at all, or of no end, has no logarithm; a row that holds one is taken as it is told.
    broken = np.unique(np.searchsorted(columns.starts, np.flatnonzero(~((values > 0) & (values < np.inf))), side="right") - 1)
    counts[broken] = 0
    return Samples(values, columns.starts[:-1], counts)


def _told(frame: pandas.DataFrame, offset: Floats, normalised: bool) -> tuple[Floats, Floats, Floats]:
    """Log of each row's own median, and of the ends of its interval. A row with a bandwidth alone tells the time of a byte."""
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.log(frame["time_low_s"].to_numpy()), np.log(frame["time_high_s"].to_numpy())
        if normalised:
            return -np.log(frame["peak_fraction"].to_numpy()), low + offset, high + offset
        median = np.log(frame["time_median_s"].to_numpy())
        return np.where(np.isnan(median), -np.log(frame["bandwidth_bytes_per_s"].to_numpy()), median), low, high


def _clock_ratio(matched: Matched, used: NDArray[np.bool_]) -> Floats:
    """New over base clock of each pair; NaN where either is unknown."""
    frame = matched.columns.frame
    clock = frame["clock_hz"].to_numpy()
    read = used & frame["clock_method"].isin(CLOCK_METHODS).to_numpy() & (clock > 0)
    means = []
    for side in (False, True):
        rows = np.flatnonzero(used & (matched.is_new == side))
        total = np.bincount(matched.pair[rows], np.where(read[rows], clock[rows], np.nan), len(matched))
        with np.errstate(divide="ignore", invalid="ignore"):
            means.append(total / np.bincount(matched.pair[rows], minlength=len(matched)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(means[1] / means[0])


def _times(matched: Matched, used: NDArray[np.bool_], logs: tuple[Floats, Floats] | None) -> list[Floats]:
    """Time of each side of each pair, NaN where no row tells one: bandwidths and shares of peak stand in for a time, but are none.

    ``logs``: logs of the times that are compared; None where they are of something else, and what the rows tell is shown."""
    told = matched.columns.frame["time_median_s"].to_numpy()
    times = []
    for side in (False, True):
        rows = np.flatnonzero(used & (matched.is_new == side) & ~np.isnan(told))
        count = np.bincount(matched.pair[rows], minlength=len(matched))
        with np.errstate(divide="ignore", invalid="ignore"):
            log = logs[side] if logs is not None else np.bincount(matched.pair[rows], np.log(told[rows]), len(matched)) / count
        times.append(np.where(count > 0, np.exp(log), np.nan))
    return times


def _pairs(
    matched: Matched, found: Effects, judged: Judged, kind: Words, thresholds: Floats, clock: Floats, times: Sequence[Floats]
) -> pandas.DataFrame:
    frame = matched.columns.frame
    base, new = matched.base_row, matched.new_row
    ratio = np.exp(judged.log_ratio)
    with np.errstate(over="ignore"):
        ends = [np.exp(judged.log_ratio + half) for half in (-found.half, found.half)]
    device = frame["device_index"].iloc[base].array
    device[frame["device_index"].cat.codes.to_numpy()[base] != frame["device_index"].cat.codes.to_numpy()[new]] = np.nan
    columns: dict[str, object] = {name: frame[name].iloc[base].array for name in KEY_NAMES}
    columns |= {
        "base_chip": frame["chip_id"].iloc[base].array,
        "new_chip": frame["chip_id"].iloc[new].array,
        "device_index": device,
        "kind": pandas.Categorical(kind),
        "base_time_s": times[0],
        "new_time_s": times[1],
        "ratio": ratio,
        "ratio_low": ends[0],
        "ratio_high": ends[1],
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
        "broken": (found.base_runs > 0) & (found.new_runs == 0),
    }
    return pandas.DataFrame(columns, copy=False)


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


def _notes(base: Side, new: Side, judged: Judged, thresholds: Floats, settings: Settings, frame: pandas.DataFrame) -> tuple[str, ...]:
    notes = []
    if base.rows and new.rows and base.chips != new.chips:
        notes.append(f"The chips differ: {', '.join(base.chips) or 'unknown'} against {', '.join(new.chips) or 'unknown'}.")
    if settings.normalised:
        other = sorted({str(value) for value in frame["peak_evidence"].dropna().unique()} - {"published"})
        if other:
            notes.append(f"Some shares are of a peak that is not published but {' or '.join(other)}.")
    if judged.comparable.any() and max(base.runs, new.runs) == 1:
        notes.append(ONE_RUN)
    known = judged.comparable & np.isfinite(judged.log_ratio)
    moves = judged.log_ratio[known]
    if len(moves) >= MOVED_PAIRS and base.chips == new.chips:
        low, middle, high = np.quantile(moves, [0.25, 0.5, 0.75])
        if abs(middle) > np.log1p(thresholds[known].min()) and high - low < abs(middle):
            change = 100 * np.expm1(middle)
            notes.append(
                f"Everything moved together, by {change:+.1f} % (median of {len(moves):,} pairs): look at the machine before the code."
            )
    return tuple(notes)
