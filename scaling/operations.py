"""One layer as the operations of one rank on one microbatch: matrix products, attention cores, passes over memory. Sizes, not times.

Sizes are arrays, one entry per distinct way of cutting the layer (``cut.py``). The TP cuts are those of Shoeybi et al. 2019
(arXiv 1909.08053), with sequence parallelism those of Korthikanti et al. 2022 (arXiv 2205.05198).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .cut import Cut
from .model_parts import Block
from .models import Transformer


@dataclass(frozen=True, eq=False)
class Product:
    """``groups`` products of (m x k) and (k x n) in one launch."""

    name: str
    m: Any
    n: Any
    k: Any
    groups: Any = 1.0
    weights: bool = True
    """B holds weights, whose gradient is a product too, and added up over microbatches. False: both operands are activations."""


@dataclass(frozen=True, eq=False)
class Core:
    """One fused attention call."""

    heads: Any
    kv_heads: Any
    head_dim: float
    window: int


@dataclass(frozen=True, eq=False)
class Pass:
    """One memory-bound operation: the bytes that it moves, forward and backward, in so many kernels each."""

    name: str
    op: str
    """Its name among the profile's ``memory_ops``, without the direction."""
    forward_bytes: Any
    backward_bytes: Any
    forward_kernels: int = 1
    backward_kernels: int = 1


@dataclass(frozen=True, eq=False)
class Operations:
    """What one rank does in one layer."""

    products: tuple[Product, ...]
    cores: tuple[Core, ...]
    passes: tuple[Pass, ...]
    scores: tuple[Pass, ...]
    """The passes of an unfused attention core, which selective recomputation repeats."""
    score_products: tuple[Product, ...]
    """The products of an unfused attention core."""
    tp_exchanges: Any
    """Pairs of collectives of the forward pass over all tokens of a TP group (all-gather and reduce-scatter, or one all-reduce)."""
    expert_exchanges: Any
    """The same among the ranks that share each routed expert, of their tokens: 1 where there are several."""
    expert_tokens: Any
    """Tokens of one such exchange, of all its ranks; 0 where there is none."""
    dispatched_tokens: Any
    """Tokens times experts that one rank sends to experts elsewhere and gets back; 0 without experts."""


def layer_operations(cut: Cut, block: Block) -> Operations:
    """The operations of one layer of a kind."""
    model, settings = cut.model, cut.settings
    products = list(_attention_products(cut))
    passes: list[Pass] = list(_norms_and_residuals(cut))
    score_products: tuple[Product, ...] = ()
    scores: tuple[Pass, ...] = ()
    cores: tuple[Core, ...] = ()
    window = model.window or 0 if block.windowed else 0
    passes += _around_attention(cut)
    if settings.attention == "unfused":
        score_products, scores = _unfused_core(cut)
    else:
        cores = (Core(model.heads / cut.tp, cut.kv_heads, _core_dim(model), window),)
    routed = _Routed()
    # Attention and MLP side by side end in one sum (GPT-J, Falcon).
    exchanges: Any = 1.0 if model.parallel else 2.0
    if block.has_experts:
        mlp, mlp_passes, routed = _experts(cut)
        products += mlp
        passes += mlp_passes
        # Of the attention, and of the shared experts, which are an MLP like any other.
        exchanges = 2.0 if model.experts and model.experts.shared_ffn_hidden else 1.0
    else:
        products += _mlp_products(cut, cut.tokens, float(model.ffn_hidden), cut.tp, "mlp")
        passes += _activation(cut, cut.tokens * model.ffn_hidden / cut.tp)
    if settings.dtype == "fp8":
        passes += [_casts(products)]
    return Operations(
        tuple(products), cores, tuple(passes), scores, score_products, exchanges, routed.exchanges, routed.gathered, routed.dispatched
    )


def _core_dim(model: Transformer) -> float:
    """Head size of the core; of latent attention the mean of its two products' (queries with keys, probabilities with values)."""
    latent = model.latent
    return float(model.head_dim) if latent is None else (latent.nope_dim + latent.rope_dim + latent.value_dim) / 2


