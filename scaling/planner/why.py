"""Why a plan is not the best, in one sentence: which parts of its step take longer, and which less long."""

from __future__ import annotations

from collections.abc import Mapping

from ..predict import Prediction
from ..text import seconds
from .objective import Objective

WORDS: Mapping[str, str] = {
    "matmul": "matrix products",
    "attention": "attention",
    "memory_bound": "passes over memory",
    "recompute": "recomputation",
    "host": "waiting for the host",
    "tensor_parallel": "tensor-parallel traffic",
    "context_parallel": "context-parallel traffic",
    "expert_parallel": "expert-parallel traffic",
    "pipeline_send": "sends between stages",
    "pipeline_bubble": "bubble",
    "data_parallel": "data-parallel traffic",
    "optimizer": "optimizer",
    "offload": "offloading",
    "stragglers": "waiting for stragglers",
}
COMPARED: Mapping[Objective, str] = {"time": "slower", "cost": "dearer", "energy": "more energy", "chips": "slower"}
MOST = 3
"""Parts that a sentence names."""
LEAST_SHARE = 0.15
"""Parts that differ by less than this share of the largest difference are not named."""
SAME = 5e-5
"""Plans whose values differ by less are told as equal."""


def why_not_best(best: Prediction, other: Prediction, objective: Objective, ratio: float) -> str:
    """``ratio``: what the other is judged by over that of the best. Parts are told per step of the best's batch, on the same number of
    chips in seconds, else in percent of the best's chip-seconds.
    """
    if abs(ratio - 1) < SAME:
        return "as good" + _memory(best, other)
    same_batch = best.plan.global_batch / other.plan.global_batch
    chips = 1.0 if objective == "time" else other.chips / best.chips
    more = {kind: other.breakdown_s[kind] * same_batch * chips - best.breakdown_s[kind] for kind in best.breakdown_s}
    largest = max(abs(value) for value in more.values())
    named = sorted((kind for kind in more if kind in WORDS and abs(more[kind]) >= LEAST_SHARE * largest), key=lambda kind: -abs(more[kind]))
    alone = other.chips == best.chips

    def much(value: float) -> str:
        return seconds(abs(value)) if alone or objective == "time" else f"{abs(value) / best.step_time_s:.1%}"

    parts = [f"{much(more[kind])} {'more' if more[kind] > 0 else 'less'} {WORDS[kind]}" for kind in named[:MOST]]
    text = f"{ratio - 1:.1%} {COMPARED[objective]}".replace("%", " %") if ratio > 1 else f"{1 - ratio:.1%}".replace("%", " %") + " better"
    if not alone:
        text += f", on {other.chips} chips in place of {best.chips}"
    return f"{text}: {', '.join(part.replace('%', ' %') for part in parts)}"


def _memory(best: Prediction, other: Prediction) -> str:
    gigabytes = (other.memory_total_bytes - best.memory_total_bytes) / 1e9
    if abs(gigabytes) < 0.05:
        return ", and as much memory"
    return f", with {abs(gigabytes):.1f} GB {'more' if gigabytes > 0 else 'less'} memory per chip"
