"""The best plan by enumeration: every legal split of a homogeneous cluster, pruned by memory, ranked by step time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chipassay.results.profile import Profile

from .cluster import Cluster, Group
from .errors import IllegalPlan, NoPlanFits
from .machine import Machine
from .memory import memory_by_kind
from .models import Transformer, load_model
from .plan import Plan, Recompute
from .predict import Prediction, breakdown_of, predict_ready, single_group
from .ready import ready

MICROBATCHES = (1, 2, 4, 8, 16)
INTERLEAVES = (1, 2, 4)
TENSOR_DEGREES = (1, 2, 4, 8, 16, 32)
SMALL_NODE = 8
"""In nodes of fewer chips a TP group may cross nodes up to this degree; in larger ones it stays inside."""
BATCH_TOLERANCE = 0.05
"""How far a batch that nobody fixed may be moved, so that numbers of chips that are no power of two divide it."""
TOKENS_PER_BATCH = 4_000_000
"""Tokens of one optimizer step where no batch is given: the order of the Llama 2 and 3 runs."""


@dataclass(frozen=True)
class Ranked:
    """The best plans of a search, fastest first, and how many were looked at."""

    predictions: tuple[Prediction, ...]
    plans_seen: int
    plans_fitting: int

    @property
    def best(self) -> Prediction:
        return self.predictions[0]


def default_global_batch(model: Transformer, chips: int = 1) -> int:
    """Sequences of a step of about four million tokens, a power of two, at least one per chip."""
    sequences = 2 ** round(math.log2(max(1.0, TOKENS_PER_BATCH / model.seq_len)))
    return max(sequences, 2 ** math.ceil(math.log2(chips)))


def divisors(number: int) -> tuple[int, ...]:
    """All divisors, ascending.

    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return tuple(sorted({*small, *(number // d for d in small)}))


def tensor_degrees(model: Transformer, chips_per_node: int) -> tuple[int, ...]:
    """TP degrees worth trying: powers of two that divide heads and MLP, within a node (or a few small ones)."""
    most = max(chips_per_node, SMALL_NODE) if chips_per_node < SMALL_NODE else chips_per_node
    return tuple(tp for tp in TENSOR_DEGREES if tp <= most and model.heads % tp == 0 and model.ffn_hidden % tp == 0)


def pipeline_degrees(model: Transformer) -> tuple[int, ...]:
    """PP degrees worth trying: divisors of the layers, and powers of two (an uneven cut)."""
    powers = {2**i for i in range(int(math.log2(model.layers)) + 1)}
    return tuple(sorted({*divisors(model.layers), *powers}))


def fitted_batch(global_batch: int, dp: int, tolerance: float) -> int | None:
    """The multiple of ``dp`` nearest to a batch, None if it is further off than ``tolerance``.

    >>> fitted_batch(512, 24, 0.05), fitted_batch(512, 24, 0.0)
    (504, None)
    """
    fitted = round(global_batch / dp) * dp
    return fitted if fitted and abs(fitted - global_batch) <= tolerance * global_batch else None


def enumerate_plans(
    model: Transformer, group: Group, global_batch: int, dtype: str | None = None, batch_tolerance: float = 0.0
) -> Iterator[Plan]:
    """Every plan worth trying that divides; whether it fits in memory is not looked at."""
    for tp in tensor_degrees(model, group.chips_per_node):
        for pp in pipeline_degrees(model):
            if group.count % (tp * pp):
                continue
            dp = group.count // (tp * pp)
            batch = fitted_batch(global_batch, dp, batch_tolerance)
            if batch is None:
                continue
            per_replica = batch // dp
            sequence_parallel = tp > 1 and model.seq_len % tp == 0
            stages: tuple[int, ...] = (0,) if dp == 1 else (1, 3) if pp == 1 else (1,)
            for microbatch in MICROBATCHES:
                if per_replica % microbatch:
                    continue
                for interleave in INTERLEAVES:
                    if interleave > 1 and (pp == 1 or model.layers % (pp * interleave) or (per_replica // microbatch) % pp):
                        continue
                    for zero_stage in stages:
                        recomputes: tuple[Recompute, ...] = ("none", "full")
                        for recompute in recomputes:
                            yield Plan(
                                global_batch=batch,
                                dp=dp,
                                tp=tp,
                                pp=pp,
                                microbatch=microbatch,
                                zero_stage=zero_stage,
                                recompute=recompute,
                                sequence_parallel=sequence_parallel,
                                interleave=interleave,
                                dtype=dtype,
                            )


def search(model: Transformer, group: Group, machine: Machine, global_batch: int, top: int = 1, *, batch_tolerance: float = 0.0) -> Ranked:
    """The ``top`` plans of most tokens per second that fit; NoPlanFits says what the leanest plan would need."""
    seen = 0
    fitting: list[tuple[float, int, Plan]] = []
    leanest: tuple[float, Plan] | None = None
    for plan in enumerate_plans(model, group, global_batch, machine.dtype, batch_tolerance):
        seen += 1
        needed = math.fsum(memory_by_kind(model, plan, machine).values())
        if leanest is None or needed < leanest[0]:
            leanest = (needed, plan)
        if needed <= machine.memory_bytes:
            sequence_s = math.fsum(breakdown_of(model, plan, machine, group).values()) / plan.global_batch
            fitting.append((sequence_s, len(fitting), plan))
    if not fitting:
        if leanest is None:
            raise IllegalPlan(f"no split of {group.count} chips divides a global batch of {global_batch}; change the count or the batch")
        raise NoPlanFits(
            f"{model.name} does not fit on {group.name}: the leanest of {seen} plans ({leanest[1].describe()}) needs "
            f"{leanest[0] / 1e9:.1f} GB per chip of {machine.memory_bytes / 1e9:.1f} GB; use more chips",
            leanest[0],
        )
    fitting.sort()
    best = tuple(predict_ready(model, plan, machine, group) for _, _, plan in fitting[:top])
    return Ranked(best, seen, len(fitting))


def rank_plans(
    model: Transformer | str,
    cluster: Cluster | Group | str,
    global_batch: int | None = None,
    *,
    dtype: str | None = None,
    top: int = 10,
    profiles: Mapping[str, Profile] | None = None,
) -> Ranked:
    """The ``top`` fastest plans of a model on a homogeneous cluster at a global batch (about four million tokens if None)."""
    transformer = load_model(model) if isinstance(model, str) else model
    group = single_group(cluster, profiles)
    batch = global_batch or default_global_batch(transformer, group.count)
    tolerance = 0.0 if global_batch else BATCH_TOLERANCE
    return search(transformer, group, ready(group, dtype), batch, top, batch_tolerance=tolerance)


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
