"""What the software of a run did, by framework and year: a table with its sources (software.csv), and what the row's notes add."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from chipassay.scaling.plan import Attention, ContextParallel, Host, Offload, Recompute, Schedule

from .rows import Run
from .tables import table

COLUMNS = (
    "pattern", "from", "to", "kind", "flash", "unstated", "fused", "host", "overlap_dp", "overlap_tp", "overlap_pp", "cp", "schedule",
    "zero", "recompute", "gradient_bytes", "microbatches", "source",
)  # fmt: skip
Kind = Literal["3d", "fsdp", "ddp"]
"""How it splits work where the row does not say: TP, PP and DP; weights sharded over DP; copies alone."""


@dataclass(frozen=True)
class Software:
    """One generation of a training framework."""

    kind: Kind
    attention: Attention
    fused: bool
    host: Host
    overlap_dp: bool
    overlap_tp: bool
    overlap_pp: bool
    context_parallel: ContextParallel
    schedule: Schedule
    zero_stage: int
    """Where the row does not say."""
    recompute: Recompute | None
    """Where the row does not say; None: not known, searched over."""
    gradient_bytes: int
    offload: Offload
    by_stages: bool
    """A step has as many microbatches as the pipeline has stages, where the row does not say."""
    source: str


def _attention(run: Run, flash: str, unstated: str) -> str:
    """``n``, or ``n (reason)``, is unfused; ``y (kernel)`` is what the framework then had."""
    said = run.flash_attention.lower()
    if said.startswith("y"):
        return flash
    return unstated if not said.startswith("n") else "unfused"


def _gradient_bytes(run: Run, default: int) -> int:
    """llm-foundry's mixed-precision modes: PURE reduces in 16 bit, DEFAULT in fp32 (llm-foundry and Composer docs)."""
    if "MP mode PURE" in run.notes:
        return 2
    return 4 if "MP mode DEFAULT" in run.notes else default


def software_of(run: Run) -> Software:
    """The line of software.csv for the run's framework and year, changed by what its notes say."""
    year = run.year or 2024
    for pattern, line in table("software.csv", COLUMNS):
        first, last = line.whole_or_none("from") or 0, line.whole_or_none("to") or 9999
        if first <= year <= last and pattern.search(run.framework):
            break
    notes = f"{run.notes} {run.framework} {run.recompute}"
    compiled = re.search(r"\bcompile\b", notes) is not None
    eager = re.search(r"\beager\b", notes) is not None
    offload = "optimizer" if re.search(r"CPU AdamW|optimizer offload|full optim cpu offload", notes, re.IGNORECASE) else "none"
    if re.search(r"ZeRO-3 Offload|parameters offloaded|full cpu offload", notes, re.IGNORECASE):
        offload = "all"
    return Software(
        kind=line.text("kind"),  # type: ignore[arg-type]  # this and the next: words of a shipped table, held by a test
        attention=_attention(run, line.text("flash"), line.text("unstated")),  # type: ignore[arg-type]
        fused=(line.text("fused") == "y" or compiled) and not eager,
        host=line.text("host"),  # type: ignore[arg-type]
        overlap_dp=line.text("overlap_dp") == "y" and "not overlapped" not in notes,
        overlap_tp=(line.text("overlap_tp") == "y" or "async" in notes.lower() or "mc2" in run.framework) and "vanillaTP" not in notes,
        overlap_pp=line.text("overlap_pp") == "y",
        context_parallel=line.text("cp"),  # type: ignore[arg-type]
        schedule=line.text("schedule"),  # type: ignore[arg-type]
        zero_stage=line.whole_or_none("zero") or 0,
        recompute=line.text("recompute") or None,  # type: ignore[arg-type]
        gradient_bytes=_gradient_bytes(run, line.whole_or_none("gradient_bytes") or 0),
        offload=offload,  # type: ignore[arg-type]
        by_stages=line.text("microbatches") == "stages",
        source=line.text("source"),
    )
