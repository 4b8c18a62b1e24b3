"""How far models of products are off on shapes that they have not seen: ``python tests/benchmarks/product_accuracy.py [CHIP ...]``.

For each chip, dtype and framework of aiconfigurator-core's tables a third of the shapes is left out; beside it, what a lookup would be off
by: each time against the line through its neighbours in m, at the same n and k. A minute, on all of them.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from chipassay.results.evidence import Evidence
from chipassay.runners.fitting.fit_product import fit_product
from chipassay.runners.fitting.shapes import ProductShapes
from chipassay.runners.fitting.silicon import Silicon
from chipassay.runners.shipped.gemm_tables import SCHEMES, gemm_table

CHIPS = ("a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm-180gb", "l40s-pcie-48gb")
FRAMEWORKS = ("trtllm", "sglang", "vllm")
LARGE_FLOPS = 1e9


def interpolated(shapes: ProductShapes) -> tuple[float, float]:
    """(median, 90th percentile) of |line through the neighbours in m / measured - 1|, on logs of both."""
    order = np.lexsort((shapes.m, shapes.k, shapes.n))
    m, n, k, time_s = (x[order] for x in (shapes.m, shapes.n, shapes.k, shapes.time_s))
    same = (n[:-2] == n[2:]) & (k[:-2] == k[2:]) & (2 * m[1:-1] * n[1:-1] * k[1:-1] >= LARGE_FLOPS)
    low, middle, high = np.log(m[:-2][same]), np.log(m[1:-1][same]), np.log(m[2:][same])
    share = (middle - low) / (high - low)
    logs = np.log(time_s)
    line = logs[:-2][same] * (1 - share) + logs[2:][same] * share
    errors = np.abs(np.exp(line - logs[1:-1][same]) - 1)
    return float(np.median(errors)), float(np.quantile(errors, 0.9))


def main(chips: list[str]) -> None:
    print(f"{'chip':16} {'dtype':9} {'framework':9} {'shapes':>6} {'left out':>8} {'median':>7} {'90 %':>6} {'lookup':>15} {'CPU s':>6}")
    for chip_id in chips or CHIPS:
        for dtype in SCHEMES:
            for framework in FRAMEWORKS:
                table = gemm_table(chip_id, dtype, framework)
                if table is None:
                    continue
                begin_s = time.process_time()
                quantised = dtype.startswith("fp8")
                evidence = Evidence("published", table.source)
                model = fit_product(table.shapes, Silicon.of(chip_id, dtype), dtype, evidence, quantised=quantised, warm=True)
                took_s, left, (median, p90) = time.process_time() - begin_s, model.held_out, interpolated(table.shapes)
                assert left is not None
                print(
                    f"{chip_id:16} {dtype:9} {framework:9} {len(table.shapes.m):6} {left.points:8} {left.median:7.1%} {left.p90:6.1%} "
                    f"{median:7.1%} {p90:7.1%} {took_s:6.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
