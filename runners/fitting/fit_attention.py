"""Fit of an AttentionModel: the most likely parameters given measured shapes and what is believed beforehand of each parameter.

As of products: residuals are logs of time ratios with a robust loss, beliefs are normal in the log of each parameter. What is no number -
tile sizes, whether heads are packed and keys split - is tried out, one choice after the other, and kept where the rows want it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from chipassay.results.evidence import Evidence
from chipassay.results.reference_shapes import ELEMENT_BYTES
from chipassay.results.shape_models.attention import AttentionModel

from .beliefs import Belief
from .hold_out import held_out_error, spread_of, sweeps
from .sample import LARGE_FLOPS, sample
from .shapes import AttentionShapes
from .silicon import Silicon

Array = NDArray[np.float64]
Rows = NDArray[np.int_]

NOISE = 0.05
SMALL_NOISE = 0.15
"""Residuals beyond this many nats count less: about the median error that such models reach for calls of LARGE_FLOPS, and for smaller."""
SHAPES_AT_MOST = 2000
"""Of more shapes a sample is fitted."""
TRIED_WITH = 500
"""Shapes that decide on tiles, packing and splitting."""
CHOOSES_FROM = 60
"""Fewer shapes than this cannot tell kernels apart: the believed one stays."""
STEPS_OF_A_TRIAL = 12
"""What is still to be gained then does not change which kernel is best."""
BETTER = 5.0
"""How much more likely (in nats) another kernel must make the rows than the one so far."""
USUAL_HEAD_DIM = 128
TILE_ROWS: tuple[Mapping[int, int], ...] = ({64: 64}, {64: 128}, {64: 192, 128: 128}, {128: 256, 256: 128, 512: 64})
"""Queries of a program by head size, as ``AttentionModel.tile_rows``: FlashAttention 2 with a paged cache, and without; FlashAttention 3 on
Hopper (its tile_size.h); TensorRT-LLM's kernels on Blackwell, two tiles of 128 together as far as tensor memory reaches (as fitted)."""
MOST_SPLITS = 32

BELIEFS: Mapping[str, Belief] = {
    "rate": Belief(0.62, 0.35, 0.005, 1.05),
    "bandwidth": Belief(0.75, 0.3, 0.05, 1.02),
    "launch_s": Belief(7e-6, 0.5, 1e-7, 1e-3),
    "sharpness": Belief(1.4, 0.4, 1.0001, 20.0),
    "slowdown": Belief(0.15, 0.8, 1e-3, 0.6),
    "slowdown_after_s": Belief(1e-2, 1.0, 1e-3, 0.2),
    "causal_share": Belief(1.0, 0.05, 0.4, 1.3),
}
"""Rates and bandwidths are shares of the datasheet's figure. Values are typical of fits to full tables of Ampere to Blackwell, sigmas of
their differences; bounds are what a chip cannot be."""
TILE_BELIEFS: Mapping[str, Belief] = {
    "tile_start_s": Belief(1.5e-6, 1.0, 1e-8, 2e-5),
    "tile_start_keys": Belief(40.0, 1.0, 0.1, 2000.0),
    "imbalance": Belief(0.6, 0.6, 0.01, 3.0),
}
SPLIT_BELIEFS: Mapping[str, Belief] = {"split_s": Belief(5e-6, 1.2, 5e-8, 2e-4)}
CACHE_BELIEFS: Mapping[str, Belief] = {
    "cache_bytes": Belief(0.5, 0.7, 0.05, 3.0),
    "cache_speedup": Belief(2.0, 0.5, 1.0001, 12.0),
}
"""Sizes as shares of the last-level cache."""
APPEND_BELIEFS: Mapping[str, Belief] = {
    "append_passes": Belief(2.0, 0.7, 0.01, 30.0),
    "append_s_per_token": Belief(1e-9, 1.5, 1e-13, 3e-8),
}
"""K and V are read and written once at least."""
HEAD_DIM_SHARES: Mapping[int, float] = {64: 0.75, 128: 1.0, 192: 1.0, 256: 1.05, 512: 0.8}
"""Rate by head size over that of 128: with a small head the exponentials weigh more, a very large one leaves small tiles."""
HEAD_DIM_SIGMA = 0.2
ALWAYS_KNOWN = (64, 128, 256)
"""Head sizes that a model has a share of, measured or believed."""
RELATED = 0.4
"""How much surer a relative's fitted value is than the general belief."""


