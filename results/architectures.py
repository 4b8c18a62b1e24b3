"""What one multiprocessor of an architecture does in a clock: with their number and the clock it gives the peaks of a chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from .catalogue import row_evidence
from .datafile import DATA, read_lines
from .errors import FileError
from .evidence import Evidence

ARCHITECTURES_CSV = DATA / "architectures.csv"

PER_CLOCK = {
    **{
        f"{kind}_tflops": f"{kind}_flops_per_clock"
        for kind in ("fp64", "fp64_tensor", "fp32", "tf32", "fp16", "fp16_vector", "bf16", "fp8", "fp4")
    },
    "int8_tops": "int8_ops_per_clock",
}
"""Column of a peak in chips.csv -> column of architectures.csv."""


@dataclass(frozen=True)
class Architecture:
    """Dense operations per clock and multiprocessor (compute unit, cube core); a multiply-add is two."""

    compute_capability: str
    name: str
    per_clock: Mapping[str, float]
    """Column of a peak in chips.csv, such as ``bf16_tflops`` -> operations; what is absent is unknown or not supported."""
    evidence: Evidence


@lru_cache(maxsize=4)
def load_architectures(path: Path = ARCHITECTURES_CSV) -> Mapping[str, Architecture]:
    """All architectures by compute capability (NVIDIA), LLVM target (AMD) or core version (Ascend).

    >>> load_architectures()["9.0"].per_clock["bf16_tflops"] * 132 * 1.83e9   # H100 SXM
    989429760000000.0
    """
    found: dict[str, Architecture] = {}
    for line in read_lines(path, ("compute_capability", "architecture", *PER_CLOCK.values(), "evidence", "source")):
        key = line.required("compute_capability")
        if key in found:
            raise FileError(path, f"{key!r} stands here twice", line=line.number, field="compute_capability")
        cells = {peak: line.number_or_none(column) for peak, column in PER_CLOCK.items()}
        known = {peak: value for peak, value in cells.items() if value}
        found[key] = Architecture(key, line.required("architecture"), MappingProxyType(known), row_evidence(line))
    return MappingProxyType(found)
