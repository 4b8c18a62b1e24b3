"""What a comparison comes to: verdicts counted, geometric means by operation and dtype, the worst and the best pairs."""

from __future__ import annotations

import numpy as np
import pandas

from .comparison import VERDICTS, Comparison, Verdict

JUDGED = ("SLOWER", "FASTER", "UNCLEAR", "SAME")


def counts(comparison: Comparison) -> dict[Verdict, int]:
    """How many pairs have each verdict, all verdicts named."""
    found = comparison.pairs["verdict"].value_counts()
    return {verdict: int(found.get(verdict, 0)) for verdict in VERDICTS}


def by_op(comparison: Comparison) -> pandas.DataFrame:
    """One line an operation and dtype, in order of appearance: ``op``, ``dtype``, ``pairs``, ``geomean_ratio`` (of comparable pairs; NaN
    without any), and a count for each verdict. Geometric means, since ratios multiply (Fleming and Wallace, CACM 29, 1986)."""
    pairs = comparison.pairs
    judged = pairs["verdict"].isin(JUDGED) & (pairs["ratio"] > 0)
    logs = pandas.Series(np.log(pairs["ratio"].where(judged).to_numpy(dtype=float)), index=pairs.index)
    keys = [pairs["op"], pairs["dtype"]]
    grouped = logs.groupby(keys, sort=False, dropna=False, observed=True)
    table = pandas.DataFrame({"pairs": grouped.size(), "geomean_ratio": np.exp(grouped.mean())})
    for verdict in VERDICTS:
        table[verdict] = (pairs["verdict"] == verdict).groupby(keys, sort=False, dropna=False, observed=True).sum().astype(int)
    return table.reset_index()


def worst(comparison: Comparison, count: int) -> pandas.DataFrame:
    """The ``count`` most slowed pairs: SLOWER first by ratio, then what else became slower for certain is left to the reader."""
    found = comparison.pairs[comparison.pairs["verdict"] == "SLOWER"]
    return found.sort_values("ratio", ascending=False, kind="stable").head(count)


def best(comparison: Comparison, count: int) -> pandas.DataFrame:
    """The ``count`` pairs that became faster by most, FASTER only."""
    found = comparison.pairs[comparison.pairs["verdict"] == "FASTER"]
    return found.sort_values("ratio", kind="stable").head(count)
