"""From what a suite wants to the list of measurements: one task is one row to be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chipassay.results.schema import Row, case_key

from .suites import Suite

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
        collective = self.ranks > 1 and "size_bytes" in self.columns
        shown = ("size_bytes", "group_size") if collective else tuple(TITLE_AXES)
        how = ["graph"] if self.columns.get("launch") == "graph" else []
        how += ["out of place"] if self.columns.get("in_place") is False else []
        how += [f"ranks {self.columns['members']}"] if self.columns.get("members") else []
        how += [f"beside {self.columns['beside']}"] if self.columns.get("beside") else []
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
