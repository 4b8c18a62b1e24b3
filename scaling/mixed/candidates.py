"""Which pools are worth solving: every way to lay pipelines over kinds of chips, priced in one go by what no exact split can beat.

For a pipeline whose layers could be cut anywhere, all stages take the same time tau, of which each stage's share of the layers is what is
left after its fixed costs: ``tau = (L + sum fixed / layer) / sum 1 / layer``. No whole cut has a faster slowest stage.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import constants
from ..overlap import exposed_s
from .choices import FEW_CHIPS, STAGES, Choices, choices_of
from .pools import Block, Pool
from .tables import Tables

Array = npt.NDArray[Any]

KEPT = 1500
"""Pools of one order of kinds and one microbatch that are kept: as many as fastest by themselves, and as best in use of their chips."""


ROUNDS = 12
"""Steps towards whole layers: each gives all stages of a kind one more."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Pools of one order of kinds, as arrays of one length."""

    order: tuple[int, ...]
    choices: tuple[Choices, ...]
    index: Array
    """Which choice each kind of the order has, shape (kinds, rows)."""
    microbatch: int
    replicas: Array
    slowest_s: Array
    """At least so long takes the slowest stage."""
    sum_s: Array
    """At least so long takes a microbatch through all stages."""
    usual_sum_s: Array
    """About so long."""
    reduction_s: Array
    """About so much of the gradients' traffic stays exposed."""

    def __len__(self) -> int:
        return len(self.replicas)

    def take(self, which: Array) -> Rows:
        columns = (self.replicas, self.slowest_s, self.sum_s, self.usual_sum_s, self.reduction_s)
        return Rows(self.order, self.choices, self.index[:, which], self.microbatch, *(column[which] for column in columns))

    def used(self, kind: int) -> Array:
        """Chips of a kind."""
        if kind not in self.order:
            return np.zeros(len(self), np.int64)
        place = self.order.index(kind)
        chips: Array = self.choices[place].chips[self.index[place]] * self.replicas
        return chips

    def pool(self, row: int) -> Pool:
        blocks = []
        for choice, index in zip(self.choices, self.index[:, row].tolist(), strict=True):
            again = choice.recompute[int(choice.recompute_index[index])]
            blocks.append(Block(choice.kind, int(choice.tp[index]), int(choice.stages[index]), again))
        return Pool(tuple(blocks), self.microbatch, int(self.replicas[row]))

    @property
    def rate(self) -> Array:
        """Sequences per second at the most."""
        return self.replicas * self.microbatch / self.slowest_s


