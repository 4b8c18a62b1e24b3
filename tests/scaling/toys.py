"""Chips and clusters with round numbers, so that answers can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from chipassay.results.fabrics import Fabric
from chipassay.results.profile import Curve, Evidence, Link, Profile, Quantity
from chipassay.scaling.cluster import Group
from chipassay.scaling.machine import Machine, prepare
from chipassay.scaling.models import Transformer
from chipassay.scaling.plan import Plan
from chipassay.scaling.plans import Plans
from chipassay.scaling.step import KINDS, Step, step

MEASURED = Evidence("measured", "a toy")
TRAFFIC = ("tensor_parallel", "context_parallel", "expert_parallel", "pipeline_send", "data_parallel")


def toy_profile(
    *,
    rate: float = 1e14,
    bandwidth: float = 1e12,
    memory_bytes: float | None = 80e9,
    overhead_s: float = 1e-6,
    links: tuple[Link, ...] = (),
    dtype: str = "bf16",
    chip_id: str = "toy",
    attention: bool = True,
) -> Profile:
    return Profile(
        chip_id=chip_id,
        name="Toy",
        matmul={dtype: Curve(overhead_s, rate, MEASURED)},
        attention={dtype: Curve(overhead_s, rate / 2, MEASURED)} if attention else {},
        memory=Curve(overhead_s, bandwidth, MEASURED),
        links=links,
        peak_flops_per_s={dtype: Quantity(rate * 1.25, MEASURED)},
        memory_bytes=None if memory_bytes is None else Quantity(memory_bytes, MEASURED),
    )


def toy_link(group_size: int = 8, busbw: float = 1e11, latency_s: float = 1e-5) -> Link:
    return Link("all_reduce", "nvlink", group_size, latency_s, busbw, MEASURED)


def toy_fabric(*, nics: int = 8, nic: float = 10e9, latency_s: float = 0.0) -> Fabric:
    """NICs of ``nic`` bytes/s one way, all of which a collective reaches."""
    return Fabric("toy", nics, nic, 1.0, latency_s, MEASURED)


def toy_group(
    count: int = 1, *, per_node: int = 8, busbw: float = 1e11, latency_s: float = 0.0, fabric: Fabric | None = None, **chip: Any
) -> Group:
    """Chips of ``toy_profile(**chip)``, joined by links of ``busbw`` in a node and by ``toy_fabric()`` between nodes."""
    profile = toy_profile(links=(toy_link(8, busbw, latency_s),), **chip)
    return Group(count, profile, per_node, fabric or toy_fabric(), ())


def only_products(count: int = 1, **group: Any) -> Group:
    """Chips whose kernels start at once and whose memory takes no time."""
    return toy_group(count, overhead_s=0.0, bandwidth=1e30, **group)


def with_profile(group: Group, **fields: Any) -> Group:
    """The group with some fields of its profile replaced."""
    return replace(group, profile=replace(group.profile, **fields))


def machine_of(group: Group, dtype: str | None = None) -> Machine:
    return prepare(group.profile, dtype)


def step_of(model: Transformer, plan: Plan, group: Group) -> Step:
    """The step of one plan, which the group must have the chips for."""
    return step(model, Plans.of([plan]), machine_of(group, plan.dtype), group)


def parts_of(model: Transformer, plan: Plan, group: Group) -> dict[str, float]:
    """Seconds of one plan's step by kind."""
    return {kind: float(seconds[0]) for kind, seconds in step_of(model, plan, group).parts_s.items()}


def plain(**fields: Any) -> Plan:
    """A plan with nothing hidden behind anything, and no host to wait for."""
    return replace(Plan(global_batch=8, overlap_dp=False, host="graph"), **fields)


def changed(model: Transformer, before: Plan, after: Plan, group: Group) -> set[str]:
    """The kinds that differ between two plans, but for the stragglers, who follow the sum."""
    a, b = parts_of(model, before, group), parts_of(model, after, group)
    return {kind for kind in KINDS if kind != "stragglers" and not math.isclose(a[kind], b[kind], rel_tol=1e-12, abs_tol=1e-15)}


def link_s(pattern: str, size: float, members: int = 8, busbw: float = 1e11) -> float:
    """Bytes on the busiest link over its bandwidth: 2 (n - 1) / n of an all-reduced message, (n - 1) / n of the others'."""
    return size * (2 if pattern == "all_reduce" else 1) * (members - 1) / members / busbw
