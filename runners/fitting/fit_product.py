"""Fit of a ProductModel: the most likely parameters given measured shapes and what is believed beforehand of each parameter.

Residuals are logs of time ratios with a robust loss; beliefs are normal in the log of each parameter, so that one row moves the rate alone
and thousands decide everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from chipassay.results.evidence import Evidence
from chipassay.results.reference_shapes import ELEMENT_BYTES, OUTPUT_BYTES
from chipassay.results.shape_models.product import ProductModel, Tile

from .beliefs import (
    CACHE_BELIEFS,
    CPU_BELIEFS,
    GPU_BELIEFS,
    LAYOUT_SIGMA,
    QUANTISE_BELIEFS,
    RELATED,
    SHARE_BELIEFS,
    SHARE_SIGMA,
    SPLITS,
    STEP_K,
    TILES,
    WIDE_TILES,
    Belief,
)
from .candidates import Candidates
from .fit_correction import fit_correction
from .hold_out import held_out_error, spread_of, sweeps
from .sample import LARGE_FLOPS, sample
from .shapes import ProductShapes
from .silicon import Silicon

Array = NDArray[np.float64]

NOISE = 0.05
"""Residuals beyond this many nats count less: about the median error that such models reach."""
SHAPES_AT_MOST = 2500
"""Of more shapes a sample is fitted."""
OTHER_KERNEL = 1.25
"""A layout slower than that has a kernel of its own, and is not fitted together with the others."""


@dataclass(frozen=True)
class Scales:
    """What shares are shares of."""

    rate_flops_per_s: float
    bandwidth_bytes_per_s: float
    cache_bytes: float


class _Parameters:
    """The parameters of one fit as a vector of logs: names, beliefs, and the model that a vector means."""

    def __init__(self, template: ProductModel, scales: Scales, beliefs: Mapping[str, Belief], layouts: tuple[str, ...]) -> None:
        self.template, self.scales, self.layouts = template, scales, layouts
        self.names = [*beliefs, *(f"layout {name}" for name in layouts)]
        shares = [(tile.share, SHARE_SIGMA, 0.02, 1.05) for tile in template.tiles] or [(template.rate_flops_per_s, 0.5, 1e-4, 1.3)]
        rows = [
            *((b.value, b.sigma, b.low, b.high) for b in beliefs.values()),
            *((1.0, LAYOUT_SIGMA, 0.5, 2.0) for _ in layouts),
            *shares,
        ]
        value, self.sigma, low, high = (np.array(column) for column in zip(*rows, strict=True))
        self.low, self.high = np.log(low), np.log(high)
        self.mean = np.clip(np.log(value), self.low + 1e-6, self.high - 1e-6)

    def model(self, vector: Array) -> ProductModel:
        values = np.exp(vector)
        named = dict(zip(self.names, values.tolist(), strict=False))
        shares = values[len(self.names) :]
        best = float(shares.max())
        rate = named.get("rate", 1.0) * best
        scales = self.scales
        bandwidth = named["bandwidth"] * scales.bandwidth_bytes_per_s
        return replace(
            self.template,
            rate_flops_per_s=rate * scales.rate_flops_per_s,
            bandwidth_bytes_per_s=bandwidth,
            launch_s=named["launch_s"],
            tiles=tuple(replace(tile, share=float(share) / best) for tile, share in zip(self.template.tiles, shares, strict=False)),
            tile_start_s=named.get("tile_start_s", 0.0),
            tile_start_k=named.get("tile_start_k", 0.0),
            split_s=named.get("split_s", 0.0),
            sharpness=named["sharpness"],
            cache_bytes=named.get("cache_bytes", 0.0) * scales.cache_bytes,
            cache_speedup=named.get("cache_speedup", 1.0),
            cache_steepness=named.get("cache_steepness", 4.0),
            slowdown=named["slowdown"],
            slowdown_after_s=named["slowdown_after_s"],
            quantise_s=named.get("quantise_s", 0.0),
            quantise_s_per_byte=named.get("quantise_bytes", 0.0) / scales.bandwidth_bytes_per_s,
            quantise_s_per_row=named.get("quantise_s_per_row", 0.0),
            layouts={name: named[f"layout {name}"] for name in self.layouts},
        )


def fit_product(
    shapes: ProductShapes,
    silicon: Silicon,
    dtype: str,
    evidence: Evidence,
    *,
    start: ProductModel | None = None,
    quantised: bool = False,
    warm: bool = False,
    hold_out: bool = True,
) -> ProductModel:
    """The model of these shapes (seconds; all of one dtype). Raises ValueError without a row, or with one that is not positive.

    ``start``: a relative's model, whose parameters are believed more than the general ones. ``quantised``: times include converting A to
    the dtype. ``warm``: operands may have been in the cache. ``hold_out``: also find ``spread`` and ``held_out`` by leaving shapes out.
    """
    if len(shapes.time_s) == 0:
        raise ValueError("no row to fit")
    if not all(np.all(np.asarray(x) > 0) for x in (shapes.m, shapes.n, shapes.k, shapes.time_s)):
        raise ValueError("m, n, k and times must be positive")
    apart = _layouts_apart(shapes)
    if apart:
        shapes = _without(shapes, apart)
    parameters = _parameters(shapes, silicon, dtype, evidence, start, quantised, warm)
    everything = np.arange(len(shapes.time_s))
    model = _corrected(_fitted(parameters, shapes, everything), shapes, everything)
    logs = _residuals(model, shapes, everything)
    held_out = None
    if hold_out and len(everything) >= 5:
        logs = np.full(len(everything), np.nan)
        for fitted, left in sweeps(_same_shape(shapes), len(everything)):
            seen = _corrected(_fitted(parameters, shapes, fitted), shapes, fitted)
            logs[left] = _residuals(seen, shapes, left)
        held_out = held_out_error(logs, _flops(shapes), LARGE_FLOPS)
    return replace(
        model,
        layouts={**model.layouts, **apart},
        points=len(everything),
        spread=spread_of(logs),
        held_out=held_out,
        fitted_range=_range(shapes),
    )


def _layouts_apart(shapes: ProductShapes) -> dict[str, float]:
    """Layouts that have another kernel, and a far worse one (int8 and tf32 of a Hopper): the median of their times over those of ``nt`` at
    the same shapes. They would bend the model of the others."""
    if shapes.layout is None or not np.any(shapes.layout == "nt"):
        return {}
    shape = _same_shape(shapes)
    usual = dict(zip(shape[shapes.layout == "nt"].tolist(), shapes.time_s[shapes.layout == "nt"].tolist(), strict=True))
    apart = {}
    for name in sorted(set(shapes.layout.tolist()) - {"nt"}):
        mine = np.flatnonzero(shapes.layout == name)
        ratios = [shapes.time_s[i] / usual[shape[i]] for i in mine.tolist() if shape[i] in usual]
        if ratios and float(np.median(ratios)) > OTHER_KERNEL:
            apart[name] = float(np.median(ratios))
    return apart


def _without(shapes: ProductShapes, layouts: Mapping[str, float]) -> ProductShapes:
    assert shapes.layout is not None
    keep = ~np.isin(shapes.layout, list(layouts))
    groups = None if shapes.groups is None else shapes.groups[keep]
    return ProductShapes(shapes.m[keep], shapes.n[keep], shapes.k[keep], shapes.time_s[keep], groups, shapes.layout[keep])


def _corrected(model: ProductModel, shapes: ProductShapes, rows: NDArray[np.int_]) -> ProductModel:
    logs = _residuals(model, shapes, rows)
    return replace(model, correction=fit_correction(shapes.m[rows], shapes.n[rows], shapes.k[rows], logs))


def _flops(shapes: ProductShapes) -> Array:
    flops: Array = 2.0 * shapes.m * shapes.n * shapes.k * (1.0 if shapes.groups is None else shapes.groups)
    return flops


def _range(shapes: ProductShapes) -> dict[str, tuple[float, float]]:
    columns = {"m": shapes.m, "n": shapes.n, "k": shapes.k, "flops": _flops(shapes)}
    return {name: (float(np.min(x)), float(np.max(x))) for name, x in columns.items()}


def _same_shape(shapes: ProductShapes) -> NDArray[np.int_]:
    """A number for each row, the same for rows of the same shape: they are left out together."""
    groups = np.ones_like(shapes.m) if shapes.groups is None else shapes.groups
    return np.unique(np.stack([shapes.m, shapes.n, shapes.k, groups]), axis=1, return_inverse=True)[1].ravel()


def _parameters(
    shapes: ProductShapes,
    silicon: Silicon,
    dtype: str,
    evidence: Evidence,
    start: ProductModel | None,
    quantised: bool,
    warm: bool,
) -> _Parameters:
    reached = float(np.max(_flops(shapes) / shapes.time_s))
    rate = silicon.peak_flops_per_s or 1.25 * reached
    element, output = ELEMENT_BYTES.get(dtype, 2.0), OUTPUT_BYTES.get(dtype, 2.0)
    moved = element * (shapes.m * shapes.k + shapes.k * shapes.n) + output * shapes.m * shapes.n
    bandwidth = silicon.bandwidth_bytes_per_s or 1.2 * float(np.max(moved / shapes.time_s))
    scales = Scales(rate, bandwidth, silicon.cache_bytes or 0.0)
    layouts = () if shapes.layout is None else tuple(sorted(set(shapes.layout.tolist()) - {"nt"}))
    # A chip that is beyond its datasheet in a dtype it emulates or boosts in is believed, too.
    tiles: tuple[Tile, ...] = ()
    if silicon.multiprocessors:
        known = TILES + (WIDE_TILES if "Blackwell" in silicon.architecture else ())
        tiles = tuple(Tile(rows, columns, _share(rows, columns)) for rows, columns in known)
    template = ProductModel(
        rate_flops_per_s=0.7,
        bandwidth_bytes_per_s=bandwidth,
        launch_s=0.0,
        evidence=evidence,
        element_bytes=element,
        output_bytes=output,
        multiprocessors=silicon.multiprocessors or 1,
        tiles=tiles,
        splits=SPLITS if tiles else (),
        step_k=int(STEP_K) if tiles else 1,
        cold=not warm,
        rotation_bytes=scales.cache_bytes if warm else 0.0,
    )
    beliefs = dict(GPU_BELIEFS if tiles else CPU_BELIEFS)
    if scales.cache_bytes:
        beliefs |= CACHE_BELIEFS
    if quantised:
        beliefs |= QUANTISE_BELIEFS
    if start is not None:
        beliefs = {name: _related(belief, start, name) for name, belief in beliefs.items()}
        shares = {(tile.rows, tile.columns): tile.share for tile in start.tiles}
        peak_share = start.rate_flops_per_s / rate if rate else 0.7
        template = replace(
            template,
            tiles=tuple(replace(t, share=min(1.0, peak_share * shares.get((t.rows, t.columns), 0.7))) for t in template.tiles),
        )
    return _Parameters(template, scales, beliefs, layouts)


def _share(rows: int, columns: int) -> float:
    """What is believed of a tile before any row: small tiles fetch more for each FLOP."""
    small, large = min(rows, columns), max(rows, columns)
    return min(0.85, SHARE_BELIEFS[small] * (1.1 if large > small else 1.0))


def _related(belief: Belief, start: ProductModel, name: str) -> Belief:
    """The belief around a relative's value, where it has one that is its own and not a share of its datasheet."""
    value = getattr(start, name, None)
    if name in ("bandwidth", "cache_bytes", "quantise_bytes") or not value or not belief.low < value < belief.high:
        return belief
    return replace(belief, value=value, sigma=RELATED * belief.sigma)


