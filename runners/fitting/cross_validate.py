"""How far each model of a profile is off: on the rows that it was fitted to, and on rows left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chipassay.results.best import impossible
from chipassay.results.link import Link
from chipassay.results.profile import Curve, Profile
from chipassay.results.reference_shapes import ATTENTIONS, PRODUCTS
from chipassay.results.schema import Row
from chipassay.results.shape_models.product import HeldOut
from chipassay.results.units import size

from ..fit import fit_curve
from ..fit_links import fit_link
from ..normalise import Chosen
from ..normalise_attention import appends
from ..normalise_attention import shapes_of as attention_shapes
from ..normalise_links import placement, plain, usual_buffers
from ..normalise_products import shapes_of as product_shapes

Array = NDArray[np.float64]

LEAST_POINTS = 6
"""Sizes of a curve or link from which some are left out: what remains must still be able to bend."""
FOLDS = 3
FULL_TILE = 128
"""Rows of C from which a product is one of training, which has gradients; fewer are those of generation."""


@dataclass(frozen=True)
class Fitted:
    """One model beside the rows that it was fitted to."""

    kind: str
    """``matmul``, ``attention``, ``memory`` or ``links``."""
    name: str
    """``matmul bf16``, ``rms_norm backward``, ``all_reduce nccl 8 ranks``."""
    hue: str
    """What gives its points their colour: a dtype, an operation, a pattern."""
    rows: Sequence[Row]
    measured_s: Array
    modelled_s: Array
    held_out: HeldOut | None

    @property
    def off(self) -> Array:
        """|modelled / measured - 1| of each row."""
        return np.abs(self.modelled_s / self.measured_s - 1)


@dataclass(frozen=True)
class FarOff:
    """A row that its own model does not describe."""

    name: str
    shape: str
    measured_s: float
    modelled_s: float


@dataclass(frozen=True)
class Outside:
    """What a model of the profile extrapolates to, of the shapes that well-known models ask for."""

    name: str
    shapes: tuple[str, ...]
    """Those outside of what was fitted, by name."""
    asked: int
    """How many were asked in all."""
    beyond: tuple[str, ...]
    """Where they go beyond: ``k 1024 to 28672, fitted 2048 to 8192``."""


def all_fitted(chosen: Chosen, profile: Profile) -> tuple[Fitted, ...]:
    """Every model of the profile that was fitted to these rows."""
    return (
        *(_product(dtype, rows, profile) for dtype, rows in chosen.products.items() if dtype in profile.products),
        *(_attention(dtype, rows, profile) for dtype, rows in chosen.attentions.items() if dtype in profile.attentions),
        *(_memory(name, name, rows, profile.memory_ops[name]) for name, rows in chosen.memory_ops.items()),
        *(found for link in profile.links for found in _link(link, chosen.best)),
    )


def _product(dtype: str, rows: Sequence[Row], profile: Profile) -> Fitted:
    model, shapes = profile.products[dtype], product_shapes(rows)
    modelled_s = model.time_s(shapes.m, shapes.n, shapes.k, 1.0 if shapes.groups is None else shapes.groups)
    if shapes.layout is not None:
        modelled_s = modelled_s * np.array([model.layouts.get(layout, 1.0) for layout in shapes.layout.tolist()])
    return Fitted("matmul", f"matmul {dtype}", dtype, rows, shapes.time_s, modelled_s, model.held_out)


def _attention(dtype: str, rows: Sequence[Row], profile: Profile) -> Fitted:
    model, s = profile.attentions[dtype], attention_shapes(rows)
    sizes = (s.batch, s.heads, s.seq_q, s.seq_kv, s.head_dim, s.kv_heads)
    modelled_s = model.time_s(*sizes, causal=s.causal, appends=appends(rows))
    # Where no factor is known, backward rows were not fitted.
    told = np.flatnonzero(~s.backward | bool(model.backward))
    if model.backward:
        modelled_s = np.where(s.backward, model.time_s(*sizes, causal=s.causal, appends=appends(rows), direction="backward"), modelled_s)
    return Fitted(
        "attention", f"attention {dtype}", dtype, [rows[i] for i in told.tolist()], s.time_s[told], modelled_s[told], model.held_out
    )


def _memory(name: str, hue: str, rows: Sequence[Row], curve: Curve) -> Fitted:
    sizes = np.array([row.bytes or 0.0 for row in rows])
    times_s = np.array([row.time_median_s or 0.0 for row in rows])

    def refitted(kept: Array, kept_s: Array) -> Callable[[float], float]:
        return fit_curve(kept.tolist(), kept_s.tolist(), curve.evidence).time_s

    modelled_s = curve.overhead_s + sizes / curve.rate
    return Fitted("memory", name, hue, rows, times_s, modelled_s, between(sizes, times_s, refitted))


def _link(link: Link, rows: Sequence[Row]) -> list[Fitted]:
    """The link beside its rows; none for one that has no sizes."""
    own = [row for row in rows if plain(row) and row.cache != "warm" and row.size_bytes and _of(link, row) and not impossible(row)]
    if not own or not link.segments:
        return []
    used = usual_buffers(own)
    sizes = np.array([float(row.size_bytes or 0) for row in used])
    times_s = np.array([row.time_median_s or 0.0 for row in used])

    def refitted(kept: Array, kept_s: Array) -> Callable[[float], float]:
        return replace(link, segments=fit_link(kept.tolist(), kept_s.tolist(), link.bus_factor).segments).time_s

    modelled_s = np.array([link.time_s(value) for value in sizes])
    name = f"{link.pattern} {link.transport} {link.group_size} ranks{' across nodes' if link.placement == 'across' else ''}"
    name += " graph" if link.launch == "graph" else ""
    return [Fitted("links", name, link.pattern, used, times_s, modelled_s, between(sizes, times_s, refitted))]


def _of(link: Link, row: Row) -> bool:
    same = (link.pattern, link.transport, link.group_size, link.launch or "") == (
        row.op,
        row.backend or "",
        row.group_size,
        row.launch or "",
    )
    return same and link.placement == placement(row)


def between(sizes: Array, times_s: Array, refitted: Callable[[Array, Array], Callable[[float], float]]) -> HeldOut | None:
    """The error at sizes left out, between others that are kept; None where there are too few to leave any out.

    >>> line = lambda sizes, times: lambda size: size
    >>> between(np.arange(1.0, 9.0), np.arange(1.0, 9.0), line).points
    6
    """
    distinct = np.unique(sizes)
    if len(distinct) < LEAST_POINTS:
        return None
    fold = {size: i % FOLDS for i, size in enumerate(distinct[1:-1].tolist())}
    folds = np.array([fold.get(size, -1) for size in sizes.tolist()])
    errors: list[float] = []
    for left in range(FOLDS):
        time_s = refitted(sizes[folds != left], times_s[folds != left])
        out = np.flatnonzero(folds == left)
        errors += [abs(time_s(float(sizes[i])) / float(times_s[i]) - 1) for i in out]
    return HeldOut(float(np.median(errors)), float(np.quantile(errors, 0.9)), len(errors), 0.0)


def far_off(fitted: Sequence[Fitted], count: int) -> tuple[FarOff, ...]:
    """The rows that are furthest from their models, by the ratio of the times, furthest first."""
    found = []
    for one in fitted:
        ratios = np.abs(np.log(one.modelled_s / one.measured_s))
        for i in np.argsort(-ratios, kind="stable")[:count].tolist():
            told = FarOff(one.name, shape_words(one.rows[i]), float(one.measured_s[i]), float(one.modelled_s[i]))
            found.append((-float(ratios[i]), told))
    return tuple(told for _, told in sorted(found, key=lambda pair: pair[0])[:count])


def shape_words(row: Row) -> str:
    """What names a row's case.

    >>> shape_words(Row(op="matmul", m=16, n=32, k=64, layout="nt")), shape_words(Row(op="copy", bytes=2.0**20))
    ('16 x 32 x 64 nt', '1 MiB')
    """
    if row.m is not None:
        groups = f"{row.groups} of " if (row.groups or 1) > 1 else ""
        return f"{groups}{row.m} x {row.n} x {row.k}{f' {row.layout}' if row.layout else ''}"
    if row.op in ("attention", "decode") and row.heads:
        keys = "" if row.seq_kv in (None, row.seq_q) else f" on {row.seq_kv} keys"
        mask, direction = " causal" if row.causal else "", " backward" if row.direction == "backward" else ""
        heads = f"{row.heads} heads" + (f" ({row.kv_heads} of keys)" if row.kv_heads not in (None, row.heads) else "")
        return f"{row.batch} x {heads} x {row.seq_q} x {row.head_dim}{keys}{mask}{direction}"
    return size(row.size_bytes if row.size_bytes is not None else row.bytes or 0.0)


def outside(profile: Profile) -> tuple[Outside, ...]:
    """What each model by shape extrapolates to, of products and attention of well-known models."""
    found = [_outside(f"matmul {dtype}", model.fitted_range, _product_sizes()) for dtype, model in profile.products.items()]
    attention = {
        one.name: {"batch": one.batch, "heads": one.heads, "seq_q": one.seq, "head_dim": one.head_dim, "flops": one.flops()}
        for one in ATTENTIONS
    }
    found += [_outside(f"attention {dtype}", model.fitted_range, attention) for dtype, model in profile.attentions.items()]
    return tuple(found)


def _product_sizes() -> dict[str, dict[str, float]]:
    """Name of a product -> its sizes. A layer has two more in the backward pass: the gradient of its input, m x k over n, and of its
    weights, n x k over m."""
    found = {}
    for shape in PRODUCTS:
        edges = {"": (shape.m, shape.n, shape.k)}
        if shape.m >= FULL_TILE:
            edges |= {", input gradient": (shape.m, shape.k, shape.n), ", weight gradient": (shape.n, shape.k, shape.m)}
        for part, (m, n, k) in edges.items():
            found[f"{shape.name}{part}"] = {"m": m, "n": n, "k": k, "flops": 2.0 * m * n * k}
    return found


def _outside(name: str, fitted: Mapping[str, tuple[float, float]], asked: Mapping[str, Mapping[str, float]]) -> Outside:
    shapes = tuple(
        shape for shape, sizes in asked.items() if any(not fitted[key][0] <= sizes[key] <= fitted[key][1] for key in sizes if key in fitted)
    )
    words = []
    for key in dict.fromkeys(key for sizes in asked.values() for key in sizes if key in fitted):
        values, (low, high) = [sizes[key] for sizes in asked.values()], fitted[key]
        if min(values) < low or max(values) > high:
            words.append(f"{key} {_count(min(values))} to {_count(max(values))}, fitted {_count(low)} to {_count(high)}")
    return Outside(name, shapes, len(asked), tuple(words))


def _count(value: float) -> str:
    return f"{value:.0f}" if value < 1e6 else f"{value:.3g}"
