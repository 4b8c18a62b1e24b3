"""Which pools are worth solving: every way to lay pipelines over kinds of chips, priced in one go by what no exact split can beat.

For a pipeline whose layers could be cut anywhere, all stages take the same time tau, of which each stage's share of the layers is what is
left after its fixed costs: ``tau = (L + sum fixed / layer) / sum 1 / layer``. No whole cut has a faster slowest stage.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .choices import FEW_CHIPS, STAGES, Choices, choices_of
from .pools import Block, Pool
from .reduction import layer_reduction_s
from .screen import least_turn_s, screened
from .tables import Tables

Array = npt.NDArray[Any]

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
    held: Array
    """Layers on a stage, about the most."""
    ring_s: Array
    """About so long takes the reduction of one layer, with all other pools at this one's pace; the mean over its layers."""
    own_s: Array
    """About so long takes the reduction of its slowest stage, at this pool's pace."""

    def __len__(self) -> int:
        return len(self.replicas)

    def take(self, which: Array) -> Rows:
        columns = (self.replicas, self.slowest_s, self.sum_s, self.usual_sum_s, self.held, self.ring_s, self.own_s)
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


@dataclass(frozen=True, eq=False)
class Limits:
    """What pools through several kinds are screened by."""

    limit_s: float
    """Plans that take longer by their bound are not wanted."""
    rates: tuple[float, ...]
    """Sequences per second that a chip of each kind does at best by itself."""
    most: int = 800
    """Pools kept by each of their merits."""


def pools_of(
    tables: Tables, order: Sequence[int], microbatch: int, global_batch: int, every: bool, limits: Limits | None = None
) -> tuple[Rows | None, int]:
    """The pools through these kinds in this order that can fit (None: there are none), and how many ways were looked at.

    Without ``limits`` all of them, else the most promising. ``every``: with every number of stages and of replicas, not the usual ones.
    """
    layers = tables.model.layers
    counts = [tables.kinds[kind].count for kind in order]
    most = min(layers, max(counts)) if every else min(layers, max(STAGES))
    choices = tuple(choices_of(tables, kind, microbatch, most, every, len(order) > 2) for kind in order)
    if not all(len(choice.tp) for choice in choices):
        return None, 0
    if limits is None:
        found = screened(tables, choices, microbatch, global_batch, (0.0,) * len(tables.kinds), math.inf, None)
    else:
        found = screened(tables, choices, microbatch, global_batch, limits.rates, limits.limit_s, limits.most)
    if not len(found.able):
        return None, found.seen
    index, replicas = _with_replicas(found.index, found.able, every, len(order) == 1 or max(counts) <= FEW_CHIPS)
    return _priced(tables, tuple(order), choices, index, replicas, microbatch), found.seen


_COLUMNS = (
    "tp",
    "stages",
    "layer_s",
    "empty_s",
    "first_s",
    "last_s",
    "weights",
)


def _at(choice: Choices, name: str, rows: Array) -> Array:
    values: Array = getattr(choice, name)[rows]
    return values


def _with_replicas(index: Array, able: Array, every: bool, several: bool) -> tuple[Array, Array]:
    """Rows with the most replicas, and with fewer: up to eight, powers of two, and up to seven times one; without ``several`` only the
    largest of the latter two. ``every``: with any number."""
    most = int(able.max())
    if every:
        numbers: Iterable[int] = range(1, most)
    elif several:
        numbers = sorted({*range(1, 8), *(digits << power for power in range(most.bit_length()) for digits in (1, 3, 5, 7))})
    else:
        fewer = [_power_of_two(able), few_factors(able)]
        rows = [np.arange(len(able)), np.flatnonzero(fewer[0] < able), np.flatnonzero((fewer[1] < able) & (fewer[1] > fewer[0]))]
        return index[:, np.concatenate(rows)], np.concatenate([able, fewer[0][rows[1]], fewer[1][rows[2]]])
    found_index, found = [index], [able]
    for count in numbers:
        some = able > count
        if some.any():
            found_index.append(index[:, some])
            found.append(np.full(int(some.sum()), count))
    return np.concatenate(found_index, axis=1), np.concatenate(found)


