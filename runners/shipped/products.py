"""The model of products of one chip in one dtype, from the best source there is: own rows, a table, published shapes, a relative."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from chipassay.results.catalogue import Chip, find_chip
from chipassay.results.evidence import Evidence, Level
from chipassay.results.profile import Curve, Profile
from chipassay.results.published import TWIN_DTYPE
from chipassay.results.published_rows import best_rate_per_s
from chipassay.results.shape_models.product import ProductModel

from ..fitting.beliefs import ELEMENT_BYTES, OUTPUT_BYTES
from ..fitting.fit_product import fit_product
from ..fitting.hold_out import PRIOR_SPREAD
from ..fitting.shapes import ProductShapes
from ..fitting.silicon import Silicon
from ..normalise_products import shapes_of
from ..normalise_rows import fit_evidence
from .careful import careful, corrected, launch_gap_s, published_careful
from .gemm_tables import gemm_table
from .own_rows import own_rows
from .published_shapes import published_products
from .relatives import OTHER_UNITS_SIGMA, product_by_rule, same_units

FIRST_HAND = ("measured", "published")
"""Levels of a parent's cell that a relative's may be derived from."""
GAP_CHIP, GAP_DTYPE = "h200-sxm-141gb", "bf16"
"""Where a table's launches are held against those of a stream, and in which dtype a table holds nothing but the product."""
SQUARES = np.array([1024.0, 2048.0, 4096.0, 8192.0, 16384.0])
"""Shapes of which a published ``best`` figure is the best, where its source does not name one."""
SCALED = "scaled to the best published"
"""How the source of a relative's model begins that meets a published figure of the chip itself: as good as first hand for its twin."""
FEW = 3
"""Fewer published shapes than this are figures that a relative's model is scaled to, not a fit of their own."""
BEST_SIGMA = 0.10
"""Spread of a relative's model that was scaled to a chip's own best published figure: best figures of one chip from different people differ
by so much (H800 PCIe, A100 SXM and PCIe in published.csv)."""

TURNS = 8
"""Launches and clocks do not scale with the rate: so many turns settle it."""

Parents = Mapping[str, Profile]


@dataclass(frozen=True)
class Corrections:
    """What is known of tables only where rows of our own lie beside one."""

    gap_s: float
    source: str


def corrections() -> Corrections:
    """How much longer a launch in a stream takes than in the tables."""
    table, own = gemm_table(GAP_CHIP, GAP_DTYPE), own_shapes(GAP_CHIP, GAP_DTYPE)
    if table is None or own is None:
        return Corrections(0.0, "the table's")
    model = _table_fit(GAP_CHIP, GAP_DTYPE)
    gap_s = launch_gap_s(model, own[0]) if model is not None else 0.0
    return Corrections(gap_s, f"the table's and {gap_s * 1e6:.1f} us, as a stream takes on {GAP_CHIP} beyond its table")


def own_shapes(chip_id: str, dtype: str) -> tuple[ProductShapes, Evidence] | None:
    """The products measured here."""
    chosen = own_rows(chip_id)
    rows = chosen.products.get(dtype) if chosen else None
    return (shapes_of(rows), fit_evidence(rows)) if rows else None


def _plain(shapes: ProductShapes) -> ProductShapes:
    """Those of a table's kind: layout nt, one product."""
    usual = np.ones(len(shapes.m), dtype=bool) if shapes.layout is None else shapes.layout == "nt"
    alone = np.ones(len(shapes.m), dtype=bool) if shapes.groups is None else shapes.groups == 1
    keep = usual & alone
    return ProductShapes(shapes.m[keep], shapes.n[keep], shapes.k[keep], shapes.time_s[keep])


@lru_cache(maxsize=32)
def _table_fit(chip_id: str, dtype: str) -> ProductModel | None:
    table = gemm_table(chip_id, dtype)
    if table is None:
        return None
    evidence = Evidence("published", table.source)
    quantised = dtype not in ("bf16", "fp16")
    return fit_product(table.shapes, Silicon.of(chip_id, dtype), dtype, evidence, quantised=quantised, warm=True)


