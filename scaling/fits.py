"""Does a plan fit, what takes the room if not, and which plan nearest to it fits."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from chipassay.results.errors import InputError

from .cluster import Group
from .legal import legal
from .machine import Machine
from .memory import memory_by_kind, total_bytes
from .models import Transformer
from .plan import OFFLOADS, RECOMPUTES, Plan
from .plans import COLUMNS, Array, Plans
from .spare import usable_bytes

ORDER_OF_CHANGES = ("zero_stage", "sequence_parallel", "recompute", "microbatch", "tp", "pp", "ep", "cp", "interleave", "offload")
"""What is changed, from the first resort to the last: what costs little time first, what needs other links or a host later."""
FOLLOWING = ("dp", "shard", "expert_tp")
"""What follows from the degrees and does not count as a change."""


def fits_report(model: Transformer, plan: Plan, machine: Machine, group: Group) -> str:
    """One sentence: that the plan fits; or what takes most, how much is missing, and the nearest plan that fits."""
    held = memory_by_kind(model, plan, machine)
    needed, limit = sum(held.values()), machine.memory_bytes
    if needed <= limit:
        return f"it fits: {needed / 1e9:.1f} of {limit / 1e9:.1f} GB per chip"
    largest = max(held, key=lambda kind: held[kind])
    share = f"{largest} ({held[largest] / 1e9:.1f} GB)"
    problem = f"{(needed - limit) / 1e9:.1f} GB too much for a chip of {limit / 1e9:.1f} GB, most of it {share}"
    found = nearest_fitting(model, plan, machine, group.count)
    if found is None:
        return f"{problem}; no plan of this batch on {group.count} chips fits: use more chips, or chips with more memory"
    return f"{problem}; the nearest plan that fits: {describe_changes(plan, found)}"


def describe_changes(before: Plan, after: Plan) -> str:
    """The fields that differ, dp among them.

    >>> describe_changes(Plan(global_batch=8, dp=8), Plan(global_batch=8, dp=4, tp=2, zero_stage=1))
    'zero_stage 1 (was 0), tp 2 (was 1), dp 4 (was 8)'
    """
    names = [*ORDER_OF_CHANGES, *FOLLOWING]
    names += [field.name for field in fields(Plan) if field.name not in names]
    changed = [(name, getattr(before, name), getattr(after, name)) for name in names if getattr(before, name) != getattr(after, name)]
    return ", ".join(f"{name} {new} (was {old})" for name, old, new in changed)


def nearest_fitting(model: Transformer, plan: Plan, machine: Machine, chips: int) -> Plan | None:
    """The legal plan on all the chips that fits with the fewest fields changed, then the earliest in ORDER_OF_CHANGES, then the
    smallest steps (doublings of a degree, stages of ZeRO, kinds of recomputation). Batch, model and dtype stay; as much memory stays free
    as any search leaves."""
    for offload in OFFLOADS[OFFLOADS.index(plan.offload) :]:
        plans = _neighbours(model, replace(plan, offload=offload), chips)
        try:
            plans = plans.take(legal(plans, model, chips))
        except InputError:  # a setting that the neighbours share: what the plan is refused for, or an optimizer that no host runs
            continue
        if not len(plans):
            continue
        fitting = plans.take(total_bytes(memory_by_kind(model, plans, machine)) <= usable_bytes(machine.memory_bytes))
        if len(fitting):
            return fitting.plan(int(np.argmin(_distance(plan, fitting))))
    return None


def _degrees(of: int, count: int) -> list[int]:
    """A degree, and what it becomes by doubling and halving within the chips."""
    return sorted({of, *(2**power for power in range(count.bit_length()))})


def _neighbours(model: Transformer, plan: Plan, chips: int) -> Plans:
    """Every mix of the changes; dp takes what is left of the chips. Legal or not."""
    choices = {
        "zero_stage": list(range(plan.zero_stage, 4)),
        "sequence_parallel": sorted({int(plan.sequence_parallel), 1}),
        "recompute": list(range(RECOMPUTES.index(plan.recompute), len(RECOMPUTES))),
        "microbatch": [size for size in _degrees(plan.microbatch, plan.microbatch) if size <= plan.microbatch],
        "tp": [tp for tp in _degrees(plan.tp, chips) if model.heads % tp == 0],
        "pp": [pp for pp in _degrees(plan.pp, chips) if pp <= model.layers],
        "ep": [plan.ep] if model.experts is None else [ep for ep in _degrees(plan.ep, chips) if model.experts.count % ep == 0],
        "cp": [cp for cp in _degrees(plan.cp, min(8 * plan.cp, chips)) if cp >= plan.cp],
        "interleave": sorted({1, plan.interleave}),
    }
    columns = dict(zip(choices, (mesh.ravel() for mesh in np.meshgrid(*choices.values(), indexing="ij")), strict=True))
    each = columns["tp"] * columns["pp"] * columns["cp"]
    possible = (each <= chips) & (chips % each == 0)
    columns = {name: column[possible] for name, column in columns.items()}
    return Plans.grid(plan, dp=chips // each[possible], **columns)


def _distance(plan: Plan, others: Plans) -> Array:
    """Sort key: changed fields, then their places in the order (a later one outweighs all earlier ones), then steps."""
    now = Plans.of([plan])
    count, places, steps = (np.zeros(len(others)) for _ in range(3))
    for place, name in enumerate(name for name in ORDER_OF_CHANGES if name in COLUMNS):
        new, old = getattr(others, name), getattr(now, name)
        changed = new != old
        count += changed
        places += changed * 2.0**place
        by_stage = name in ("zero_stage", "recompute", "sequence_parallel")
        steps += np.abs(new - old) if by_stage else np.abs(np.log2(new / old))
    return (count * 2.0 ** len(ORDER_OF_CHANGES) + places) * 1e3 + steps
