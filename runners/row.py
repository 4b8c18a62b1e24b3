"""The row of a task: what is known of chip, host and run beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from chipassay.results.schema import SCHEMA_VERSION, Row

from .collective.tasks import Job
from .devices.facts import DeviceFacts, host_hash
from .tasks import Task

SHARED_CHIP = "ranks share a chip: not a measurement"


def row_of(
    task: Task,
    columns: Mapping[str, Any],
    facts: DeviceFacts,
    job: Job,
    run_id: str | None,
    *,
    share_gpu: bool = False,
    device_index: int | None = None,
) -> Row:
    """``columns``: what measuring gave. ``share_gpu``: all ranks drive one chip, which the row says. ``device_index``: which of several."""
    members = [rank for group in task.request.get("members", ()) for rank in group]
    nodes = len({job.node_of[rank] for rank in members}) or 1
    identity = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "measured_at_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "host_hash": host_hash(),
        "chip_id": facts.chip_id,
        "device_name": facts.name,
        "device_kind": facts.kind,
        "device_memory_bytes": facts.memory_bytes,
        "last_level_cache_bytes": facts.cache_bytes,
        "device_index": device_index,
        "chip_count": nodes if facts.kind == "cpu" or share_gpu else len(members) or task.ranks,
        "node_count": nodes,
        "fabric": "single" if task.ranks == 1 else facts.fabric if nodes == 1 else "network",
        "driver": facts.driver,
    }
    # The task's key columns win: they are what --resume looks for.
    row = Row(**{**identity, **columns, **task.columns})
    if share_gpu and task.ranks > 1:
        row = replace(row, flags=";".join(filter(None, (row.flags, SHARED_CHIP))))
    lists: dict[str, Any] = {name: tuple(value) for name in ("samples_s", "rank_times_s") if (value := getattr(row, name)) is not None}
    return replace(row, **lists, round_count=1 if row.status == "ok" else None)
