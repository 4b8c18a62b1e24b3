"""A published run on several kinds of chips as the model takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chipassay.results.fabrics import Fabric

from ..cluster import Cluster
from ..models import Transformer
from .records import MixedPlan


@dataclass(frozen=True, eq=False)
class Setup:
    """What a row describes, as the model takes it."""

    model: Transformer
    cluster: Cluster
    dtype: Mapping[str, str]
    """Chip -> training dtype."""
    host_s_per_kernel: Mapping[str, float]
    """Chip -> what its host takes to launch a kernel, where the source measured it."""
    plan: MixedPlan
    between: Fabric | None = None
    """The network between nodes of different kinds; None: the slower of theirs."""
