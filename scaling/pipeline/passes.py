"""A pass of the pipeline, and putting passes in an order in which each comes after those it waits for."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Kind(IntEnum):
    """What a pass computes: a forward, a whole backward, or a backward cut in two as the zero-bubble schedules do."""

    FORWARD = 0
    BACKWARD = 1
    BACKWARD_INPUT = 2
    BACKWARD_WEIGHT = 3

    @property
    def letter(self) -> str:
        """F, B or W, as the papers draw them; B is the backward pass for the inputs wherever it is cut in two."""
        return "FBBW"[self]


class Pass(NamedTuple):
    """One microbatch through one chunk of the model. ``position`` numbers the chunks along the model."""

    kind: Kind
    position: int
    microbatch: int


Slot = tuple[Pass, ...]
"""What a stage runs at once: one pass, or a forward and a backward that overlap (DualPipe)."""

NOTHING = (-1, -1, -1)


def in_waiting_order(orders: list[list[Slot]]) -> tuple[Array, Array, Array]:
    """(stage, first passes, second passes) of all slots, each after those that make its inputs; ``orders``: the slots of each stage.

    Runs every stage as far as it can go, in turn. ValueError where the orders wait for each other.
    """
    last = max(one.position for order in orders for slot in order for one in slot)
    made: set[tuple[bool, int, int]] = set()  # (forward?, position, microbatch)

    def ready(one: Pass) -> bool:
        kind, position, microbatch = one
        if kind is Kind.FORWARD:
            return position == 0 or (True, position - 1, microbatch) in made
        if kind is Kind.BACKWARD_WEIGHT:
            return True  # its own input pass ran on the same stage before
        return (position == last, position + (position < last), microbatch) in made

    ordered: list[tuple[int, Pass, Pass | tuple[int, int, int]]] = []
    turns = [0] * len(orders)
    while any(turn < len(order) for turn, order in zip(turns, orders, strict=True)):
        came_to = len(ordered)
        for stage, order in enumerate(orders):
            while turns[stage] < len(order) and all(map(ready, order[turns[stage]])):
                slot = order[turns[stage]]
                made.update(
                    (one.kind is Kind.FORWARD, one.position, one.microbatch) for one in slot if one.kind is not Kind.BACKWARD_WEIGHT
                )
                ordered.append((stage, slot[0], slot[1] if len(slot) > 1 else NOTHING))
                turns[stage] += 1
        if len(ordered) == came_to:
            raise ValueError("the stages wait for each other; give an order of passes that can run")
    stages, firsts, seconds = zip(*ordered, strict=True)
    return np.array(stages), np.array(firsts), np.array(seconds)