def _fitted(parameters: _Parameters, shapes: ProductShapes, rows: NDArray[np.int_]) -> ProductModel:
    rows = sample(rows, _flops(shapes), SHAPES_AT_MOST)
    groups = np.ones(len(rows)) if shapes.groups is None else shapes.groups[rows]
    candidates = Candidates(parameters.template, shapes.m[rows], shapes.n[rows], shapes.k[rows], groups)
    target = np.log(shapes.time_s[rows])
    layout = np.full(len(rows), "nt") if shapes.layout is None else shapes.layout[rows]

    def logs(model: ProductModel, arithmetic_s: Array) -> Array:
        times_s = candidates.times_s(model, arithmetic_s)
        for name, factor in model.layouts.items():
            times_s = np.where(layout == name, times_s * factor, times_s)
        return np.log(times_s)

    def residuals(vector: Array) -> Array:
        model = parameters.model(vector)
        data = (logs(model, candidates.arithmetic_s(model)[0]) - target) / NOISE
        return np.concatenate([data, (vector - parameters.mean) / parameters.sigma])

    def slopes(vector: Array) -> Array:
        model = parameters.model(vector)
        seconds, best = candidates.arithmetic_s(model)
        base = logs(model, seconds)
        columns = []
        for i in range(len(vector)):
            moved = vector.copy()
            step = 1e-5 if vector[i] + 1e-5 < parameters.high[i] else -1e-5
            moved[i] += step
            other = parameters.model(moved)
            columns.append((logs(other, candidates.chosen_s(other, best)) - base) / (step * NOISE))
        return np.concatenate([np.stack(columns, axis=1), np.diag(1 / parameters.sigma)])

    found = least_squares(
        residuals,
        parameters.mean,
        jac=slopes,
        bounds=(parameters.low, parameters.high),
        loss="soft_l1",
        tr_solver="lsmr",
        max_nfev=100,
        x_scale="jac",
        ftol=1e-6,
    )
    return parameters.model(found.x)


def _residuals(model: ProductModel, shapes: ProductShapes, rows: NDArray[np.int_]) -> Array:
    """log(measured / model) of some rows."""
    groups = 1.0 if shapes.groups is None else shapes.groups[rows]
    times_s = model.time_s(shapes.m[rows], shapes.n[rows], shapes.k[rows], groups)
    if shapes.layout is not None:
        times_s = times_s * np.array([model.layouts.get(name, 1.0) for name in shapes.layout[rows].tolist()])
    logs: Array = np.log(shapes.time_s[rows] / times_s)
    return logs