def _power_of_two(count: Array) -> Array:
    power: Array = 1 << np.floor(np.log2(count)).astype(np.int64)
    return power


def few_factors(count: Array) -> Array:
    """The largest number up to each that is at most 7 times a power of two: such numbers divide batches and nodes well.

    >>> few_factors(np.array([50, 40, 5])).tolist()
    [48, 40, 5]
    """
    unit = np.maximum(1, _power_of_two(count) // 4)
    few: Array = count // unit * unit
    return few


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
    room = _rooms(choices, index, columns, layers)
    each = [[column[name] for column in columns] for name in ("stages", "layer_s", "empty_s")]
    capped = least_turn_s(each[0], each[1], each[2], room, layers)
    # The ends of the model are not cut, however many stages there are.
    ended = np.maximum(columns[0]["empty_s"] + columns[0]["first_s"], columns[-1]["empty_s"] + columns[-1]["last_s"])
    reached = np.maximum(np.maximum(slowest, capped), ended)
    slowest = np.where(stages == 1, least_sum, _with_whole_layers(reached, columns, room, layers))
    most: Any = 0.0
    ring: Any = 0.0
    own: Any = 0.0
    whole: Any = 0.0
    for kind, column in zip(order, columns, strict=True):
        held = np.clip((slowest - column["empty_s"]) / column["layer_s"], 0.0, layers)
        alone_s, shared_s = layer_reduction_s(tables, kind, column, replicas)
        most, own = np.maximum(most, held), np.maximum(own, held * np.maximum(alone_s, shared_s))
        ring, whole = ring + column["stages"] * held * alone_s, whole + column["stages"] * held
    ring = ring / np.maximum(whole, 1e-9)
    return Rows(order, choices, index, microbatch, replicas, slowest, np.maximum(least_sum, slowest), stages * slowest, most, ring, own)


def _rooms(choices: Sequence[Choices], index: Array, columns: Sequence[dict[str, Array]], layers: int) -> list[Array]:
    """Layers that fit on each block."""
    behind = np.zeros(index.shape[1], np.int64)
    found: list[Array] = []
    for choice, rows, column in zip(choices[::-1], index[::-1], columns[::-1], strict=True):
        found.insert(0, choice.room[rows, np.minimum(behind, layers + 2)])
        behind = behind + column["stages"]
    return found


def _with_whole_layers(slowest: Array, columns: Sequence[dict[str, Array]], room: Sequence[Array], layers: int) -> Array:
    """The least time, from one that is surely reached, in which the stages hold all layers if each holds whole ones, as many as fit, and
    the first and the last as many fewer as the embedding and the logits take."""
    pending = np.arange(len(slowest))
    found = slowest.copy()
    for _ in range(ROUNDS):
        held: Any = 0.0
        following: Any = np.inf
        for place, (column, fits) in enumerate(zip(columns, room, strict=True)):
            ends = [name for name, at in (("first_s", 0), ("last_s", len(columns) - 1)) if place == at]
            layer_s, empty_s = column["layer_s"][pending], column["empty_s"][pending]
            alike = [(column["stages"][pending] - len(ends), 0.0), *((1, column[name][pending]) for name in ends)]
            block: Any = 0.0
            later: Any = np.inf
            for stages, extra_s in alike:
                most = np.floor(np.maximum(0.0, found[pending] - empty_s - extra_s) / layer_s + 1e-9)
                block = block + stages * most
                later = np.minimum(later, np.where(np.asarray(stages) > 0, empty_s + extra_s + (most + 1) * layer_s, np.inf))
            held = held + np.minimum(block, fits[pending])
            following = np.minimum(following, np.where(block < fits[pending], later, np.inf))
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


def orders(kinds: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every order of two or three of the kinds: of more in one pipeline there are too many, and too many borders between them."""
    for count in range(2, min(3, len(kinds)) + 1):
        yield from itertools.permutations(kinds, count)
