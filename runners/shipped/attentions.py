"""The model of attention of one chip in one dtype, from the best source there is: own rows, a table, published shapes, a relative."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import replace

from chipassay.results.catalogue import Chip, find_chip
from chipassay.results.evidence import Evidence
from chipassay.results.profile import Profile
from chipassay.results.published import TWIN_DTYPE
from chipassay.results.shape_models.attention import AttentionModel
from chipassay.results.shape_models.product import ProductModel

from ..fitting.attention_tables import best_table
from ..fitting.fit_attention import fit_attention
from ..fitting.silicon import Silicon
from ..importers.aiconfigurator import SYSTEMS, TOOL
from ..normalise_attention import is_backward, shapes_of
from ..normalise_rows import fit_evidence
from .gemm_tables import LICENCE
from .own_rows import own_rows
from .products import FIRST_HAND
from .published_shapes import published_attention
from .relatives import attention_by_rule

DTYPES = ("bf16", "fp16")
"""In this order: one is the other's where only one is known."""


def from_table(chip_id: str, dtype: str) -> AttentionModel | None:
    """The framework's call; the model tells the attention alone unless it is asked for what the call adds (``appends``)."""
    system = next((theirs for theirs, ours in SYSTEMS.items() if ours == chip_id), None)
    table = best_table(system, dtype) if system else None
    if table is None:
        return None
    release = importlib.metadata.version(TOOL)
    where = f"{table.chip}/attention/{table.framework}/{table.version}, {table.kernel}"
    source = f"{TOOL} {release} ({LICENCE}), {where}: {len(table.shapes.time_s)} shapes, causal, random data"
    evidence = Evidence("published", f"{source}; writing keys and values into the framework's cache is told apart")
    return fit_attention(table.shapes, Silicon.of(chip_id, dtype), dtype, evidence, appends=True)


def first_hand(chip: Chip, dtype: str, parents: Mapping[str, Profile]) -> AttentionModel | None:
    """From what was measured or published of this very chip, shape by shape."""
    chosen = own_rows(chip.id)
    rows = chosen.attentions.get(dtype, ()) if chosen else ()
    silicon = Silicon.of(chip.id, dtype)
    if rows and not all(map(is_backward, rows)):
        return fit_attention(shapes_of(rows), silicon, dtype, fit_evidence(rows), start=from_table(chip.id, dtype))
    table = from_table(chip.id, dtype)
    if table is not None:
        return table if table.backward else with_backward(table, parents)
    published = published_attention(chip.id, dtype)
    if published is None:
        return None
    start = next((p.attentions[dtype] for p in parents.values() if dtype in p.attentions), None)
    model = fit_attention(published[0], silicon, dtype, published[1], start=start)
    return model if model.backward else with_backward(model, parents)


def with_backward(model: AttentionModel, parents: Mapping[str, Profile]) -> AttentionModel:
    """The backward pass as a relative's, over the forward pass."""
    for parent_id, parent in parents.items():
        for other in parent.attentions.values():
            if other.backward and other.evidence.level == "measured":
                least, most = min(other.backward.values()), max(other.backward.values())
                said = f"{model.evidence.source}; backward {least:.2f} to {most:.2f} of forward by head size, as on {parent_id}"
                return replace(model, backward=other.backward, evidence=Evidence(model.evidence.level, said, model.evidence.date))
    return model


def attentions_of(chip: Chip, products: Mapping[str, ProductModel], parents: Mapping[str, Profile]) -> dict[str, AttentionModel]:
    """dtype -> model, for 16-bit types in which products are known, and others that were measured."""
    chosen = own_rows(chip.id)
    found: dict[str, AttentionModel] = {}
    for dtype in dict.fromkeys((*DTYPES, *(chosen.attentions if chosen else ()))):
        if dtype not in products:
            continue
        model = first_hand(chip, dtype, parents)
        if model is not None:
            found[dtype] = model
    for dtype in DTYPES:
        if dtype in found or dtype not in products:
            continue
        twin = found.get(TWIN_DTYPE[dtype])
        model = _as_twin(twin, TWIN_DTYPE[dtype]) if twin else by_rule(chip, dtype, products[dtype], parents)
        if model is not None:
            found[dtype] = model
    return {dtype: capped(model, chip.peak_flops_per_s.get(dtype)) for dtype, model in sorted(found.items())}


def capped(model: AttentionModel, peak_flops_per_s: float | None) -> AttentionModel:
    """The model with no head size above the datasheet's peak: a relative's shares of its rate may promise more."""
    if not peak_flops_per_s:
        return model
    most = peak_flops_per_s / model.rate_flops_per_s
    shares = {size: min(share, most) for size, share in model.head_dim_shares.items()}
    return replace(model, rate_flops_per_s=min(model.rate_flops_per_s, peak_flops_per_s), head_dim_shares=shares)


def _as_twin(model: AttentionModel, twin: str) -> AttentionModel:
    evidence = Evidence("derived", f"same units as {twin}: {model.evidence.source}", model.evidence.date)
    return replace(model, points=0, held_out=None, fitted_range={}, evidence=evidence)


def by_rule(chip: Chip, dtype: str, product: ProductModel, parents: Mapping[str, Profile]) -> AttentionModel | None:
    """From the first parent whose attention is known at first hand, in this dtype or its twin."""
    for parent_id, parent in parents.items():
        for other in (dtype, TWIN_DTYPE[dtype]):
            model, base = parent.attentions.get(other), parent.products.get(other)
            if model is None or base is None or model.evidence.level not in FIRST_HAND:
                continue
            rates = product.rate_flops_per_s / base.rate_flops_per_s
            found = attention_by_rule(model, find_chip(parent_id), chip, dtype, rates)
            if found is not None and chip.peak_flops_per_s.get("bf16") is None:
                text = f"no figure of fused attention before Ampere is known here; {found.evidence.source}"
                return replace(found, evidence=Evidence("assumed", text))
            if found is not None:
                return found
    return None
