"""How sure a prediction is: the spread of each input by its evidence, weighed by its share of the step, and the model's own."""

from __future__ import annotations

import math
from collections.abc import Mapping

from chipassay.results.profile import Curve, Level, Link

from .cluster import Group
from .machine import Machine
from .plan import Plan

LEVEL_SIGMA: Mapping[Level, float] = {"measured": 0.05, "published": 0.08, "derived": 0.15, "assumed": 0.35}
"""Standard deviation of log(true / used) by evidence.

measured: chips of one node differ by 5 % and more; published: careful sources on one chip agree to about 8 % (A100 matmul: 253 to 271
TFLOP/s); derived: shares of peak of sibling chips that were both published differ by 0.14 (root mean square of 31 pairs in
results/data/published.csv); assumed: chosen.
"""

MODEL_SIGMA = 0.13
"""The model's own error: root mean square, over six sources of published runs, of the median log error of each, with published
profiles and nothing fitted (tests/scaling/anchors.csv)."""

MODEL_BIAS = 0.07
"""Median over those sources of log(measured / predicted): real runs are slower, since all that the model leaves out costs time. It
moves the interval, not the prediction, which stays that of a well-tuned stack."""


FEWEST_POINTS = 3
"""With fewer points a fit of two numbers cannot tell its own spread: a measured curve then counts as surely as a derived one."""


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
    matmul, attention, memory = (curve_sigma(curve) for curve in (machine.matmul, machine.attention, machine.memory))
    link = machine.link("all_reduce", min(plan.tp, group.chips_per_node))
    in_node = curve_sigma(link) if link is not None else LEVEL_SIGMA["assumed"]
    network = next((LEVEL_SIGMA[found.evidence.level] for found in group.inputs if found.what == "network between nodes"), in_node)
    return {
        "matmul": matmul,
        "attention": attention,
        "memory_bound": memory,
        "recompute": matmul,
        "tensor_parallel": network if plan.tp > group.chips_per_node else in_node,
        "pipeline_send": network,
        "pipeline_bubble": matmul,
        "data_parallel": network,
        "optimizer": memory,
    }


def input_sigma(breakdown_s: Mapping[str, float], machine: Machine, group: Group, plan: Plan) -> float:
    """Standard deviation of log(step time) from the inputs alone.

    Kinds that rest on the same input (matmul, recompute, bubble) are wrong together; kinds of different inputs independently.
    """
    total = math.fsum(breakdown_s.values())
    sigmas = input_sigmas(machine, group, plan)
    together: tuple[tuple[str, ...], ...] = (("matmul", "recompute", "pipeline_bubble"), ("attention",), ("memory_bound", "optimizer"))
    together += (("tensor_parallel",), ("data_parallel", "pipeline_send"))
    return math.sqrt(sum(sum(breakdown_s[kind] / total * sigmas[kind] for kind in kinds) ** 2 for kinds in together))


def log_sigma(breakdown_s: Mapping[str, float], machine: Machine, group: Group, plan: Plan) -> float:
    """Standard deviation of log(step time), the model's own error included."""
    return math.hypot(MODEL_SIGMA, input_sigma(breakdown_s, machine, group, plan))
