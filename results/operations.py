"""Operations as readers of rows see them: what limits each, and in which order they are told.

``kernels`` says it of its cases, but ``results`` knows nothing of ``kernels``; a test holds the two against each other.
"""

from __future__ import annotations

from .schema import Row

LIMITED_BY: dict[str, str] = {
    "matmul": "compute",
    "batched_matmul": "compute",
    "grouped_matmul": "compute",
    "attention": "compute",
    "decode": "memory",
    "copy": "memory",
    "read": "memory",
    "scale": "memory",
    "triad": "memory",
    "rms_norm": "memory",
    "layer_norm": "memory",
    "softmax": "memory",
    "cross_entropy": "memory",
    "gelu": "memory",
    "swiglu": "memory",
    "adam": "memory",
    "gather": "memory",
    "launch": "overhead",
    "transfer": "link",
}
"""Operation -> what its figure is held against: arithmetic, memory, the link to the host, or nothing. The order is that of telling."""

STREAM_OPS = ("copy", "scale", "triad")
"""Whose bandwidth is called the memory's: every element is read and something is written, as training does; ``read`` never turns the bus
around and is faster for it, the others do more than move."""

LEAST_INTENSITY = 10.0
"""FLOPs a byte above which an operation that is not in the table is taken for arithmetic: element-wise ones do a few, a product of 256
squares in fp32 does 43."""

NARROW_SUMS = ("fast_accum", "fp16_accum")
"""math_modes whose sums keep fewer bits than fp32: faster, and another thing than what the dtype stands for."""

TILE = 128
"""Products with fewer rows, columns or terms do not fill a matrix unit's tile: their time is that of the bytes, not of the FLOPs."""

USUAL_HEAD_DIM = 128
"""Head size of Llama 3, GPT-3 175B and most models since: what an attention curve is of where several were measured."""

LAUNCH_BYTES = 4
"""Each kernel of a ``launch`` call stores one number of this size, and ``bytes`` is their sum."""


def limited_by(row: Row) -> str:
    """``compute``, ``memory``, ``link``, ``overhead`` or ``collective``.

    >>> limited_by(Row(op="decode")), limited_by(Row(op="all_gather", group_size=8)), limited_by(Row(op="my_copy", bytes=8.0))
    ('memory', 'collective', 'memory')
    """
    # A product that ran beside a collective has a group, too, but is a product.
    if row.m is None and (row.group_size is not None or row.busbw_bytes_per_s is not None):
        return "collective"
    known = LIMITED_BY.get(row.op or "")
    if known is not None:
        return known
    return "compute" if (row.flops or 0.0) > LEAST_INTENSITY * (row.bytes or 0.0) else "memory"


def fills_matrix_unit(row: Row) -> bool:
    """Whether a product is large enough in each direction that arithmetic decides its time. An edge that is not told is believed.

    >>> fills_matrix_unit(Row(m=4096, n=4096, k=4096)), fills_matrix_unit(Row(m=1, n=4096, k=4096))
    (True, False)
    """
    return all(edge is None or edge >= TILE for edge in (row.m, row.n, row.k))


def place(op: str) -> tuple[int, str]:
    """A sort key: known operations in the order of telling, then the others by name.

    >>> sorted(["zz", "copy", "matmul", "all_reduce"], key=place)
    ['matmul', 'copy', 'all_reduce', 'zz']
    """
    known = list(LIMITED_BY)
    return (known.index(op) if op in known else len(known), op)


def time_per_kernel_s(row: Row) -> float | None:
    """What one kernel of a ``launch`` row takes; None for other rows.

    >>> time_per_kernel_s(Row(op="launch", bytes=4000.0, time_median_s=2e-3))
    2e-06
    """
    if row.op != "launch" or not row.bytes or row.time_median_s is None:
        return None
    return row.time_median_s / (row.bytes / LAUNCH_BYTES)
