"""A comparison made by hand: sixty pairs of every verdict, their ratios known."""

from __future__ import annotations

import pandas

from chipassay.results.compare.comparison import PAIR_COLUMNS, Comparison, Side
from chipassay.results.schema import KEY_NAMES, TYPES, Row

from . import sample

DTYPES = {"str": "string", "int": "Int64", "float": "Float64", "bool": "boolean"}
TURNS = (("SLOWER", 1.10), ("FASTER", 0.90), ("UNCLEAR", 1.05), ("SAME", 1.00), ("NOT-COMPARABLE", 1.20))
"""Verdict and ratio of the pairs, in turns."""


def comparison(rows: list[Row] | None = None, reason: str = "the interval reaches over the threshold") -> Comparison:
    """Each ok row against itself, slower or faster by TURNS (and a thousandth more from turn to turn, so that all differ)."""
    rows = [row for row in sample.rows() if row.status == "ok"] if rows is None else rows
    pairs = pandas.DataFrame([_pair(place, row, reason) for place, row in enumerate(rows)], columns=[*KEY_NAMES, *PAIR_COLUMNS])
    pairs = pairs.astype({name: DTYPES[TYPES[name]] for name in KEY_NAMES})
    lonely = {
        **dict.fromkeys(KEY_NAMES),
        "op": "copy",
        "side": "new",
        "chip": "c",
        "status": "ok",
        "time_s": 1e-3,
        "reason": "no such case",
    }
    return Comparison(
        _side("before.csv", len(rows)), _side("after.csv", len(rows) + 1), pairs, pandas.DataFrame([lonely]), notes=("A note.",)
    )


def _side(name: str, rows: int) -> Side:
    return Side(name, (name,), (sample.CHIP,), 1, rows)


def _pair(place: int, row: Row, reason: str) -> dict[str, object]:
    verdict, ratio = TURNS[place % len(TURNS)]
    ratio += 0.001 * (place // len(TURNS))
    told = verdict in ("UNCLEAR", "NOT-COMPARABLE")
    return {
        **{name: getattr(row, name) for name in KEY_NAMES},
        "base_chip": row.chip_id, "new_chip": row.chip_id, "device_index": None, "kind": "compute", "base_time_s": row.time_median_s,
        "new_time_s": (row.time_median_s or 0.0) * ratio, "ratio": ratio, "ratio_low": ratio * 0.99, "ratio_high": ratio * 1.01,
        "p_value": 0.01, "p_adjusted": 0.02, "base_samples": 50, "new_samples": 50, "base_runs": 1, "new_runs": 1, "clock_ratio": None,
        "cycles_ratio": None, "threshold": 0.03, "verdict": verdict, "reason": reason if told else None, "broken": place == 4,
    }  # fmt: skip