def _attention_products(cut: Cut) -> list[Product]:
    model, tokens = cut.model, cut.tokens
    h, latent = float(model.hidden), model.latent
    if latent is None:
        q = model.q_width / cut.tp
        return [
            Product("qkv", tokens, q + 2 * cut.kv_heads * model.head_dim, h),
            Product("attention out", tokens, h, q),
        ]
    # The projections down to the ranks are not cut by TP: each rank repeats them (DeepSeek-V2, section 2.1; Megatron-LM does so too).
    query = model.heads / cut.tp * (latent.nope_dim + latent.rope_dim)
    found = [Product("kv down", cut.rows, float(latent.kv_rank + latent.rope_dim), h)]
    if latent.q_rank:
        found += [Product("q down", cut.rows, float(latent.q_rank), h), Product("q up", tokens, query, float(latent.q_rank))]
    else:
        found += [Product("q", tokens, query, h)]
    found += [
        Product("kv up", tokens, model.heads / cut.tp * (latent.nope_dim + latent.value_dim), float(latent.kv_rank)),
        Product("attention out", tokens, h, model.heads / cut.tp * latent.value_dim),
    ]
    return found


def _mlp_products(cut: Cut, tokens: Any, width: float, tp: Any, name: str, groups: Any = 1.0) -> list[Product]:
    up = width * (2 if cut.model.gated else 1)
    return [
        Product(f"{name} up", tokens, up / tp, float(cut.model.hidden), groups),
        Product(f"{name} down", tokens, float(cut.model.hidden), width / tp, groups),
    ]


@dataclass(frozen=True, eq=False)
class _Routed:
    """Tokens on their way to experts."""

    dispatched: Any = 0.0
    exchanges: Any = 0.0
    gathered: Any = 0.0


def _experts(cut: Cut) -> tuple[list[Product], list[Pass], _Routed]:
    """The experts' products, their passes, and the tokens on their way to them.

    Tokens travel as Megatron-LM's dispatchers send them (megatron/core/transformer/moe/token_dispatcher.py): each rank sends its own to
    the ranks of their experts, and those that share an expert gather what each of them got: every token once for each of its experts.
    Where every rank has all experts, nothing is sent, and they gather each token once.
    """
    model, experts, e = cut.model, cut.model.experts, cut.element_bytes
    assert experts is not None
    own = cut.tokens * cut.expert_tp / cut.tp
    """Tokens that one expert-TP group brings."""
    taken = experts.active * (experts.imbalance if experts.capacity_factor is None else experts.capacity_factor)
    local = experts.count / cut.ep
    per_expert = own * cut.ep * taken / experts.count
    width = float(experts.ffn_hidden)
    products = [Product("router", cut.rows, float(experts.count), float(model.hidden))]
    products += _mlp_products(cut, np.maximum(1.0, per_expert), width, cut.expert_tp, "experts", local)
    inner = per_expert * local * width / cut.expert_tp
    copied = own * taken * model.hidden
    passes = _activation(cut, inner)
    passes += [
        # To the experts' order and back, weighed and summed there (permute and unpermute).
        Pass("permute", "gather", 2 * e * copied, 2 * e * copied),
        Pass("unpermute", "gather", 2 * e * copied, 3 * e * copied),
        Pass("router", "softmax", 12.0 * cut.rows * experts.count, 12.0 * cut.rows * experts.count, 15, 10),
    ]
    if experts.shared_ffn_hidden:
        always = float(experts.shared_ffn_hidden)
        products += _mlp_products(cut, cut.tokens, always, cut.tp, "shared experts")
        passes += _activation(cut, cut.tokens * always / cut.tp)
    sent = experts.active if experts.capacity_factor is None else taken
    shared = cut.expert_tp > 1
    gathered = own * np.where(cut.ep > 1, sent, 1.0)
    return products, passes, _Routed(own / cut.expert_tp * sent, np.where(shared, 1.0, 0.0), np.where(shared, gathered, 0.0))


def _norms_and_residuals(cut: Cut) -> list[Pass]:
    """The norms, both residual additions, and the dropout before them.

    A norm reads and writes its rows; backward it reads the gradient and the input and writes the gradient.
    """
    model, e = cut.model, cut.element_bytes
    row = cut.rows * model.hidden
    mask = 1.0 if model.dropout else 0.0
    norm = "rms_norm" if model.rms_norm else "layer_norm"
    rough = 4 if model.rms_norm and not cut.settings.fused else 1  # eager RMS norms are written as five operators, some in fp32
    found = [
        Pass("norms", norm, model.norms * 2 * e * rough * row, model.norms * 3 * e * rough * row, model.norms * rough, model.norms * rough)
    ]
    if cut.settings.fused:
        backward = 3 * e + ((2 * e + mask) if model.dropout else 0.0)
        found.append(Pass("residuals", "triad", 2 * (3 * e + mask) * row, 2 * backward * row, 2, 4 if model.dropout else 2))
    else:
        drop = 2 * e + mask if model.dropout else 0.0
        found.append(Pass("residuals", "triad", 2 * (3 * e + drop) * row, 2 * (3 * e + drop) * row, 2 + 2 * bool(drop), 2 + 2 * bool(drop)))
    if model.biases:
        # The gradient of a bias is a sum over the tokens of what its product received.
        out = cut.tokens * (model.q_width / cut.tp + 2 * cut.kv_heads * model.head_dim + model.ffn_hidden / cut.tp) + 2 * row
        found.append(Pass("bias gradients", "read", 0.0, e * out, 0, 4))
    return found


