"""How far models of attention are off on times that they have not seen: ``python tests/benchmarks/attention_accuracy.py [CHIP ...]``.

For each chip and framework of aiconfigurator-core: a third of the shapes left out. Then the H200 measured here: what the model of a table
says of each case's fastest kernel, and what is left after a fit to these rows. Minutes, on all of them.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from chipassay.results.best import best_rows
from chipassay.results.evidence import Evidence
from chipassay.results.schema import Row
from chipassay.results.shape_models.attention import AttentionModel
from chipassay.results.table import read_rows
from chipassay.runners.fitting.attention_tables import FRAMEWORKS, AttentionTable, attention_table, best_table
from chipassay.runners.fitting.fit_attention import fit_attention
from chipassay.runners.fitting.silicon import Silicon
from chipassay.runners.importers.aiconfigurator import SYSTEMS
from chipassay.runners.normalise_attention import attention_rows, is_backward, shapes_of

CHIPS = ("a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "l40s")
OWN = Path(__file__).parents[2] / "results" / "h200-sxm-141gb" / "standard.csv"
HEAD = f"{'chip':9} {'framework':9} {'dtype':8} {'kernel':30} {'shapes':>6} {'left out':>8} {'median':>7} {'90 %':>7} {'fit, CPU s':>10}"


def fitted(table: AttentionTable, dtype: str) -> tuple[AttentionModel, float]:
    """The model, and the seconds of all cores that its fit took."""
    begin = time.process_time()
    evidence = Evidence("measured", f"{table.framework} {table.version}")
    return fit_attention(table.shapes, Silicon.of(SYSTEMS[table.chip], dtype), dtype, evidence, appends=True), time.process_time() - begin


def of_tables(chips: list[str]) -> None:
    """One line for each chip, framework and dtype: errors of calls of at least 1 GFLOP that the fit did not see."""
    print(HEAD)
    for chip in chips:
        for framework in FRAMEWORKS:
            for dtype in ("bf16", "fp8_e4m3"):
                table = attention_table(chip, framework, dtype)
                if table is None:
                    continue
                model, seconds = fitted(table, dtype)
                held_out = model.held_out
                errors = f"{held_out.points:8d} {held_out.median:7.1%} {held_out.p90:7.1%}"
                print(f"{chip:9} {framework:9} {dtype:8} {table.kernel:30} {model.points:6d} {errors} {seconds:10.1f}", flush=True)


def of_own_rows() -> None:
    """The H200's rows beside the model of vLLM's table on an H200, which they were not in."""
    rows = attention_rows(best_rows(read_rows(OWN)))["bf16"]
    shapes, table = shapes_of(rows), best_table("h200_sxm")
    silicon = Silicon.of(SYSTEMS["h200_sxm"], "bf16")
    start, _ = fitted(table, "bf16")
    own = fit_attention(shapes, silicon, "bf16", Evidence("measured", OWN.name), start=start)
    columns = (shapes.batch, shapes.heads, shapes.seq_q, shapes.seq_kv, shapes.head_dim, shapes.kv_heads, shapes.causal)
    print(f"\n{'case':50} {'kernel':28} {'measured':>9} {'table':>6} {'fit':>6}   (us; model / measured)")
    for i, (row, seconds, ours) in enumerate(zip(rows, start.time_s(*columns), own.time_s(*columns), strict=True)):
        factor = own.backward or np.nan if is_backward(row) else 1.0
        ratio = seconds * factor / shapes.time_s[i], ours * factor / shapes.time_s[i]
        print(f"{_case(row):50} {row.kernel:28} {shapes.time_s[i] * 1e6:9.1f} {ratio[0]:6.2f} {ratio[1]:6.2f}")
    print(f"left out one by one: median {own.held_out.median:.1%}, 90 % {own.held_out.p90:.1%}; backward {own.backward:.2f} of forward")


def _case(row: Row) -> str:
    causal = "causal" if row.causal else "full"
    return f"{row.direction} b{row.batch} h{row.heads}/{row.kv_heads} s{row.seq_q} d{row.head_dim} {causal}"


if __name__ == "__main__":
    of_tables(sys.argv[1:] or list(CHIPS))
    of_own_rows()
