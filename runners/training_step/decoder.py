"""A decoder-only transformer from the fields of a ``Transformer``, as functions over weights in plain torch.

The sizes need no torch. Linear weights are (out, in) as torch has them; queries, keys and values are one product, gate and up another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chipassay.scaling.errors import NotModelled
from chipassay.scaling.models import Transformer

Tensor = Any
"""A torch tensor; torch is not imported here."""
Weights = Mapping[str, Tensor]

NORM_EPSILON = 1e-5
ROTARY_BASE = 10_000.0
"""Any base costs the same."""


@dataclass(frozen=True)
class Shapes:
    """Every weight of a decoder by name."""

    layer: Mapping[str, tuple[int, ...]]
    """Of one layer; all layers are alike."""
    ends: Mapping[str, tuple[int, ...]]
    """Token table, position table, last norm, and the head where it is not the token table."""


def check_trainable(model: Transformer) -> None:
    """Raise NotModelled for a model that is not built here, with what it has that these functions have not."""
    reasons = {
        "experts": model.experts is not None,
        "latent attention": model.latent is not None,
        "further tokens (mtp_depth)": model.mtp_depth > 0,
        "attention that sees later tokens too": not model.causal,
        "ALiBi": model.alibi,
        f"a window of {model.window} tokens in sequences of {model.seq_len}": model.window is not None and model.window < model.seq_len,
        f"{model.norms} norms in a layer": model.norms != 2 and not (model.norms == 1 and model.parallel),
        "layers between the last one and the loss": model.head_layers > 0,
    }
    for reason, holds in reasons.items():
        if holds:
            raise NotModelled(f"model {model.name!r} has {reason}, which is not trained here; take a dense decoder such as llama3.2-1b")


def shapes(model: Transformer) -> Shapes:
    """The weights of a model that ``check_trainable`` passes. The token table has ``padded_vocab(1)`` rows.

    >>> from math import prod
    >>> from chipassay.scaling.models import load_model
    >>> model = load_model("llama3.2-1b")
    >>> found = shapes(model)
    >>> sum(map(prod, found.ends.values())) + model.layers * sum(map(prod, found.layer.values())) == model.parameters
    True
    """
    h, size, wide = model.hidden, model.head_dim, model.ffn_hidden
    columns = model.q_width + 2 * model.kv_width
    inner = wide * (2 if model.gated else 1)
    layer: dict[str, tuple[int, ...]] = {
        "qkv.weight": (columns, h),
        "out.weight": (h, model.q_width),
        "up.weight": (inner, h),
        "down.weight": (h, wide),
    }
    if model.biases or model.qkv_biases:
        layer["qkv.bias"] = (columns,)
    if model.biases:
        layer |= {"out.bias": (h,), "up.bias": (inner,), "down.bias": (h,)}
    if model.qk_norm:
        layer |= {"q_norm.weight": (size,), "k_norm.weight": (size,)}
    for number in range(model.norms):
        layer |= _norm_shapes(model, f"norm_{number + 1}")
    rows = model.padded_vocab(1)
    ends: dict[str, tuple[int, ...]] = {"tokens": (rows, h)}
    if model.learned_positions:
        ends["positions"] = (model.seq_len, h)
    ends |= _norm_shapes(model, "norm")
    if not model.tied_embeddings:
        ends["head"] = (rows, h)
    return Shapes(layer, ends)


def _norm_shapes(model: Transformer, name: str) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {f"{name}.weight": (model.hidden,)}
    if not model.rms_norm and (model.biases or model.norm_biases):
        found[f"{name}.bias"] = (model.hidden,)
    return found


def _norm(model: Transformer) -> Callable[[Tensor, Weights, str], Tensor]:
    from torch.nn.functional import layer_norm, rms_norm

    width = (model.hidden,)
    if model.rms_norm:
        return lambda x, weights, name: rms_norm(x, width, weights[f"{name}.weight"], NORM_EPSILON)
    return lambda x, weights, name: layer_norm(x, width, weights[f"{name}.weight"], weights.get(f"{name}.bias"), NORM_EPSILON)


def rotation(model: Transformer, dtype: Any, device: str) -> tuple[Tensor, Tensor] | None:
    """(cosine, sine) of every position and pair of columns, each (1, seq_len, 1, head_dim); None where positions are learned.

    Su et al. 2021 (arXiv 2104.09864), with the two halves of a head as the pairs.
    """
    import torch

    if not model.rotary:
        return None
    half = torch.arange(0, model.head_dim, 2, dtype=torch.float32, device=device) / model.head_dim
    angles = torch.outer(torch.arange(model.seq_len, dtype=torch.float32, device=device), ROTARY_BASE**-half)
    both = torch.cat((angles, angles), dim=-1)[None, :, None, :]
    return both.cos().to(dtype), both.sin().to(dtype)


def make_layer(model: Transformer, attention: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The function of one layer: ``layer(x, weights, turn)``, x and the result (sequences, tokens, hidden).

    ``attention`` takes queries, keys and values (sequences, heads, tokens, head_dim), keys and values with ``kv_heads`` heads.
    """
    import torch
    from torch.nn.functional import gelu, linear, rms_norm, silu

    heads, kv_heads, size, q_width = model.heads, model.kv_heads, model.head_dim, model.q_width
    gated, parallel, own_norm, qk_norm = model.gated, model.parallel, model.norms > 1, model.qk_norm
    norm = _norm(model)

    def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return x * cosine + torch.cat((-second, first), dim=-1) * sine

    def attended(x: Tensor, weights: Weights, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        sequences, tokens, _ = x.shape
        qkv = linear(x, weights["qkv.weight"], weights.get("qkv.bias")).view(sequences, tokens, heads + 2 * kv_heads, size)
        q, k, v = qkv.split((heads, kv_heads, kv_heads), dim=2)
        if qk_norm:
            q = rms_norm(q, (size,), weights["q_norm.weight"], NORM_EPSILON)
            k = rms_norm(k, (size,), weights["k_norm.weight"], NORM_EPSILON)
        if turn is not None:
            q, k = turned(q, *turn), turned(k, *turn)
        context = attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return linear(context.transpose(1, 2).reshape(sequences, tokens, q_width), weights["out.weight"], weights.get("out.bias"))

    def mlp(x: Tensor, weights: Weights) -> Tensor:
        inner = linear(x, weights["up.weight"], weights.get("up.bias"))
        if gated:
            gate, up = inner.chunk(2, dim=-1)
            inner = silu(gate) * up
        else:
            inner = gelu(inner, approximate="tanh")
        return linear(inner, weights["down.weight"], weights.get("down.bias"))

    def layer(x: Tensor, weights: Weights, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        normed = norm(x, weights, "norm_1")
        if parallel:
            return x + attended(normed, weights, turn) + mlp(norm(x, weights, "norm_2") if own_norm else normed, weights)
        x = x + attended(normed, weights, turn)
        return x + mlp(norm(x, weights, "norm_2"), weights)

    return layer


def make_head(model: Transformer) -> Callable[..., Tensor]:
    """The function of the end: ``head(x, weights, table, targets)``, last norm, logits, and the mean cross entropy in fp32."""
    from torch.nn.functional import cross_entropy, linear

    norm = _norm(model)

    def head(x: Tensor, weights: Weights, table: Tensor, targets: Tensor) -> Tensor:
        logits = linear(norm(x, weights, "norm"), table)
        return cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    return head
