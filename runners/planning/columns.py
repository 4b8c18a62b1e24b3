"""One line of figures for each plan, short enough for a terminal of 100 columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chipassay.scaling.plan import ORDER, Plan
from chipassay.scaling.plan_text import write_plan
from chipassay.scaling.text import amount, seconds

if TYPE_CHECKING:
    from chipassay.scaling.planner.answer import Candidate, PlanAnswer

CSV_COLUMNS = (
    "place", "chips", "step_time_s", "low_s", "high_s", "tokens_per_s", "mfu", "memory_gb", "usd_per_million_tokens", "joules_per_token",
    "global_batch", "plan", "why",
)  # fmt: skip


def degrees(plan: Plan) -> str:
    """How the work is cut: every degree above 1, with the interleave behind the stages.

    >>> degrees(Plan(global_batch=64, tp=8, pp=4, interleave=3, dp=2))
    'tp8 pp4x3 dp2'
    """
    parts = [f"{name}{getattr(plan, name)}" for name in ("tp", "pp", "cp", "dp", "ep") if getattr(plan, name) > 1]
    if plan.interleave > 1:
        parts = [f"{part}x{plan.interleave}" if part.startswith("pp") else part for part in parts]
    if plan.ep > 1 and plan.expert_tp not in (0, plan.tp):
        parts.append(f"etp{plan.expert_tp}")
    return " ".join(parts) or "one chip"


def rest(plan: Plan) -> str:
    """What else tells plans of one search apart.

    >>> rest(Plan(global_batch=64, pp=4, dp=2, zero_stage=1, recompute="full", recompute_share=0.5, schedule="zero-bubble"))
    'full 50 %, zero-bubble'
    """
    parts = []
    if plan.recompute != "none":
        parts.append(plan.recompute + (f" {100 * plan.recompute_share:.0f} %" if plan.recompute_share < 1 else ""))
    if plan.schedule not in ("1f1b", "interleaved"):
        parts.append(plan.schedule)
    if plan.order != ORDER:
        parts.append("-".join(name for name in plan.order.split("-") if getattr(plan, name) > 1))
    if plan.overlap_tp and plan.tp > 1:
        parts.append("TP hidden")
    return ", ".join(parts)


def zero(plan: Plan) -> str:
    """Stage of ZeRO, and the chips over which it shards where those are not all.

    >>> zero(Plan(global_batch=64, dp=64, zero_stage=3, shard=8))
    '3/8'
    """
    return f"{plan.zero_stage}/{plan.shard}" if plan.shard else str(plan.zero_stage)


def table(answer: PlanAnswer, candidates: Sequence[Candidate]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(headings, lines). A price, an energy and a recomputation have columns only where there are any."""
    headings = ["#", "chips", "step", "tokens/s", "MFU", "GB"]
    priced, joules = answer.price is not None, answer.objective == "energy"
    headings += ["USD/Mtok"] * priced + ["J/token"] * joules + ["split", "mb", "ZeRO"]
    others = any(rest(one.prediction.plan) for one in candidates)
    headings += ["also"] * others
    lines = []
    for place, one in enumerate(candidates, 1):
        p = one.prediction
        line = [str(place), str(p.chips), seconds(p.step_time_s), amount(p.tokens_per_s)]
        line += ["" if p.mfu is None else f"{100 * p.mfu:.1f} %", f"{p.memory_total_bytes / 1e9:.1f}"]
        line += [amount((one.usd_per_token or 0.0) * 1e6)] * priced + [amount(one.value)] * joules
        line += [degrees(p.plan), str(p.plan.microbatch), zero(p.plan)] + [rest(p.plan)] * others
        lines.append(tuple(line))
    return tuple(headings), lines


def csv_text(answer: PlanAnswer) -> str:
    """The plans as CSV, ``plan`` as ``predict --plan`` takes it."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for place, one in enumerate(answer.candidates):
        p = one.prediction
        figures = (p.step_time_s, p.low_s, p.high_s, p.tokens_per_s, p.mfu, p.memory_total_bytes / 1e9)
        usd = None if one.usd_per_token is None else one.usd_per_token * 1e6
        joules = one.value if answer.objective == "energy" else None
        cells = ["" if value is None else f"{value:.6g}" for value in (*figures, usd, joules)]
        writer.writerow([place + 1, p.chips, *cells, p.plan.global_batch, write_plan(p.plan), answer.why(place)])
    return written.getvalue()