def pools_of(tables: Tables, order: Sequence[int], microbatch: int, global_batch: int, every: bool) -> Rows | None:
    """All pools through these kinds in this order that can fit; None where there are none. ``every``: nothing left out."""
    layers = tables.model.layers
    counts = [tables.kinds[kind].count for kind in order]
    most = min(layers, max(counts)) if every else min(layers, max(STAGES))
    choices = tuple(choices_of(tables, kind, microbatch, most, every, len(order) > 2) for kind in order)
    if not all(len(choice.tp) for choice in choices):
        return None
    index = np.array([axis.ravel() for axis in np.meshgrid(*(np.arange(len(choice.tp)) for choice in choices), indexing="ij")])
    columns = [{name: _at(choice, name, rows) for name in _COLUMNS} for choice, rows in zip(choices, index, strict=True)]
    able = np.min([count // (column["tp"] * column["stages"]) for count, column in zip(counts, columns, strict=True)], axis=0)
    able = np.minimum(able, global_batch // microbatch)
    stages = _total([column["stages"] for column in columns])
    kept = (able >= 1) & (stages <= layers + 2) & _fitting(tables, order, columns, stages, global_batch // microbatch)
    index, able = index[:, kept], able[kept]
    if not len(able):
        return None
    index, replicas = _with_replicas(index, able, every or len(order) == 1 or max(counts) <= FEW_CHIPS)
    rows = _priced(tables, tuple(order), choices, index, replicas, microbatch)
    return rows if every or len(order) == 1 else _most_promising(tables, rows, global_batch)


_COLUMNS = (
    "tp",
    "stages",
    "layer_s",
    "empty_s",
    "first_s",
    "last_s",
    "fixed_bytes",
    "layer_bytes",
    "flight_bytes",
    "optimizer_bytes",
    "weights",
)


def _at(choice: Choices, name: str, rows: Array) -> Array:
    values: Array = getattr(choice, name)[rows]
    return values


def _fitting(tables: Tables, order: Sequence[int], columns: Sequence[dict[str, Array]], stages: Array, most: int) -> Array:
    """Whether the layers can fit at all: each block as if all its stages held as little in flight as its last, and as if the optimizer's
    state were shared by as many as there are chips."""
    room: Any = 0
    shard = sum(kind.count for kind in tables.kinds) if tables.settings.zero_stage >= 1 else 1
    behind = stages.copy()
    for kind, column in zip(order, columns, strict=True):
        behind = behind - column["stages"]
        in_flight = np.minimum(most, behind + 1)
        each = column["layer_bytes"] + in_flight * column["flight_bytes"] + column["optimizer_bytes"] / shard
        layers = np.floor((tables.kinds[kind].machine.memory_bytes - column["fixed_bytes"]) / each)
        room = room + column["stages"] * np.clip(layers, 0, tables.model.layers)
    fits: Array = room >= tables.model.layers
    return fits


def _with_replicas(index: Array, able: Array, several: bool) -> tuple[Array, Array]:
    """Rows with the most replicas, and with fewer: with ``several`` up to eight and powers of two, else the largest power of two."""
    if not several:
        power = 1 << np.floor(np.log2(able)).astype(np.int64)
        fewer = power < able
        return np.concatenate([index, index[:, fewer]], axis=1), np.concatenate([able, power[fewer]])
    found_index, found = [index], [able]
    for count in sorted({*range(1, 8), *(2**power for power in range(3, int(able.max()).bit_length()))}):
        some = able > count
        if some.any():
            found_index.append(index[:, some])
            found.append(np.full(int(some.sum()), count))
    return np.concatenate(found_index, axis=1), np.concatenate(found)


def _most_promising(tables: Tables, rows: Rows, global_batch: int) -> Rows:
    """Of many rows those that are fastest by themselves, and those that do most with the chips that they use."""
    if len(rows) <= 2 * KEPT:
        return rows
    alone_s = global_batch / rows.rate + rows.usual_sum_s - rows.slowest_s + rows.reduction_s
    share: Any = 0.0
    for kind in rows.order:
        costs = rows.choices[rows.order.index(kind)]
        share = share + rows.used(kind) / float(np.median(costs.layer_s * costs.tp))
    worth = rows.rate / share
    kept = np.unique(np.concatenate([np.argpartition(alone_s, KEPT)[:KEPT], np.argpartition(-worth, KEPT)[:KEPT]]))
    return rows.take(kept)


def _priced(tables: Tables, order: tuple[int, ...], choices: tuple[Choices, ...], index: Array, replicas: Array, microbatch: int) -> Rows:
    columns = [{name: _at(choice, name, rows) for name in _COLUMNS} for choice, rows in zip(choices, index, strict=True)]
    per_second: Any = 0.0
    fixed: Any = 0.0
    ends: Any = columns[0]["first_s"] + columns[-1]["last_s"]
    fixed = fixed + columns[0]["first_s"] / columns[0]["layer_s"] + columns[-1]["last_s"] / columns[-1]["layer_s"]
    empty: Any = 0.0
    for place, column in enumerate(columns):
        extra = column["stages"] * column["empty_s"]
        for other in (place - 1, place + 1):
            if 0 <= other < len(columns):
                extra = extra + _between_s(tables, order, choices, columns, place, other, replicas)
        per_second = per_second + column["stages"] / column["layer_s"]
        fixed = fixed + extra / column["layer_s"]
        empty = empty + extra
    layers = tables.model.layers
    slowest = (layers + fixed) / per_second
    least_sum = ends + empty + layers * np.min([column["layer_s"] for column in columns], axis=0)
    stages = sum(column["stages"] for column in columns)
    alone = stages == 1
    slowest = np.where(alone, least_sum, _with_whole_layers(slowest, columns, layers))
    reduction: Any = 0.0
    for kind, column in zip(order, columns, strict=True):
        held = np.minimum(layers, np.maximum(0.0, slowest - column["empty_s"]) / column["layer_s"])
        reduction = np.maximum(reduction, _reduction_s(tables, kind, column, held, replicas, slowest))
    return Rows(order, choices, index, microbatch, replicas, slowest, np.maximum(least_sum, slowest), stages * slowest, reduction)


def _with_whole_layers(slowest: Array, columns: Sequence[dict[str, Array]], layers: int) -> Array:
    """The least time, from one that is surely reached, in which the stages hold all layers if each holds whole ones."""
    pending = np.arange(len(slowest))
    found = slowest.copy()
    for _ in range(ROUNDS):
        held: Any = 0.0
        following: Any = np.inf
        for column in columns:
            layer_s, empty_s = column["layer_s"][pending], column["empty_s"][pending]
            most = np.floor(np.maximum(0.0, found[pending] - empty_s) / layer_s + 1e-9)
            held = held + column["stages"][pending] * most
            following = np.minimum(following, empty_s + (most + 1) * layer_s)
        short = held < layers
        found[pending[short]] = following[short]
        pending = pending[short]
        if not len(pending):
            break
    return found


def _between_s(
    tables: Tables, order: tuple[int, ...], choices: Sequence[Choices], columns: Sequence[dict[str, Array]], place: int, other: int,
    replicas: Array,
) -> Array:  # fmt: skip
    """A message between two kinds at the least: its bytes through the slower one's share of the network."""
    size = max(choices[place].message_bytes, choices[other].message_bytes)
    split = (
        np.minimum(columns[place]["tp"], columns[other]["tp"]) if tables.settings.scatter_gather or tables.settings.sequence_parallel else 1
    )
    worst: Any = 0.0
    for where in (place, other):
        group = tables.kinds[order[where]].group
        sharing = np.minimum(group.chips_per_node, replicas * columns[where]["tp"])
        worst = np.maximum(worst, size / split * sharing / max(1.0, group.fabric.node_bytes_per_s))
    done: Array = worst
    return done


def _reduction_s(tables: Tables, kind: int, column: dict[str, Array], layers: Array, replicas: Array, slowest: Array) -> Array:
    """About what of a stage's gradients is not hidden, if it is reduced with other kinds over the network."""
    known = tables.kinds[kind]
    per_node = known.group.chips_per_node
    inside = np.maximum(1, np.minimum(replicas, per_node // column["tp"]))
    crossing = np.maximum(1, np.minimum(per_node, replicas * column["tp"] * column["stages"]) // inside)
    rate = known.group.fabric.node_bytes_per_s / crossing
    if (len(tables.kinds) == 1 and known.count <= per_node) or known.group.fabric.node_bytes_per_s <= 0:
        link = known.machine.link("all_reduce", min(per_node, known.count))
        rate = np.full(len(layers), np.inf if link is None else link.busbw_bytes_per_s)
    size = 2.0 * layers * column["weights"] * tables.gradient_bytes(range(len(tables.kinds)))
    share = constants.DP_HIDDEN_SHARE.value if tables.settings.overlap_dp else 0.0
    done: Array = np.where(replicas + len(tables.kinds) > 2, exposed_s(size / rate, 0.6 * slowest, share), 0.0)
    return done


def _total(values: Sequence[Array]) -> Array:
    total: Array = np.sum(values, axis=0)
    return total


def orders(kinds: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every order of two or more of the kinds."""
    for count in range(2, len(kinds) + 1):
        yield from itertools.permutations(kinds, count)
