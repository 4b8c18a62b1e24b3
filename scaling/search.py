"""The best plan by enumeration: every plan of the grid, memory first, then the time of those that fit."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from chipassay.results.profile import Profile

from .cluster import Cluster, Group
from .errors import IllegalPlan, NoPlanFits
from .grid import grid, nearest_batch
from .machine import Machine
from .memory import memory_by_kind
from .models import Transformer, load_model
from .plan import Plan
from .plans import Array, Plans
from .predict import Prediction, predict_ready, single_group
from .ready import ready
from .spare import SPARE_SHARE, usable_bytes
from .step import step

BATCH_TOLERANCE = 0.05
"""How far a batch that nobody fixed may be moved, so that numbers of chips that are no power of two divide it."""
TOKENS_PER_BATCH = 4_000_000
"""Tokens of one optimizer step where no batch is given: the order of the Llama 2 and 3 runs."""
PLAYED = 4
"""How many of the fastest plans are predicted one by one at least: there pipelines are played through, which may change their order."""
CHUNK = 8192
"""Plans priced at once: few enough that their arrays stay in a core's cache, enough that NumPy's cost per call does not count."""


@dataclass(frozen=True)
class Ranked:
    """The best plans of a search, fastest first, and how many were looked at."""

    predictions: tuple[Prediction, ...]
    plans_seen: int
    plans_fitting: int

    @property
    def best(self) -> Prediction:
        return self.predictions[0]


@dataclass(frozen=True, eq=False)
class Priced:
    """Plans of one setting with what they need and how long they take."""

    plans: Plans
    machine: Machine
    needed_bytes: Array
    """Of the fullest chip."""
    step_time_s: Array
    """Infinite where the plan does not fit."""
    spare: float = SPARE_SHARE
    """Share of the memory that a plan must leave free to count as fitting."""

    @property
    def fitting(self) -> int:
        return int(np.count_nonzero(np.isfinite(self.step_time_s)))

    def fastest(self, top: int) -> tuple[list[int], list[float]]:
        """Indices of the ``top`` plans with least time per sequence of those that fit, and those times in seconds."""
        sequence_s = self.step_time_s / self.plans.global_batch
        order = np.argsort(sequence_s, kind="stable")[: min(top, self.fitting)]
        return order.tolist(), sequence_s[order].tolist()


def default_global_batch(model: Transformer, chips: int = 1) -> int:
    """Sequences of a step of about four million tokens, a power of two, at least one per chip."""
    sequences = 2 ** round(math.log2(max(1.0, TOKENS_PER_BATCH / model.seq_len)))
    return max(sequences, 2 ** math.ceil(math.log2(chips)))


def price(model: Transformer, plans: Plans, machine: Machine, group: Group, spare: float = SPARE_SHARE) -> Priced:
    """Memory of all plans, and the step time of those that fit and leave a share ``spare`` of the memory free, in chunks over the machine's
    cores (NumPy lets them run together)."""
    usable = usable_bytes(machine.memory_bytes, spare)
    chunks = [plans.take(slice(start, start + CHUNK)) for start in range(0, len(plans), CHUNK)]

    def of(chunk: Plans) -> tuple[Array, Array]:
        needed = np.sum(list(memory_by_kind(model, chunk, machine).values()), axis=0)
        times = np.full(len(chunk), np.inf)
        fits = needed <= usable
        if fits.any():
            times[fits] = step(model, chunk.take(fits), machine, group).step_time_s
        return needed, times

    workers = min(len(chunks), os.cpu_count() or 1)
    if workers <= 1:
        priced = [of(chunk) for chunk in chunks]
    else:
        with ThreadPoolExecutor(workers) as pool:
            priced = list(pool.map(of, chunks))
    needed, times = (np.concatenate(parts) if parts else np.zeros(0) for parts in (list(zip(*priced, strict=True)) or [(), ()]))
    return Priced(plans, machine, needed, times, spare)


def price_all(
    model: Transformer,
    group: Group,
    machine: Machine,
    global_batch: int,
    settings: Plan | None = None,
    *,
    batch_tolerance: float = 0.0,
) -> Priced:
    """The grid of one setting, priced. IllegalPlan if nothing divides, NoPlanFits (with the leanest plan) if nothing fits."""
    shared = replace(settings or Plan(global_batch=global_batch), global_batch=global_batch, dtype=machine.dtype)
    plans = grid(model, group.count, group.chips_per_node, global_batch, shared, batch_tolerance=batch_tolerance)
    if len(plans) == 0:
        nearest = nearest_batch(model, group.count, group.chips_per_node, global_batch)
        raise IllegalPlan(
            f"no split of {group.count} chips divides a global batch of {global_batch}; the nearest that one does is {nearest}"
        )
    priced = price(model, plans, machine, group)
    if not priced.fitting:
        raise no_plan_fits(model, group, priced)
    return priced


def no_plan_fits(model: Transformer, group: Group, priced: Priced, tried: int | None = None) -> NoPlanFits:
    """What to say where nothing fits: the leanest plan, what it needs and what takes most of that.

    ``tried``: of how many it is the leanest, where ``priced`` are not all.
    """
    leanest, capacity = int(np.argmin(priced.needed_bytes)), priced.machine.memory_bytes
    plan, needed = priced.plans.plan(leanest), float(priced.needed_bytes[leanest])
    kinds = memory_by_kind(model, plan, priced.machine)
    largest = max(kinds, key=lambda kind: kinds[kind])
    if needed <= capacity:
        return NoPlanFits(
            f"{model.name} fits on {group.name} only with less than {priced.spare:.1%} of the memory to spare: the leanest of "
            f"{tried or len(priced.plans)} plans ({plan.describe()}) needs {needed / 1e9:.1f} GB per chip of {capacity / 1e9:.1f} GB; use "
            "more chips, or let the search keep less memory free",
            needed,
        )
    return NoPlanFits(
        f"{model.name} does not fit on {group.name}: the leanest of {tried or len(priced.plans)} plans ({plan.describe()}) needs "
        f"{needed / 1e9:.1f} GB per chip of {capacity / 1e9:.1f} GB, most of it {largest} ({kinds[largest] / 1e9:.1f} GB); use more chips",
        needed,
    )


def search(
    model: Transformer,
    group: Group,
    machine: Machine,
    global_batch: int,
    top: int = 1,
    *,
    batch_tolerance: float = 0.0,
    settings: Plan | None = None,
) -> Ranked:
    """The ``top`` plans of most tokens per second that fit; NoPlanFits says what the leanest plan would need."""
    return _ranked(model, group, [price_all(model, group, machine, global_batch, settings, batch_tolerance=batch_tolerance)], top)


def _ranked(model: Transformer, group: Group, batches: Sequence[Priced], top: int) -> Ranked:
    """The best of several batches together."""
    found: list[tuple[float, int, int]] = []
    for place, batch in enumerate(batches):
        found += [(sequence_s, place, index) for index, sequence_s in zip(*batch.fastest(max(top, PLAYED)), strict=True)]
    candidates = [(batches[place], index) for _, place, index in sorted(found)[: max(top, PLAYED)]]
    predictions = [predict_ready(model, batch.plans.plan(index), batch.machine, group) for batch, index in candidates]
    predictions.sort(key=lambda prediction: prediction.step_time_s / prediction.plan.global_batch)
    return Ranked(tuple(predictions[:top]), sum(len(batch.plans) for batch in batches), sum(batch.fitting for batch in batches))


def rank_plans(
    model: Transformer | str,
    cluster: Cluster | Group | str,
    global_batch: int | None = None,
    *,
    dtype: str | None = None,
    top: int = 10,
    profiles: Mapping[str, Profile] | None = None,
    settings: Sequence[Plan] = (),
) -> Ranked:
    """The ``top`` fastest plans of a model on a homogeneous cluster at a global batch (about four million tokens if None).

    ``settings`` are plans whose fields outside the columns (schedule, dtype, optimizer, ...) are tried one after the other; one without
    a dtype takes ``dtype``. Raises NoPlanFits only if no plan of any of them fits.
    """
    transformer = load_model(model) if isinstance(model, str) else model
    group = single_group(cluster, profiles)
    batch = global_batch or default_global_batch(transformer, group.count)
    tolerance = 0.0 if global_batch else BATCH_TOLERANCE
    batches: list[Priced] = []
    problem: NoPlanFits | IllegalPlan | None = None
    for setting in settings or (Plan(global_batch=batch),):
        machine = ready(group, setting.dtype or dtype)
        try:
            batches.append(price_all(transformer, group, machine, batch, setting, batch_tolerance=tolerance))
        except (NoPlanFits, IllegalPlan) as error:
            problem = problem or error
    if problem is not None and not batches:
        raise problem
    return _ranked(transformer, group, batches, top)


def best_plan(
    model: Transformer | str,
    cluster: Cluster | Group | str,
    global_batch: int | None = None,
    *,
    dtype: str | None = None,
    profiles: Mapping[str, Profile] | None = None,
) -> Prediction:
    """The fastest plan of a model on a homogeneous cluster, with its prediction.

    >>> best_plan("llama3-8b", "8xh100-sxm-80gb", 64).fits
    True
    """
    return rank_plans(model, cluster, global_batch, dtype=dtype, top=1, profiles=profiles).best
