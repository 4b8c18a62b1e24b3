"""What one chip does for one microbatch of one layer: matrix products, attention, and the operations bound by memory.

Every operation is counted one by one; its time is what the profile's curve says for its FLOPs or bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .machine import Machine
from .models import Transformer
from .plan import Attention

ATTENTION_BACKWARD = 2.5
"""FLOPs of the fused attention backward over its forward: five products instead of two (Dao et al. 2022)."""

SCORE_BYTES_FORWARD = 13
"""Unfused attention, bytes per score and pass in 16 bit: scores written 2; softmax read 2, write 2; dropout read 2, write 2 and
mask 1; probabilities read 2."""
SCORE_BYTES_BACKWARD = 19
"""As above, backward: probabilities read 2; their gradient written 2; dropout read 2 and mask 1, write 2; softmax read 2 and 2,
write 2; the gradient of the scores read twice, 4."""

LOGIT_BYTES = 20
"""Per logit, forward and backward: read 2, kept in fp32 4, softmax and loss read twice 8, gradient written 4 and converted 2."""


@dataclass(frozen=True)
class Work:
    """Seconds by kind of operation."""

    matmul_s: float = 0.0
    attention_s: float = 0.0
    memory_s: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.matmul_s + other.matmul_s, self.attention_s + other.attention_s, self.memory_s + other.memory_s)

    def times(self, factor: float) -> Work:
        return Work(self.matmul_s * factor, self.attention_s * factor, self.memory_s * factor)

    @property
    def total_s(self) -> float:
        return self.matmul_s + self.attention_s + self.memory_s


@dataclass(frozen=True)
class LayerCost:
    """One layer on one rank for one microbatch."""

    forward: Work
    backward: Work
    attention_forward: Work
    """The attention core alone, which selective recomputation repeats."""


def product_s(machine: Machine, m: int, n: int, k: int) -> float:
    """Seconds of one matrix product: by its FLOPs, and never less than moving its operands takes."""
    moved_bytes = machine.element_bytes * (m * k + k * n + m * n)
    return max(machine.matmul.time_s(2.0 * m * n * k), moved_bytes / machine.memory.rate)


def layer_products(model: Transformer, tp: int) -> tuple[tuple[int, int], ...]:
    """(summed axis, columns) of each matrix product of one layer on one rank of a TP group.

    Where the group is larger than the number of key/value heads, each rank keeps one such head.
    """
    kv_width = model.kv_width // min(tp, model.kv_heads)
    up = model.ffn_hidden * (2 if model.gated else 1)
    return (
        (model.hidden, model.q_width // tp + 2 * kv_width),
        (model.q_width // tp, model.hidden),
        (model.hidden, up // tp),
        (model.ffn_hidden // tp, model.hidden),
    )


def _attention(model: Transformer, machine: Machine, tp: int, microbatch: int, kind: Attention) -> tuple[Work, Work]:
    """The attention core, forward and backward."""
    scores = float(microbatch) * (model.heads / tp) * model.seq_len * model.seq_len
    if kind == "flash":
        flops = 4.0 * scores * model.head_dim * 0.5  # causal: half of the scores are never formed
        return Work(attention_s=machine.attention.time_s(flops)), Work(attention_s=machine.attention.time_s(ATTENTION_BACKWARD * flops))
    width = machine.element_bytes / 2
    flops = 4.0 * scores * model.head_dim
    forward = 2 * machine.matmul.time_s(flops / 2) + machine.memory.time_s(SCORE_BYTES_FORWARD * width * scores)
    backward = 4 * machine.matmul.time_s(flops / 2) + machine.memory.time_s(SCORE_BYTES_BACKWARD * width * scores)
    return Work(attention_s=forward), Work(attention_s=backward)


def _memory_bound(model: Transformer, machine: Machine, tp: int, microbatch: int, sequence_parallel: bool) -> tuple[Work, Work]:
    """Norms, residual additions, activation function, rotary embedding, dropout: forward and backward, one kernel each."""
    tokens = microbatch * model.seq_len
    element = machine.element_bytes
    row = float(tokens * model.hidden) / (tp if sequence_parallel else 1)
    inner = float(tokens * model.ffn_hidden) / tp
    heads = float(tokens * (model.q_width + model.kv_width)) / tp
    dropout_bytes = row if model.dropout else 0.0  # a mask of one byte
    time_s = machine.memory.time_s
    forward = 2 * time_s(2 * element * row)  # norm: read, write
    forward += 2 * time_s(3 * element * row + dropout_bytes)  # residual: read both, write
    forward += time_s((3 if model.gated else 2) * element * inner)
    backward = 2 * time_s(3 * element * row)  # norm: gradient and input read, gradient written
    backward += 2 * time_s(3 * element * row + dropout_bytes)
    backward += time_s((5 if model.gated else 3) * element * inner)
    if not model.learned_positions:
        forward += time_s(2 * element * heads)
        backward += time_s(2 * element * heads)
    return Work(memory_s=forward), Work(memory_s=backward)


@lru_cache(maxsize=4096)
def layer_cost(model: Transformer, machine: Machine, tp: int, microbatch: int, sequence_parallel: bool, attention: Attention) -> LayerCost:
    """The cost of one layer on one rank for one microbatch, communication apart."""
    tokens = microbatch * model.seq_len
    products_s = sum(product_s(machine, tokens, columns, summed) for summed, columns in layer_products(model, tp))
    gradients_s = sum(
        product_s(machine, tokens, summed, columns) + product_s(machine, summed, columns, tokens)
        for summed, columns in layer_products(model, tp)
    )
    core_forward, core_backward = _attention(model, machine, tp, microbatch, attention)
    memory_forward, memory_backward = _memory_bound(model, machine, tp, microbatch, sequence_parallel)
    return LayerCost(
        forward=Work(matmul_s=products_s) + core_forward + memory_forward,
        backward=Work(matmul_s=gradients_s) + core_backward + memory_backward,
        attention_forward=core_forward,
    )


@lru_cache(maxsize=1024)
def head_cost(model: Transformer, machine: Machine, tp: int, microbatch: int) -> Work:
    """The logits, the loss and their backward pass, on the last stage."""
    tokens = microbatch * model.seq_len
    columns = -(-model.vocab // tp)
    products_s = (
        product_s(machine, tokens, columns, model.hidden)
        + product_s(machine, tokens, model.hidden, columns)
        + product_s(machine, model.hidden, columns, tokens)
    )
    return Work(matmul_s=products_s, memory_s=machine.memory.time_s(LOGIT_BYTES * float(tokens) * columns))


@lru_cache(maxsize=1024)
def embedding_cost(model: Transformer, machine: Machine, microbatch: int) -> Work:
    """The embedding look-up and its gradient, on the first stage: one row read and written each way."""
    row_bytes = machine.element_bytes * float(microbatch * model.seq_len * model.hidden)
    return Work(memory_s=machine.memory.time_s(2 * row_bytes) + machine.memory.time_s(3 * row_bytes))
