"""Which rows are partners: cases that both sides have, the rows of each, and what is left over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas
from numpy.typing import NDArray

from ..best import impossible
from ..schema import KEY_NAMES, Row
from .columns import Columns, joined

Ints = NDArray[np.int64]

CONDITION_NAMES = ("math_mode", "cache", "launch")
"""Key columns in which two rows of the same work may differ: then they are shown as a pair that cannot be compared."""


@dataclass(frozen=True)
class Matched:
    """All rows of both sides (``columns``: base first), each with the pair it belongs to.

    ``base_row`` and ``new_row`` hold for each pair a row a side that stands for it; ``strange`` marks pairs whose rows differ in
    CONDITION_NAMES. Rows of no pair have -1, those for which another row of their case and run stands -2.
    """

    columns: Columns
    is_new: NDArray[np.bool_]
    pair: Ints
    base_row: Ints
    new_row: Ints
    strange: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.base_row)


def codes(frame: pandas.DataFrame, names: Sequence[str]) -> Ints:
    """One number a line: the same for lines that agree in all ``names`` (of ``columns.WORDS``), unknown values being alike."""
    found = np.zeros(len(frame), dtype=np.int64)
    for name in names:
        column = frame[name].cat
        values, count = column.codes.to_numpy().astype(np.int64) + 1, len(column.categories) + 1
        if count == 1 or (len(values) and (values == values[0]).all()):
            continue
        found, _ = pandas.factorize(found * count + values)
    return found.astype(np.int64)


def match(base: Columns, new: Columns, ignored: Sequence[str] = ()) -> Matched:
    """Partners by all key columns but ``ignored``; by chip where a side holds several, by the machine's chip where both sides tell it.

    Of several rows of a case in one run the last counts, with ``ignored`` the fastest correct one.
    """
    both = joined(base, new, name=f"{base.name}, {new.name}")
    frame = both.frame
    is_new = np.arange(len(frame)) >= len(base)
    several = any(part.frame["chip_id"].nunique() > 1 for part in (base, new))
    names = [name for name in KEY_NAMES if name not in ignored] + ["chip_id"] * several
    run = _runs(frame)
    case = _by_device(frame, codes(frame, names))
    kept = _kept(frame, case, run, is_new, fastest=bool(ignored))
    pair, base_row, new_row = _partners(case, is_new, kept)
    strange = np.zeros(len(base_row), dtype=bool)
    alone = kept & (pair < 0)
    if alone.any():
        looser = _by_device(frame, codes(frame, [name for name in names if name not in CONDITION_NAMES]))
        later, more_base, more_new = _partners(looser, is_new, alone)
        pair = np.where(later >= 0, later + len(base_row), pair)
        strange = np.concatenate([strange, np.ones(len(more_base), dtype=bool)])
        base_row, new_row = np.concatenate([base_row, more_base]), np.concatenate([new_row, more_new])
    pair = np.where(kept, pair, -2)
    return Matched(both, is_new, pair, base_row, new_row, strange)


def _by_device(frame: pandas.DataFrame, case: Ints) -> Ints:
    """Cases told apart by the machine's chip where all rows of the case tell it: collectives, beside rows of single chips, do not."""
    device = frame["device_index"].cat.codes.to_numpy().astype(np.int64)
    if (device < 0).all():
        return case
    untold = np.bincount(case, device < 0) > 0
    device = np.where(untold[case], -1, device) + 1
    return np.unique(case * (device.max(initial=0) + 1) + device, return_inverse=True)[1].astype(np.int64)


def _runs(frame: pandas.DataFrame) -> Ints:
    """Which run a row is of: its run_id, or its file where it has none."""
    run = frame["run_id"].cat.codes.to_numpy().astype(np.int64)
    return np.where(run >= 0, run, run.max(initial=0) + 1 + frame["file"].to_numpy())


def _kept(frame: pandas.DataFrame, case: Ints, run: Ints, is_new: NDArray[np.bool_], *, fastest: bool) -> NDArray[np.bool_]:
    """One row of each case, run and side."""
    order = pandas.DataFrame(
        {"case": case, "run": run, "new": is_new, "chip": frame["chip_id"].cat.codes, "device": frame["device_index"].cat.codes}
    )
    if fastest:
        above = [flags for flags in frame["flags"].cat.categories if impossible(Row(flags=str(flags)))]
        failed = (frame["status"] != "ok").to_numpy() | frame["flags"].isin(above).to_numpy()
        time = frame["time_median_s"].to_numpy()
        place = np.lexsort((-np.arange(len(frame)), np.where(np.isnan(time), np.inf, time), failed))
        first = ~order.iloc[place].duplicated(keep="first").to_numpy()
        kept = np.zeros(len(frame), dtype=bool)
        kept[place[first]] = True
        return kept
    return ~order.duplicated(keep="last").to_numpy()


def _partners(case: Ints, is_new: NDArray[np.bool_], among: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Of the rows ``among``: the pair of each (-1: none), and of each pair the last row a side. Pairs are in the order of the base."""
    last = {side: _last(case, among & (is_new == side)) for side in (False, True)}
    size = int(case.max(initial=-1)) + 1
    base, new = np.full(size, -1), np.full(size, -1)
    base[last[False][0]], new[last[True][0]] = last[False][1], last[True][1]
    shared = np.flatnonzero((base >= 0) & (new >= 0))
    shared = shared[np.argsort(_first(case, among & ~is_new, size)[shared], kind="stable")]
    number = np.full(size, -1)
    number[shared] = np.arange(len(shared))
    pair = np.where(among, number[case], -1) if size else np.full(len(case), -1)
    return pair.astype(np.int64), base[shared], new[shared]


def _last(case: Ints, chosen: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    rows = np.flatnonzero(chosen)[::-1]
    cases, places = np.unique(case[rows], return_index=True)
    return cases, rows[places]


def _first(case: Ints, chosen: NDArray[np.bool_], size: int) -> Ints:
    rows = np.flatnonzero(chosen)
    cases, places = np.unique(case[rows], return_index=True)
    found = np.full(size, -1)
    found[cases] = rows[places]
    return found
