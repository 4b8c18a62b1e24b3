"""Of all ways to lay one pool of pipelines over some kinds, those worth pricing in full: that may beat what is known, the best by a bound.

Millions of ways are looked at with a few operations each: how many layers fit, how fast the slowest stage can be at best, and how much the
chips that are left over could do at best. Arrays have one axis for each kind of the order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .choices import Choices
from .tables import Tables

Array = npt.NDArray[Any]

AT_ONCE = 2**19
"""Ways that are looked at together, so that memory stays small however many there are."""


@dataclass(frozen=True, eq=False)
class Screened:
    """The ways that are left, as arrays of one length."""

    index: Array
    """Which choice each kind of the order has, shape (kinds, rows)."""
    able: Array
    """The most replicas."""
    seen: int
    """Ways that fit, those left out included."""


def least_turn_s(stages: Sequence[Array], layer_s: Sequence[Array], empty_s: Sequence[Array], room: Sequence[Array], layers: int) -> Array:
    """Seconds below which no cut's slowest stage comes, if the blocks hold at most ``room`` layers each.

    In a time t a block's stages hold ``stages * (t - empty) / layer`` layers at the most, and never more than fit. So for each choice of
    blocks that are filled to the brim, the others need the time in which they hold the rest.
    """
    found: Any = 0.0
    blocks = range(len(stages))
    for many in range(len(stages)):
        for full in itertools.combinations(blocks, many):
            rest: Any = layers
            speed: Any = 0.0
            for block in blocks:
                if block in full:
                    rest = rest - room[block]
                else:
                    pace = stages[block] / layer_s[block]
                    rest, speed = rest + pace * empty_s[block], speed + pace
            found = np.maximum(found, rest / speed)
    least: Array = found
    return least


def screened(
    tables: Tables, choices: Sequence[Choices], microbatch: int, global_batch: int, rates: Sequence[float], limit_s: float, most: int | None
) -> Screened:
    """The ways with the least bounds, below the limit; all that fit where ``most`` is None.

    ``rates``: sequences per second that a chip of each kind of the cluster does at best where it is left over. ``most``: ways kept by the
    bound of the whole plan, and as many by what they take if nothing runs beside them.
    """
    kept: list[Array] = []
    bounds: list[Array] = []
    alone: list[Array] = []
    able: list[Array] = []
    seen = 0
    for index, many, bound_s, alone_s in _parts(tables, choices, microbatch, global_batch, rates):
        seen += index.shape[1]
        some = slice(None) if most is None else np.flatnonzero(bound_s < limit_s)
        kept.append(index[:, some])
        able.append(many[some])
        bounds.append(bound_s[some])
        alone.append(alone_s[some])
        if most is not None and sum(map(len, able)) > 4 * most + AT_ONCE // 8:
            which = _best(np.concatenate(bounds), np.concatenate(alone), most)
            kept, able = [np.concatenate(kept, axis=1)[:, which]], [np.concatenate(able)[which]]
            bounds, alone = [np.concatenate(bounds)[which]], [np.concatenate(alone)[which]]
    if not seen:
        return Screened(np.zeros((len(choices), 0), np.int64), np.zeros(0, np.int64), 0)
    index, replicas = np.concatenate(kept, axis=1), np.concatenate(able)
    if most is None:
        return Screened(index, replicas, seen)
    which = _best(np.concatenate(bounds), np.concatenate(alone), most)
    return Screened(index[:, which], replicas[which], seen)


def _best(bound_s: Array, alone_s: Array, most: int) -> Array:
    """Those that are kept."""
    if len(bound_s) <= 2 * most:
        return np.arange(len(bound_s))
    return np.unique(np.concatenate([np.argpartition(values, most - 1)[:most] for values in (bound_s, alone_s)]))


def _parts(
    tables: Tables, choices: Sequence[Choices], microbatch: int, global_batch: int, rates: Sequence[float]
) -> Iterator[tuple[Array, Array, Array, Array]]:
    """(index, replicas, bound of the whole plan, seconds if alone) of the ways that fit, part after part."""
    others = math.prod(len(choice.tp) for choice in choices[1:])
    step = max(1, AT_ONCE // max(1, others))
    for start in range(0, len(choices[0].tp), step):
        found = _part(tables, choices, microbatch, global_batch, rates, slice(start, start + step))
        if len(found[1]):
            yield found


def _part(
    tables: Tables, choices: Sequence[Choices], microbatch: int, global_batch: int, rates: Sequence[float], first: slice
) -> tuple[Array, Array, Array, Array]:
    places = range(len(choices))
    layers = tables.model.layers
    order = [choice.kind for choice in choices]

    def on(place: int, values: Array) -> Array:
        """A column of one kind along its axis."""
        values = values[first] if place == 0 else values
        return values.reshape([-1 if axis == place else 1 for axis in places])

    stages, layer_s, empty_s = ([on(place, getattr(choices[place], name)) for place in places] for name in ("stages", "layer_s", "empty_s"))
    counts = [tables.kinds[kind].count for kind in order]
    chips = [on(place, choices[place].chips) for place in places]
    able: Any = global_batch // microbatch
    total: Any = 0
    for place in places:
        able, total = np.minimum(able, counts[place] // chips[place]), total + stages[place]
    room = [_room_on(choices, place, first, stages) for place in places]
    fits = (able >= 1) & (total <= layers + 2) & (_sum(room) >= layers)
    where = np.flatnonzero(fits)
    if not len(where):
        return np.zeros((len(choices), 0), np.int64), where, np.zeros(0), np.zeros(0)
    turn_s = least_turn_s(stages, layer_s, empty_s, room, layers)
    fastest: Any = np.inf
    empty: Any = 0.0
    left: Any = sum(kind.count * rate for number, (kind, rate) in enumerate(zip(tables.kinds, rates, strict=True)) if number not in order)
    for place in places:
        fastest = np.minimum(fastest, layer_s[place])
        empty = empty + stages[place] * empty_s[place]
        left = left + (counts[place] - able * chips[place]) * rates[order[place]]
    way_s = np.maximum(layers * fastest + empty, turn_s)
    rate = able * microbatch / turn_s
    bound_s = np.maximum((global_batch + rate * (way_s - turn_s)) / (rate + left), way_s)
    alone_s = global_batch / rate + way_s - turn_s
    index = np.array(np.unravel_index(where, fits.shape))
    index[0] += first.start
    return index, able.ravel()[where], bound_s.ravel()[where], alone_s.ravel()[where]


def _room_on(choices: Sequence[Choices], place: int, first: slice, stages: Sequence[Array]) -> Array:
    """Layers that fit on the block of a place: what flies there depends on the stages behind it."""
    table = choices[place].room[first] if place == 0 else choices[place].room
    later = range(place + 1, len(choices))
    if not later:
        return table[:, 0].reshape([*([1] * place), -1])
    behind: Any = 0
    for other in later:
        behind = behind + stages[other].reshape([-1 if axis == other else 1 for axis in later])
    room: Array = table[:, np.minimum(behind, table.shape[1] - 1).ravel()].reshape([*([1] * place), -1, *behind.shape])
    return room


def _sum(values: Sequence[Array]) -> Any:
    total: Any = 0
    for value in values:
        total = total + value
    return total
