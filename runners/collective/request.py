"""What the ranks of a job are asked to measure, as every rank gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CollectiveRequest:
    """One row's measurement. JSON carries it to the ranks, so its fields are JSON types."""

    op: str
    """A pattern's name."""
    dtype: str
    size_bytes: int
    """S at most; what the pattern can split is in the row."""
    transport: str
    """A transport's name: ``torch.distributed``, ``cupy.nccl``, ``mpi4py``."""
    members: tuple[tuple[int, ...], ...]
    """Disjoint groups of ranks of the job that run it at the same time. Ranks in none only help to control."""
    in_place: bool
    launch: str
    cache: str
    seed: int
    min_time_s: float
    time_cap_s: float
    beside: Mapping[str, Any] | None = None
    """The matrix product that runs at the same time on the same chips: ``m``, ``n``, ``k``, ``dtype``."""
    timed: str = "collective"
    """With ``beside``: which of the two is timed while the other goes on, ``collective`` or ``beside``."""
    checked: bool = False
    """The case was visited before in this run."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CollectiveRequest:
        """The request that ``vars`` of another became on its way through JSON."""
        return cls(**{**data, "members": tuple(tuple(group) for group in data["members"])})
