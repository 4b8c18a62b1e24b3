"""Shapes with a name, at which profiles are shown and held against each other: what well-known models ask of a chip."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20
GIB = 2**30

ELEMENT_BYTES = {
    "fp64": 8.0,
    "fp32": 4.0,
    "tf32": 4.0,
    "fp16": 2.0,
    "bf16": 2.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "int8": 1.0,
    "fp4": 0.5,
    "nvfp4": 0.5,
    "mxfp4": 0.5,
}
"""Of an operand."""
OUTPUT_BYTES = {"fp64": 8.0, "fp32": 4.0, "tf32": 4.0, "int8": 4.0}
"""Of a product; 2 where it is not here: 8-bit floats are multiplied into 16 bit."""

BACKWARD_FLOPS = 2.5
"""FLOPs of attention's backward pass over those of the forward pass: five products for two, as its own benchmark counts
them (Dao, "FlashAttention-2", arXiv:2307.08691)."""


@dataclass(frozen=True)
class ProductShape:
    """C (m x n) = A (m x k) B (k x n), as one chip computes it."""

    name: str
    m: int
    n: int
    k: int

    @property
    def flops(self) -> float:
        """2 m n k."""
        return 2.0 * self.m * self.n * self.k

    def bytes(self, dtype: str) -> float:
        """Each operand read once, the product written once; 2 bytes an element of a dtype that is not known here."""
        operands, output = self.m * self.k + self.k * self.n, self.m * self.n
        return ELEMENT_BYTES.get(dtype, 2.0) * operands + OUTPUT_BYTES.get(dtype, 2.0) * output


@dataclass(frozen=True)
class AttentionShape:
    """Self-attention of equally many query and key positions, causal."""

    name: str
    batch: int
    heads: int
    kv_heads: int
    seq: int
    head_dim: int = 128

    def flops(self, direction: str = "forward") -> float:
        """4 batch heads seq^2 head_dim, half of them under the mask; ``backward`` BACKWARD_FLOPS times as many."""
        forward = 2.0 * self.batch * self.heads * self.seq**2 * self.head_dim
        return forward if direction == "forward" else BACKWARD_FLOPS * forward


LARGE_PRODUCT = ProductShape("8192 x 8192 x 8192", 8192, 8192, 8192)
"""The matrix product that stands for a dtype: its rate is near the best of every chip here."""
LARGE_ATTENTION = AttentionShape("2 x 32 heads x 8192 x 128, causal", 2, 32, 32, 8192)
LARGE_BYTES = GIB
"""Bytes moved where one figure stands for a memory-bound operation: beyond every cache."""
LARGE_MESSAGE = GIB
"""Message where one figure stands for a collective."""

PRODUCTS: tuple[ProductShape, ...] = (
    # Brown et al., "Language Models are Few-Shot Learners", arXiv:2005.14165, table 2.1: width 12288, 2048 positions; a MLP four times as
    # wide. Columns, then rows are cut (Shoeybi et al., "Megatron-LM", arXiv:1909.08053, section 3), here in eight.
    ProductShape("GPT-3 175B TP 8, QKV", 2048, 3 * 12288 // 8, 12288),
    ProductShape("GPT-3 175B TP 8, attention out", 2048, 12288, 12288 // 8),
    ProductShape("GPT-3 175B TP 8, MLP up", 2048, 4 * 12288 // 8, 12288),
    ProductShape("GPT-3 175B TP 8, MLP down", 2048, 12288, 4 * 12288 // 8),
    # Grattafiori et al., "The Llama 3 Herd of Models", arXiv:2407.21783, table 3: 8 key/value heads of 128, 8192 positions, gate and up
    # as one product.
    ProductShape("Llama 3 8B, QKV", 8192, 4096 + 2 * 1024, 4096),
    ProductShape("Llama 3 8B, attention out", 8192, 4096, 4096),
    ProductShape("Llama 3 8B, MLP gate and up", 8192, 2 * 14336, 4096),
    ProductShape("Llama 3 8B, MLP down", 8192, 4096, 14336),
    ProductShape("Llama 3 70B TP 8, QKV", 8192, (8192 + 2 * 1024) // 8, 8192),
    ProductShape("Llama 3 70B TP 8, attention out", 8192, 8192, 8192 // 8),
    ProductShape("Llama 3 70B TP 8, MLP gate and up", 8192, 2 * 28672 // 8, 8192),
    ProductShape("Llama 3 70B TP 8, MLP down", 8192, 8192, 28672 // 8),
    ProductShape("Llama 3 8B, MLP gate and up, 16 tokens", 16, 2 * 14336, 4096),
)

ATTENTIONS: tuple[AttentionShape, ...] = (
    AttentionShape("Llama 3 8B, 4k positions", 4, 32, 8, 4096),
    AttentionShape("Llama 3 8B, 16k positions", 1, 32, 8, 16384),
    AttentionShape("Llama 3 8B, 128k positions", 1, 32, 8, 131072),
)

MESSAGES: tuple[tuple[str, int], ...] = (("1 MiB", MIB), ("64 MiB", 64 * MIB), ("1 GiB", GIB))
GROUP_SIZES = (2, 4, 8)
