"""What no plan beats: the least a step can take by what is known of it before it is timed, or before its pipeline is played through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..layer import EndTimes, LayerTimes, end_times, layer_times
from ..machine import Machine
from ..models import Transformer
from ..plan import RECOMPUTES
from ..plans import Array, Plans
from ..sides import OPERATORS_PRODUCT_SHARE
from ..step import Step, distinct_cuts, straggler_share

WAITING_ERROR: Mapping[str, float] = {"gpipe": 0.15, "1f1b": 0.15, "interleaved": 0.15, "zero-bubble": 0.25, "dualpipe": 1.0}
"""Share of the bubble and the sends by closed forms that a pipeline may do without when it is played through (the other way round no plan
is lost): the most seen in 150 plans of each of nine models, and half as much again: 0.09 (1F1B, interleaved), 0.17; DualPipe all of it."""
UNEVEN_WAITING_ERROR = 0.25
"""The same of interleaved stages that do not divide the layers: 0.16 was the most seen in 500 plans of each of five models."""
MOVED_BY_ORDER = ("context_parallel", "expert_parallel", "data_parallel", "pipeline_send")
"""Kinds that depend on the order of ranks where TP groups lie closest together in all of them."""


@dataclass(frozen=True, eq=False)
class Compute:
    """The compute of a layer and of the logits, worked out once for each way of cutting them."""

    model: Transformer
    layer: LayerTimes
    ends: EndTimes
    cut: Array
    """Which of the ways each plan has."""

    @classmethod
    def of(cls, model: Transformer, plans: Plans, machine: Machine) -> Compute:
        """That of some plans."""
        cuts, back = distinct_cuts(plans)
        return cls(model, layer_times(model, cuts, machine), end_times(model, cuts, machine), back)

    def take(self, which: Array | slice) -> Compute:
        """Those of an index, a mask or a slice."""
        return replace(self, cut=self.cut[which])

    @property
    def known(self) -> tuple[LayerTimes, EndTimes, Array]:
        """As ``step`` takes it."""
        return self.layer, self.ends, self.cut

    def least_step_s(self, plans: Plans) -> Array:
        """Seconds that no step of these plans can be shorter than.

        The slowest stage takes at least the mean of all stages. And one of those with most layers, the last of them, is busy with all
        microbatches, and before and after that the first and the last of them pass the stages in front of it; of zero-bubble schedules only
        the forward pass is sure to wait. Traffic, the embedding, the optimizer and the host only add to both. The slowest chip is later
        than the mean one as everywhere.
        """
        layer, ends, p = self.layer, self.ends, plans.pp
        layers, heads = self.model.layers + self.model.mtp_depth, 1 + self.model.mtp_depth
        forward = self._each(layer.forward.total_s)
        operators = self._each(layer.forward.memory_s + OPERATORS_PRODUCT_SHARE * layer.forward.matmul_s)
        again_of = {RECOMPUTES.index("full"): forward, RECOMPUTES.index("operators"): operators}
        again = sum(np.where(plans.recompute == code, plans.settings.recompute_share * seconds, 0.0) for code, seconds in again_of.items())
        once = forward + self._each(layer.backward_input.total_s + layer.backward_weight.total_s) + again
        head = heads * self._each(ends.head_forward.total_s + ends.head_backward_input.total_s + ends.head_backward_weight.total_s)
        least: Array = plans.microbatches * (layers * once + head) / p
        passing = {"gpipe": once, "1f1b": once, "interleaved": once, "zero-bubble": forward}.get(plans.settings.schedule)
        if passing is not None:
            most, more = -(-self.model.layers // p), self.model.layers % p
            in_front = np.where(more == 0, p, more) - 1
            least = np.maximum(least, most * (plans.microbatches * once + in_front * passing / plans.interleave))
        return least * (1 + straggler_share(plans.chips))

    def _each(self, seconds: Any) -> Any:
        return seconds[self.cut] if isinstance(seconds, np.ndarray) and seconds.ndim else seconds


def least_played(plans: Plans, parts_s: Mapping[str, Array], model_layers: int) -> Array:
    """Share of their step by closed forms that plans of a model of so many layers take at least when their pipelines are played through."""
    total: Array = sum(parts_s.values())  # type: ignore[assignment]
    waiting = parts_s["pipeline_bubble"] + parts_s["pipeline_send"]
    uneven = (plans.interleave > 1) & (model_layers % (plans.pp * plans.interleave) != 0)
    error = np.where(uneven, UNEVEN_WAITING_ERROR, WAITING_ERROR[plans.settings.schedule])
    share: Array = 1 - error * waiting / (total - parts_s["stragglers"])
    return share


def in_any_order(parts_s: Mapping[str, Array]) -> dict[str, Array]:
    """The least that the parts of a step can become in another order of ranks: without the traffic that the order moves. The bubble
    stays where none of that is inside the passes of which it is made."""
    total: Array = sum(parts_s.values())  # type: ignore[assignment]
    before = total - parts_s["stragglers"]
    least = {kind: np.zeros_like(seconds) if kind in MOVED_BY_ORDER else seconds for kind, seconds in parts_s.items()}
    inside = parts_s["context_parallel"] + parts_s["expert_parallel"]
    least["pipeline_bubble"] = np.where(inside > 0, 0.0, parts_s["pipeline_bubble"])
    after: Array = sum(seconds for kind, seconds in least.items() if kind != "stragglers")  # type: ignore[assignment]
    least["stragglers"] = parts_s["stragglers"] * after / before
    return least


def moved_by_order(step: Step) -> Array:
    """What another order of ranks could make smaller, as rows: a plan that is no better in any of it is no better at all."""
    parts = step.parts_s
    kinds = [parts[kind] for kind in MOVED_BY_ORDER if kind != "pipeline_send"]
    return np.stack([*kinds, np.broadcast_to(step.passes.send_s, len(kinds[0]))])
