"""What a chip's profile says of a row: its models of shapes at the row's very shape, with their interval; each source says which was used.

A row is slow where it lies below the interval. Beside what the fit left it holds that healthy chips differ, that hosts launch at other
speeds, and that operands may wait in a cache.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from chipassay.results.catalogue import load_chips
from chipassay.results.evidence import LEVELS, Evidence
from chipassay.results.operations import STREAM_OPS, fills_matrix_unit
from chipassay.results.profile import Profile
from chipassay.results.published_cases import load_published_kernels
from chipassay.results.schema import Row
from chipassay.results.shipped import find_profile

from .figure import BANDWIDTH, RATE, flops_of
from .finding import Expectation
from .tolerance import PROFILE

if TYPE_CHECKING:
    from chipassay.results.shape_models.product import HeldOut, ProductModel

BY_SHAPE = "profile: model of shapes, "
BY_BYTES = "profile: line by bytes, "
"""How the sources begin; both as ``expected_links.FROM_PROFILE`` does."""
STRICT = 3.0
"""Standard deviations on each side: of errors as regular as a normal distribution's 1 good row in 700 would lie below."""
CHIP_SIGMA = 0.05
"""Chips of one node differ by 5 % (ml-engineering, compute/accelerator/README.md)."""
P90_Z = 1.645
"""Standard deviations that 90 % of a normal distribution's absolute values are within."""
UNTOLD_SPREAD = 0.4
"""Of a model that does not tell its own: as of one without tiles (runners/shipped/products.py)."""
OTHER_KERNEL = 0.45
"""Models are of the fastest kernel known. FlashAttention-2 is at 0.57 of FlashAttention-3 forward on an H100 (FlashAttention's charts) and
at 0.53 of cuDNN backward on an H200 (results/h200-sxm-141gb/standard.csv): so far below says nothing yet."""
FASTEST = ("cudnn", "flash-attention-3")
"""Implementations of attention that models are of."""
NARROW_TOLERANCE = 0.50
"""fp8 products by other scalings and libraries than the published ones take up to twice as long (tables of aiconfigurator-core)."""
FUSED = "triton"
"""Backend whose kernels pass the memory once, as those do that ``memory_ops`` are of: torch's softmax takes 3.5 times as long, its
cross-entropy 12 times (results/h200-sxm-141gb/standard.csv). Copies are alike in all libraries."""
PLAIN = (*STREAM_OPS, "read")
NOT_BY_BYTES = ("decode",)
"""Operations whose time does not follow from their bytes alone: how many sequences and heads share them counts as much."""

LEAST_PUBLISHED, FEW_PUBLISHED = 0.05, 20
"""Where so many products of a chip are published one by one, a rate is normal that all but this share of them reach: on the B200 one
source's software is at two thirds of the tables that its model is of (results/data/published_kernels.csv)."""


class Fitted(Protocol):
    """What models of products and of attention have in common."""

    @property
    def evidence(self) -> Evidence: ...
    @property
    def spread(self) -> float | None: ...
    @property
    def held_out(self) -> HeldOut | None: ...


def sigma_of(model: Fitted) -> float:
    """Standard deviation of log(measured / model) of one more good row: the fit's, or as its worst shapes are off where those are worse."""
    spread = UNTOLD_SPREAD if model.spread is None else model.spread
    tail = 0.0 if model.held_out is None else math.log1p(model.held_out.p90) / P90_Z
    return math.hypot(max(spread, tail), CHIP_SIGMA)


def product(row: Row, profile: Profile) -> Expectation | None:
    """Of a product by its edges and layout; None where the profile has no model of its dtype, or it knows no such thin ones."""
    model, flops = profile.products.get(row.dtype or ""), flops_of(row)
    if model is None or not (row.m and row.n and row.k and flops):
        return None
    m, n, k = float(row.m), float(row.n), float(row.k)
    if not fills_matrix_unit(row) and (not model.fitted_range or model.extrapolates(m, n, k)):
        return None  # thin products were fitted on some chips alone
    beyond = model.extrapolates(m, n, k)
    reach = _reach(sigma_of(model), beyond)
    least = NARROW_TOLERANCE if (row.dtype or "").startswith("fp8") and model.evidence.level != "measured" else 0.0
    times_s = _product_times_s(row, model)
    # What a launch takes goes with the host, and is an error beside the fit's: as long again, or hidden behind the call before.
    slow_s = (max(times_s) + math.hypot(max(times_s) * math.expm1(reach), model.launch_s)) / (1 - least)
    fast_s = min(times_s) - math.hypot(min(times_s) * -math.expm1(-reach), model.launch_s) - _kept_s(row, model)
    value, high = flops / times_s[0], flops / fast_s if fast_s > 0 else math.inf
    low = min(flops / slow_s, value * published_share(profile.chip_id, row.dtype or ""))
    return Expectation(RATE, value, low, high, model.evidence.level, _told(BY_SHAPE, model.evidence, beyond))


