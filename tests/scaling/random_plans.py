"""Legal plans drawn at random, the same ones each time, and real chips to try them on."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from chipassay.results.shipped import find_profile
from chipassay.scaling.cluster import Group, make_group
from chipassay.scaling.legal import legal
from chipassay.scaling.machine import Machine
from chipassay.scaling.models import Transformer
from chipassay.scaling.plan import RECOMPUTES, Plan
from chipassay.scaling.plans import Plans
from chipassay.scaling.ready import ready

CHIPS = 64
TWOS = [1, 2, 4, 8, 16, 32, 64]


def random_plans(model: Transformer, shared: Plan, count: int, seed: int) -> Plans:
    """Legal plans of 64 chips, drawn at random (the same for the same seed)."""
    draw = np.random.default_rng(seed)
    degrees: dict[str, Any] = {name: draw.choice(TWOS[:4], 40 * count) for name in ("tp", "pp", "cp", "ep", "expert_tp")}
    rest = degrees["tp"] * degrees["pp"] * degrees["cp"]
    columns = {
        **degrees,
        "dp": np.maximum(1, CHIPS // rest),
        "global_batch": draw.choice([64, 128, 256, 512], 40 * count),
        "microbatch": draw.choice([1, 2, 4], 40 * count),
        "zero_stage": draw.integers(0, 4, 40 * count),
        "shard": draw.choice([0, 2, 4, 8], 40 * count),
        "recompute": draw.integers(0, len(RECOMPUTES), 40 * count),
        "sequence_parallel": draw.integers(0, 2, 40 * count),
        "interleave": draw.choice([1, 1, 2], 40 * count),
    }
    if model.experts is None:
        columns["ep"] = np.ones_like(columns["ep"])
        columns["expert_tp"] = np.zeros_like(columns["ep"])
    plans = Plans.grid(shared, **columns)
    found = np.flatnonzero(legal(plans, model, CHIPS))
    assert len(found) >= count
    return plans.take(found[:count])


SHARED = {
    "as it is": Plan(global_batch=64),
    "unfused, nothing hidden": Plan(global_batch=64, attention="unfused", fused=False, overlap_dp=False, overlap_pp=False),
    "all hidden, other order": Plan(global_batch=64, overlap_tp=True, scatter_gather=False, order="tp-cp-pp-ep-dp", host="graph"),
}


@lru_cache(maxsize=1)
def group_of_64() -> tuple[Group, Machine]:
    """Real chips, whose products are modelled by tiles, in nodes of 8."""
    group = make_group(CHIPS, find_profile("a100-sxm-80gb"))
    return group, ready(group)
