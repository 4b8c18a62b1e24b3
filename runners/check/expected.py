"""What a row should show: a published figure of this very case, else the chip's profile at its shape, else a published figure near by.

What nobody knows stays unknown: no figure is stretched to another chip, fabric, group or direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from chipassay.results.catalogue import Chip, load_chips
from chipassay.results.expected import ExpectedRow, expected_of
from chipassay.results.operations import NARROW_SUMS, USUAL_HEAD_DIM, fills_matrix_unit, limited_by
from chipassay.results.profile import Level, Profile
from chipassay.results.schema import Row
from chipassay.results.shipped import find_profile

from . import expected_models
from .expected_links import FROM_PROFILE, collective, copy_between, host_link
from .expected_models import NARROW_TOLERANCE
from .figure import RATE, beyond_cache, chips_of_copy, figure, flops_of
from .finding import Expectation
from .tolerance import ABOVE, PER_OCTAVE, PROFILE

SAME_OCTAVES = 0.01
NEAR_OCTAVES = 0.3
"""How far each edge of a product may be from a published shape's, as a power of two. The best of many shapes stands for itself alone: an
edge of 769 in place of 768 costs the last tile."""
MOST_WORK = 2 ** (3 * NEAR_OCTAVES)
NEAR_SEQUENCE = 1.0
LEAST_SEQUENCE, CHARTED_VALUES = 512, 2**25
"""The published charts begin at sequences of 512 and are of 16,384 tokens times a hidden size of 2048; with less than a quarter of that
parts of the chip are without work."""
PROFILE_SEQUENCE = 2048
"""A profile's curve is of forward and backward passes over long sequences, and knows FLOPs alone: on an A100 and an H100 forward passes
over 512 tokens reach 0.45 to 0.8 of it, over 2048 and more 0.7 to 1.2 (tables of aiconfigurator-core)."""
PER_LOAD, PER_KERNEL = 0.10, 0.20
"""What other numbers of tokens and heads than the charts' add, and a kernel that is none of the published ones (forward passes of serving
frameworks, tables of aiconfigurator-core)."""
BOTH, PER_DIRECTION = "forward+backward", 0.10
"""A forward pass alone is some 10 % faster or slower than both together (FlashAttention's charts)."""
FAMILIES = (
    ("unfused", ("math", "unfused", "naive", "eager")),
    ("cudnn", ("cudnn",)),
    ("flash-attention-3", ("flash_attn_3", "flash-attention-3", "fa3", "flashattn3")),
    ("triton", ("triton", "flex")),
    ("flash-attention-2", ("flash",)),
)
"""Implementation of attention as published -> parts of kernel names that mean it. torch.sdpa.flash is FlashAttention-2."""
HALVES = ("fp16", "bf16")


def expectation(row: Row) -> Expectation | None:
    """What ``row`` should show; None where nothing is known of its chip, case or fabric, or the row is no plain measurement.

    >>> found = expectation(Row(op="triad", chip_id="h200-sxm-141gb", status="ok", bytes=1e10, bandwidth_bytes_per_s=4.1e12))
    >>> found.value, found.level
    (4150000000000.0, 'published')
    """
    chip = load_chips().get(row.chip_id or "")
    return None if chip is None else expected_of_chip(row, chip)


def expected_of_chip(row: Row, chip: Chip) -> Expectation | None:
    """What ``row`` should show if its chip were ``chip``."""
    if row.status != "ok" or row.beside is not None or row.native is False or figure(row) is None:
        return None
    if limited_by(row) == "collective":
        return collective(row, chip)
    if row.op == "matmul":
        return _product(row, chip)
    if row.op == "attention":
        return _attention(row, chip)
    if row.op == "transfer":
        if row.path == "device_to_device":
            if row.variant is None:
                return _memory(row, chip) if beyond_cache(row, chip) else None
            return copy_between(row, chip) if chips_of_copy(row) else None
        return host_link(row, chip)
    return _memory(row, chip) if limited_by(row) == "memory" and beyond_cache(row, chip) else None


def from_published(figures: Sequence[ExpectedRow], how: str, more: float = 0.0) -> Expectation:
    """Of figures that fit a row alike: the most trusted one's value, and bounds that hold all of them.

    ``more``: tolerance added for a case that is near, not the same; it makes the expectation a derived one.
    """
    best = min(figures, key=lambda one: ("high", "medium", "low").index(one.trust) + 3 * (one.bound == "min"))
    low = min(one.value * (1 - one.tolerance - more) for one in figures)
    high = max(one.value * (1 + ABOVE * (one.tolerance + more)) if one.bound != "min" else math.inf for one in figures)
    level: Level = "derived" if more > 0 and best.level == "published" else best.level
    return Expectation(best.metric, best.value, low, high, level, f"{best.source}{how}; {best.conditions}".rstrip("; "))


def _product(row: Row, chip: Chip) -> Expectation | None:
    if row.math_mode in NARROW_SUMS or row.scaling not in (None, "per_tensor") or not row.dtype:
        return None
    profile, figures = find_profile(chip.id), [one for one in expected_of(chip.id, "matmul") if one.dtype == row.dtype]
    near = _near_products(row, figures)
    if near is not None and near[1] < SAME_OCTAVES:
        return _from_near(near, row, chip)
    found = [one for one in (near and _from_near(near, row, chip), expected_models.product(row, profile)) if one is not None]
    return min(found, key=lambda one: one.value / one.low) if found else _by_line(row, profile, figures)


def _near_products(row: Row, figures: Sequence[ExpectedRow]) -> tuple[list[ExpectedRow], float] | None:
    """The published figures of the nearest shape, and how many octaves it is away; None where none is within NEAR_OCTAVES."""
    if not (row.m and row.n and row.k) or not fills_matrix_unit(row):
        return None
    alike = [one for one in figures if one.shape and 1 / MOST_WORK <= row.m * row.n * row.k / math.prod(one.shape) <= MOST_WORK]
    return _nearest(alike, lambda one: _distance((row.m, row.n, row.k), one), NEAR_OCTAVES)


def _from_near(near: tuple[list[ExpectedRow], float], row: Row, chip: Chip) -> Expectation:
    figures, octaves = near
    m, n, k = figures[0].shape or (0, 0, 0)
    how = "" if octaves < SAME_OCTAVES else f" (of {m}x{n}x{k}, {octaves:.1f} octaves away)"
    found = from_published(figures, how, PER_OCTAVE * octaves)
    return found if "cold" in found.source else _read_first(found, row, chip)


def _by_line(row: Row, profile: Profile, figures: Sequence[ExpectedRow]) -> Expectation | None:
    """By FLOPs alone, where no model knows the shape; a product must also read its inputs: a thin one is bound by that."""
    curve, flops = profile.matmul.get(row.dtype or ""), flops_of(row)
    if curve is None or not flops or not fills_matrix_unit(row):
        return None
    memory_s = profile.memory.time_s(row.bytes) if profile.memory is not None and row.bytes else 0.0
    best = max((one.value * (1 + ABOVE * one.tolerance) for one in figures if one.bound == "max"), default=0.0)
    least = NARROW_TOLERANCE if (row.dtype or "").startswith("fp8") else 0.0
    return _from_curve(RATE, flops / max(curve.time_s(flops), memory_s), curve.evidence.level, curve.evidence.source, best, least)


def _read_first(warm: Expectation, row: Row, chip: Chip) -> Expectation:
    """Of a figure with a warm cache what is normal where the cache was evicted: the inputs come out of the memory, at worst beforehand."""
    memory, flops = find_profile(chip.id).memory, flops_of(row)
    if row.cache != "cold" or memory is None or not row.bytes or not flops:
        return warm
    return replace(warm, low=flops / (flops / warm.low + row.bytes / memory.rate))


def _attention(row: Row, chip: Chip) -> Expectation | None:
    seq, batch, heads, head_dim = row.seq_q, row.batch, row.heads, row.head_dim
    if row.window is not None or row.head_dim_v not in (None, head_dim) or not seq or seq != row.seq_kv or seq < LEAST_SEQUENCE:
        return None
    if row.dtype not in HALVES or (batch and heads and head_dim and batch * heads * head_dim * seq < CHARTED_VALUES / 4):
        return None
    family, direction = family_of(row.kernel or row.backend or ""), row.direction or "forward"
    usable = [
        one
        for one in expected_of(chip.id, "attention")
        if one.head_dim == head_dim and one.causal == bool(row.causal)
        if (one.implementation == family if family is not None else one.implementation != "unfused")
    ]
    odd = PER_LOAD if not _as_charted(row) else 0.0
    odd += PER_KERNEL if family is None else 0.0
    for measured, how, more in ((direction, "", 0.0), (BOTH, ", forward and backward together", PER_DIRECTION)):
        same = [one for one in usable if one.direction == measured]
        near = _nearest(same, lambda one: abs(math.log2(seq / one.seq)) if one.seq else math.inf, NEAR_SEQUENCE)
        if near is not None:
            one = near[0][0]
            how = f", {one.implementation}{how}" + ("" if near[1] < 0.01 else f" (of sequences of {one.seq})")
            return from_published(near[0], how, more + odd + PER_OCTAVE * near[1])
    if family == "unfused":
        return None
    profile = find_profile(chip.id)
    modelled = expected_models.attention(row, profile, family)
    if modelled is not None:
        return modelled
    curve, flops = profile.attention.get(row.dtype), flops_of(row)
    usual = seq >= PROFILE_SEQUENCE and head_dim == USUAL_HEAD_DIM and bool(row.causal) and direction == "forward"
    if not usual or curve is None or not flops:
        return None
    level: Level = "derived" if curve.evidence.level == "published" else curve.evidence.level
    return _from_curve(RATE, flops / curve.time_s(flops), level, curve.evidence.source)


def _as_charted(row: Row) -> bool:
    """Whether tokens and heads are about as many as in the published charts, with as many key heads as query heads."""
    if not (row.batch and row.heads and row.head_dim and row.seq_q):
        return False
    values = row.batch * row.heads * row.head_dim * row.seq_q
    return row.kv_heads in (None, row.heads) and CHARTED_VALUES / 2 <= values <= 2 * CHARTED_VALUES


def family_of(kernel: str) -> str | None:
    """The published implementation that a kernel is one of; None: another, or not told.

    >>> family_of("torch.sdpa.flash"), family_of("torch.sdpa.math"), family_of("trtllm")
    ('flash-attention-2', 'unfused', None)
    """
    low = kernel.lower()
    return next((family for family, words in FAMILIES if any(word in low for word in words)), None)


def _memory(row: Row, chip: Chip) -> Expectation | None:
    figures = expected_of(chip.id, "copy" if row.op == "transfer" else row.op or "")
    return from_published(figures, "") if figures else expected_models.memory(row, find_profile(chip.id))


def _from_curve(metric: str, value: float, level: Level, source: str, best: float = 0.0, least: float = 0.0) -> Expectation:
    """``best``: the highest published figure; ``least``: a tolerance that is not gone below."""
    tolerance = max(PROFILE[level], least)
    return Expectation(
        metric, value, value * (1 - tolerance), max(best, value * (1 + ABOVE * tolerance)), level, f"{FROM_PROFILE}line by FLOPs, {source}"
    )


def _distance(shape: tuple[int | None, ...], one: ExpectedRow) -> float:
    """The largest distance of an edge, as a power of two; rows and columns may change places, which transposes the same work."""
    if one.shape is None:
        return math.inf
    m, n, k = (float(edge or 1) for edge in shape)
    octaves = min(max(abs(math.log2(a / b)) for a, b in zip(way, one.shape, strict=True)) for way in ((m, n, k), (n, m, k)))
    return math.inf if octaves > 0 and one.bound == "max" else octaves


def _nearest(
    figures: Iterable[ExpectedRow], distance: Callable[[ExpectedRow], float], most: float
) -> tuple[list[ExpectedRow], float] | None:
    """All figures of the nearest case, and how far it is; None where none is within ``most``."""
    measured = [(distance(one), one) for one in figures]
    least = min((far for far, _ in measured), default=math.inf)
    return ([one for far, one in measured if far <= least + 0.01], least) if least <= most else None


__all__ = ["expectation", "expected_of_chip", "family_of", "from_published"]
