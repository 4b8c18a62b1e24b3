"""Many plans at once: the columns in which they differ as arrays, all else shared. The model's formulas run over these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .plan import RECOMPUTES, Plan

Array = npt.NDArray[Any]

COLUMNS = (
    "global_batch", "dp", "tp", "pp", "cp", "ep", "expert_tp", "microbatch", "zero_stage", "shard",
    "recompute", "sequence_parallel", "interleave",
)  # fmt: skip
"""Fields of a Plan that may differ within one batch of plans; the others are shared."""


@dataclass(frozen=True, eq=False)
class Plans:
    """Plans that differ in COLUMNS alone: arrays of one length, whole numbers.

    ``recompute`` holds indices of RECOMPUTES, ``sequence_parallel`` 0 or 1; ``expert_tp`` and ``shard`` have their zeros replaced.
    """

    settings: Plan
    """A plan whose fields outside COLUMNS hold for all."""
    global_batch: Array
    dp: Array
    tp: Array
    pp: Array
    cp: Array
    ep: Array
    expert_tp: Array
    microbatch: Array
    zero_stage: Array
    shard: Array
    recompute: Array
    sequence_parallel: Array
    interleave: Array

    def __len__(self) -> int:
        return len(self.tp)

    @classmethod
    def of(cls, plans: Sequence[Plan]) -> Plans:
        """A batch of plans that agree outside COLUMNS (else ValueError)."""
        first = plans[0]
        columns: dict[str, Array] = {}
        for name in COLUMNS:
            values = [getattr(plan, name) for plan in plans]
            columns[name] = np.array([RECOMPUTES.index(value) for value in values] if name == "recompute" else values, np.int64)
        shared = {name: getattr(first, name) for name in COLUMNS}
        if any(replace(plan, **shared) != first for plan in plans[1:]):
            raise ValueError("the plans differ in fields that a batch shares; make one batch per setting")
        return cls.grid(first, **columns)

    @classmethod
    def grid(cls, settings: Plan, **columns: Array) -> Plans:
        """A batch from columns (broadcast to one length); a column not given is that of ``settings``."""
        given = {name: columns.get(name, _code(settings, name)) for name in COLUMNS}
        arrays = dict(
            zip(given, np.broadcast_arrays(*(np.atleast_1d(np.asarray(value, np.int64)) for value in given.values())), strict=True)
        )
        arrays["expert_tp"] = np.where(arrays["expert_tp"] == 0, arrays["tp"], arrays["expert_tp"])
        arrays["shard"] = np.where(arrays["shard"] == 0, arrays["dp"] * arrays["cp"], arrays["shard"])
        return cls(settings, **arrays)

    def plan(self, index: int) -> Plan:
        """One of them as a Plan."""
        values: dict[str, Any] = {name: int(getattr(self, name)[index]) for name in COLUMNS}
        values["recompute"] = RECOMPUTES[values["recompute"]]
        values["sequence_parallel"] = bool(values["sequence_parallel"])
        if values["expert_tp"] == values["tp"]:
            values["expert_tp"] = 0
        if values["shard"] == values["dp"] * values["cp"]:
            values["shard"] = 0
        return replace(self.settings, **values)

    def take(self, which: Array | slice) -> Plans:
        """Those of a slice, an index or a mask."""
        return Plans(self.settings, **{name: getattr(self, name)[which] for name in COLUMNS})

    @property
    def chips(self) -> Array:
        return self.dp * self.tp * self.pp * self.cp

    @property
    def expert_replicas(self) -> Array:
        """Ranks that hold the same routed experts."""
        return np.maximum(1, self.dp * self.cp * self.tp // (self.ep * self.expert_tp))

    @property
    def expert_shard(self) -> Array:
        """Ranks over which ZeRO shards a routed expert: those of a ``shard`` group, its TP ranks with it, that hold the same experts."""
        return np.gcd(self.expert_replicas, np.maximum(1, self.tp * self.shard // (self.ep * self.expert_tp)))

    @property
    def microbatches(self) -> Array:
        """Microbatches per replica and step."""
        return self.global_batch // (self.dp * self.microbatch)


def _code(plan: Plan, name: str) -> int:
    value = getattr(plan, name)
    return RECOMPUTES.index(value) if name == "recompute" else int(value)
