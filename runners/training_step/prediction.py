"""What the scaling model says of the same step: the plan that was trained, from a profile of the chip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from chipassay.scaling.cluster import Group, make_group, resolve_profile
from chipassay.scaling.models import Transformer
from chipassay.scaling.plan import Attention, Plan, Recompute
from chipassay.scaling.plans import Plans
from chipassay.scaling.predict import Prediction, predict_ready
from chipassay.scaling.ready import ready
from chipassay.scaling.stand_ins import training_dtype
from chipassay.scaling.step import step

STATES = ("weights", "gradients", "optimizer")
NOT_ALLOCATED = "reserved"
"""What the driver, libraries and the allocator take beyond the tensors."""


@dataclass(frozen=True)
class Predicted:
    """One step by the scaling model."""

    prediction: Prediction
    forward_s: float
    backward_s: float
    optimizer_s: float

    @property
    def state_bytes(self) -> float:
        """Weights, gradients and optimizer state."""
        return sum(self.prediction.memory_bytes[kind] for kind in STATES)

    @property
    def allocated_bytes(self) -> float:
        """All tensors at the fullest moment."""
        return self.prediction.memory_total_bytes - self.prediction.memory_bytes[NOT_ALLOCATED]


def one_chip(profile: str) -> Group:
    """One chip by the id of a shipped profile or the path of a profile .json. Raises what either raises."""
    return make_group(1, resolve_profile(profile))


def default_dtype(group: Group) -> str:
    """What the scaling model would train in on this chip."""
    return training_dtype(group.profile)


def plan_of(microbatch: int, dtype: str, attention: Attention, recompute: Recompute, compiled: bool) -> Plan:
    """The plan of what ``Trainer`` does. Eager PyTorch has a kernel for each operation and keeps its loss several times in fp32;
    torch.compile fuses the passes, and the loss into its gradient."""
    return Plan(
        global_batch=microbatch,
        microbatch=microbatch,
        dtype=dtype,
        recompute=recompute,
        attention=attention,
        fused=compiled,
        loss="fused" if compiled else "torch",
        gradient_bytes=4,
    )


def predicted(model: Transformer, plan: Plan, group: Group) -> Predicted:
    """The step of the plan. ``model``: as it is trained (``as_trained``). Raises what a prediction raises, MissingCell among it."""
    machine = ready(group, plan.dtype)
    prediction = predict_ready(model, plan, machine, group)
    passes = step(model, Plans.of([plan]), machine, group).passes
    forward_s = (
        model.layers * _first(passes.layer_s[0]) + _first(passes.head_s[0]) + _first(passes.embedding_s[0]) + _first(passes.waiting_s[0])
    )
    optimizer_s = prediction.breakdown_s["optimizer"]
    return Predicted(prediction, forward_s, prediction.step_time_s - forward_s - optimizer_s, optimizer_s)


def largest_microbatch(model: Transformer, plan: Plan, group: Group) -> int | None:
    """The largest microbatch, halving from the plan's, that the scaling model says fits; None: not even one sequence does."""
    machine = ready(group, plan.dtype)
    size = plan.microbatch
    while size:
        if predict_ready(model, replace(plan, microbatch=size, global_batch=size), machine, group).fits:
            return size
        size //= 2
    return None


def _first(value: Any) -> float:
    """The only entry of an array of one plan, or a bare number."""
    import numpy as np

    return float(np.asarray(value, float).reshape(-1)[0])
