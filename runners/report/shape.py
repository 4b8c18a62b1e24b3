"""The shape of a case in words, for tables and headlines."""

from __future__ import annotations

from chipassay.results.operations import NARROW_SUMS
from chipassay.results.schema import Row
from chipassay.results.units import size


def shape(row: Row) -> str:
    """The shape of a case in one phrase.

    >>> shape(Row(op="matmul", m=256, n=512, k=128, layout="nt"))
    '256 x 512 x 128 nt'
    >>> shape(Row(op="decode", batch=8, heads=64, kv_heads=8, seq_q=1, seq_kv=8192, head_dim=128))
    'b8 h64/8 s1/8192 d128'
    >>> shape(Row(op="transfer", path="host_to_device", host_memory="pinned", elements=1048576))
    'host to device pinned 1,048,576 elements'
    >>> shape(Row(op="all_reduce", size_bytes=1048576, group_size=2, members="0,1|2,3", in_place=False))
    '1 MiB, 2 ranks (0,1|2,3) out of place'
    """
    parts = [*_product(row), *_attention(row), *_rows(row)]
    if row.direction not in (None, "forward"):
        parts.append(str(row.direction))
    if row.path is not None:
        parts.append(" ".join(filter(None, (row.path.replace("_", " "), row.host_memory))))
    if row.size_bytes is not None:
        parts.append(size(row.size_bytes) + (f", {row.group_size} ranks" if row.group_size is not None else ""))
        parts += [f"({row.members})"] if row.members else []
        parts += ["out of place"] if row.in_place is False else []
    elif row.elements is not None:
        parts.append(f"{row.elements:,} elements")
    if row.beside is not None:
        parts.append(f"beside {row.beside}")
    return " ".join(parts)


def unusual_arithmetic(row: Row) -> str | None:
    """The arithmetic in words where it is not the one that the dtype stands for: sums of fewer bits.

    >>> unusual_arithmetic(Row(dtype="fp8_e4m3", math_mode="fast_accum")), unusual_arithmetic(Row(dtype="fp32", math_mode="ieee"))
    ('fast accum', None)
    """
    return row.math_mode.replace("_", " ") if row.math_mode in NARROW_SUMS else None


def _product(row: Row) -> list[str]:
    if row.m is None and row.n is None and row.k is None:
        return []
    product = f"{_known(row.m)} x {_known(row.n)} x {_known(row.k)}"
    if row.groups is not None:
        # With a split the rows are those of all experts; a batch has m rows in each of its matrices.
        product = f"{product}, {row.groups} experts" if row.split is not None else f"{row.groups} of {product}"
    scaling = None if row.scaling is None else row.scaling.replace("_", " ")
    return [product, *filter(None, (row.split, row.layout, scaling, unusual_arithmetic(row)))]


def _attention(row: Row) -> list[str]:
    if row.seq_q is None and row.seq_kv is None:
        return []
    parts = [f"b{_known(row.batch)} h{_known(row.heads)}" + (f"/{row.kv_heads}" if row.kv_heads not in (None, row.heads) else "")]
    parts.append(f"s{_known(row.seq_q)}" if row.seq_q == row.seq_kv else f"s{_known(row.seq_q)}/{_known(row.seq_kv)}")
    parts.append(f"d{_known(row.head_dim)}" + (f"/{row.head_dim_v}" if row.head_dim_v is not None else ""))
    parts += ["causal"] if row.causal else []
    parts += [f"window {row.window}"] if row.window is not None else []
    return parts


def _rows(row: Row) -> list[str]:
    if row.rows is None and row.width is None:
        return []
    table = f" from {row.table_rows:,}" if row.table_rows is not None else ""
    return [f"{_counted(row.rows)} rows of {_counted(row.width)}{table}"]


def _known(value: int | None) -> str:
    return "?" if value is None else str(value)


def _counted(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
