"""From what a suite wants to the list of measurements: one task is one row to be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chipassay.results.schema import Row, case_key

from .suites import COLLECTIVE_DTYPE_BYTES, Suite, Wanted

TITLE_AXES = {
    "m": "m=",
    "n": "n=",
    "k": "k=",
    "layout": "",
    "scaling": "",
    "groups": "g=",
    "split": "",
    "batch": "b=",
    "heads": "h=",
    "seq_q": "seq=",
    "head_dim": "d=",
    "direction": "",
    "rows": "rows=",
    "width": "w=",
    "path": "",
    "host_memory": "",
    "elements": "n=",
    "size_bytes": "S=",
    "group_size": "ranks=",
}
"""Columns that tell cases apart on a progress line, and what stands before each."""


@dataclass(frozen=True)
class Task:
    """One measurement to make, or (with ``reason``) the row that says why it is not made."""

    columns: Mapping[str, Any]
    """What the row's key columns will hold."""
    request: Mapping[str, Any]
    """What the measuring process is asked."""
    ranks: int = 1
    reason: str | None = None
    time_cap_s: float = math.inf
    """Its suite wants no more."""

    @property
    def key(self) -> tuple[Any, ...]:
        """The same as ``case_key`` of the row this task makes."""
        return case_key(Row(**self.columns))

    @property
    def title(self) -> str:
        """A few words for the progress display."""
        shown = ("size_bytes", "group_size") if self.ranks > 1 else tuple(TITLE_AXES)
        how = ["graph"] if self.columns.get("launch") == "graph" else []
        values = [
            f"{TITLE_AXES.get(name, '')}{self.columns[name]}"
            for name in ("dtype", *shown, "kernel", "cache")
            if self.columns.get(name) is not None
        ]
        return " ".join([self.columns["op"], *values, *how])


def kernel_questions(suite: Suite, backends: Sequence[str]) -> list[dict[str, Any]]:
    """What to ask the measuring process before tasks are made: which kernels can run each case on each backend."""
    return [
        {"op": wanted.op, "case": dict(wanted.axes), "backend": backend, "cache": wanted.cache, "launch": wanted.launch}
        for wanted in suite.wanted
        if wanted.ranks is None
        for backend in backends
        if wanted.backends is None or backend in wanted.backends
    ]


def kernel_tasks(suite: Suite, questions: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> list[Task]:
    """Tasks for one-chip operations: one per kernel that can run, or one that states why none can.

    Raises ValueError where an answer names an invalid case.
    """
    tasks = []
    for question, answer in zip(questions, answers, strict=True):
        if "invalid" in answer:
            raise ValueError(answer["invalid"])
        how = {"cache": question["cache"], "launch": answer["launch"]}
        for kernel, reason in answer["kernels"]:
            tasks.append(
                Task(
                    columns={**answer["columns"], "backend": question["backend"], "kernel": kernel, **how},
                    request={**question, **how, "kernel": kernel, "min_time_s": suite.min_time_s},
                    reason=reason,
                    time_cap_s=math.inf if suite.time_cap_s is None else suite.time_cap_s,
                )
            )
    return tasks


def collective_tasks(suite: Suite, device_kind: str, chips: int, reason: str | None) -> list[Task]:
    """Tasks for collectives: over all chips here; on a CPU over 2 ranks, which stand for nothing but themselves."""
    ranks = 2 if device_kind == "cpu" else chips
    if reason is None and device_kind not in ("cpu", "cuda", "rocm"):
        reason = f"collectives over {device_kind} devices are not measured yet"
    if reason is None and ranks < 2:
        reason = "one chip only: a collective needs at least 2"
    transport = {"cpu": "gloo", "rocm": "rccl"}.get(device_kind, "nccl")
    return [_collective_task(wanted, suite, ranks, transport, device_kind, reason) for wanted in suite.wanted if wanted.ranks is not None]


def _collective_task(wanted: Wanted, suite: Suite, ranks: int, transport: str, device_kind: str, reason: str | None) -> Task:
    from chipassay.collectives.pattern import patterns

    dtype, size_bytes = wanted.axes["dtype"], wanted.axes["size_bytes"]
    itemsize = COLLECTIVE_DTYPE_BYTES[dtype]
    elements = max(1, size_bytes // itemsize)
    columns = {
        "op": wanted.op,
        "dtype": dtype,
        "elements": elements,
        "size_bytes": patterns()[wanted.op].counted_bytes(elements * itemsize, ranks),
        "group_size": ranks,
        "in_place": True,
        "backend": transport,
        "kernel": f"torch.distributed.{wanted.op}",
        "cache": wanted.cache,
        "launch": "call" if device_kind == "cpu" else "stream",
    }
    request = {"op": wanted.op, "dtype": dtype, "size_bytes": size_bytes, "cache": wanted.cache, "min_time_s": suite.min_time_s}
    return Task(columns=columns, request=request, ranks=ranks, reason=reason)
