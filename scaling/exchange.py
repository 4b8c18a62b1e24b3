"""The exchange rate: how many of one chip do the work of another, for one model, each with its own best plan."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chipassay.results.errors import InputError
from chipassay.results.profile import Profile

from .cluster import Group, make_group, resolve_profile
from .errors import IllegalPlan, NoPlanFits
from .grid import context_axis, fitted_batch, pipeline_axis, tensor_axis
from .machine import Input
from .models import Transformer, load_model
from .predict import Prediction
from .ready import ready
from .search import BATCH_TOLERANCE, default_global_batch, search
from .uncertainty import MODEL_SIGMA, Z80, input_sigma

SEQUENCES_PER_CHIP = 8
"""Batch of a per-chip comparison: sequences per chip, so at least as many per data-parallel replica."""

MOST_NODES = 65536
"""Where the search for the smallest cluster that holds a model gives up."""

SHARED_MODEL_SIGMA = MODEL_SIGMA["compute"] * math.sqrt(2) * 0.5
"""The model's error in a ratio: two predictions, of whose error half is taken to be common to both (assumed)."""


@dataclass(frozen=True)
class Worth:
    """What one reference chip is worth in another chip, by tokens per second per chip."""

    model: str
    reference_chip: str
    other_chip: str
    ratio: float
    """Other chips per reference chip."""
    low: float
    high: float
    """80 % interval of the ratio."""
    reference: Prediction
    other: Prediction
    definition: str
    inputs: tuple[Input, ...]
    """What both sides rest on; ``what`` begins with the chip."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Exchange:
    """How many of another chip give the tokens per second of a number of reference chips."""

    model: str
    global_batch: int
    reference_chip: str
    reference_count: int
    other_chip: str
    count: int | None
    """None: no number of them reaches it at this batch."""
    count_low: float | None
    count_high: float | None
    """80 % interval of the number, by the spread of the inputs at equal scaling."""
    ratio: float
    """Other chips per reference chip at equal work per chip; see ``worth``."""
    reference: Prediction
    other: Prediction | None
    """The prediction for ``count`` chips, or for the fastest count tried where none reaches the reference."""
    worth: Worth
    reason: str
    inputs: tuple[Input, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)


def _profile(chip: Profile | str) -> Profile:
    return chip if isinstance(chip, Profile) else resolve_profile(chip)


def _ratio_sigma(a: Prediction, b: Prediction, a_group: Group, b_group: Group) -> float:
    """Standard deviation of the log of a ratio of two predictions."""
    sigmas = (input_sigma(p.breakdown_s, ready(g, p.dtype), g, p.plan) for p, g in ((a, a_group), (b, b_group)))
    return math.hypot(SHARED_MODEL_SIGMA, *sigmas)


def _inputs(*predictions: tuple[str, Prediction]) -> tuple[Input, ...]:
    return tuple(Input(f"{chip}: {found.what}", found.value, found.evidence) for chip, p in predictions for found in p.inputs)


def smallest_fit(model: Transformer, profile: Profile, fabric: str | None = None, dtype: str | None = None) -> tuple[Prediction, Group]:
    """The best plan on the fewest whole nodes (a power of two) that hold the model, at SEQUENCES_PER_CHIP sequences per chip."""
    nodes = 1
    per_node = make_group(1, profile, fabric).chips_per_node
    problem: NoPlanFits | IllegalPlan | None = None
    while nodes <= MOST_NODES:
        group = make_group(nodes * per_node, profile, fabric)
        try:
            return search(model, group, ready(group, dtype), SEQUENCES_PER_CHIP * group.count).best, group
        except (NoPlanFits, IllegalPlan) as error:
            problem = error
        nodes *= 2
    raise NoPlanFits(f"{model.name} fits on no cluster of up to {MOST_NODES} nodes of {profile.chip_id}: {problem}")


def per_chip_worth(
    model: Transformer | str,
    reference: Profile | str,
    other: Profile | str,
    *,
    reference_fabric: str | None = None,
    other_fabric: str | None = None,
) -> Worth:
    """What one reference chip is worth in the other chip: the ratio of their tokens per second per chip, each in the smallest
    cluster of whole nodes that holds the model, with its best plan, at 8 sequences per chip.
    """
    transformer = load_model(model) if isinstance(model, str) else model
    reference_profile, other_profile = _profile(reference), _profile(other)
    a, a_group = smallest_fit(transformer, reference_profile, reference_fabric)
    b, b_group = smallest_fit(transformer, other_profile, other_fabric)
    ratio = (a.tokens_per_s / a.chips) / (b.tokens_per_s / b.chips)
    spread = math.exp(Z80 * _ratio_sigma(a, b, a_group, b_group))
    if a_group.profile is b_group.profile and reference_fabric == other_fabric:
        spread = 1.0  # the same chip twice: every error is the same on both sides
    return Worth(
        model=transformer.name,
        reference_chip=reference_profile.chip_id,
        other_chip=other_profile.chip_id,
        ratio=ratio,
        low=ratio / spread,
        high=ratio * spread,
        reference=a,
        other=b,
        definition=(
            f"tokens per second per chip, each in the smallest cluster of whole nodes that holds the model ({a.chips}, {b.chips} chips), "
            f"with its best plan, {SEQUENCES_PER_CHIP} sequences per chip and step"
        ),
        inputs=_inputs((reference_profile.chip_id, a), (other_profile.chip_id, b)),
    )


def legal_counts(model: Transformer, group: Group, global_batch: int) -> list[int]:
    """Numbers of chips in whole nodes that some split of the model and the batch uses in full, ascending."""
    dp = np.arange(1, global_batch + 1)
    dp = dp[fitted_batch(global_batch, dp, BATCH_TOLERANCE) > 0]
    axes = (tensor_axis(model, group.chips_per_node), pipeline_axis(model), context_axis(model))
    products = sorted({tp * pp * cp for tp in axes[0] for pp in axes[1] for cp in axes[2]})
    counts = np.unique(np.multiply.outer(products, dp))
    return [int(count) for count in counts[counts % group.chips_per_node == 0]]


def smallest_reaching(counts: list[int], start: int, reaches: Callable[[int], bool]) -> int | None:
    """Index of a count that reaches the aim where the one tried before it does not: doubling from ``start``, then bisection.

    Throughput grows with the count but for plans that divide badly, so the answer reaches the aim for certain and is the smallest
    up to such dips.
    """
    if not counts:
        return None
    high = min(start, len(counts) - 1)
    low = -1
    step = 1
    while not reaches(high):
        low = high
        if high == len(counts) - 1:
            return None
        high = min(high + step, len(counts) - 1)
        step *= 2
    if low == -1:
        step = 1
        while high - step >= 0 and reaches(high - step):
            high -= step
            step *= 2
        low = max(-1, high - step)
    while high - low > 1:
        middle = (high + low) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def exchange_rate(
    model: Transformer | str,
    reference: Profile | str,
    reference_count: int,
    other: Profile | str,
    *,
    global_batch: int | None = None,
    reference_fabric: str | None = None,
    other_fabric: str | None = None,
) -> Exchange:
    """How many ``other`` chips give the tokens per second of ``reference_count`` reference chips on the same model and batch.

    Each side runs its best plan. Strong scaling: the batch stays (the other side's within 5 %, so that odd numbers divide it), so more
    chips each do less, and a number may not exist.
    """
    if reference_count < 1:
        raise InputError(f"{reference_count} reference chips cannot be exchanged; give at least 1")
    transformer = load_model(model) if isinstance(model, str) else model
    reference_profile, other_profile = _profile(reference), _profile(other)
    batch = global_batch or default_global_batch(transformer, reference_count)
    a_group = make_group(reference_count, reference_profile, reference_fabric)
    a = search(transformer, a_group, ready(a_group), batch, batch_tolerance=0.0 if global_batch else BATCH_TOLERANCE).best
    batch = a.plan.global_batch
    worth = per_chip_worth(transformer, reference_profile, other_profile, reference_fabric=reference_fabric, other_fabric=other_fabric)

    node = make_group(1, other_profile, other_fabric).chips_per_node
    machine = ready(make_group(node, other_profile, other_fabric))
    counts = legal_counts(transformer, make_group(node, other_profile, other_fabric), batch)
    tried: dict[int, Prediction] = {}

    def reaches(index: int) -> bool:
        count = counts[index]
        if count not in tried:
            group = make_group(count, other_profile, other_fabric)
            try:
                tried[count] = search(transformer, group, machine, batch, batch_tolerance=BATCH_TOLERANCE).best
            except (NoPlanFits, IllegalPlan):
                return False
        return tried[count].tokens_per_s >= a.tokens_per_s * (1 - 1e-9)

    guess = bisect_left(counts, reference_count * worth.ratio)
    index = smallest_reaching(counts, guess, reaches)
    count = None if index is None else counts[index]
    other_prediction = tried[count] if count is not None else max(tried.values(), key=lambda found: found.tokens_per_s, default=None)
    if count is not None:
        reason = f"the smallest number in whole nodes that reaches {a.tokens_per_s:.4g} tokens/s at a batch of {batch} sequences"
    else:
        most = "no number of them holds the model"
        if other_prediction is not None:
            most = f"{other_prediction.chips} chips give {other_prediction.tokens_per_s / a.tokens_per_s:.3g} of it"
        reason = f"no number of {other_profile.chip_id} reaches it: a batch of {batch} sequences runs out of parallel work ({most})"
    low = high = None
    if count is not None and other_prediction is not None:
        spread = math.exp(Z80 * _ratio_sigma(a, other_prediction, a_group, make_group(count, other_profile, other_fabric)))
        low, high = count / spread, count * spread
    return Exchange(
        model=transformer.name,
        global_batch=batch,
        reference_chip=reference_profile.chip_id,
        reference_count=reference_count,
        other_chip=other_profile.chip_id,
        count=count,
        count_low=low,
        count_high=high,
        ratio=worth.ratio,
        reference=a,
        other=other_prediction,
        worth=worth,
        reason=reason,
        inputs=_inputs((reference_profile.chip_id, a), *(((other_profile.chip_id, other_prediction),) if other_prediction else ())),
    )
