"""Tiles that the gradients of attention in Triton try; as in triton_configs.py, only what compiles without spilled registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..case import DTYPE_BYTES
from ..kernel import Target
from .case import AttentionCase
from .triton_configs import Config, Table, shared_limit, table_chip, tiles_for, width_class
from .triton_parts import cut, padded

BACKWARD: Mapping[str, Table] = {
    "keys": {
        "sm_80": {
            64: ((32, 128, 8, 2), (32, 64, 4, 2)),
            128: ((64, 64, 8, 2), (32, 64, 8, 2)),
            192: ((32, 32, 8, 1), (32, 32, 4, 1)),
            256: ((32, 64, 8, 2), (32, 64, 8, 1), (16, 64, 8, 1)),
        },
        "sm_90": {
            64: ((64, 128, 8, 2), (64, 64, 4, 2)),
            128: ((64, 128, 8, 2), (64, 64, 8, 2), (32, 128, 8, 2)),
            192: ((32, 64, 8, 2), (16, 64, 8, 2)),
            256: ((16, 64, 8, 2), (32, 32, 8, 2)),
        },
        "sm_100": {
            64: ((64, 128, 8, 2), (64, 64, 4, 2)),
            128: ((64, 128, 8, 1), (64, 64, 8, 1)),
            192: ((64, 64, 8, 1), (64, 64, 4, 1)),
            256: ((16, 64, 8, 1), (16, 64, 8, 2)),
        },
        "gfx942": {
            64: ((64, 128, 4, 1), (32, 128, 4, 1), (64, 64, 4, 1)),
            128: ((32, 128, 4, 1), (64, 64, 4, 1), (32, 64, 4, 1)),
            192: ((32, 64, 8, 1), (32, 64, 4, 1), (16, 64, 4, 1)),
            256: ((16, 64, 8, 1), (16, 64, 4, 1), (16, 32, 4, 1)),
        },
    },
    "queries": {
        "sm_80": {
            64: ((128, 64, 8, 3), (128, 64, 8, 2)),
            128: ((128, 32, 8, 2), (64, 64, 8, 2), (64, 32, 4, 2)),
            192: ((32, 32, 4, 2), (32, 32, 8, 2)),
            256: ((64, 64, 8, 2), (64, 32, 8, 2)),
        },
        "sm_90": {
            64: ((128, 128, 8, 2), (128, 64, 8, 3)),
            128: ((128, 64, 8, 2), (64, 64, 4, 2), (128, 32, 8, 2)),
            192: ((128, 32, 8, 2), (64, 64, 8, 2)),
            256: ((64, 64, 8, 2), (64, 32, 8, 2)),
        },
        "sm_100": {
            64: ((128, 64, 8, 2), (64, 64, 4, 2)),
            128: ((128, 64, 8, 2), (128, 32, 8, 2)),
            192: ((128, 32, 8, 2), (64, 32, 8, 2)),
            256: ((64, 32, 8, 2), (64, 32, 4, 1)),
        },
        "gfx942": {
            64: ((64, 64, 4, 1), (128, 32, 4, 1)),
            128: ((64, 64, 4, 1), (64, 32, 4, 1)),
            192: ((64, 32, 4, 1), (32, 32, 4, 1)),
            256: ((64, 16, 4, 1), (32, 32, 4, 1)),
        },
    },
}
"""Pass (``keys`` makes dK and dV, ``queries`` dQ) -> its table, for loads through pointers."""

BACKWARD_TMA: Mapping[str, Table] = {
    "keys": {
        "sm_90": {
            64: ((64, 128, 8, 2), (64, 128, 8, 3), (64, 64, 4, 3)),
            128: ((64, 128, 8, 2), (64, 64, 8, 2), (32, 128, 8, 3)),
            192: ((32, 64, 8, 2), (16, 64, 8, 2)),
            256: ((32, 32, 8, 2), (32, 32, 8, 3)),
        },
        "sm_100": {
            64: ((64, 128, 4, 2), (64, 64, 4, 2)),
            128: ((64, 128, 8, 2), (64, 128, 8, 1), (64, 64, 4, 2)),
            192: ((64, 64, 8, 1), (64, 64, 4, 1), (32, 64, 8, 1)),
            256: ((32, 64, 8, 1), (16, 64, 8, 2)),
        },
    },
    "queries": {
        "sm_90": {
            64: ((128, 128, 8, 2), (128, 64, 8, 3), (64, 64, 4, 3)),
            128: ((128, 64, 8, 2), (128, 64, 8, 3), (64, 64, 4, 3)),
            192: ((128, 64, 8, 2), (128, 32, 8, 2)),
            256: ((128, 32, 8, 2), (64, 32, 4, 2), (64, 32, 8, 2)),
        },
        "sm_100": {
            64: ((128, 128, 8, 2), (128, 64, 8, 2), (64, 64, 4, 2)),
            128: ((128, 128, 8, 1), (128, 64, 8, 3), (128, 64, 4, 2)),
            192: ((128, 64, 8, 2), (128, 32, 8, 2)),
            256: ((128, 32, 8, 2), (64, 32, 4, 2)),
        },
    },
}
"""The same for loads through tensor descriptors, which leave more registers."""

BACKWARD_TF32: Mapping[int, Sequence[tuple[int, int, int, int]]] = {
    64: ((32, 32, 4, 1), (32, 32, 8, 1)),
    128: ((32, 32, 4, 1),),
    192: ((16, 16, 8, 1),),
    256: ((16, 16, 8, 1),),
}
"""Both passes, on every chip that has it."""

BACKWARD_FP32: Mapping[int, Sequence[tuple[int, int, int, int]]] = {64: ((32, 32, 8, 1),), 128: ((16, 16, 8, 1),)}
"""Both passes, on every chip. Each thread holds its part of both operands: no tile of wider heads keeps out of memory."""

MASKED_SPILLS: Mapping[tuple[str, str, int], Sequence[tuple[int, int, int, int]]] = {
    ("keys", "sm_80", 256): ((32, 64, 8, 2),),
    ("keys", "sm_90", 128): ((64, 128, 8, 2), (64, 64, 8, 2)),
    ("keys.tma", "sm_90", 128): ((64, 128, 8, 2),),
    ("keys", "sm_90", 256): ((16, 64, 8, 2),),
    ("queries", "sm_80", 128): ((64, 32, 4, 2),),
    ("queries", "sm_90", 128): ((64, 64, 4, 2),),
    ("queries", "sm_90", 256): ((64, 64, 8, 2),),
    ("queries.tma", "sm_90", 256): ((128, 32, 8, 2), (64, 32, 4, 2)),
    ("keys", "sm_100", 128): ((64, 64, 8, 1),),
    ("keys.tma", "sm_100", 64): ((64, 128, 4, 2),),
    ("keys.tma", "sm_100", 192): ((64, 64, 8, 1), (64, 64, 4, 1)),
    ("keys.tma", "sm_100", 256): ((32, 64, 8, 1),),
    ("keys", "gfx942", 64): ((32, 128, 4, 1), (64, 64, 4, 1)),
    ("keys", "gfx942", 128): ((64, 64, 4, 1), (32, 64, 4, 1)),
    ("keys", "gfx942", 192): ((32, 64, 8, 1), (32, 64, 4, 1)),
    ("queries", "gfx942", 64): ((64, 64, 4, 1),),
    ("queries", "gfx942", 128): ((64, 64, 4, 1),),
    ("queries", "gfx942", 192): ((32, 32, 4, 1),),
}
"""What spills where sizes are no multiples of the tile or a window needs masks of its own: there it is left out."""


def backward_configs(tables: Mapping[str, Table], name: str, target: Target, case: AttentionCase) -> list[Config]:
    """Candidates for the pass ``name`` that fit the target's shared memory; the last is kept even if none does, and may fail.

    None where there is no tile of that width at all.
    """
    chip, width, element_bytes = table_chip(target), width_class(case.head_dim, case.dim_v), DTYPE_BYTES[case.dtype]
    if element_bytes == 4:
        made = tiles_for(case, (BACKWARD_FP32 if case.dtype == "fp32" else BACKWARD_TF32).get(width, ()))
    else:
        kernel = f"{name}.tma" if tables is BACKWARD_TMA else name
        made = tiles_for(case, tables[name][chip][width], MASKED_SPILLS.get((kernel, chip, width), ()))
    pair = (sum(cut(case.head_dim)) + padded(case.dim_v)) * element_bytes
    held, streamed = ("BLOCK_N", "BLOCK_M") if name == "keys" else ("BLOCK_M", "BLOCK_N")
    limit = shared_limit(target)
    on_amd = 1 if chip == "gfx942" else 0  # both what is held and one stage of the loop are in registers there
    return [
        config for config in made if ((config["num_stages"] - on_amd) * config[streamed] + (1 - on_amd) * config[held]) * pair <= limit
    ] or made[-1:]
