"""From a table that was timed warm, back to back, on data that is not told, to what a product costs a program: cold, launched, random.

Three things are known of the tables, all from one H200 that was measured both ways, shape by shape (results/h200-sxm-141gb): their rates of
large products are those of random data within 2 %; their small ones lack the gap between two launches of a stream; and fp8 includes
converting the activations, which is an operation of its own. Where careful figures of random data are published of another chip, its table
is held against them in the same way, and a rate above theirs is lowered.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

import numpy as np

from chipassay.results.evidence import Evidence
from chipassay.results.published_cases import load_published_kernels
from chipassay.results.shape_models.product import ProductModel

from ..fitting.shapes import Array, ProductShapes

CAREFUL_SOURCES = ("Azure/AI-benchmarking-guide", "stas00/ml-engineering")
"""Published figures of which it is told that the data were random and the timing was repeated."""
LARGE_FLOPS = 1e10
"""Products where the rate decides, not the launch."""
SMALL_FLOPS = 2e9
"""Products where the launch decides."""
UNKNOWN_SIGMA = 0.07
"""Standard deviation of log(table / careful) where nobody measured a chip both ways: about the root mean square of what A100, H100, H200,
B200, B300 and GB200 show (1.03, 1.01, 1.00, 0.93, 0.87, 0.94 in bf16; H100, H200, B200, B300 in fp8 1.05, 1.01, 0.88, 0.92; GB200's 0.77
apart). Below 1 the table's kernels are worse than the best of many, which is a choice of kernels, not of data."""


@dataclass(frozen=True)
class Careful:
    """How a table's rates stand to careful ones. ``factor`` 1.03: 3 % too fast."""

    factor: float | None
    shapes: int
    source: str


def published_careful(chip_id: str, dtype: str) -> tuple[ProductShapes | None, str]:
    """The published careful shapes of a chip, and their sources."""
    rows = [
        row
        for row in load_published_kernels()
        if (row.chip_id, row.op, row.dtype, row.suspect) == (chip_id, "matmul", dtype, "")
        and row.source.startswith(CAREFUL_SOURCES)
        and row.rate_flops_per_s
        and (row.flops or 0) >= LARGE_FLOPS
    ]
    if not rows:
        return None, ""
    m, n, k, rate = (np.array([getattr(row, name) for row in rows], dtype=float) for name in ("m", "n", "k", "rate_flops_per_s"))
    sources = "; ".join(dict.fromkeys(row.source for row in rows))
    return ProductShapes(m, n, k, 2 * m * n * k / rate), sources


def careful(model: ProductModel, shapes: ProductShapes | None, source: str, table: ProductShapes | None = None) -> Careful:
    """The median of careful time over the table's, over large shapes: the time of the very shape where the table has it, else the model's.

    Of a time that includes converting A, the share of the product alone is the model's.
    """
    if shapes is None:
        return Careful(None, 0, "no careful figure of this chip is known")
    large = 2 * shapes.m * shapes.n * shapes.k >= LARGE_FLOPS
    if not large.any():
        return Careful(None, 0, "no careful figure of a large product of this chip is known")
    m, n, k = shapes.m[large], shapes.n[large], shapes.k[large]
    model_s = cold(model).time_s(m, n, k)
    table_s = _looked_up(table, m, n, k) * model_s / model.time_s(m, n, k)
    ratios = shapes.time_s[large] / np.where(np.isnan(table_s), model_s, table_s)
    return Careful(float(np.median(ratios)), int(large.sum()), source)


def _looked_up(table: ProductShapes | None, m: Array, n: Array, k: Array) -> Array:
    """The table's own times of these shapes; NaN where it has not got one."""
    if table is None:
        return np.full(len(m), np.nan)
    known = dict(zip(zip(table.m.tolist(), table.n.tolist(), table.k.tolist(), strict=True), table.time_s.tolist(), strict=True))
    return np.array([known.get(shape, np.nan) for shape in zip(m.tolist(), n.tolist(), k.tolist(), strict=True)])


def cold(model: ProductModel) -> ProductModel:
    """The product alone, its operands in the memory when it begins."""
    return replace(
        model,
        cold=True,
        rotation_bytes=0.0,
        quantise_s=0.0,
        quantise_s_per_byte=0.0,
        quantise_s_per_row=0.0,
    )


def launch_gap_s(model: ProductModel, shapes: ProductShapes) -> float:
    """What launching takes in a stream beyond the table's launches: the median over small products of their own times less the model's."""
    small = 2 * shapes.m * shapes.n * shapes.k < SMALL_FLOPS
    gaps = shapes.time_s[small] - cold(model).time_s(shapes.m[small], shapes.n[small], shapes.k[small])
    return max(0.0, statistics.median(gaps.tolist()))


def corrected(model: ProductModel, found: Careful, launch_s: float, gap_source: str) -> ProductModel:
    """The table's model as a careful one; its evidence keeps what the table was and what was done to it.

    ``launch_s``: of a product alone, in seconds.
    """
    factor = 1.0 if found.factor is None else max(1.0, found.factor)
    # Below careful figures the table's kernels are worse than others that exist: the interval reaches to those.
    sigma = UNKNOWN_SIGMA if found.factor is None else max(0.0, -math.log(found.factor))
    if found.factor is None:
        said = f"{found.source}, so its rates are taken as they are and the spread is widened by {UNKNOWN_SIGMA:g}"
    else:
        shapes = f"{found.shapes} shape" + "s" * (found.shapes != 1)
        verb = f"divided by {factor:.3f}" if factor > 1 else "taken as they are"
        widened = f", the spread widened by {sigma:.2f}" if sigma else ""
        said = f"its rates are {found.factor:.3f} of careful random-data figures ({found.source}; {shapes}) and are {verb}{widened}"
    text = f"{model.evidence.source}; {said}; made cold; launch {launch_s * 1e6:.1f} us: {gap_source}"
    return replace(
        cold(model),
        rate_flops_per_s=model.rate_flops_per_s / factor,
        launch_s=launch_s,
        spread=math.hypot(model.spread or 0.0, sigma),
        evidence=Evidence(model.evidence.level, text, model.evidence.date),
    )