def _around_attention(cut: Cut) -> list[Pass]:
    """Rotary embedding, norms of queries and keys, and the copies that an unfused core needs."""
    model, e = cut.model, cut.element_bytes
    found = []
    heads = cut.tokens * (model.q_width / cut.tp + cut.kv_heads * model.head_dim)
    if model.latent is not None:
        latent = model.latent
        heads = cut.tokens * (model.heads / cut.tp) * 2 * (latent.nope_dim + latent.rope_dim)
        found.append(
            Pass(
                "latent norms",
                "rms_norm",
                2 * e * cut.rows * (latent.kv_rank + (latent.q_rank or 0)),
                3 * e * cut.rows * latent.kv_rank,
                2,
                2,
            )
        )
    if model.rotary:
        times = 1 if cut.settings.fused else 4
        found.append(Pass("rotary", "copy", 2 * e * times * heads, 2 * e * times * heads, 2 * times, 2 * times))
    if model.qk_norm:
        found.append(Pass("q and k norms", "rms_norm", 2 * e * heads, 3 * e * heads, 2, 2))
    if cut.settings.attention == "unfused":
        context = cut.tokens * model.value_width / cut.tp
        found.append(Pass("heads together", "copy", 2 * e * context, 2 * e * context))
    return found


def _unfused_core(cut: Cut) -> tuple[tuple[Product, ...], tuple[Pass, ...]]:
    """Scores and probabilities through memory, all of them though a causal mask drops half: two batched products, softmax, dropout.

    Softmax reads and writes the scores; dropout reads and writes them and writes a mask of one byte; backward: dropout reads two and
    writes one, softmax reads two and writes one. Without fused kernels scale and mask are passes of their own.
    """
    model, e = cut.model, cut.element_bytes
    groups = cut.microbatch * model.heads / cut.tp
    s, q, d = float(model.seq_len), model.seq_len / cut.cp, float(model.head_dim)
    value = model.value_width / model.heads
    scores = groups * s * q
    mask = 1.0 if model.dropout else 0.0
    drop_forward, drop_backward = (2 * e + mask, 2 * e + mask) if model.dropout else (0.0, 0.0)
    passes = [Pass("softmax", "softmax", 2 * e * scores, 3 * e * scores)]
    if model.dropout:
        passes.append(Pass("dropout of scores", "triad", drop_forward * scores, drop_backward * scores))
    if not cut.settings.fused:
        passes.append(Pass("scale and mask", "triad", (4 * e + 1) * scores, (4 * e + 1) * scores, 2, 2))
    products = (
        Product("scores", q, s, d, groups, weights=False),
        Product("weighted values", q, value, s, groups, weights=False),
    )
    return products, tuple(passes)


def _activation(cut: Cut, inner: Any) -> list[Pass]:
    """GELU reads and writes (backward: reads two, writes one); SwiGLU reads two and writes one (backward: reads three, writes two)."""
    e, fused = cut.element_bytes, cut.settings.fused
    if cut.model.gated:
        forward, backward, kernels = (3, 5, 1) if fused else (5, 9, 2)
        return [Pass("activation", "swiglu", forward * e * inner, backward * e * inner, kernels, kernels)]
    return [Pass("activation", "gelu", 2 * e * inner, 3 * e * inner)]


def _casts(products: list[Product]) -> Pass:
    """To fp8 and its transpose: 2 bytes read, 1 and 1 written, of every linear layer's input, and backward of its gradient."""
    inputs = sum(product.m * product.k * product.groups for product in products if product.weights)
    gradients = sum(product.m * product.n * product.groups for product in products if product.weights)
    return Pass("casts to fp8", "copy", 4.0 * inputs, 4.0 * gradients, len(products), len(products))
