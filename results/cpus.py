"""What one core of a CPU microarchitecture does in a cycle: with the cores and the measured clock, a CPU's peak."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .errors import FileError

CPUS_CSV = Path(__file__).parent / "data" / "cpus.csv"
DTYPE_COLUMNS = {
    "fp64": "fp64_flops_per_cycle",
    "fp32": "fp32_flops_per_cycle",
    "bf16": "bf16_flops_per_cycle",
    "fp16": "fp16_flops_per_cycle",
    "int8": "int8_ops_per_cycle",
}


@dataclass(frozen=True)
class CpuCore:
    """One core of a microarchitecture. FLOPs count a fused multiply-add as 2; a dtype that is not listed is unknown."""

    microarchitecture: str
    flops_per_cycle: Mapping[str, float]
    fp_add_latency_cycles: float | None
    """Cycles from one scalar double addition to the next that needs its result."""
    source: str


@lru_cache(maxsize=1)
def _load(path: Path = CPUS_CSV) -> tuple[tuple[str, int | None, range, CpuCore], ...]:
    cores = []
    with open(path, newline="", encoding="utf-8") as file:
        for line, record in enumerate(csv.DictReader(file), start=2):
            try:
                core = CpuCore(
                    microarchitecture=record["microarchitecture"],
                    flops_per_cycle={dtype: float(record[name]) for dtype, name in DTYPE_COLUMNS.items() if record[name]},
                    fp_add_latency_cycles=float(record["fp_add_latency_cycles"]) if record["fp_add_latency_cycles"] else None,
                    source=record["source"],
                )
                models = range(int(record["model_low"]), int(record["model_high"]) + 1)
                cores.append((record["vendor"], int(record["family"]) if record["family"] else None, models, core))
            except (KeyError, ValueError) as error:
                raise FileError(path, str(error), line=line, mend="repair this line") from error
    return tuple(cores)


def find_cpu(vendor: str, family: int | None, model: int | None) -> CpuCore | None:
    """The core of a CPU by its vendor, family and model (Arm: implementer and part number), None if it is not listed.

    >>> find_cpu("AuthenticAMD", 25, 17).microarchitecture
    'AMD Zen 4'
    """
    for known_vendor, known_family, models, core in _load():
        if vendor == known_vendor and family == known_family and model in models:
            return core
    return None
