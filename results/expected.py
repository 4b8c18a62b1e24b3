"""What others have measured, case by case: the figures of ``data/expected.csv`` that a result can be held against.

Richer than ``data/published.csv``, whose summaries make the profiles: here each figure keeps its shape, its fabric and its conditions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .catalogue import GIGA, TERA, load_chips
from .datafile import DATA, Line, read_lines
from .errors import FileError
from .evidence import LEVELS, Level

EXPECTED_CSV = DATA / "expected.csv"

UNITS = {"TFLOP/s": TERA, "GB/s": GIGA}
METRICS = {"rate_flops_per_s": "TFLOP/s", "bandwidth_bytes_per_s": "GB/s", "busbw_bytes_per_s": "GB/s"}
"""Column of the results table that a figure is of -> the unit it is given in."""
BOUNDS = ("min", "typical", "max")
TRUSTS = ("high", "medium", "low")
TRANSPORTS = ("single", "nvlink", "xgmi", "pcie")
"""What joins the chips of one node. It decides what to expect, not the number of chips (NVIDIA/aicr issue 1256). Several nodes: the
network by its short name, ``hdr200x8``, as ``fabrics.py`` reads it."""
COLUMNS = (
    *("chip_id", "form_factor", "fabric", "node_count", "group_size", "op", "dtype", "m", "n", "k", "seq", "head_dim", "causal"),
    *("direction", "implementation", "path", "size_bytes", "algorithm", "metric", "value", "unit", "bound", "tolerance", "evidence"),
    *("trust", "source", "retrieved", "conditions"),
)


@dataclass(frozen=True)
class ExpectedRow:
    """One figure. What is empty or None was not stated, or does not matter to it."""

    chip_id: str
    form_factor: str
    fabric: str
    """One of TRANSPORTS inside a node, a network's short name across nodes."""
    node_count: int
    group_size: int | None
    op: str
    dtype: str
    m: int | None
    n: int | None
    k: int | None
    seq: int | None
    head_dim: int | None
    causal: bool | None
    direction: str
    implementation: str
    """attention: ``flash-attention-2``, ``flash-attention-3``, ``cudnn``, ``triton``, ``unfused``."""
    path: str
    size_bytes: int | None
    """collectives: the message; None: the largest of a sweep, its size not stated."""
    algorithm: str
    """collectives: forced to be this one; empty: the library's own choice."""
    metric: str
    """One of METRICS."""
    value: float
    """FLOP/s or bytes/s."""
    bound: str
    """``typical``; ``max``: the best of many, which others stay below; ``min``: a level to pass."""
    tolerance: float
    """Share of the value by which a healthy chip may stay below it."""
    level: Level
    trust: str
    source: str
    retrieved: str
    """Date of the version of the source that was read, where it has one."""
    conditions: str

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(m, n, k) of a product; None where it is not stated."""
        return None if self.m is None or self.n is None or self.k is None else (self.m, self.n, self.k)


def _flag(line: Line, column: str) -> bool | None:
    text = line.one_of(column, ("", "true", "false"))
    return None if not text else text == "true"


def _row(line: Line) -> ExpectedRow:
    chip = load_chips().get(line.required("chip_id"))
    if chip is None:
        raise FileError(line.path, f"{line.text('chip_id')!r} is no chip of the catalogue", line=line.number, field="chip_id")
    if line.text("form_factor") != chip.form_factor:
        raise FileError(line.path, f"{chip.id} is {chip.form_factor!r} in chips.csv", line=line.number, field="form_factor")
    metric = line.one_of("metric", tuple(METRICS))
    unit = line.one_of("unit", (METRICS[metric],))
    value, tolerance = line.number_or_none("value", UNITS[unit]), line.number_or_none("tolerance")
    if not value:
        raise FileError(line.path, "a figure above 0 is needed", line=line.number, field="value")
    if tolerance is None or tolerance >= 1:
        raise FileError(line.path, "a share of at least 0 and below 1 is needed", line=line.number, field="tolerance")
    node_count, group_size = line.whole_or_none("node_count"), line.whole_or_none("group_size")
    if not node_count:
        raise FileError(line.path, "at least one node is needed", line=line.number, field="node_count")
    if node_count == 1:
        line.one_of("fabric", TRANSPORTS)
    if metric == "busbw_bytes_per_s" and (group_size or 0) < 2:
        raise FileError(line.path, "a collective needs a group of at least 2", line=line.number, field="group_size")
    return ExpectedRow(
        chip_id=chip.id,
        form_factor=chip.form_factor,
        fabric=line.required("fabric"),
        node_count=node_count,
        group_size=group_size,
        op=line.required("op"),
        dtype=line.text("dtype"),
        m=line.whole_or_none("m"),
        n=line.whole_or_none("n"),
        k=line.whole_or_none("k"),
        seq=line.whole_or_none("seq"),
        head_dim=line.whole_or_none("head_dim"),
        causal=_flag(line, "causal"),
        direction=line.text("direction"),
        implementation=line.text("implementation"),
        path=line.text("path"),
        size_bytes=line.whole_or_none("size_bytes"),
        algorithm=line.text("algorithm"),
        metric=metric,
        value=value,
        bound=line.one_of("bound", BOUNDS),
        tolerance=tolerance,
        level=next(known for known in LEVELS if known == line.one_of("evidence", LEVELS)),
        trust=line.one_of("trust", TRUSTS),
        source=line.required("source"),
        retrieved=line.text("retrieved"),
        conditions=line.text("conditions"),
    )


@lru_cache(maxsize=2)
def load_expected(path: Path = EXPECTED_CSV) -> tuple[ExpectedRow, ...]:
    """All figures, in the order of the file. Raises FileError naming line and column of what is wrong, or of a figure that stands twice.

    >>> next(row.value for row in load_expected() if (row.chip_id, row.op) == ("h200-sxm-141gb", "triad"))
    4150000000000.0
    """
    rows: dict[ExpectedRow, None] = {}
    for line in read_lines(path, COLUMNS):
        row = _row(line)
        if row in rows:
            raise FileError(path, "this figure stands here twice", line=line.number)
        rows[row] = None
    return tuple(rows)


@lru_cache(maxsize=256)
def expected_of(chip_id: str, op: str) -> tuple[ExpectedRow, ...]:
    """The figures of one operation of a chip."""
    return tuple(row for row in load_expected() if (row.chip_id, row.op) == (chip_id, op))
