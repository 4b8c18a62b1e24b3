"""The attention case: heads, lengths, FLOPs, bytes and inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES, Case, Check
from .check import check_attention


@dataclass(frozen=True, kw_only=True)
class AttentionCase(Case):
    """O = softmax(Q K' / sqrt(head_dim)) V, forward.

    Q and O are batch x heads x seq_q x head_dim, K and V batch x kv_heads x seq_kv x head_dim, row by row in memory.

    ``kv_heads`` fewer than ``heads`` is grouped-query attention: query head h reads key/value head h // (heads / kv_heads).

    FLOPs: 4 batch heads seq_q seq_kv head_dim (two matmuls; softmax is not counted), halved if causal. This is the convention of
    Dao, "FlashAttention-2" (arXiv 2307.08691, section 4.1), which halves although the diagonal belongs to the work: (s + 1) / 2s is exact.

    ``causal`` needs seq_q == seq_kv: for unequal lengths libraries differ on where the diagonal lies (top left in PyTorch, bottom right
    in FlashAttention), so such a number would mean two things.

    >>> AttentionCase(batch=1, heads=2, kv_heads=1, seq_q=8, seq_kv=8, head_dim=4, causal=True, dtype="bf16").flops
    1024.0
    """

    op: ClassVar[str] = "attention"
    limited_by: ClassVar[str] = "compute"

    batch: int
    heads: int
    kv_heads: int
    seq_q: int
    seq_kv: int
    head_dim: int
    causal: bool = False
    direction: str = "forward"

    def __post_init__(self) -> None:
        if min(self.batch, self.heads, self.kv_heads, self.seq_q, self.seq_kv, self.head_dim) < 1:
            raise ValueError(f"attention with a size below 1: {self}")
        if self.heads % self.kv_heads:
            raise ValueError(f"attention with {self.heads} heads and {self.kv_heads} kv_heads: heads must be a multiple of kv_heads")
        if self.causal and self.seq_q != self.seq_kv:
            raise ValueError(f"causal attention with seq_q={self.seq_q}, seq_kv={self.seq_kv}: they must be equal")
        if self.direction != "forward":
            raise ValueError(f"attention direction {self.direction!r}: only 'forward' is measured")
        self._set_math_mode()

    @property
    def scale(self) -> float:
        """Factor on the scores."""
        return 1 / math.sqrt(self.head_dim)

    @property
    def flops(self) -> float:
        full = 4.0 * self.batch * self.heads * self.seq_q * self.seq_kv * self.head_dim
        return full / 2 if self.causal else full

    @property
    def bytes(self) -> float:
        q_and_o = 2 * self.heads * self.seq_q
        k_and_v = 2 * self.kv_heads * self.seq_kv
        return float(self.batch * (q_and_o + k_and_v) * self.head_dim * DTYPE_BYTES[self.dtype])

    @property
    def footprint_bytes(self) -> float:
        return self.bytes

    @property
    def _q_shape(self) -> tuple[int, ...]:
        return (self.batch, self.heads, self.seq_q, self.head_dim)

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """Q, K and V."""
        kv_shape = (self.batch, self.kv_heads, self.seq_kv, self.head_dim)
        return tuple(arrays.normal(shape, self.dtype, 3 * seed + i) for i, shape in enumerate((self._q_shape, kv_shape, kv_shape)))

    def make_output(self, arrays: Arrays) -> Array:
        return arrays.unwritten(self._q_shape, self.dtype)

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """Rows of every head against float64, and every element for being possible at all; see ``attention/check.py``."""
        q, k, v = inputs
        return check_attention(arrays, q, k, v, output, causal=self.causal, scale=self.scale, dtype=self.dtype, seed=seed)