@lru_cache(maxsize=128)
def published_share(chip_id: str, dtype: str) -> float:
    """What all but LEAST_PUBLISHED of a chip's published products reach of its model's rate; infinite where too few are published.

    >>> published_share("h200-sxm-141gb", "fp64")
    inf
    """
    model = find_profile(chip_id).products.get(dtype) if chip_id in load_chips() else None
    if model is None:
        return math.inf
    shares = []
    for one in load_published_kernels():
        if (one.chip_id, one.op, one.dtype, one.suspect) != (chip_id, "matmul", dtype, "") or not (one.m and one.n and one.k):
            continue
        time_s = one.time_s or (one.flops or 0.0) / (one.rate_flops_per_s or math.inf)
        if time_s:
            shares.append(float(model.time_s(one.m, one.n, one.k, layout=one.layout or "nt")) / time_s)
    return sorted(shares)[int(LEAST_PUBLISHED * len(shares))] if len(shares) >= FEW_PUBLISHED else math.inf


def _kept_s(row: Row, model: ProductModel) -> float:
    """What reading takes of the operands that may wait in the cache: models are of cold calls."""
    if row.cache == "cold":
        return 0.0
    operands = model.element_bytes * (float(row.m or 0) + float(row.n or 0)) * float(row.k or 0)
    return min(operands, float(row.last_level_cache_bytes or model.cache_bytes)) / model.bandwidth_bytes_per_s


def _product_times_s(row: Row, model: ProductModel) -> list[float]:
    """The model's time; where the layout is not told those of the others beside it."""
    layouts = (row.layout,) if row.layout else ("nt", *model.layouts)
    return [float(model.time_s(row.m or 1, row.n or 1, row.k or 1, layout=layout)) for layout in layouts]


def attention(row: Row, profile: Profile, family: str | None) -> Expectation | None:
    """Of attention by its shape. ``family``: the implementation, as ``expected.family_of`` knows it."""
    model, flops = profile.attentions.get(row.dtype or ""), flops_of(row)
    if model is None or not flops or not (row.batch and row.heads and row.seq_q and row.seq_kv and row.head_dim):
        return None
    passes = {"forward+backward": ("forward", "backward")}.get(row.direction or "", (row.direction or "forward",))
    if "backward" in passes and not model.backward:
        return None
    shape = row.batch, row.heads, row.seq_q, row.seq_kv, row.head_dim
    causal = bool(row.causal)
    time_s = sum(float(model.time_s(*shape, kv_heads=row.kv_heads, causal=causal, direction=one)) for one in passes)
    beyond = model.extrapolates(*shape, causal=causal)
    reach = _reach(sigma_of(model), beyond)
    least = 0.0 if family in FASTEST else OTHER_KERNEL
    value = flops / time_s
    low, high = value * math.exp(-reach) * (1 - least), value * math.exp(reach)
    return Expectation(RATE, value, low, high, model.evidence.level, _told(BY_SHAPE, model.evidence, beyond))


def memory(row: Row, profile: Profile) -> Expectation | None:
    """Of an operation that the memory bounds, by the bytes that it must move: its own line, else of copies the line through all of them."""
    op, plain = "copy" if row.op == "transfer" else row.op or "", row.op in PLAIN or row.op == "transfer"
    if op in NOT_BY_BYTES or not (plain or row.backend == FUSED):
        return None
    own = profile.memory_ops.get(op) or profile.memory_ops.get(f"{op} {row.direction or 'forward'}")
    lines = [line for line in (own, profile.memory if plain else None) if line is not None]
    if not lines:
        return None
    line = min(lines, key=lambda one: LEVELS.index(one.evidence.level))
    moved = row.bytes or 1e9
    # A line through one or two points knows no spread: then its level says how sure it is.
    reach = -math.log(1 - PROFILE[line.evidence.level]) if line.spread is None else STRICT * math.hypot(line.spread, CHIP_SIGMA)
    value, source = moved / line.time_s(moved), _told(BY_BYTES, line.evidence, False)
    return Expectation(BANDWIDTH, value, value * math.exp(-reach), value * math.exp(reach), line.evidence.level, source)


def _reach(sigma: float, beyond: bool) -> float:
    """Half of the interval of the log; beyond what was fitted as of another chip's share at the least."""
    return max(STRICT * sigma, -math.log(1 - PROFILE["derived"]) if beyond else 0.0)


def _told(which: str, evidence: Evidence, beyond: bool) -> str:
    return f"{which}{'beyond what was fitted, ' if beyond else ''}{evidence.source}"