@dataclass(frozen=True)
class _Kernel:
    """What is no number: queries a tile by head size, packing of heads that share keys, parts of keys."""

    tile_rows: Mapping[str, int]
    packs: bool
    most_splits: int

    def others(self) -> Iterator[_Kernel]:
        """Kernels that are known, with and without packing."""
        for rows, packs in itertools.product(TILE_ROWS, (True, False)):
            yield replace(self, tile_rows={str(size): count for size, count in rows.items()}, packs=packs)


class _Parameters:
    """The parameters of one fit as a vector of logs: names, beliefs, and the model that a vector and a kernel mean."""

    def __init__(
        self, template: AttentionModel, silicon: Silicon, beliefs: Mapping[str, Belief], sizes: list[int], shares: list[float]
    ) -> None:
        self.template, self.silicon, self.names = template, silicon, list(beliefs)
        self.sizes = [str(size) for size in sizes]
        rows = [
            *((b.value, b.sigma, b.low, b.high) for b in beliefs.values()),
            # The rate is that of the usual head size: its share is 1.
            *((share, 1e-3 if size == USUAL_HEAD_DIM else HEAD_DIM_SIGMA, 0.1, 2.5) for size, share in zip(sizes, shares, strict=True)),
        ]
        value, self.sigma, low, high = (np.array(column) for column in zip(*rows, strict=True))
        self.low, self.high = np.log(low), np.log(high)
        self.mean = np.clip(np.log(value), self.low + 1e-6, self.high - 1e-6)

    def model(self, vector: Array, kernel: _Kernel) -> AttentionModel:
        values = np.exp(vector).tolist()
        named = dict(zip(self.names, values, strict=False))
        shares = dict(zip(self.sizes, values[len(self.names) :], strict=True))
        return replace(
            self.template,
            rate_flops_per_s=named["rate"] * self.template.rate_flops_per_s,
            bandwidth_bytes_per_s=named["bandwidth"] * self.template.bandwidth_bytes_per_s,
            launch_s=named["launch_s"],
            tile_rows=kernel.tile_rows,
            packs=kernel.packs,
            most_splits=kernel.most_splits,
            tile_start_s=named.get("tile_start_s", 0.0),
            tile_start_keys=named.get("tile_start_keys", 0.0),
            imbalance=named.get("imbalance", 0.0),
            split_s=named.get("split_s", 0.0),
            sharpness=named["sharpness"],
            cache_bytes=named.get("cache_bytes", 0.0) * (self.silicon.cache_bytes or 0.0),
            cache_speedup=named.get("cache_speedup", 1.0),
            slowdown=named["slowdown"],
            slowdown_after_s=named["slowdown_after_s"],
            append_passes=named.get("append_passes", 0.0),
            append_s_per_token=named.get("append_s_per_token", 0.0),
            head_dim_shares={**shares, str(USUAL_HEAD_DIM): 1.0},
            causal_share=named["causal_share"],
        )


