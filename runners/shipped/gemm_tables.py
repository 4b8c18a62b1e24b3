"""Products of aiconfigurator-core's tables as columns: 36,000 shapes a chip in a tenth of a second, without a row object."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chipassay.results.errors import InputError

from ..fitting.attention_tables import version_key
from ..fitting.shapes import ProductShapes
from ..importers.aiconfigurator import SYSTEMS, TOOL, data_folder

FRAMEWORK = "trtllm"
"""Whose table is taken. On an H200 it stands 0.98 to 1.02 to our own times of large shapes; SGLang's has outliers (1.6 at 8192 cubed), and
vLLM's of a B200 goes up to 2,100 TFLOP/s, 93 % of the peak, which random data have never reached there (1,745)."""
SCHEMES = {"bf16": "bfloat16", "fp8_e4m3": "fp8"}
"""Our dtype -> the table's: fp8 with one scale a tensor, A converted within the time."""
LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class GemmTable:
    """The shapes of one dtype, and where they are from."""

    shapes: ProductShapes
    source: str


def gemm_table(chip_id: str, dtype: str, framework: str = FRAMEWORK) -> GemmTable | None:
    """The newest table of one framework, each shape once by its median; None where there is none.

    Raises InputError without aiconfigurator-core or pyarrow, which only a rebuild needs.
    """
    system = next((theirs for theirs, ours in SYSTEMS.items() if ours == chip_id), None)
    if system is None or dtype not in SCHEMES:
        return None
    data = data_folder()
    if data is None:
        raise InputError(f"the profile of {chip_id} is made from {TOOL}, which is not installed; pip install chipassay[aiconfigurator]")
    versions = sorted((data / system / "gemm" / framework).glob("*/gemm_perf.parquet"), key=lambda file: version_key(file.parent.name))
    shapes = _read(versions[-1], SCHEMES[dtype]) if versions else None
    if shapes is None:
        return None
    release = importlib.metadata.version(TOOL)
    where = versions[-1].parent.relative_to(data)
    source = f"{TOOL} {release} ({LICENCE}), {where.as_posix()}: {len(shapes.m)} shapes, timed warm on data that is not told"
    return GemmTable(shapes, source)


def _read(file: Path, scheme: str) -> ProductShapes | None:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{file}: reading parquet needs pyarrow; pip install chipassay[aiconfigurator]") from error
    names = ["m", "n", "k", "latency"]
    table = pyarrow.parquet.read_table(file, columns=names, filters=[("gemm_dtype", "=", scheme)])
    m, n, k, latency_ms = (table[name].to_numpy().astype(float) for name in names)
    sound = (latency_ms > 0) & np.isfinite(latency_ms) & (np.minimum(np.minimum(m, n), k) >= 1)
    if not sound.any():
        return None
    shapes, which = np.unique(np.stack([m, n, k])[:, sound], axis=1, return_inverse=True)
    which = np.ravel(which)
    order = np.lexsort((latency_ms[sound], which))
    first = np.searchsorted(which[order], np.arange(shapes.shape[1]))
    count = np.bincount(which)
    ordered = latency_ms[sound][order]
    median_ms = (ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2
    return ProductShapes(shapes[0], shapes[1], shapes[2], median_ms * 1e-3)
