"""DualPipe: microbatches enter the pipeline at both ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .passes import Kind, Pass, Slot

Array = npt.NDArray[Any]


def dualpipe_slots(stages: int, microbatches: int, stage: int) -> Iterator[Slot]:
    """Half of the microbatches enter at either end and every stage holds two chunks, its own and its mirror's; in between, a forward of one
    direction overlaps a backward of the other (DeepSeek-V3, arXiv 2412.19437, figure 5; the eight phases are those of its published code).

    Directions: "near" is the one that starts at the closer end. Microbatches m/2 and up run from the last stage to the first.
    """
    half, from_edge = stages // 2, min(stage, stages - 1 - stage)
    near = 0 if stage < half else 1
    inner = half - from_edge - 1  # stages between this one and the middle
    done: dict[tuple[Kind, int], int] = {}
    weights: list[Pass] = []

    def take(kind: Kind, direction: int) -> Pass:
        number = done[kind, direction] = done.get((kind, direction), -1) + 1
        position = stage if direction == 0 else stages - 1 - stage
        return Pass(kind, position, number + direction * (microbatches // 2))

    def forward(side: int) -> Pass:
        return take(Kind.FORWARD, near ^ side)

    def backward(side: int) -> Pass:
        return take(Kind.BACKWARD, near ^ side)

    def backward_input(side: int) -> Slot:
        _, position, microbatch = backward(side)
        weights.append(Pass(Kind.BACKWARD_WEIGHT, position, microbatch))
        return (Pass(Kind.BACKWARD_INPUT, position, microbatch),)

    def weight() -> Slot:
        return (weights.pop(0),)

    for _ in range(2 * inner):
        yield (forward(0),)
    for _ in range(from_edge + 1):
        yield (forward(0),)
        yield (forward(1),)
    for _ in range(inner):
        yield backward_input(1)
        yield weight()
        yield (forward(1),)
    for turn in range(microbatches // 2 - stages + from_edge + 1):
        if turn == 0 and inner == 0:
            yield (forward(0),)
            yield (backward(1),)
        else:
            yield forward(0), backward(1)
        yield forward(1), backward(0)
    for _ in range(inner):
        yield (backward(1),)
        yield forward(1), backward(0)
    for turn in range(2 * (from_edge + 1)):  # the second half of these put off their weight passes
        side = 1 - turn % 2
        yield backward_input(side) if turn > from_edge else (backward(side),)
    for _ in range(inner):
        yield weight()
        yield backward_input(0)
    while weights:
        yield weight()


def dualpipe_turn(stages: int, microbatches: int, stage: Array, first: Array) -> Array:
    """The turn of the main loop (two slots with a forward each, one a direction) that a slot runs in, or would; below 0 before the loop.

    Far below 0 for slots without a forward. ``first``: rows (kind, position, microbatch).
    """
    kind, _, microbatch = first.T
    half = stages // 2
    from_edge = np.minimum(stage, stages - 1 - stage)
    direction = microbatch >= microbatches // 2
    number = microbatch - direction * (microbatches // 2)
    near = direction == (stage >= half)
    turn = np.where(near, number - stages + from_edge + 1, number - half)
    return np.where(kind == Kind.FORWARD, turn, -stages - microbatches)
