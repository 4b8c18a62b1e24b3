"""One plan's step with everything that its terms are made of, each by the function that the prediction itself calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..cluster import Group
from ..cut import Cut
from ..layer import EndTimes, LayerTimes, Work, end_times, layer_times
from ..machine import Machine
from ..models import Transformer
from ..placement import Placement, placements
from ..plan import Plan
from ..plans import Plans
from ..predict import Prediction, predict_ready
from ..sides import Side, sides
from ..step import Step, step
from .term import one


@dataclass(frozen=True, eq=False)
class Case:
    """A plan on a machine, predicted."""

    model: Transformer
    plan: Plan
    machine: Machine
    group: Group
    prediction: Prediction

    @classmethod
    def of(cls, model: Transformer, plan: Plan, machine: Machine, group: Group) -> Case:
        """Raises what the prediction raises."""
        return cls(model, plan, machine, group, predict_ready(model, plan, machine, group))

    @cached_property
    def plans(self) -> Plans:
        return Plans.of([self.plan])

    @cached_property
    def cut(self) -> Cut:
        return Cut.of(self.model, self.plans, self.machine.element_bytes)

    @cached_property
    def step(self) -> Step:
        return step(self.model, self.plans, self.machine, self.group)

    @cached_property
    def places(self) -> Mapping[str, Placement]:
        return placements(self.plans, self.group.chips_per_node, self.group.fabric.pod_nodes)

    @cached_property
    def layer(self) -> LayerTimes:
        """The mean layer."""
        return layer_times(self.model, self.plans, self.machine)

    @cached_property
    def ends(self) -> EndTimes:
        return end_times(self.model, self.plans, self.machine)

    @cached_property
    def sides(self) -> tuple[Side, Side, Side]:
        return sides(self.model, self.plans, self.machine, self.group, self.layer, self.places)

    @property
    def microbatches(self) -> int:
        return self.plan.microbatches

    @cached_property
    def layers(self) -> float:
        """Layers of the slowest stage, further-token layers included."""
        return one(self.step.passes.slowest_layers)

    @property
    def heads(self) -> float:
        """Logits of the slowest stage for each microbatch."""
        return one(self.step.passes.slowest_heads)

    @property
    def embeddings(self) -> float:
        """Look-ups of tokens of the slowest stage for each microbatch."""
        return one(self.step.passes.slowest_embeddings)

    def stage_s(self, direction: int) -> float:
        """Seconds of the slowest stage forward (0) or backward (1), the waiting for the host not included."""
        passes = self.step.passes
        which = (0,) if direction == 0 else (1, 2)
        each = [(one(passes.layer_s[i]), one(passes.head_s[i]), one(passes.embedding_s[i])) for i in which]
        return sum(self.layers * layer + self.heads * head + self.embeddings * embedding for layer, head, embedding in each)

    def often(self) -> str:
        """How often a layer's work is done, in words: layers of the slowest stage x microbatches."""
        return f"x {self.layers:.4g} layers x {self.microbatches}"


def head_work(ends: EndTimes) -> Work:
    """Logits and loss, all passes."""
    return ends.head_forward + ends.head_backward_input + ends.head_backward_weight
