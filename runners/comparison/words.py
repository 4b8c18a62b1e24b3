"""A comparison in words: cases, changes, counts, reasons, and the one sentence that it comes to."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chipassay.results.compare.comparison import VERDICTS, Side, Verdict
from chipassay.results.schema import KEY_NAMES, TYPES, Row
from chipassay.results.units import seconds

from ..report.plot import clipped
from ..report.shape import shape, unusual_arithmetic

if TYPE_CHECKING:
    import pandas

CASE_CHARACTERS = 200
"""Of a case in words: a benchmark of one's own may carry any text as its variant."""
SIDES_TOLD = 3
"""Chips of one side named in full; more are counted."""
NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")
_CAST = {"int": int, "bool": bool, "float": float, "str": str}


def known(value: Any) -> Any:
    """The value of a DataFrame's cell, None where it is missing in one of pandas' ways.

    >>> import pandas
    >>> known(pandas.NA), known(float("nan")), known(1.5)
    (None, None, 1.5)
    """
    import pandas

    return None if value is None or pandas.isna(value) else value


def case_row(pair: Mapping[str, Any]) -> Row:
    """The key columns of a pair as a row: what the words for shapes are made for."""
    values = {name: known(pair.get(name)) for name in KEY_NAMES}
    return Row(**{name: None if value is None else _CAST[TYPES[name]](value) for name, value in values.items()})


def case_words(pair: Mapping[str, Any]) -> str:
    """The case of a pair in one phrase: operation, shape, dtype, kernel, and how it was run.

    >>> case_words({"op": "matmul", "m": 256, "n": 512, "k": 128, "dtype": "bf16", "kernel": "triton.mm", "backend": "triton"})
    'matmul 256 x 512 x 128 bf16 triton.mm'
    """
    row = case_row(pair)
    backend = row.backend if row.backend and row.backend not in (row.kernel or "") else None
    mode = None if unusual_arithmetic(row) and row.m is not None else row.math_mode
    graph = "graph" if row.launch == "graph" else None
    words = (row.op, shape(row), row.variant, row.dtype, mode, row.kernel, backend, row.cache, graph)
    return clipped(" ".join(filter(None, words)), CASE_CHARACTERS)


def change(ratio: Any) -> str:
    """By how much the time changed.

    >>> change(1.052), change(0.9), change(2.5), change(None)
    ('+5.2 %', '-10.0 %', '2.50 times', '')
    """
    value = known(ratio)
    if value is None or not math.isfinite(value):
        return ""
    return f"{100 * (value - 1):+.1f} %" if 0.5 <= value < 2 else f"{value:.3g} times" if value < 0.1 else f"{value:.2f} times"


def interval(low: Any, high: Any) -> str:
    """An interval of a change.

    >>> interval(1.041, 1.063)
    '+4.1 to +6.3 %'
    """
    first, last = change(low), change(high)
    if not first or not last:
        return ""
    for unit in (" %", " times"):
        if first.endswith(unit) and last.endswith(unit):
            return f"{first.removesuffix(unit)} to {last}"
    return f"{first} to {last}"


def time_words(value: Any) -> str:
    """A time, or nothing where it is not known."""
    return "" if known(value) is None else seconds(float(value))


def counted(count: int, thing: str) -> str:
    """A count of things.

    >>> counted(1, "run"), counted(1200, "row")
    ('1 run', '1,200 rows')
    """
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def side_words(side: Side) -> str:
    """What a side holds: chips, runs, rows.

    >>> side_words(Side("a", ("a.csv",), ("h100-sxm-80gb",), 2, 120))
    'h100-sxm-80gb, 2 runs pooled, 120 rows'
    """
    more = len(side.chips) - SIDES_TOLD
    chips = ", ".join(side.chips[:SIDES_TOLD]) + (f" and {more} more chips" if more > 0 else "")
    runs = counted(side.runs, "run") + (" pooled" if side.runs > 1 else "")
    return ", ".join(filter(None, (chips or "unknown chip", runs, counted(side.rows, "row"))))


def counts_words(counts: Mapping[Verdict, int]) -> str:
    """The verdicts counted, in the order of VERDICTS.

    >>> counts_words({"SAME": 1200, "SLOWER": 3})
    '3 SLOWER, 1,200 SAME'
    """
    return ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in VERDICTS if counts.get(verdict)) or "no pairs"


def reasons(values: pandas.Series) -> list[tuple[str, int]]:
    """Reasons and how often each is given, the most frequent first. Those that differ in their numbers alone are told once.

    >>> import pandas
    >>> reasons(pandas.Series(["interval 3.4 %", "no samples", "interval 5.1 %"]))
    [('interval 3.4 %, and alike', 2), ('no samples', 1)]
    """
    counts = Counter(values.astype(object).fillna("").astype(str).tolist())
    return sum_alike(list(counts), list(counts.values()))


def sum_alike(texts: Sequence[str], counts: Sequence[int]) -> list[tuple[str, int]]:
    """``texts`` with their ``counts``, those that differ in their numbers alone together, the most frequent first."""
    groups: dict[str, dict[str, int]] = {}
    for text, count in zip(texts, counts, strict=True):
        groups.setdefault(NUMBER.sub("#", text), {}).setdefault(text or "no reason given", count)
    told = [(next(iter(alike)) + (", and alike" if len(alike) > 1 else ""), sum(alike.values())) for alike in groups.values()]
    return sorted(told, key=lambda item: (-item[1], item[0]))


def closing(counts: Mapping[Verdict, int], broken: int, worst: Sequence[Mapping[str, Any]]) -> str:
    """What the comparison comes to, in one sentence."""
    total = sum(counts.values())
    slower, faster, unclear, same = (counts.get(verdict, 0) for verdict in VERDICTS[:4])
    compared = total - counts.get("NOT-COMPARABLE", 0)
    told = []
    if slower:
        most = f", most of all {case_words(worst[0])} ({change(worst[0]['ratio'])})" if worst else ""
        told.append(f"{slower:,} of {counted(compared, 'compared pair')} {'is' if slower == 1 else 'are'} slower{most}")
    elif compared:
        found = "is certain" if unclear else "was found"
        told.append(f"no slowdown {found} in {counted(compared, 'compared pair')}")
    else:
        told.append("nothing could be compared" + (": no case is on both sides" if not total else ""))
    if broken:
        told.append(f"{counted(broken, 'row')} that {'was' if broken == 1 else 'were'} ok {'is' if broken == 1 else 'are'} no longer")
    if faster:
        told.append(f"{faster:,} {'is' if faster == 1 else 'are'} faster")
    if compared:
        if same == compared:
            told.append("all are the same within their thresholds" if same > 1 else "it is the same within its threshold")
        elif unclear:
            told.append(f"{unclear:,} {'is' if unclear == 1 else 'are'} unclear, neither proved to have changed nor to be the same")
    sentence = "; ".join(told) + "."
    return sentence[0].upper() + sentence[1:]


def gate_words(found: Mapping[str, int], fail_on: Sequence[str], silent: str) -> str:
    """What ``--fail-on`` came to. ``silent``: why it cannot say anything, else empty.

    >>> gate_words({"slower": 2, "broken": 1}, ("slower",), "")
    'FAILED on slower: 2 slower, 1 broken.'
    >>> gate_words({}, ("slower",), "not a single pair")
    'FAILED: not a single pair.'
    """
    names = ", ".join(fail_on)
    if not found and silent:
        return f"FAILED: {silent}."
    if not found:
        return f"Passed: nothing of {names}."
    return f"FAILED on {names}: {', '.join(f'{count:,} {name}' for name, count in found.items())}."
