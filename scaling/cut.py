"""How a layer is cut over the ranks: what one rank has of the tokens and the heads. Many ways at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .models import Transformer
from .plan import Plan
from .plans import Array, Plans


@dataclass(frozen=True, eq=False)
class Cut:
    """The ways a layer is cut: every array has one entry per way."""

    settings: Plan
    model: Transformer
    element_bytes: int
    tp: Array
    sequence_parallel: Array
    cp: Array
    ep: Array
    expert_tp: Array
    microbatch: Array

    @classmethod
    def of(cls, model: Transformer, plans: Plans, element_bytes: int) -> Cut:
        columns = ("tp", "sequence_parallel", "cp", "ep", "expert_tp", "microbatch")
        return cls(plans.settings, model, element_bytes, **{name: getattr(plans, name).astype(float) for name in columns})

    @cached_property
    def tokens(self) -> Array:
        """Tokens that one TP group handles."""
        return self.microbatch * self.model.seq_len / self.cp

    @cached_property
    def rows(self) -> Array:
        """Tokens whose norms and residuals one rank handles."""
        return self.tokens / np.where(self.sequence_parallel > 0, self.tp, 1.0)

    @cached_property
    def kv_heads(self) -> Array:
        """Key/value heads of one rank: at least one."""
        return np.maximum(1.0, self.model.kv_heads / self.tp)
