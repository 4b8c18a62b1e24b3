"""The sizes of a model, checked: a record names its field and what it may be, in one sentence."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from chipassay.results.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from .model_parts import Experts
    from .transformer import Transformer

MAY_BE_ZERO = frozenset({"mtp_depth", "first_dense", "shared_ffn_hidden", "head_layers"})
"""Whole numbers that may be 0; the others are at least 1."""


def check_fields(record: DataclassInstance, where: str) -> None:
    """Raise InputError where a value is not what its field holds: a whole number, a number, true or false, text, or a record."""
    for field in fields(record):
        kind, value = str(field.type), getattr(record, field.name)
        optional = kind.endswith("| None")
        kind = kind.removesuffix("| None").strip()
        if optional and value is None:
            continue
        least = 0 if field.name in MAY_BE_ZERO else 1
        if kind == "int" and not (_is_whole(value) and value >= least):
            raise InputError(f"{where}: {field.name} is {value!r}; give a whole number of at least {least}")
        if kind == "float" and not (_is_number(value) and 0 < value < float("inf")):
            raise InputError(f"{where}: {field.name} is {value!r}; give a number above 0")
        if kind == "bool" and not isinstance(value, bool):
            raise InputError(f"{where}: {field.name} is {value!r}; give true or false")
        if kind == "str" and not isinstance(value, str):
            raise InputError(f"{where}: {field.name} is {value!r}; give text")
        if kind in ("Experts", "Latent") and type(value).__name__ != kind:
            raise InputError(f"{where}: {field.name} is {value!r}; give a table [{field.name}] of its sizes")


def check_experts(experts: Experts) -> None:
    """Raise InputError for more experts a token than there are, or a busiest rank that has less than the mean."""
    if experts.active > experts.count:
        raise InputError(f"experts: active is {experts.active} of {experts.count} experts; give at most {experts.count}")
    if experts.imbalance < 1:
        raise InputError(f"experts: imbalance is {experts.imbalance}, but the busiest rank has at least the mean; give at least 1")


def check_shape(model: Transformer) -> None:
    """Raise InputError for sizes that do not go together."""
    where = f"model {model.name!r}"
    if model.heads % model.kv_heads:
        near = max(count for count in range(1, min(model.heads, model.kv_heads) + 1) if model.heads % count == 0)
        raise InputError(f"{where}: {model.heads} heads do not divide into {model.kv_heads} kv_heads; the nearest below is {near}")
    if model.predicted_share > 1:
        raise InputError(f"{where}: predicted_share is {model.predicted_share}; give at most 1")
    if model.learned_positions and model.alibi:
        raise InputError(f"{where}: both learned_positions and alibi are true; leave one out")
    if model.full_every is not None and (model.window is None or model.full_every < 2):
        raise InputError(f"{where}: full_every is {model.full_every}; give it with a window, and at least 2")
    experts, latent = model.experts, model.latent
    if experts is not None and experts.first_dense + experts.every > model.layers:
        raise InputError(
            f"{where}: no layer has experts: first_dense {experts.first_dense} and every {experts.every} of {model.layers} layers; "
            "lower them, or leave [experts] out"
        )
    if latent is not None:
        if model.head_dim != latent.nope_dim + latent.rope_dim:
            raise InputError(
                f"{where}: head_dim is {model.head_dim}, but a latent head has {latent.nope_dim + latent.rope_dim} dimensions; leave it out"
            )
        if model.kv_heads != model.heads:
            raise InputError(f"{where}: kv_heads is {model.kv_heads}, but latent attention gives each head its own; leave it out")
        if model.biases or model.qkv_biases or model.qk_norm:
            raise InputError(f"{where}: biases and qk_norm are not modelled with latent attention; leave them out")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
