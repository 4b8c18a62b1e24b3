"""Measured shapes as columns, which is what fits take: a row an element, all arrays of one length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ProductShapes:
    """Matrix products of one dtype."""

    m: Array
    n: Array
    k: Array
    time_s: Array
    groups: Array | None = None
    """Products in one launch; None: 1."""
    layout: NDArray[np.str_] | None = None
    """``nn``, ``nt``, ``tn``; None: ``nt``."""


@dataclass(frozen=True)
class AttentionShapes:
    """Fused attention of one dtype."""

    batch: Array
    heads: Array
    kv_heads: Array
    seq_q: Array
    seq_kv: Array
    head_dim: Array
    causal: NDArray[np.bool_]
    backward: NDArray[np.bool_]
    time_s: Array
