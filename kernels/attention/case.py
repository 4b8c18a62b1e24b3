"""The attention cases: training's forward and backward, and decoding; heads, lengths, masks, FLOPs, bytes and inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, Arrays, Output
from ..case import DTYPE_BYTES, Case, Check
from .check import check_attention
from .check_gradients import check_gradients
from .exact import Rules

DIRECTIONS = ("forward", "backward")

BACKWARD_FLOPS = 2.5
"""Matrix products of the backward pass for each of the forward pass: 5 (the scores again, dP, dV, dK, dQ) for 2. Dao,
"FlashAttention-2" (arXiv 2307.08691), section 4.1."""

LOGSUMEXP_BYTES = {"fp64": 8}
"""Bytes of one log-sum-exp, which the forward pass leaves for the backward pass; all narrower dtypes keep it in fp32."""


@dataclass(frozen=True, kw_only=True)
class AttentionCase(Case):
    """O = softmax(Q K' / sqrt(head_dim)) V, or its gradients: dQ, dK, dV from dO.

    All arrays lie row by row in memory: Q is batch x heads x seq_q x head_dim, O and dO batch x heads x seq_q x dim_v, K batch x kv_heads
    x seq_kv x head_dim, V batch x kv_heads x seq_kv x dim_v; each gradient is as large as what it is the gradient of.

    ``kv_heads`` fewer than ``heads`` is grouped-query attention: query head h reads key/value head h // group. ``head_dim_v`` is the
    width of the values where it differs (multi-head latent attention as in training: 192 and 128).

    ``causal``: query i sees keys j <= i. It needs seq_q == seq_kv: for unequal lengths libraries differ on where the diagonal lies (top
    left in PyTorch, bottom right in FlashAttention), so such a number would mean two things. ``window``: query i sees only
    i - window < j <= i, the sliding window of Mistral 7B (arXiv 2310.06825, section 2); it needs ``causal``.

    FLOPs: 2 batch heads visible_pairs (head_dim + dim_v) forward, for two matrix products; the softmax is not counted. Backward: 2.5
    times that. Both are the convention of Dao, "FlashAttention-2" (arXiv 2307.08691, section 4.1), which also halves causal work
    although the diagonal belongs to it ((s + 1) / 2s is exact); under a window the pairs are counted one by one.

    Bytes: forward reads Q, K, V and writes O. Backward reads Q, K, V, O, dO and the log-sum-exp of each row, and writes dQ, dK, dV. A
    backward kernel gets (Q, K, V, dO), makes O and what else it keeps when it is prepared, and only the gradients are timed.

    >>> shape = dict(batch=1, heads=2, kv_heads=1, seq_q=8, seq_kv=8, head_dim=4, causal=True, dtype="bf16")
    >>> AttentionCase(**shape).flops, AttentionCase(**shape, direction="backward").flops
    (1024.0, 2560.0)
    >>> AttentionCase(**shape, window=3).visible_pairs
    21.0
    """

    op: ClassVar[str] = "attention"
    limited_by: ClassVar[str] = "compute"

    batch: int
    heads: int
    kv_heads: int
    seq_q: int
    seq_kv: int
    head_dim: int
    head_dim_v: int | None = None
    causal: bool = False
    window: int | None = None
    direction: str = "forward"

    def __post_init__(self) -> None:
        if min(self.batch, self.heads, self.kv_heads, self.seq_q, self.seq_kv, self.head_dim, self.dim_v) < 1:
            raise ValueError(f"{self.op} with a size below 1: {self}")
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.op} with {self.heads} heads and {self.kv_heads} kv_heads: heads must be a multiple of kv_heads")
        if self.causal and self.seq_q != self.seq_kv:
            raise ValueError(f"causal attention with seq_q={self.seq_q}, seq_kv={self.seq_kv}: they must be equal")
        if self.window is not None and not self.causal:
            raise ValueError(
                f"{self.op} with window={self.window} without causal: a window looks back from the diagonal, so set causal=true"
            )
        if self.window is not None and self.window < 1:
            raise ValueError(f"{self.op} with window={self.window}: a position sees itself at least, so it must be 1 or more")
        if self.direction not in DIRECTIONS:
            raise ValueError(f"{self.op} direction {self.direction!r}: use one of {', '.join(DIRECTIONS)}")
        self._set_math_mode()

    @property
    def dim_v(self) -> int:
        """Width of one head of values and of the output."""
        return self.head_dim if self.head_dim_v is None else self.head_dim_v

    @property
    def group(self) -> int:
        """Query heads that share a key/value head."""
        return self.heads // self.kv_heads

    @property
    def backward(self) -> bool:
        """Whether the gradients are computed, and not the output."""
        return self.direction == "backward"

    @property
    def scale(self) -> float:
        """Factor on the scores."""
        return 1 / math.sqrt(self.head_dim)

    @property
    def visible_pairs(self) -> float:
        """Pairs of a query and a key that it sees, in one head, as the FLOPs count them: half of all if causal, exact with a window."""
        if self.window is not None:
            seen = min(self.window, self.seq_q)
            return float(seen * self.seq_q - seen * (seen - 1) // 2)
        return self.seq_q * self.seq_kv / (2 if self.causal else 1)

    @property
    def flops(self) -> float:
        forward = 2.0 * self.batch * self.heads * self.visible_pairs * (self.head_dim + self.dim_v)
        return BACKWARD_FLOPS * forward if self.backward else forward

    @property
    def bytes(self) -> float:
        q, k = self.heads * self.seq_q * self.head_dim, self.kv_heads * self.seq_kv * self.head_dim
        o, v = self.heads * self.seq_q * self.dim_v, self.kv_heads * self.seq_kv * self.dim_v
        if not self.backward:
            return float(self.batch * (q + k + v + o) * DTYPE_BYTES[self.dtype])
        logsumexp = self.heads * self.seq_q * LOGSUMEXP_BYTES.get(self.dtype, 4)
        return float(self.batch * ((2 * q + 2 * k + 2 * v + 2 * o) * DTYPE_BYTES[self.dtype] + logsumexp))

    @property
    def footprint_bytes(self) -> float:
        return self.bytes

    @property
    def _q_shape(self) -> tuple[int, ...]:
        return (self.batch, self.heads, self.seq_q, self.head_dim)

    @property
    def _k_shape(self) -> tuple[int, ...]:
        return (self.batch, self.kv_heads, self.seq_kv, self.head_dim)

    @property
    def _v_shape(self) -> tuple[int, ...]:
        return (self.batch, self.kv_heads, self.seq_kv, self.dim_v)

    @property
    def _o_shape(self) -> tuple[int, ...]:
        return (self.batch, self.heads, self.seq_q, self.dim_v)

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """Q, K, V; and dO where the gradients are computed."""
        shapes = [self._q_shape, self._k_shape, self._v_shape] + ([self._o_shape] if self.backward else [])
        return tuple(arrays.normal(shape, self.dtype, 4 * seed + i) for i, shape in enumerate(shapes))

    def make_output(self, arrays: Arrays) -> Output:
        """O; or (dQ, dK, dV)."""
        if not self.backward:
            return arrays.unwritten(self._o_shape, self.dtype)
        return tuple(arrays.unwritten(shape, self.dtype) for shape in (self._q_shape, self._k_shape, self._v_shape))

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Output, seed: int) -> Check:
        """Against float64, whole where that is cheap; see ``attention/check.py`` and ``attention/check_gradients.py``."""
        rules = Rules(causal=self.causal, window=self.window, scale=self.scale, dtype=self.dtype)
        check = check_gradients if self.backward else check_attention
        return check(arrays, inputs, output, rules, seed, self.visible_pairs / self.seq_q)


@dataclass(frozen=True, kw_only=True)
class DecodeCase(AttentionCase):
    """Attention as generation computes it: ``seq_q`` new queries (one) for each sequence, over the whole cache of ``seq_kv`` keys.

    There is no mask: the cache holds only what the query may see. Time goes into reading the cache, so bandwidth is the limit. With
    multi-head latent attention the up-projection is absorbed into Q, and all heads share one latent (DeepSeek-V2, arXiv 2405.04434,
    section 2.1.2): kv_heads=1, head_dim=576 (512 latent and 64 rotary), head_dim_v=512. V there is the latent part of K; here, as
    everywhere in this case, K and V are two arrays, and ``bytes`` counts both.

    >>> DecodeCase(batch=1, heads=8, kv_heads=2, seq_kv=1000, head_dim=64, dtype="bf16").bytes == 2 * 64 * (2 * 8 + 2 * 2 * 1000)
    True
    """

    op: ClassVar[str] = "decode"
    limited_by: ClassVar[str] = "memory"

    seq_q: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.causal or self.backward:
            raise ValueError("decode sees the whole cache and is never trained: leave out causal, window and direction")
