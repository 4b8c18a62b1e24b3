"""Of each case the best correct implementation: what the chip can do. The table keeps all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .schema import KEY_NAMES, Row

CASE_NAMES = tuple(name for name in KEY_NAMES if name not in ("backend", "kernel"))
"""What tells cases apart; two rows that agree in these did the same work under the same conditions."""

IMPOSSIBLE = "above "
"""Flags that begin so say that the row is above a physical limit: a wrong number that would always win."""


def best_rows(rows: Iterable[Row]) -> list[Row]:
    """Of each case the fastest correct implementation. A row above a physical limit counts only where all of its case are.
    Cache and launch are part of the case, and so is a collective's transport.

    >>> slow, fast = (Row(op="copy", kernel=k, status="ok", time_median_s=t) for k, t in (("slow", 2.0), ("fast", 1.0)))
    >>> [row.kernel for row in best_rows([slow, fast])]
    ['fast']
    """
    best: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row.status == "ok" and row.time_median_s:
            key = (row.chip_id, row.backend if row.group_size is not None else None, *(getattr(row, name) for name in CASE_NAMES))
            if key not in best or _cost(row) < _cost(best[key]):
                best[key] = row
    return list(best.values())


def impossible(row: Row) -> bool:
    """Whether a flag says that the row is above a physical limit."""
    return any(flag.strip().startswith(IMPOSSIBLE) for flag in (row.flags or "").split(";"))


def _cost(row: Row) -> tuple[bool, float]:
    return impossible(row), row.time_median_s or 0.0
