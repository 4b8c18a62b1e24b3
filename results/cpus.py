"""What one core of a CPU can do in one clock cycle, by microarchitecture: the datasheet peak that CPU makers do not print."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from .datafile import DATA, read_lines
from .errors import FileError
from .profile import LEVELS, Evidence, Quantity

CPUS_CSV = DATA / "cpus.csv"

RATE_COLUMNS = {
    "fp64": "fp64_flops_per_cycle",
    "fp32": "fp32_flops_per_cycle",
    "bf16": "bf16_flops_per_cycle",
    "int8": "int8_ops_per_cycle",
}
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
"""Flags of which one must be there for the bf16 rate to hold: a hypervisor may hide the unit."""
AMX_BF16_PER_CYCLE = 2048.0
AVX512_BF16_OVER_FP32 = 2.0


@dataclass(frozen=True)
class CpuCore:
    """One core, dense multiply-adds counted as two operations."""

    vendor: str
    microarchitecture: str
    flops_per_cycle: Mapping[str, float]
    """dtype -> operations per core and clock; a dtype that is absent is unknown or not supported."""
    fp_add_latency_cycles: float | None
    """Clocks of one dependent scalar double addition; None: unknown or not one number."""
    evidence: Evidence

    def peaks(self, cores: int, clock_hz: float) -> dict[str, Quantity]:
        """dtype -> peak of that many cores at that clock."""
        source = f"{cores} cores x operations per cycle of {self.microarchitecture} ({self.evidence.source}) x {clock_hz / 1e9:.3g} GHz"
        return {dtype: Quantity(rate * cores * clock_hz, Evidence("derived", source)) for dtype, rate in self.flops_per_cycle.items()}


@dataclass(frozen=True)
class _Range:
    vendor: str
    family: int
    model_low: int
    model_high: int
    needs_flag: str
    core: CpuCore


@lru_cache(maxsize=1)
def _ranges() -> tuple[_Range, ...]:
    columns = (
        "vendor",
        "family",
        "model_low",
        "model_high",
        "microarchitecture",
        "needs_flag",
        "fp_add_latency_cycles",
        "evidence",
        "source",
    )
    ranges = []
    for line in read_lines(CPUS_CSV, (*columns, *RATE_COLUMNS.values())):
        family, low, high = (line.whole_or_none(column) for column in ("family", "model_low", "model_high"))
        if family is None or low is None or high is None or low > high:
            raise FileError(
                CPUS_CSV, "family, model_low and model_high must be whole numbers, low <= high", line=line.number, field="model_low"
            )
        level = next(known for known in LEVELS if known == line.one_of("evidence", LEVELS))
        rates = {dtype: rate for dtype, column in RATE_COLUMNS.items() if (rate := line.number_or_none(column))}
        core = CpuCore(
            vendor=line.required("vendor"),
            microarchitecture=line.required("microarchitecture"),
            flops_per_cycle=MappingProxyType(rates),
            fp_add_latency_cycles=line.number_or_none("fp_add_latency_cycles"),
            evidence=Evidence(level, line.required("source")),
        )
        ranges.append(_Range(core.vendor, family, low, high, line.required("needs_flag"), core))
    return tuple(ranges)


def _with_flags(core: CpuCore, flags: Collection[str]) -> CpuCore:
    """The core without the rates whose instructions the machine does not show."""
    rates = dict(core.flops_per_cycle)
    if "bf16" in rates and not BF16_FLAGS.intersection(flags):
        del rates["bf16"]
    elif rates.get("bf16") == AMX_BF16_PER_CYCLE and "amx_bf16" not in flags:
        rates["bf16"] = AVX512_BF16_OVER_FP32 * rates["fp32"]
    if "int8" in rates and not {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}.intersection(flags):
        del rates["int8"]
    elif rates.get("int8") == 2 * AMX_BF16_PER_CYCLE and "amx_int8" not in flags:
        rates["int8"] = 4 * rates["fp32"]
    return CpuCore(core.vendor, core.microarchitecture, MappingProxyType(rates), core.fp_add_latency_cycles, core.evidence)


def find_cpu(vendor: str, family: int, model: int, flags: Collection[str] = ()) -> CpuCore | None:
    """The core of a CPU as ``/proc/cpuinfo`` names it (Arm: implementer, architecture 8, part number); None where it is not known.

    ``flags`` are the instruction sets the machine shows: without the vectors that the peak needs, the peak is unknown.

    >>> find_cpu("AuthenticAMD", 25, 17, {"avx512f", "avx512_bf16"}).microarchitecture
    'Zen 4'
    """
    for known in _ranges():
        if known.vendor == vendor and known.family == family and known.model_low <= model <= known.model_high:
            vectors = "avx512f" if known.needs_flag == "amx_bf16" else known.needs_flag
            return _with_flags(known.core, flags) if vectors in flags else None
    return None
