"""Rows of matrix products to a model by shape, a dtype at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from chipassay.results.operations import NARROW_SUMS, fills_matrix_unit
from chipassay.results.profile import Curve
from chipassay.results.schema import Row
from chipassay.results.shape_models.product import ProductModel

from .fit import fit_curve
from .fitting.fit_product import fit_product
from .fitting.shapes import ProductShapes
from .fitting.silicon import Silicon
from .normalise_rows import cold_or_untold, fit_evidence, one_variant, preferred

OPS = ("matmul", "batched_matmul")
"""Several products of one shape are one launch of more tiles. Grouped ones, of unequal shapes, are an operation of their own."""
QUANTISED = "gemm_dtype="
"""Begins the variants of aiconfigurator-core's rows whose time includes converting A (its collector measures the whole layer)."""
VARIANTS = (None, "gemm_dtype=fp8")
"""Which variant stands for a dtype: the plain one, else that of one scale a tensor."""
USUAL_LAYOUT = "nt"
"""Of a linear layer's forward pass, and of most other tools."""


def product_rows(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """dtype -> the rows of its plain products. fp8 counts with one scale a tensor and sums in fp32 where it was measured so: finer
    scales cost time of their own, fast sums are for the forward pass alone."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.op in OPS and row.dtype and row.m and row.n and row.k:
            grouped[row.dtype].append(row)
    found = {}
    for dtype, group in sorted(grouped.items()):
        told = preferred(cold_or_untold(group), lambda row: row.math_mode not in NARROW_SUMS)
        told = one_variant(preferred(told, lambda row: row.scaling in (None, "per_tensor")), VARIANTS)
        if told:
            found[dtype] = told
    return found


def shapes_of(rows: Sequence[Row]) -> ProductShapes:
    """The rows as columns."""
    layout = np.array([row.layout or USUAL_LAYOUT for row in rows])
    groups = np.array([row.groups or 1 for row in rows], dtype=float)
    return ProductShapes(
        m=np.array([row.m for row in rows], dtype=float),
        n=np.array([row.n for row in rows], dtype=float),
        k=np.array([row.k for row in rows], dtype=float),
        time_s=np.array([row.time_median_s for row in rows], dtype=float),
        groups=groups if np.any(groups > 1) else None,
        layout=layout if np.any(layout != USUAL_LAYOUT) else None,
    )


def silicon_of(chip_id: str, dtype: str, memory: Curve | None) -> Silicon:
    """The datasheet; where it tells no bandwidth (CPUs), what was measured stands for it."""
    silicon = Silicon.of(chip_id, dtype)
    if silicon.bandwidth_bytes_per_s is None and memory is not None:
        return replace(silicon, bandwidth_bytes_per_s=memory.rate)
    return silicon


def products(rows: Mapping[str, Sequence[Row]], chip_id: str, memory: Curve | None, hold_out: bool) -> dict[str, ProductModel]:
    """dtype -> the model of the rows that ``product_rows`` found. ``memory``: the line of copies, if there is one."""
    return {
        dtype: fit_product(
            shapes_of(group),
            silicon_of(chip_id, dtype, memory),
            dtype,
            fit_evidence(group),
            quantised=(group[0].variant or "").startswith(QUANTISED),
            warm=group[0].cache is None,
            hold_out=hold_out,
        )
        for dtype, group in rows.items()
    }


def product_curves(rows: Mapping[str, Sequence[Row]]) -> dict[str, Curve]:
    """dtype -> one line through the products that fill the chip's matrix units, by FLOPs. Batched ones are left to the model."""
    full = {dtype: [row for row in group if row.op == "matmul" and fills_matrix_unit(row)] for dtype, group in rows.items()}
    return {
        dtype: fit_curve([_flops(row) for row in group], [row.time_median_s or 0.0 for row in group], fit_evidence(group))
        for dtype, group in full.items()
        if group
    }


def _flops(row: Row) -> float:
    return row.flops or 2.0 * (row.m or 0) * (row.n or 0) * (row.k or 0)