def from_table(chip_id: str, dtype: str, gap: Callable[[], Corrections]) -> ProductModel | None:
    """The table's model, made careful. A launch is that of the dtype whose time is the product alone."""
    table, model = gemm_table(chip_id, dtype), _table_fit(chip_id, dtype)
    if table is None or model is None:
        return None
    own = own_shapes(chip_id, dtype)
    shapes, source = (_plain(own[0]), "measured here") if own else published_careful(chip_id, dtype)
    alone = model if dtype == GAP_DTYPE else _table_fit(chip_id, GAP_DTYPE)
    found = gap()
    launch_s = (alone or model).launch_s + found.gap_s
    return corrected(model, careful(model, shapes, source, table.shapes), launch_s, found.source)


def first_hand(chip: Chip, dtype: str, gap: Callable[[], Corrections], parents: Parents, twin: ProductModel | None) -> ProductModel | None:
    """From what was measured or published of this very chip, shape by shape."""
    own = own_shapes(chip.id, dtype)
    table = from_table(chip.id, dtype, gap)
    silicon = Silicon.of(chip.id, dtype)
    if own is not None:
        start = table or twin
        model = fit_product(own[0], silicon, dtype, own[1], start=start)
        if table is None:
            return model
        return replace(model, evidence=Evidence(own[1].level, f"{own[1].source}; begun from {table.evidence.source}", own[1].date))
    if table is not None:
        return table
    typical = published_products(chip.id, dtype)
    if typical is not None and len(typical[0].m) >= FEW:
        start = twin or by_rule(chip, dtype, parents)
        return fit_product(typical[0], silicon, dtype, typical[1], start=start)
    if not parents and (best := published_products(chip.id, dtype, best=True)) is not None:
        evidence = Evidence("published", f"best of many shapes: {best[1].source}; all but the rate is what is believed of any chip")
        return replace(scaled(fit_product(best[0], silicon, dtype, evidence), best[0], np.inf), spread=PRIOR_SPREAD)
    return None


def by_rule(chip: Chip, dtype: str, parents: Parents) -> ProductModel | None:
    """From the first parent that has this dtype, or its twin, at first hand."""
    for parent_id, parent in parents.items():
        for other in (dtype, TWIN_DTYPE.get(dtype)):
            model, of = parent.products.get(other) if other else None, find_chip(parent_id)
            if other is None or model is None:
                continue
            if model.evidence.level not in FIRST_HAND and not (model.evidence.source.startswith(SCALED) and same_units(chip, of, dtype)):
                continue
            found = product_by_rule(model, of, chip, dtype, None if other == dtype else other)
            if found is not None:
                return beside_best(found, chip, dtype) if same_units(chip, of, dtype) else scaled_to_best(found, chip, dtype)
    return None


def as_its_bf16(chip: Chip, dtype: str, own: ProductModel | None) -> ProductModel | None:
    """An 8-bit type at the share of its peak that this chip's own bf16 reaches: what falls short in one falls short in the other. None
    where bf16 is not known at first hand, or a best 8-bit figure is published."""
    peak, other = chip.peak_flops_per_s.get(dtype), chip.peak_flops_per_s.get("bf16")
    if own is None or own.evidence.level not in FIRST_HAND or ELEMENT_BYTES.get(dtype) != 1 or not peak or not other:
        return None
    if best_rate_per_s(chip.id, "matmul", dtype) is not None:
        return None
    return replace(
        own,
        rate_flops_per_s=own.rate_flops_per_s / other * peak,
        element_bytes=ELEMENT_BYTES[dtype],
        output_bytes=OUTPUT_BYTES.get(dtype, 2.0),
        points=0,
        held_out=None,
        fitted_range={},
        spread=math.hypot(own.spread or 0.0, OTHER_UNITS_SIGMA),
        evidence=Evidence("derived", f"share of the peak as in bf16: {own.evidence.source}", own.evidence.date),
    )


