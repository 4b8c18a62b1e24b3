"""What a good run of one GPU should show, and whether it does: our kernels against the libraries, memory against its peak.

A goal is never loosened by a missing row: where nothing comparable was measured it says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from chipassay.results.best import CASE_NAMES, IMPOSSIBLE, best_rows
from chipassay.results.beyond_cache import measures_memory
from chipassay.results.published_rows import best_rate_per_s
from chipassay.results.schema import Row

LIBRARIES = ("torch", "cupy.matmul")
"""Kernel names of vendor libraries begin with these; all others are our own."""
MODEL_ROWS = 512
"""Fewest rows of a product to count as a training shape: those below are decode's, limited by memory."""


@dataclass(frozen=True)
class Goal:
    """``value`` should be at least ``target``; None: not measured, ``note`` says what is missing."""

    name: str
    target: float
    value: float | None
    note: str

    @property
    def reached(self) -> bool | None:
        return None if self.value is None else self.value >= self.target


def possible(row: Row) -> bool:
    """Whether no flag says that the row is above a physical limit: such a row is a fault of the measurement, and no goal is reached by it.

    >>> possible(Row(flags="throttled")), possible(Row(flags="throttled;above the chip's peak rate"))
    (True, False)
    """
    return not any(flag.strip().startswith(IMPOSSIBLE) for flag in (row.flags or "").split(";"))


def is_library(row: Row) -> bool:
    """Whether the row's kernel is a vendor library's (cuBLAS, cuDNN, torch's own), and not ours.

    >>> is_library(Row(kernel="torch.mm")), is_library(Row(kernel="triton.matmul"))
    (True, False)
    """
    return (row.kernel or "").startswith(LIBRARIES)


def speedup(
    rows: Iterable[Row], keep: Callable[[Row], bool], ours: Callable[[Row], bool], theirs: Callable[[Row], bool]
) -> tuple[float | None, int]:
    """Geometric mean over all cases that both have of their time over ours, and how many cases those are."""
    kept = [row for row in rows if keep(row)]
    mine, others = ({_case(row): row for row in best_rows(filter(side, kept))} for side in (ours, theirs))
    logs = [math.log((others[key].time_median_s or 0.0) / (mine[key].time_median_s or 1.0)) for key in mine if key in others]
    return (math.exp(math.fsum(logs) / len(logs)) if logs else None), len(logs)


def _case(row: Row) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in CASE_NAMES)


def _against(name: str, rows: Sequence[Row], keep: Callable[[Row], bool], rivals: str) -> Goal:
    value, cases = speedup(rows, keep, lambda row: row.backend == "triton", is_library)
    note = (
        f"geometric mean over {cases} cases of {rivals}'s time over ours"
        if cases
        else f"no case was measured with both Triton and {rivals}"
    )
    return Goal(name, 1.0, value, note)


def _cold(row: Row) -> bool:
    return row.cache == "cold" and row.launch == "stream"


def goals(rows: Sequence[Row], searched: Mapping[str, float] | None = None) -> list[Goal]:
    """The goals for one chip. ``searched``: dtype -> best rate of an exhaustive search over matmul shapes, where one was made."""
    rows = [row for row in rows if possible(row)]
    trained = "bf16" if any(row.dtype == "bf16" and row.native is not False for row in rows) else "fp16"
    half = [row for row in rows if row.dtype == trained and _cold(row)]
    found = [
        _against(f"Triton {trained} matmul", half, lambda r: r.op == "matmul" and (r.m or 0) >= MODEL_ROWS, "cuBLAS"),
        _against("Triton attention forward", half, lambda r: r.op == "attention" and r.direction == "forward", "the best SDPA backend"),
        _against("Triton attention backward", half, lambda r: r.op == "attention" and r.direction == "backward", "the best SDPA backend"),
        _copy(rows),
        _fp8(rows),
    ]
    return found + [_search(rows, dtype, rate) for dtype, rate in (searched or {}).items()]


def _copy(rows: Sequence[Row]) -> Goal:
    shares = [row.peak_fraction for row in rows if row.op == "copy" and row.status == "ok" and measures_memory(row) and row.peak_fraction]
    note = (
        f"best of {len(shares)} rows, share of the datasheet's bandwidth" if shares else "no copy beyond the cache, or the peak is unknown"
    )
    return Goal("copy bandwidth", 0.92, max(shares, default=None), note)


def _fp8(rows: Sequence[Row]) -> Goal:
    name = "fp8 matmul against the best known"
    rates = [row.rate_flops_per_s for row in rows if row.op == "matmul" and row.dtype == "fp8_e4m3" and row.status == "ok"]
    best = max((rate for rate in rates if rate), default=None)
    known = best_rate_per_s(rows[0].chip_id or "", "matmul", "fp8_e4m3") if rows else None
    if best is None or known is None:
        return Goal(name, 0.95, None, "no fp8 product was measured" if best is None else "no figure is published for this chip")
    return Goal(name, 0.95, best / known[0], f"{best / 1e12:.4g} of {known[0] / 1e12:.4g} TFLOP/s ({known[1]})")


def _search(rows: Sequence[Row], dtype: str, searched: float) -> Goal:
    rates = [row.rate_flops_per_s for row in rows if row.op == "matmul" and row.dtype == dtype and row.status == "ok"]
    best = max((rate for rate in rates if rate), default=None)
    note = f"best shape of the suite over {searched / 1e12:.4g} TFLOP/s, the best of the search"
    return Goal(f"best {dtype} matmul of the suite against a search over shapes", 0.98, best / searched if best else None, note)


def goal_lines(found: Sequence[Goal]) -> list[str]:
    """The goals as a Markdown table."""
    words = {True: "reached", False: "missed", None: "not measured"}
    lines = ["| goal | wanted | found | | how |", "| --- | --- | --- | --- | --- |"]
    for goal in found:
        value = "" if goal.value is None else f"{goal.value:.3f}"
        lines.append(f"| {goal.name} | at least {goal.target:.2f} | {value} | {words[goal.reached]} | {goal.note} |")
    return lines
