"""Prefill times of serving frameworks, as aiconfigurator-core ships them, as columns for a fit.

Each table is one framework's call on one chip: causal, the sequence's keys written into the framework's paged cache and then attended to.
A table may mix kernels (``kernel_source``), and mixed kernels are no one model: the one that most of a dtype's rows are of is taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipassay.results.errors import FileError

from ..importers.aiconfigurator import data_folder
from .shapes import AttentionShapes

FILE = "context_attention_perf.parquet"
SCHEMES = {"bf16": "bfloat16", "fp8_e4m3": "fp8"}
"""Our dtype -> the tables', of the arithmetic and of the cache alike: a cache of another one is converted within the call."""
FRAMEWORKS = ("vllm", "sglang", "trtllm")
"""Best first. vLLM's tables hold FlashAttention 2 or 3, or TensorRT-LLM's kernels through FlashInfer, for the most head sizes and fill
Q, K and V with normal random numbers; SGLang's have the same kernels for fewer head sizes, mixed with others; TensorRT-LLM's call also
unpacks Q, K and V, and is the slowest of the three (all seen in the tables and in the project's collectors)."""
MEND = "reinstall aiconfigurator-core"


@dataclass(frozen=True)
class AttentionTable:
    """One dtype and one kernel of a framework's table. ``chip`` is aiconfigurator's name of it (``h100_sxm``)."""

    chip: str
    framework: str
    version: str
    kernel: str
    shapes: AttentionShapes


def best_table(chip: str, dtype: str = "bf16") -> AttentionTable | None:
    """The first of FRAMEWORKS that has rows of this chip and dtype; None where none has, or the package is not installed."""
    return next((table for framework in FRAMEWORKS if (table := attention_table(chip, framework, dtype))), None)


def attention_table(chip: str, framework: str, dtype: str = "bf16") -> AttentionTable | None:
    """The newest version's rows without a window or a history; None where there are none. FileError for a damaged table."""
    folder = data_folder()
    if folder is None or dtype not in SCHEMES:
        return None
    versions = sorted((folder / chip / "attention" / framework).glob(f"*/{FILE}"), key=lambda file: version_key(file.parent.name))
    return _read(versions[-1], chip, framework, dtype) if versions else None


def version_key(version: str) -> tuple[int, ...]:
    """A version's numbers, for the newest of several.

    >>> version_key("1.3.0rc9") < version_key("1.3.0rc20") < version_key("1.3.0")
    True
    """
    return (*(-1 if part == "rc" else int(part) for part in re.findall(r"rc|\d+", version)), 0)


def _read(file: Path, chip: str, framework: str, dtype: str) -> AttentionTable | None:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
        kernels = _texts(table, "kernel_source")
        number = {
            name: _numbers_of(table, name)
            for name in ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "step", "latency")
        }
        wanted = (_texts(table, "attn_dtype") == SCHEMES[dtype]) & (_texts(table, "kv_cache_dtype") == SCHEMES[dtype])
        # The oldest tables know no windows.
        wanted &= (_numbers_of(table, "window_size") == 0) if "window_size" in table.column_names else True
    except Exception as error:  # Arrow's own errors, and those of whatever a damaged file names
        raise FileError(file, f"is no table of prefill times ({type(error).__name__})", mend=MEND) from error
    # A sequence of one token is decoding, by other kernels.
    wanted &= (number["step"] == 0) & (number["isl"] > 1) & np.isfinite(number["latency"]) & (number["latency"] > 0)
    if not wanted.any():
        return None
    names, counts = np.unique(kernels[wanted].astype(str), return_counts=True)
    kernel = str(names[counts.argmax()])
    rows = np.flatnonzero(wanted & (kernels == kernel))
    seq = number["isl"][rows]
    nothing = np.zeros(len(rows), dtype=bool)
    shapes = AttentionShapes(
        batch=number["batch_size"][rows],
        heads=number["num_heads"][rows],
        kv_heads=number["num_key_value_heads"][rows],
        seq_q=seq,
        seq_kv=seq,
        head_dim=number["head_dim"][rows],
        causal=~nothing,
        backward=nothing,
        time_s=number["latency"][rows] * 1e-3,
    )
    return AttentionTable(chip, framework, file.parent.name, kernel, shapes)


def _numbers_of(table: Any, name: str) -> NDArray[np.float64]:
    column: NDArray[np.float64] = table[name].to_numpy().astype(float)
    return column


def _texts(table: Any, name: str) -> NDArray[np.object_]:
    return np.array(table[name].to_pylist(), dtype=object)
