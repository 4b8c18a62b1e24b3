"""Published figures case by case, as their sources give them: the long tables behind ``published.csv``, whose summaries make profiles.

Rows keep what their source says and no more. Where it leaves something out, or the figure cannot be what it is called, ``suspect`` says so.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from .catalogue import load_chips
from .datafile import DATA, Line, read_lines
from .errors import FileError

KERNELS_CSV = DATA / "published_kernels.csv"
COLLECTIVES_CSV = DATA / "published_collectives.csv"

KERNEL_OPS = ("matmul", "grouped_matmul", "attention", "transformer_layer", "copy", "scale", "add", "triad", "dot", "transfer")
COLLECTIVE_OPS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv", "moe_dispatch", "moe_combine")
DTYPES = ("", "fp64", "fp32", "tf32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8")
DIRECTIONS = ("", "forward", "backward", "forward_backward")
FABRICS = ("", "nvlink", "xgmi", "pcie", "network")
ALGORITHMS = ("", "ring", "tree", "nvls", "nvls_tree", "in-switch")

WORDS: dict[str, tuple[str, ...]] = {
    "dtype": DTYPES,
    "math_mode": ("", "ieee"),
    "layout": ("", "nn", "nt", "tn", "tt"),
    "direction": DIRECTIONS,
    "path": ("", "host_to_device", "device_to_host"),
    "fabric": FABRICS,
    "algorithm": ALGORITHMS,
    "evidence": ("published",),
}
"""Columns that hold one of a few words."""


@dataclass(frozen=True, kw_only=True)
class PublishedKernel:
    """What one kernel took or reached. Names and units as in the results table; None or empty: the source does not say."""

    chip_id: str
    chip_name: str
    """The source's words for a chip that is not in the catalogue, or that they do not tell apart from its siblings."""
    op: str
    dtype: str
    math_mode: str
    groups: int | None
    m: int | None
    n: int | None
    k: int | None
    layout: str
    batch: int | None
    heads: int | None
    kv_heads: int | None
    seq: int | None
    head_dim: int | None
    head_dim_v: int | None
    causal: bool | None
    direction: str
    path: str
    variant: str
    rate_flops_per_s: float | None
    bandwidth_bytes_per_s: float | None
    time_s: float | None
    software: str
    conditions: str
    suspect: str
    evidence: str
    source: str

    @property
    def flops(self) -> float | None:
        """FLOPs of a product by the textbook count; None for anything else."""
        if self.op not in ("matmul", "grouped_matmul") or self.m is None or self.n is None or self.k is None:
            return None
        return 2.0 * self.m * self.n * self.k


@dataclass(frozen=True, kw_only=True)
class PublishedCollective:
    """What one collective took or reached. Names and units as in the results table; None or empty: the source does not say."""

    chip_id: str
    chip_name: str
    op: str
    dtype: str
    group_size: int | None
    node_count: int | None
    fabric: str
    link: str
    """The link and network in the source's words."""
    size_bytes: int | None
    in_place: bool | None
    algorithm: str
    time_s: float | None
    algbw_bytes_per_s: float | None
    busbw_bytes_per_s: float | None
    software: str
    conditions: str
    suspect: str
    evidence: str
    source: str


Case = TypeVar("Case", PublishedKernel, PublishedCollective)


def _cell(line: Line, name: str, kind: str) -> Any:
    if kind.startswith("int"):
        return line.whole_or_none(name)
    if kind.startswith("float"):
        return line.number_or_none(name)
    if kind.startswith("bool"):
        text = line.one_of(name, ("", "true", "false"))
        return None if not text else text == "true"
    return line.one_of(name, WORDS[name]) if name in WORDS else line.text(name)


def _read(path: Path, kind: type[Case], ops: tuple[str, ...], figures: tuple[str, ...]) -> tuple[Case, ...]:
    columns = {field.name: str(field.type) for field in fields(kind) if field.default is MISSING}
    found: dict[Case, None] = {}
    for line in read_lines(path, tuple(columns)):
        line.one_of("op", ops)
        line.required("source")
        if line.text("chip_id"):
            line.one_of("chip_id", tuple(load_chips()))
        case = kind(**{name: _cell(line, name, text) for name, text in columns.items()})
        if not any(getattr(case, name) for name in figures):
            raise FileError(path, f"no figure above 0 in {', '.join(figures)}", line=line.number)
        if case in found:
            raise FileError(path, "this row stands here twice", line=line.number)
        found[case] = None
    return tuple(found)


@lru_cache(maxsize=2)
def load_published_kernels(path: Path = KERNELS_CSV) -> tuple[PublishedKernel, ...]:
    """All published figures of kernels, in the order of the file. Raises FileError naming line and column of what is wrong.

    >>> best = max(row.rate_flops_per_s or 0 for row in load_published_kernels() if row.chip_id == "v100-sxm2-16gb" and row.dtype == "fp16")
    >>> round(best / 1e12)
    112
    """
    return _read(path, PublishedKernel, KERNEL_OPS, ("rate_flops_per_s", "bandwidth_bytes_per_s", "time_s"))


@lru_cache(maxsize=2)
def load_published_collectives(path: Path = COLLECTIVES_CSV) -> tuple[PublishedCollective, ...]:
    """All published figures of collectives, in the order of the file. Raises FileError naming line and column of what is wrong.

    >>> max(row.busbw_bytes_per_s or 0 for row in load_published_collectives() if row.chip_id == "h800-sxm-80gb") / 1e9
    215.0
    """
    return _read(path, PublishedCollective, COLLECTIVE_OPS, ("busbw_bytes_per_s", "algbw_bytes_per_s", "time_s"))
