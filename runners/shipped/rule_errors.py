"""How far the rule between relatives is off where both were measured: ``python -m chipassay.runners.shipped.rule_errors``."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from chipassay.results.catalogue import find_chip
from chipassay.results.evidence import Evidence
from chipassay.results.shape_models.product import ProductModel

from ..fitting.fit_product import fit_product
from ..fitting.shapes import ProductShapes
from ..fitting.silicon import Silicon
from .gemm_tables import gemm_table
from .published_shapes import published_products
from .recipes import A100, B200, H100, H200, L40S, P100, RTX_PRO, V100
from .relatives import product_by_rule

PAIRS = (
    (H200, H100, "bf16"),
    (H100, H200, "bf16"),
    (B200, "b300-sxm-288gb", "bf16"),
    (B200, "gb200", "bf16"),
    (A100, H100, "bf16"),
    (H100, B200, "bf16"),
    (A100, L40S, "bf16"),
    (L40S, RTX_PRO, "bf16"),
    (RTX_PRO, L40S, "bf16"),
    (P100, V100, "fp32"),
    (V100, "t4-pcie-16gb", "fp16"),
    (V100, "t4-pcie-16gb", "fp32"),
)
"""Parent, child, dtype."""
SMALLEST_FLOPS = 1e9


def shapes_of(chip_id: str, dtype: str) -> ProductShapes:
    """The chip's own shapes: its table's, else DeepBench's."""
    table = gemm_table(chip_id, dtype)
    if table is not None:
        return table.shapes
    published = published_products(chip_id, dtype)
    if published is None:
        raise ValueError(f"nothing is known of {chip_id} in {dtype}")
    return published[0]


@lru_cache(maxsize=16)
def model_of(chip_id: str, dtype: str) -> ProductModel:
    """Fitted to the chip's own shapes."""
    shapes, evidence = shapes_of(chip_id, dtype), Evidence("published", "the chip's own shapes")
    warm = gemm_table(chip_id, dtype) is not None
    return fit_product(shapes, Silicon.of(chip_id, dtype), dtype, evidence, warm=warm, hold_out=False)


def error(model: ProductModel, shapes: ProductShapes) -> float:
    """Root mean square of log(measured / model) over large shapes."""
    large = 2 * shapes.m * shapes.n * shapes.k >= SMALLEST_FLOPS
    logs = np.log(shapes.time_s / model.time_s(shapes.m, shapes.n, shapes.k))[large]
    return math.sqrt(float(np.mean(logs**2)))


def main() -> None:
    """A line for each pair."""
    print(f"{'parent':<30} {'child':<30} {'dtype':<6} {'rule':>6} {'own fit':>8} {'beyond it':>10}")
    for parent, child, dtype in PAIRS:
        found = product_by_rule(model_of(parent, dtype), find_chip(parent), find_chip(child), dtype)
        if found is not None:
            rule, own = error(found, shapes_of(child, dtype)), error(model_of(child, dtype), shapes_of(child, dtype))
            beyond = math.sqrt(max(0.0, rule**2 - own**2))
            print(f"{parent:<30} {child:<30} {dtype:<6} {rule:>6.3f} {own:>8.3f} {beyond:>10.3f}", flush=True)


if __name__ == "__main__":
    main()
