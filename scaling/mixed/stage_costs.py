"""What a stage of any number of layers costs on one kind of chip: times, memory and weights, tabulated once for each way to cut a layer.

The last axis counts layers from 0 to the model's; the axis before it the ends that the stage also holds: 0 none, FIRST the embedding,
LAST the logits, FIRST + LAST both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import constants
from ..layer import EndTimes, Work, end_times, layer_times
from ..memory import FRAGMENTATION_SHARE, at_each_stage, total_bytes
from ..models import Transformer
from ..placement import placements
from ..plan import RECOMPUTES, Plan, Recompute
from ..plans import Plans
from ..sides import Side, sides
from ..stages import Stages
from ..step import host_lag_s as waiting_s
from ..update import OPTIMIZER_BYTES
from ..weights import stage_weights
from .kinds import Kind

Array = npt.NDArray[Any]

FIRST, LAST = 1, 2
ENDS = np.arange(4)

Option = tuple[int, int, Recompute]
"""(tp, microbatch, recompute)."""


@dataclass(frozen=True, eq=False)
class StageCosts:
    """One kind's stages. Arrays of shape (options, 4, layers + 1), but where said."""

    kind: Kind
    row: dict[Option, int]
    """Option -> its index on the first axis."""
    forward_s: Array
    backward_input_s: Array
    backward_weight_s: Array
    host_s: Array
    """Of these, what the chip waits for its host."""
    total_s: Array
    fixed_bytes: Array
    """Memory but for the activations of microbatches in flight and the optimizer's state."""
    flight_bytes: Array
    """For each microbatch in flight."""
    optimizer_bytes: Array
    """Of one replica that keeps all of it."""
    weights: Array
    """On one chip."""
    message_bytes: Array
    """Shape (options,): activations of one microbatch between stages."""
    sides: tuple[Side, Side, Side]
    ends: EndTimes
    model: Transformer
    settings: Plan

    def memory_bytes(self, row: int, ends: int, layers: int, in_flight: float, shard: int) -> float:
        """On one chip of a stage; ``shard``: replicas that share the optimizer's state."""
        at = (row, ends, layers)
        return float(self.fixed_bytes[at] + in_flight * self.flight_bytes[at] + self.optimizer_bytes[at] / shard)

    def optimizer_s(self, row: int, ends: int, layers: int, shard: int) -> float:
        moved = OPTIMIZER_BYTES[self.settings.optimizer] * self.weights[row, ends, layers] / shard
        return float(self.kind.machine.memory_s(moved, "adam"))

    def parts_s(self, row: int, ends: int, layers: int) -> dict[str, float]:
        """Seconds of one microbatch by kind (``step.KINDS``)."""
        depth = self.model.mtp_depth if ends & LAST else 0
        heads, embeds, many = (1 + depth) * bool(ends & LAST), bool(ends & FIRST), layers + depth

        def at(value: Any) -> float:
            return float(value[row]) if isinstance(value, np.ndarray) and value.ndim else float(value)

        layer: Work = self.sides[0].work + self.sides[1].work + self.sides[2].work
        head = self.ends.head_forward + self.ends.head_backward_input + self.ends.head_backward_weight
        embedding = self.ends.embedding_forward + self.ends.embedding_backward
        return {
            "matmul": many * at(layer.matmul_s) + heads * at(head.matmul_s),
            "attention": many * at(layer.attention_s),
            "memory_bound": many * at(layer.memory_s) + heads * at(head.memory_s) + embeds * at(embedding.memory_s),
            "recompute": many * at(self.sides[1].recompute_s),
            "host": float(self.host_s[row, ends, layers]),
            "tensor_parallel": many * (at(self.sides[0].tp_s) + at(self.sides[1].tp_s)),
            "expert_parallel": many * (at(self.sides[0].ep_s) + at(self.sides[1].ep_s)),
        }


