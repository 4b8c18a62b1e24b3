"""Charts of arithmetic: rows and profile in, plots out. The roofline, memory and links have rooms of their own."""

from __future__ import annotations

from collections.abc import Sequence

from chipassay.results.operations import TILE, USUAL_HEAD_DIM, fills_matrix_unit
from chipassay.results.profile import Curve, Profile
from chipassay.results.schema import Row
from chipassay.results.units import short

from .charting import BARS, Model, curve_note, drawn, finished, grouped, label, of_op, usual
from .plot import Axis, Plot, Point, Series, per_time, positive
from .shape import unusual_arithmetic


def matmul(rows: Sequence[Row], profile: Profile | None) -> Plot:
    """Rate against size by dtype, with the profile's curves. Products too narrow for a matrix unit stay out: they show the memory."""
    measured = usual(of_op(rows, "matmul"))
    chosen = [row for row in measured if fills_matrix_unit(row)] or measured
    groups = grouped(chosen, lambda row: (row.dtype or "unknown", _fp8_kind(row)))
    series = []
    for (chip, (dtype, kind)), members in groups.items():
        points = [
            Point(edge(row.flops), row.rate_flops_per_s, *per_time(row, row.flops))
            for row in members
            if row.flops is not None and row.rate_flops_per_s is not None and positive(row.flops) and positive(row.rate_flops_per_s)
        ]
        curve = profile.matmul.get(dtype) if profile is not None and profile.chip_id == chip else None
        curve = None if kind else curve
        name = ", ".join((dtype, *kind))
        series.append(Series(label(groups, chip, name), name, chip, tuple(points), drawn(points, _matmul_rate(curve))))
    narrow = len(measured) - len(chosen)
    return finished(
        Plot(
            name="matmul",
            title="Matrix multiplication: rate against size",
            description="Achieved rate of matrix multiplication against the geometric mean of m, n and k, one series per dtype.",
            x=Axis("geometric mean of m, n, k", lambda x: f"{x:.0f}", base=2),
            y=Axis("FLOP/s", short),
            notes=(
                BARS,
                *curve_note(series, profile.matmul if profile else {}),
                *((f"{narrow} rows of narrow products (an edge below {TILE}) are in the table alone.",) if narrow else ()),
            ),
        ),
        series,
        chosen,
        "matmul",
        "measure it with: chipassay run --only matmul",
    )


def attention(rows: Sequence[Row], profile: Profile | None) -> Plot:
    """Rate against sequence length."""
    chosen = usual(of_op(rows, "attention"))
    several_sizes = len({(row.head_dim, row.head_dim_v) for row in chosen}) > 1
    groups = grouped(chosen, lambda row: _attention_kind(row, several_sizes))
    series = []
    for (chip, (dtype, words)), members in groups.items():
        usable = [
            (row.seq_kv, row.rate_flops_per_s, row)
            for row in members
            if row.seq_kv is not None and row.rate_flops_per_s is not None and positive(row.seq_kv) and positive(row.rate_flops_per_s)
        ]
        points = tuple(Point(seq, rate, *per_time(row, row.flops)) for seq, rate, row in usable)
        curve = profile.attention.get(dtype) if profile is not None and profile.chip_id == chip else None
        curve = curve if _fitted(members[0], chosen) else None
        # The curve is in FLOPs, and FLOPs at one length differ with batch and heads: a line only where each length has one value.
        work = {row.seq_kv: row.flops for _, _, row in usable if row.seq_kv is not None and row.flops is not None}
        line: tuple[tuple[float, float], ...] = ()
        if curve is not None and len({(row.seq_kv, row.flops) for _, _, row in usable}) == len(work) > 1:
            line = tuple((seq, flops / curve.time_s(flops)) for seq, flops in sorted(work.items()))
        name = ", ".join((dtype, *words))
        series.append(Series(label(groups, chip, name), name, chip, points, line))
    return finished(
        Plot(
            name="attention",
            title="Attention: rate against sequence length",
            description="Achieved rate of attention against the number of key and value positions.",
            x=Axis("key/value positions", lambda x: f"{x:.0f}", base=2),
            y=Axis("FLOP/s", short),
            notes=(BARS, *curve_note(series, profile.attention if profile else {})),
        ),
        series,
        chosen,
        "attention",
        "measure it with: chipassay run --only attention",
    )


def edge(flops: float) -> float:
    """Geometric mean of m, n and k from 2 m n k.

    >>> edge(2 * 64 * 64 * 64)
    64.0
    """
    return float(round((flops / 2) ** (1 / 3), 6))


def _fp8_kind(row: Row) -> tuple[str, ...]:
    """What makes this product in fp8 another than the plain one: one scale a tensor, sums in fp32."""
    scaling = None if row.scaling in (None, "per_tensor") else f"scales {row.scaling.replace('_', ' ')}"
    return tuple(filter(None, (scaling, unusual_arithmetic(row))))


def _fitted(row: Row, chosen: Sequence[Row]) -> bool:
    """Whether the profile's curve, which prefers the plain causal forward pass with heads of 128, is about this row's kind."""
    ok = [other for other in chosen if other.status == "ok" and other.dtype == row.dtype]
    plain = row.direction in (None, "forward") and row.window is None and row.head_dim_v is None
    usual_size = row.head_dim == USUAL_HEAD_DIM or all(other.head_dim != USUAL_HEAD_DIM for other in ok)
    return plain and usual_size and (bool(row.causal) or not any(other.causal for other in ok))


def _attention_kind(row: Row, several_sizes: bool) -> tuple[str, tuple[str, ...]]:
    """dtype, and what else makes this attention another than the plain one."""
    words = ["causal"] if row.causal else []
    if several_sizes:
        words.append(f"d{row.head_dim}" + (f"/{row.head_dim_v}" if row.head_dim_v is not None else ""))
    words += [f"window {row.window}"] if row.window is not None else []
    words += [row.direction] if row.direction not in (None, "forward") else []
    return row.dtype or "unknown", tuple(words)


def _matmul_rate(curve: Curve | None) -> Model | None:
    return None if curve is None else lambda x: 2 * x**3 / curve.time_s(2 * x**3)
