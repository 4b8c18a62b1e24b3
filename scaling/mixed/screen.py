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
from .reduction import layer_reduction_s
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
    """The best ways whose bound lies below the limit; all that fit where ``most`` is None.

    ``rates``: sequences per second that a chip of each kind of the cluster does at best where it is left over. ``most``: ways kept by each
    of their merits: the bound of the whole plan, the same with the gradients' traffic, and what they take if nothing runs beside them.
    """
    seen = 0
    kept: list[_Ways] = []
    for many, ways in _parts(tables, choices, microbatch, global_batch, rates, limit_s if most is not None else math.inf):
        seen += many
        kept.append(ways)
        if most is not None and sum(len(one.able) for one in kept) > AT_ONCE // 8:
            kept = [_joined(kept).best(most)]
    if not kept:
        return Screened(np.zeros((len(choices), 0), np.int64), np.zeros(0, np.int64), seen)
    ways = _joined(kept) if most is None else _joined(kept).best(most)
    return Screened(ways.index, ways.able, seen)


@dataclass(frozen=True, eq=False)
class _Ways:
    index: Array
    able: Array
    merits: Array
    """What they are chosen by, seconds, shape (merits, ways)."""

    def best(self, most: int) -> _Ways:
        """Those that are among so many by one of the merits."""
        if len(self.able) <= most:
            return self
        kept = np.unique(np.concatenate([np.argpartition(merit, most - 1)[:most] for merit in self.merits]))
        return _Ways(self.index[:, kept], self.able[kept], self.merits[:, kept])


def _joined(ways: Sequence[_Ways]) -> _Ways:
    return _Ways(*(np.concatenate([getattr(one, name) for one in ways], axis=-1) for name in ("index", "able", "merits")))


def _parts(
    tables: Tables, choices: Sequence[Choices], microbatch: int, global_batch: int, rates: Sequence[float], limit_s: float
) -> Iterator[tuple[int, _Ways]]:
    """(how many fit, of them those that may beat the limit), part after part."""
    others = math.prod(len(choice.tp) for choice in choices[1:])
    step = max(1, AT_ONCE // max(1, others))
    for start in range(0, len(choices[0].tp), step):
        yield _part(tables, choices, microbatch, global_batch, rates, limit_s, slice(start, start + step))


def _part(
    tables: Tables,
    choices: Sequence[Choices],
    microbatch: int,
    global_batch: int,
    rates: Sequence[float],
    limit_s: float,
    first: slice,
) -> tuple[int, _Ways]:
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
    where = np.flatnonzero(fits & (bound_s < limit_s))
    index = np.array(np.unravel_index(where, fits.shape))
    index[0] += first.start
    bound_s, turn_s, way_s, rate, able = (values.ravel()[where] for values in (bound_s, turn_s, way_s, rate, able))
    reduced_s = _reduced_s(tables, choices, index, able, turn_s)
    merits = [bound_s, global_batch / rate + way_s - turn_s, bound_s + np.maximum(0.0, reduced_s - turn_s)]
    return int(np.count_nonzero(fits)), _Ways(index, able, np.array(merits))


def _reduced_s(tables: Tables, choices: Sequence[Choices], index: Array, able: Array, turn_s: Array) -> Array:
    """About how long the gradients of a stage are on their way."""
    longest = np.zeros(len(able))
    for choice, rows in zip(choices, index, strict=True):
        columns = {name: getattr(choice, name)[rows] for name in ("tp", "stages", "weights")}
        _, shared_s = layer_reduction_s(tables, choice.kind, columns, able)
        held = np.minimum(turn_s / choice.layer_s[rows], tables.model.layers)
        longest = np.maximum(longest, held * shared_s)
    return longest


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