def fit_attention(
    shapes: AttentionShapes,
    silicon: Silicon,
    dtype: str,
    evidence: Evidence,
    *,
    start: AttentionModel | None = None,
    appends: bool = False,
    hold_out: bool = True,
) -> AttentionModel:
    """The model of these shapes (seconds; all of one dtype). Raises ValueError without a forward row, or with one that is not positive.

    ``start``: a relative's model, whose parameters are believed more than the general ones. ``appends``: times are those of a serving
    framework's call, which also writes K and V into its cache. ``hold_out``: also find ``spread`` and ``held_out`` by leaving shapes out.
    """
    sizes = (shapes.batch, shapes.heads, shapes.kv_heads, shapes.seq_q, shapes.seq_kv, shapes.head_dim, shapes.time_s)
    if not all(np.all(np.asarray(x) > 0) for x in sizes):
        raise ValueError("sizes and times must be positive")
    forward = np.flatnonzero(~shapes.backward)
    if len(forward) == 0:
        raise ValueError("no row of a forward pass to fit")
    fit = _Fit(shapes, appends)
    parameters, kernel = _beliefs(shapes, forward, silicon, dtype, evidence, start, appends)
    held_out, logs, found = None, None, None
    if hold_out and len(forward) >= 5:
        logs = np.full(len(forward), np.nan)
        for fitted, left in sweeps(_same_shape(shapes, forward), len(forward)):
            found = fit.best(parameters, kernel, forward[fitted])
            logs[left] = fit.residuals(parameters.model(found[1], found[0]), forward[left])
        held_out = held_out_error(logs, _flops(shapes)[forward], LARGE_FLOPS)
    if found is not None and len(forward) > SHAPES_AT_MOST:
        # A third more of so many shapes is no news about the kernel.
        kernel, vector = found[0], fit.refined(parameters, *found, forward)
    else:
        kernel, vector = fit.best(parameters, kernel, forward)
    model = parameters.model(vector, kernel)
    spread = spread_of(fit.residuals(model, forward) if logs is None else logs)
    backward = {} if start is None else dict(start.backward)
    if shapes.backward.any():
        after = np.flatnonzero(shapes.backward)
        dims, logs_after = shapes.head_dim[after], fit.residuals(model, after)
        backward = {f"{dim:g}": float(np.exp(np.median(logs_after[dims == dim]))) for dim in np.unique(dims).tolist()}
    known = _range(shapes, forward)
    return replace(model, backward=backward, points=len(forward), spread=spread, held_out=held_out, fitted_range=known)


@dataclass(frozen=True)
class _Fit:
    shapes: AttentionShapes
    appends: bool

    def residuals(self, model: AttentionModel, rows: Rows) -> Array:
        """log(measured / model of the forward pass) of some rows."""
        s = self.shapes
        sizes = (s.batch[rows], s.heads[rows], s.seq_q[rows], s.seq_kv[rows], s.head_dim[rows], s.kv_heads[rows], s.causal[rows])
        logs: Array = np.log(s.time_s[rows] / model.time_s(*sizes, appends=self.appends))
        return logs

    def best(self, parameters: _Parameters, kernel: _Kernel, rows: Rows) -> tuple[_Kernel, Array]:
        """The most likely kernel and its vector. Kernels are told apart by a part of the rows, each tried from where the last one ended."""
        begin = parameters.mean
        if len(rows) >= CHOOSES_FROM and kernel.tile_rows:
            few = sample(rows, _flops(self.shapes), TRIED_WITH)
            cost, begin = self._fitted(parameters, kernel, few, begin, STEPS_OF_A_TRIAL)

            def try_out(other: _Kernel) -> None:
                nonlocal kernel, cost, begin
                other_cost, vector = self._fitted(parameters, other, few, parameters.mean, STEPS_OF_A_TRIAL)
                if other_cost < cost - BETTER:
                    kernel, cost, begin = other, other_cost, vector

            for other in [other for other in kernel.others() if other != kernel]:
                try_out(other)
            try_out(replace(kernel, most_splits=1 if kernel.most_splits > 1 else MOST_SPLITS))
        return kernel, self.refined(parameters, kernel, begin, rows)

    def refined(self, parameters: _Parameters, kernel: _Kernel, begin: Array, rows: Rows) -> Array:
        """The most likely vector of a kernel, sought from a likely one."""
        return self._fitted(parameters, kernel, sample(rows, _flops(self.shapes), SHAPES_AT_MOST), begin)[1]

    def _fitted(self, parameters: _Parameters, kernel: _Kernel, rows: Rows, begin: Array, steps: int = 60) -> tuple[float, Array]:
        """How unlikely the rows stay at best (in nats), and the vector of it."""

        noise = np.where(_flops(self.shapes)[rows] >= LARGE_FLOPS, NOISE, SMALL_NOISE)

        def residuals(vector: Array) -> Array:
            data = self.residuals(parameters.model(vector, kernel), rows) / noise
            return np.concatenate([data, (vector - parameters.mean) / parameters.sigma])

        found = least_squares(
            residuals,
            np.clip(begin, parameters.low + 1e-6, parameters.high - 1e-6),
            bounds=(parameters.low, parameters.high),
            loss="soft_l1",
            max_nfev=steps,
            x_scale="jac",
            # The other solver decomposes the whole matrix of slopes each step, whose threads fight over few cores: seven times as long.
            tr_solver="lsmr",
            ftol=1e-4,
        )
        return float(found.cost), found.x


