"""How sure a prediction is: the spread of each input by its evidence, weighed by its share of the step, and the model's own by regime."""

from __future__ import annotations

import math
from collections.abc import Mapping

from chipassay.results.profile import Curve, Level, Link

from .cluster import Group
from .machine import Machine
from .plan import Plan

Z80 = 1.2816
"""Normal quantile of a two-sided 80 % interval."""

LEVEL_SIGMA: Mapping[Level, float] = {"measured": 0.05, "published": 0.08, "derived": 0.15, "assumed": 0.35}
"""Standard deviation of log(true / used) by evidence.

measured: chips of one node differ by 5 % and more; published: careful sources on one chip agree to about 8 % (A100 matmul: 253 to 271
TFLOP/s); derived: shares of peak of sibling chips that were both published differ by 0.14 (root mean square of 31 pairs in
results/data/published.csv); assumed: chosen.
"""

MODEL_SIGMA: Mapping[str, float] = {"compute": 0.15, "network": 0.15, "host": 0.12, "experts": 0.35}
"""The model's own error by what rules the step (``regime``): chosen so that in each regime 80 to 90 % of all published runs lie in their
80 % interval (``chipassay validate``); of at most 30 runs of each source 57 to 80 % do: large sources are the better predicted ones."""

FEWEST_POINTS = 3
"""With fewer points a fit of two numbers cannot tell its own spread: a measured curve then counts as surely as a derived one."""

NETWORK_SHARE = 0.25
HOST_SHARE = 0.10
"""Shares of the step above which a step counts as ruled by traffic and waiting, or by the host."""


def regime(breakdown_s: Mapping[str, float]) -> str:
    """``experts``: tokens travel to experts; ``host``: the host is waited for; ``network``: traffic and bubbles are a quarter of the step;
    else ``compute``."""
    if breakdown_s["expert_parallel"] > 0:
        return "experts"
    total = math.fsum(breakdown_s.values())
    if breakdown_s["host"] >= HOST_SHARE * total:
        return "host"
    kinds = ("tensor_parallel", "context_parallel", "expert_parallel", "pipeline_send", "pipeline_bubble", "data_parallel")
    return "network" if sum(breakdown_s[kind] for kind in kinds) >= NETWORK_SHARE * total else "compute"


def curve_sigma(curve: Curve | Link) -> float:
    """Standard deviation of log(true / used) of a fitted curve: its evidence's, and the standard error of the fit.

    >>> from chipassay.results.profile import Evidence
    >>> few = Curve(0.0, 1e12, Evidence("measured", "two sizes"), points=2)
    >>> many = Curve(0.0, 1e12, Evidence("measured", "nine sizes"), points=9, spread=0.3)
    >>> curve_sigma(few), round(curve_sigma(many), 3)
    (0.15, 0.112)
    """
    sigma = LEVEL_SIGMA[curve.evidence.level]
    if isinstance(curve, Link) and curve.segments:
        # What large messages cost; a derived link carries the error of its group size there.
        return math.hypot(sigma, (curve.segments[-1].s_per_byte_error or 0.0) * curve.busbw_bytes_per_s)
    if curve.evidence.level == "measured" and curve.points < FEWEST_POINTS:
        return LEVEL_SIGMA["derived"]
    return math.hypot(sigma, curve.spread / math.sqrt(curve.points)) if curve.spread and curve.points else sigma


def input_sigmas(machine: Machine, group: Group, plan: Plan) -> dict[str, float]:
    """Kind of the breakdown -> sigma of the input behind it."""
    matmul, attention = LEVEL_SIGMA[machine.products.evidence.level], LEVEL_SIGMA[machine.attentions.evidence.level]
    if not machine.products.tiles:
        matmul, attention = curve_sigma(machine.matmul), curve_sigma(machine.attention)
    memory = curve_sigma(machine.memory)
    link = machine.link("all_reduce", min(plan.tp, group.chips_per_node))
    in_node = curve_sigma(link) if link is not None else LEVEL_SIGMA["assumed"]
    network = next((LEVEL_SIGMA[found.evidence.level] for found in group.inputs if found.what == "network between nodes"), in_node)
    return {
        "matmul": matmul,
        "attention": attention,
        "memory_bound": memory,
        "recompute": matmul,
        "host": LEVEL_SIGMA["derived"],
        "tensor_parallel": network if plan.tp > group.chips_per_node else in_node,
        "context_parallel": network if plan.tp * plan.cp > group.chips_per_node else in_node,
        "expert_parallel": network if plan.tp * plan.ep > group.chips_per_node else in_node,
        "pipeline_send": network,
        "pipeline_bubble": matmul,
        "data_parallel": network,
        "optimizer": memory,
        "offload": LEVEL_SIGMA["assumed"],
        "stragglers": matmul,
    }


TOGETHER = (
    ("matmul", "recompute", "pipeline_bubble", "stragglers"),
    ("attention",),
    ("memory_bound", "optimizer"),
    ("host",),
    ("tensor_parallel", "context_parallel", "expert_parallel"),
    ("data_parallel", "pipeline_send"),
    ("offload",),
)
"""Kinds that rest on one input are wrong together; kinds of different inputs independently."""


def input_sigma(breakdown_s: Mapping[str, float], machine: Machine, group: Group, plan: Plan) -> float:
    """Standard deviation of log(step time) from the inputs alone."""
    total = math.fsum(breakdown_s.values())
    sigmas = input_sigmas(machine, group, plan)
    return math.sqrt(sum(sum(breakdown_s[kind] / total * sigmas[kind] for kind in kinds) ** 2 for kinds in TOGETHER))


def log_sigma(breakdown_s: Mapping[str, float], machine: Machine, group: Group, plan: Plan) -> float:
    """Standard deviation of log(step time), the model's own error included."""
    return math.hypot(MODEL_SIGMA[regime(breakdown_s)], input_sigma(breakdown_s, machine, group, plan))


def interval_s(step_time_s: float, breakdown_s: Mapping[str, float], machine: Machine, group: Group, plan: Plan) -> tuple[float, float]:
    """The 80 % interval of the real step time: log-normal."""
    spread = math.exp(Z80 * log_sigma(breakdown_s, machine, group, plan))
    return step_time_s / spread, step_time_s * spread