def scaled_to_best(model: ProductModel, chip: Chip, dtype: str) -> ProductModel:
    """The model with the rate at which the best of large squares reaches this chip's best published figure, if it has one."""
    best = best_rate_per_s(chip.id, "matmul", dtype)
    if best is None:
        return model
    rate, source = best
    edge = SQUARES[np.argmax(SQUARES**3 / model.time_s(SQUARES, SQUARES, SQUARES))][None]
    model = scaled(model, ProductShapes(edge, edge, edge, 2 * edge**3 / rate), chip.peak_flops_per_s.get(dtype, np.inf))
    text = f"{SCALED}, {rate / 1e12:.4g} TFLOP/s ({source}); {model.evidence.source}"
    return replace(model, spread=BEST_SIGMA, evidence=Evidence("derived", text, model.evidence.date))


def beside_best(model: ProductModel, chip: Chip, dtype: str) -> ProductModel:
    """The model as it is; its evidence also tells this chip's best published figure, if it has one."""
    best = best_rate_per_s(chip.id, "matmul", dtype)
    if best is None:
        return model
    reached = float(np.max(2 * SQUARES**3 / model.time_s(SQUARES, SQUARES, SQUARES)))
    text = f"best published of this chip {best[0] / 1e12:.4g} TFLOP/s ({best[1]}), here {reached / 1e12:.4g}; {model.evidence.source}"
    return replace(model, evidence=Evidence(model.evidence.level, text, model.evidence.date))


def scaled(model: ProductModel, shapes: ProductShapes, peak_flops_per_s: float) -> ProductModel:
    """The model with the rate, up to the peak, at which the median of its times of these shapes is right."""
    for _ in range(TURNS):
        factor = float(np.median(model.time_s(shapes.m, shapes.n, shapes.k) / shapes.time_s))
        model = replace(model, rate_flops_per_s=min(peak_flops_per_s, model.rate_flops_per_s * factor))
    return model


def as_twin(model: ProductModel, twin: str, chip: Chip, dtype: str) -> ProductModel | None:
    """The other 16-bit or 8-bit type, which runs on the same units at the same width."""
    peaks = chip.peak_flops_per_s
    if peaks.get(dtype) is None or peaks.get(dtype) != peaks.get(twin):
        return None
    source = f"same units and peak as {twin}: {model.evidence.source}"
    return replace(model, points=0, held_out=None, fitted_range={}, evidence=Evidence("derived", source, model.evidence.date))


def by_curve(curve: Curve, memory: Curve | None, dtype: str) -> ProductModel | None:
    """Without any relative: the line by FLOPs, and bytes at the copy bandwidth. No tiles are known."""
    if memory is None:
        return None
    source = f"{curve.evidence.source}; tiles unknown"
    level: Level = "assumed" if curve.evidence.level == "assumed" else "derived"
    return ProductModel(
        rate_flops_per_s=curve.rate,
        bandwidth_bytes_per_s=memory.rate,
        launch_s=curve.overhead_s,
        evidence=Evidence(level, source, curve.evidence.date),
        element_bytes=ELEMENT_BYTES.get(dtype, 2.0),
        output_bytes=OUTPUT_BYTES.get(dtype, 2.0),
        sharpness=3.0,
        spread=0.4,
    )


def products_of(chip: Chip, base: Profile, parents: Parents, gap: Callable[[], Corrections]) -> dict[str, ProductModel]:
    """dtype -> model, for every dtype that the datasheet has a peak of, or that was measured."""
    chosen = own_rows(chip.id)
    dtypes = dict.fromkeys([*(chosen.products if chosen else ()), *base.matmul])
    order = sorted(dtypes, key=lambda dtype: (dtype not in ("bf16", "fp8_e4m3"), dtype))  # twins of tables come after them
    found: dict[str, ProductModel] = {}
    for dtype in order:
        name = TWIN_DTYPE.get(dtype, "")
        twin = found.get(name)
        model = first_hand(chip, dtype, gap, parents, twin)
        if model is None and twin is not None and twin.evidence.level in FIRST_HAND:
            model = as_twin(twin, name, chip, dtype)
        if model is None:
            model = by_rule(chip, dtype, parents)
        if model is None:
            model = as_its_bf16(chip, dtype, found.get("bf16"))
        if model is None and twin is not None:
            model = as_twin(twin, name, chip, dtype)
        if model is None and dtype in base.matmul:
            model = by_curve(base.matmul[dtype], base.memory, dtype)
        if model is not None:
            found[dtype] = model
    return dict(sorted(found.items()))