def _beliefs(
    shapes: AttentionShapes, forward: Rows, silicon: Silicon, dtype: str, evidence: Evidence, start: AttentionModel | None, appends: bool
) -> tuple[_Parameters, _Kernel]:
    element, output = ELEMENT_BYTES.get(dtype, 2.0), max(2.0, ELEMENT_BYTES.get(dtype, 2.0))
    times_s = shapes.time_s[forward]
    moved = element * shapes.batch * shapes.head_dim * (shapes.heads * shapes.seq_q + 2 * shapes.kv_heads * shapes.seq_kv)
    rate = silicon.peak_flops_per_s or 1.5 * float(np.max(_flops(shapes)[forward] / times_s))
    bandwidth = silicon.bandwidth_bytes_per_s or 1.2 * float(np.max(moved[forward] / times_s))
    template = AttentionModel(rate, bandwidth, 0.0, evidence, element, output, multiprocessors=silicon.multiprocessors or 1)
    sizes = sorted({*ALWAYS_KNOWN, *np.unique(shapes.head_dim[forward]).astype(int).tolist()})
    beliefs = dict(BELIEFS)
    if silicon.multiprocessors:
        beliefs |= {**TILE_BELIEFS, **SPLIT_BELIEFS}
    if silicon.cache_bytes:
        beliefs |= CACHE_BELIEFS
    if appends:
        beliefs |= APPEND_BELIEFS
    shares = np.interp(sizes, list(HEAD_DIM_SHARES), list(HEAD_DIM_SHARES.values()))
    kernel = _Kernel({"64": 128}, True, MOST_SPLITS) if silicon.multiprocessors else _Kernel({}, False, 1)
    if start is not None:
        beliefs = {name: _related(belief, start, name, rate) for name, belief in beliefs.items()}
        relative = start.head_dim_shares
        shares = np.array([relative.get(str(size), share) for size, share in zip(sizes, shares.tolist(), strict=True)])
        if silicon.multiprocessors:
            kernel = _Kernel(start.tile_rows or kernel.tile_rows, start.packs, start.most_splits)
    return _Parameters(template, silicon, beliefs, sizes, shares.tolist()), kernel


def _related(belief: Belief, start: AttentionModel, name: str, peak_flops_per_s: float) -> Belief:
    """The belief around a relative's value, where it has one that is its own and not a share of its datasheet."""
    if name == "rate":
        share = start.rate_flops_per_s / peak_flops_per_s
        return replace(belief, value=share) if 0.2 < share < 1 else belief
    value = getattr(start, name, None)
    if name == "cache_bytes" or not value or not belief.low < value < belief.high:
        return belief
    return replace(belief, value=value, sigma=RELATED * belief.sigma)


def _flops(shapes: AttentionShapes) -> Array:
    whole: Array = 4.0 * shapes.batch * shapes.heads * shapes.seq_q * shapes.seq_kv * shapes.head_dim
    return whole * np.where(shapes.causal, 0.5, 1.0)


def _range(shapes: AttentionShapes, rows: Rows) -> dict[str, tuple[float, float]]:
    names = ("batch", "heads", "seq_q", "seq_kv", "head_dim")
    columns = {**{name: getattr(shapes, name) for name in names}, "flops": _flops(shapes)}
    return {name: (float(np.min(x[rows])), float(np.max(x[rows]))) for name, x in columns.items()}


def _same_shape(shapes: AttentionShapes, rows: Rows) -> Rows:
    """A number for each row, the same for rows of the same shape: they are left out together."""
    columns = (shapes.batch, shapes.heads, shapes.kv_heads, shapes.seq_q, shapes.seq_kv, shapes.head_dim, shapes.causal)
    return np.unique(np.stack([np.asarray(x[rows], dtype=float) for x in columns]), axis=1, return_inverse=True)[1].ravel()
