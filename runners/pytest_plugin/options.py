"""What a test tells of its benchmark: the case, its work, how it is checked and measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from chipassay.results.cells import from_text, to_text
from chipassay.results.errors import InputError, UnknownName
from chipassay.results.schema import KEY_NAMES

COLUMNS = (*(name for name in KEY_NAMES if name not in ("op", "dtype", "cache", "launch")), "config", "data", "native")
"""Columns of the row that a test may fill by name: what names a case, and what else it alone knows."""

LIBRARY_DTYPES = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8_e4m3",
    "float8_e5m2": "fp8_e5m2",
}
"""torch's and NumPy's names of element types -> those of the results table."""


def dtype_name(dtype: Any) -> str:
    """An element type by its name in the results table, from a name or a type of torch or NumPy.

    >>> dtype_name("bf16"), dtype_name("torch.bfloat16"), dtype_name(float), dtype_name("int8")
    ('bf16', 'bf16', 'fp64', 'int8')
    """
    name = "float64" if dtype is float else str(getattr(dtype, "__name__", dtype)).rpartition(".")[2]
    return LIBRARY_DTYPES.get(name, name)


@dataclass(frozen=True)
class Options:
    """The keywords of ``chip_benchmark.options``; those of ``columns`` are given beside the others."""

    op: str = "benchmark"
    """Operation: one that chipassay knows (``matmul``, ``copy``) or any word."""
    dtype: str | None = None
    flops: float | None = None
    """Of one call, by the textbook count: gives the rate."""
    bytes: float | None = None
    """That one call must move, inputs read once and outputs written once: gives the bandwidth."""
    cache: str = "cold"
    """``cold``: the last-level cache is evicted before each sample; ``warm``: it is not."""
    device: str | None = None
    """``cpu``: the function runs on the host, whatever the chip is, and the row is the CPU's. ``chip``: it runs on the chip, although what
    it is given and returns is the host's."""
    check: Callable[[Any], Any] | None = None
    """Is given the result of the first call; raises AssertionError or returns False for a wrong one."""
    reference: Any = None
    """What the result must be: an array (several: a tuple), or a function of the same arguments that gives it."""
    tolerance: float | None = None
    """The largest error allowed, in units of the reference's largest magnitude."""
    before_sample: Callable[[], Any] | None = None
    """Is run before each sample, outside its time: to refill an input that the call uses up."""
    max_time_s: float | None = None
    """Wall time for all samples; else pytest-benchmark's ``max_time``, by marker or command line (1 s)."""
    columns: Mapping[str, Any] = field(default_factory=dict)

    def with_(self, given: Mapping[str, Any]) -> Options:
        """These options with others over them. Raises UnknownName, InputError."""
        own = {name: value for name, value in given.items() if name in FIELDS}
        if "dtype" in own:
            own["dtype"] = dtype_name(own["dtype"])
        columns = dict(self.columns)
        for name, value in given.items():
            if name in own:
                continue
            if name not in COLUMNS:
                raise UnknownName("option of chip_benchmark", name, (*FIELDS, *COLUMNS))
            try:
                columns[name] = from_text(name, to_text(value))
            except ValueError as error:
                raise InputError(f"chip_benchmark.options({name}={value!r}): {error}") from error
        changed = replace(self, **own, columns=columns)
        changed._check()
        return changed

    def _check(self) -> None:
        if self.cache not in ("cold", "warm"):
            raise InputError(f"chip_benchmark.options(cache={self.cache!r}): write cold or warm")
        if self.device not in (None, "cpu", "chip"):
            raise InputError(f"chip_benchmark.options(device={self.device!r}): write cpu or chip; --chipassay-device says which chip")
        if self.reference is not None and self.tolerance is None:
            raise InputError("chip_benchmark.options(reference=...): say how far off is right with tolerance=1e-5, or as the dtype demands")
        if self.max_time_s is not None and not self.max_time_s > 0:
            raise InputError(f"chip_benchmark.options(max_time_s={self.max_time_s!r}): write seconds, more than 0")
        if not self.op:
            raise InputError("chip_benchmark.options(op=''): an operation has a name")


FIELDS = tuple(f.name for f in fields(Options) if f.name != "columns")