def stage_costs(model: Transformer, kind: Kind, settings: Plan, options: Sequence[Option]) -> StageCosts:
    """The tables of one kind for these options."""
    tp, microbatch = (np.array([option[index] for option in options], np.int64) for index in (0, 1))
    split = (tp > 1) & (model.seq_len % tp == 0) if settings.sequence_parallel else np.zeros(len(tp), bool)
    shared = replace(
        settings, dtype=kind.machine.dtype, dp=1, pp=1, cp=1, ep=1, expert_tp=0 if model.experts is None else 1, interleave=1,
        zero_stage=0, shard=0,
    )  # fmt: skip
    plans = Plans.grid(
        shared, tp=tp, microbatch=microbatch, global_batch=microbatch, sequence_parallel=split.astype(np.int64),
        recompute=np.array([RECOMPUTES.index(option[2]) for option in options]),
    )  # fmt: skip
    group, machine = kind.group, kind.machine
    layer, ends = layer_times(model, plans, machine), end_times(model, plans, machine)
    three = sides(model, plans, machine, group, layer, placements(plans, group.chips_per_node, group.fabric.pod_nodes))
    times = _Times(model, settings, kind, len(options))
    forward, host_f = times.of(three[:1], (ends.head_forward,), ends.embedding_forward)
    backward, host_b = times.of(three[1:], (ends.head_backward_input, ends.head_backward_weight), ends.embedding_backward)
    weight, _ = times.of(three[2:], (ends.head_backward_weight,), None, waits=False)
    fixed, flight, optimizer, weights = _held(model, plans, kind)
    element = machine.element_bytes
    return StageCosts(
        kind=kind, row={option: index for index, option in enumerate(options)}, forward_s=forward, backward_input_s=backward - weight,
        backward_weight_s=weight, host_s=host_f + host_b, total_s=forward + backward, fixed_bytes=fixed, flight_bytes=flight,
        optimizer_bytes=optimizer, weights=weights, message_bytes=microbatch * model.seq_len * model.hidden * float(element),
        sides=three, ends=ends, model=model, settings=settings,
    )  # fmt: skip


@dataclass(frozen=True)
class _Times:
    """Sums over the layers and ends of stages, and what their chips wait for the host (as ``step.step``)."""

    model: Transformer
    settings: Plan
    kind: Kind
    options: int

    def of(self, passes: Sequence[Side], heads: Sequence[Work], embedding: Work | None, waits: bool = True) -> tuple[Array, Array]:
        """(seconds, of them waited) of one direction, shape (options, 4, layers + 1)."""
        shape = (self.options, len(ENDS), self.model.layers + 1)
        first, last = ((ENDS & bit > 0).astype(float)[None, :, None] for bit in (FIRST, LAST))
        depth = self.model.mtp_depth * last
        layers, many_heads = np.arange(self.model.layers + 1.0) + depth, last + depth

        def column(values: Sequence[Any]) -> Array:
            return np.broadcast_to(np.asarray(sum(values), float), self.options)[:, None, None]

        ahead: list[Any] = [] if embedding is None else [embedding]
        chip = layers * column([side.total_s for side in passes]) + many_heads * column([head.total_s for head in heads])
        chip = np.broadcast_to(chip + first * column([0.0, *(work.total_s for work in ahead)]), shape)
        if not waits or self.settings.host != "eager":
            return chip, np.zeros(shape)
        launches = layers * column([side.launches for side in passes]) + many_heads * column([head.launches for head in heads])
        launches = launches + first * column([0.0, *(work.launches for work in ahead)])
        around_s = constants.HOST_S_PER_KERNEL.value * constants.HOST_KERNELS_PER_PASS.value
        waited = waiting_s(np.maximum(chip, 1e-12), self.kind.host_s_per_kernel * launches + around_s)
        return chip + waited, waited


def _held(model: Transformer, plans: Plans, kind: Kind) -> tuple[Array, Array, Array, Array]:
    """(fixed, for each microbatch in flight, optimizer) bytes, and weights, on one chip."""
    layers = np.tile(np.arange(model.layers + 1.0), len(ENDS))[:, None]
    ends = np.repeat(ENDS, model.layers + 1)[:, None]
    expert_share = sum(block.count for block in model.blocks if block.has_experts) / model.layers
    ones = np.ones_like(layers)

    def stages(in_flight: float) -> Stages:
        return Stages(
            index=np.where(ends & FIRST > 0, 0, 1), first=(ends & FIRST > 0).astype(np.int64), last=(ends & LAST > 0).astype(np.int64),
            dense_layers=layers * (1 - expert_share), expert_layers=layers * expert_share, copies=ones, in_flight=in_flight * ones,
        )  # fmt: skip

    def shaped(values: Any) -> Array:
        full = np.broadcast_to(values, (len(layers), len(plans)))
        return np.ascontiguousarray(full.reshape(len(ENDS), model.layers + 1, len(plans)).transpose(2, 0, 1))

    none, one = (at_each_stage(model, plans, kind.machine, stages(count), plans.settings.loss) for count in (0.0, 1.0))
    empty = shaped(total_bytes(none))
    optimizer = shaped(none["optimizer"]) * (1 + FRAGMENTATION_SHARE)
    weights = stage_weights(model, plans, stages(0.0))
    # The buffers of the sends: none["buffers"] is that of a model without stages.
    element = kind.machine.element_bytes
    tokens = plans.microbatch * model.seq_len
    width = element * model.hidden / np.where(plans.sequence_parallel == 1, plans.tp, 1)
    alone = (ENDS == FIRST + LAST)[None, :, None]
    sends = np.where(alone, 0.0, (2 * width * tokens * (1 + FRAGMENTATION_SHARE))[:, None, None])
    return empty - optimizer + sends, shaped(total_bytes(one)) - empty, optimizer, shaped(weights.dense + weights.expert)
