"""Blocks of neighbouring stages on one kind of chip that are worth trying, as columns of what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..grid import MICROBATCHES, recompute_axis, tensor_axis
from ..plan import Recompute
from .stage_costs import FIRST, LAST, Option
from .tables import Tables

Array = npt.NDArray[Any]

STAGES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
"""Stages on one kind that are tried on clusters too large for every number."""
LARGE_STAGES = (1, 2, 3, 4, 6, 8, 12, 16)
"""The same where three kinds share a pipeline."""
FEW_CHIPS = 32
"""Up to so many chips of a kind every number of stages, and more numbers of replicas (``candidates``), are tried."""
FEW_OF_MANY = 12
"""The same where three kinds share a pipeline."""


@dataclass(frozen=True, eq=False)
class Choices:
    """Blocks on one kind, for one microbatch size. Arrays of one length."""

    kind: int
    tp: Array
    stages: Array
    recompute: tuple[Recompute, ...]
    """Names, by ``recompute_index``."""
    recompute_index: Array
    layer_s: Array
    """No stage takes less than ``empty_s + layers * layer_s``."""
    empty_s: Array
    first_s: Array
    last_s: Array
    """What the embedding and the logits add."""
    fixed_bytes: Array
    layer_bytes: Array
    flight_bytes: Array
    optimizer_bytes: Array
    """Of one layer."""
    weights: Array
    """Of one layer, on one chip."""
    message_bytes: float
    room: Array
    """Layers that fit on all stages of the block, by how many stages of the pipeline lie behind it; shape (choices, layers + 3)."""

    @property
    def chips(self) -> Array:
        return self.tp * self.stages


def microbatch_axis(global_batch: int) -> tuple[int, ...]:
    return tuple(size for size in MICROBATCHES if size <= global_batch)


def _degrees(tables: Tables, kind: int) -> list[int]:
    known = tables.kinds[kind]
    return [tp for tp in tensor_axis(tables.model, known.group.chips_per_node) if tp <= known.count]


def options_of(tables: Tables, kind: int) -> tuple[Option, ...]:
    """Every way of cutting a layer that is tried on a kind."""
    again = recompute_axis(tables.settings.attention)
    sizes = microbatch_axis(tables.settings.global_batch)
    return tuple((tp, size, kind_of) for size in sizes for tp in _degrees(tables, kind) for kind_of in again)


def ideal_rate(tables: Tables, kind: int) -> float:
    """Sequences per second that a chip of a kind exceeds in no plan: nothing but layers, cut in the best way, and never waiting."""
    options, layers = options_of(tables, kind), tables.model.layers
    costs = tables.all_of(kind, options)
    rows = [costs.row[option] for option in options]
    tp, microbatch = (np.array([option[index] for option in options]) for index in (0, 1))
    layers_per_s = (np.arange(1, layers + 1) / costs.total_s[rows, 0, 1:]).max(axis=1)
    return float((microbatch * layers_per_s / (tp * layers)).max())


def choices_of(tables: Tables, kind: int, microbatch: int, most_stages: int, every: bool, many: bool = False) -> Choices:
    """All blocks of one kind at one microbatch size; with ``many`` (kinds in a pipeline) on large clusters the usual ones alone."""
    known = tables.kinds[kind]
    count, limit = known.count, tables.usable_bytes(kind)
    again = recompute_axis(tables.settings.attention)
    degrees = _degrees(tables, kind)
    costs = tables.all_of(kind, options_of(tables, kind))
    options = [(tp, microbatch, kind_of) for tp in degrees for kind_of in again]
    few = every or count <= (FEW_OF_MANY if many else FEW_CHIPS)
    numbers: Sequence[int] = range(1, most_stages + 1) if few else LARGE_STAGES if many else STAGES
    rows = [
        (costs.row[option], option[0], again.index(option[2]), stages)
        for option in options
        for stages in numbers
        if stages <= most_stages and option[0] * stages <= count and (few or not many or option[2] in ("none", "full"))
    ]
    row, tp, recompute_index, stages = np.array(rows, np.int64).T
    total = costs.total_s[row]

    # A convex curve lies above each of its tangents: this one touches where a stage of so many like it has about its layers.
    touch = np.maximum(1, tables.model.layers // (2 * stages))
    alone = total[:, 0]
    place = np.arange(len(row))
    layer_s = alone[place, touch] - alone[place, touch - 1]
    empty_s = alone[place, touch] - touch * layer_s

    def each(table: Array) -> Array:
        per: Array = table[row, 0, 1] - table[row, 0, 0]
        return per

    def extra(ends: int) -> Array:
        least: Array = (total[:, ends] - alone).min(axis=1)
        return least

    kept = costs.fixed_bytes[row, 0, 1] <= limit
    shard = sum(other.count for other in tables.kinds) if tables.settings.zero_stage >= 1 else 1
    fixed, flight = costs.fixed_bytes[row, 0, 0], each(costs.flight_bytes)
    room = _room(
        limit - fixed, each(costs.fixed_bytes) + each(costs.optimizer_bytes) / shard, flight, stages, tables.model.layers,
        max(1, tables.settings.global_batch // microbatch),
    )  # fmt: skip
    found = Choices(
        kind, tp, stages, again, recompute_index, layer_s, empty_s, extra(FIRST), extra(LAST), fixed,
        each(costs.fixed_bytes), flight, each(costs.optimizer_bytes), each(costs.weights),
        float(costs.message_bytes[row[0]]), room,
    )  # fmt: skip
    columns = {name: value[kept] for name, value in vars(found).items() if isinstance(value, np.ndarray)}
    return Choices(**{**vars(found), **columns})


def _room(free_bytes: Array, layer_bytes: Array, flight_bytes: Array, stages: Array, layers: int, most_in_flight: int) -> Array:
    """``Choices.room``: 1F1B holds on each stage one microbatch more than stages lie behind it. No choice has less room than it really
    has: the ends of the model are not counted, and the optimizer's state is shared by as many as there are chips (``layer_bytes``)."""
    in_flight = np.minimum(most_in_flight, np.arange(1, 2 * (layers + 2) + 1))
    held = np.floor(free_bytes[:, None] / (layer_bytes[:, None] + in_flight * flight_bytes[:, None]) + 1e-9)
    upto = np.concatenate([np.zeros((len(stages), 1)), np.cumsum(np.clip(held, 0, layers), axis=1)], axis=1)
    last = np.arange(layers + 3) + stages[:, None]
    room: Array = np.take_along_axis(upto, last, axis=1) - upto[:, : layers + 3]
    return room
