"""Time of fused attention by its shape: a launch, then tiles of queries over the keys that they see, or bytes, whichever is more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..evidence import Evidence
from .product import HeldOut

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AttentionModel:
    """Seconds of softmax(Q K^T) V by shape, forward; ``backward`` is the backward pass's time over that of the forward pass.

    FLOPs are 4 batch heads seq_q seq_kv head_dim, half of them if causal (Dao et al., "FlashAttention", arXiv:2205.14135).
    """

    rate_flops_per_s: float
    """What deep attention of ``usual_head_dim`` reaches."""
    bandwidth_bytes_per_s: float
    launch_s: float
    evidence: Evidence
    element_bytes: float = 2.0
    multiprocessors: int = 1
    tile_rows: int = 128
    """Queries that one program takes together."""
    tile_columns: int = 128
    """Keys at a time: what a causal mask cuts is cut in whole tiles."""
    tile_start_s: float = 0.0
    sharpness: float = 16.0
    slowdown: float = 0.0
    slowdown_after_s: float = 1.0
    head_dim_shares: Mapping[str, float] = field(default_factory=dict)
    """Head size, as text -> share of the rate; between two sizes on the line through them; empty: 1 for all."""
    causal_share: float = 1.0
    """Of the rate, under a causal mask."""
    backward: float | None = None
    points: int = 0
    spread: float | None = None
    held_out: HeldOut | None = None
    fitted_range: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def time_s(
        self,
        batch: ArrayLike,
        heads: ArrayLike,
        seq_q: ArrayLike,
        seq_kv: ArrayLike,
        head_dim: ArrayLike,
        kv_heads: ArrayLike | None = None,
        causal: ArrayLike = True,
        direction: str = "forward",
    ) -> Array:
        """Seconds for each shape; arrays broadcast. ``direction`` ``forward`` or ``backward``; ValueError where that is unknown."""
        raise NotImplementedError
