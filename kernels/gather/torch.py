"""Gather as torch does it: ``index_select`` into a buffer, and ``embedding``, which models call."""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from .case import GatherCase


def refuses(case: GatherCase, target: Target) -> str | None:
    if case.dtype.startswith("fp8"):
        return f"torch selects no rows of {case.dtype}; gather int8, which moves the same bytes"
    if case.dtype == "fp64" and target.kind == "mps":
        return "Metal has no fp64"
    return None


@kernel("gather", "torch", "torch.index_select", refuses)
def index_select(case: GatherCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    table, ids = inputs
    return lambda: torch.index_select(table, 0, ids, out=output)


@kernel("gather", "torch", "torch.embedding", refuses)
def embedding(case: GatherCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    from torch.nn import functional

    table, ids = inputs
    return lambda: functional.embedding(ids, table)
