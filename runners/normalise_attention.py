"""Rows of fused attention to a model by shape, a dtype at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from chipassay.results.operations import USUAL_HEAD_DIM
from chipassay.results.profile import Curve
from chipassay.results.schema import Row
from chipassay.results.shape_models.attention import AttentionModel

from .fit import fit_curve
from .fitting.fit_attention import fit_attention
from .fitting.shapes import AttentionShapes
from .fitting.silicon import Silicon
from .normalise_rows import cold_or_untold, fit_evidence, one_variant, preferred

SERVING_TOOL = "aiconfigurator-core"
"""Whose causal rows time a serving framework's call, which also writes keys and values into its cache; those of encoders do not."""


def attention_rows(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """dtype -> its rows, forward and backward: over the whole sequence, keys as wide as values, keys of the same dtype."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        known = row.batch and row.heads and row.seq_q and row.head_dim
        if row.op == "attention" and row.dtype and known and row.window is None and row.head_dim_v is None:
            grouped[row.dtype].append(row)
    found = {}
    for dtype, group in sorted(grouped.items()):
        told = one_variant(cold_or_untold(group))
        if told:
            found[dtype] = preferred(told, lambda row: bool(row.causal)) if appends(told) else told
    return found


def appends(rows: Sequence[Row]) -> bool:
    """Whether the times are those of calls that also fill a cache of keys and values."""
    return all(row.tool == SERVING_TOOL for row in rows) and any(row.causal for row in rows)


def is_backward(row: Row) -> bool:
    """Whether the row times the backward pass; one that does not say is forward."""
    return row.direction == "backward"


def shapes_of(rows: Sequence[Row]) -> AttentionShapes:
    """The rows as columns."""

    def column(*values: float | int | None) -> np.ndarray:
        return np.array(values, dtype=float)

    return AttentionShapes(
        batch=column(*(row.batch for row in rows)),
        heads=column(*(row.heads for row in rows)),
        kv_heads=column(*(row.kv_heads or row.heads for row in rows)),
        seq_q=column(*(row.seq_q for row in rows)),
        seq_kv=column(*(row.seq_kv or row.seq_q for row in rows)),
        head_dim=column(*(row.head_dim for row in rows)),
        causal=np.array([bool(row.causal) for row in rows]),
        backward=np.array([is_backward(row) for row in rows]),
        time_s=column(*(row.time_median_s for row in rows)),
    )


def attentions(rows: Mapping[str, Sequence[Row]], chip_id: str, hold_out: bool) -> dict[str, AttentionModel]:
    """dtype -> the model of the rows that ``attention_rows`` found, where some of them are forward passes."""
    return {
        dtype: fit_attention(
            shapes_of(group), Silicon.of(chip_id, dtype), dtype, fit_evidence(group), appends=appends(group), hold_out=hold_out
        )
        for dtype, group in rows.items()
        if not all(map(is_backward, group))
    }


def attention_curves(rows: Sequence[Row]) -> dict[str, Curve]:
    """dtype -> one line through forward passes of the kind that training is made of, as far as there are such: causal over the whole
    sequence, head size 128."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.op == "attention" and row.dtype and row.flops and not is_backward(row):
            grouped[row.dtype].append(row)
    curves = {}
    for dtype, group in sorted(grouped.items()):
        whole = preferred(cold_or_untold(group), lambda row: row.window is None and row.head_dim_v is None)
        usual = preferred(preferred(whole, lambda row: bool(row.causal)), lambda row: row.head_dim == USUAL_HEAD_DIM)
        told = one_variant(usual)
        if told:
            curves[dtype] = fit_curve([row.flops or 0.0 for row in told], [row.time_median_s or 0.0 for row in told], fit_evidence(told))
    return curves
