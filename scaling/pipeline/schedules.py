"""In which order each stage runs its passes, by schedule, and what every pass waits for. No times here.

Every schedule but DualPipe is a formula: each pass has a turn, and a stage runs its passes by rising turn, forwards before backwards before
weights. The turns also rise along everything a pass waits for, so that sorting all passes by them gives an order to compute times in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from chipassay.results.errors import UnknownName

from ..errors import IllegalPlan
from ..plan import Schedule
from .dualpipe import dualpipe_slots, dualpipe_turn
from .passes import Kind, in_waiting_order

Array = npt.NDArray[Any]


def check_schedule(schedule: str, stages: int, chunks: int, microbatches: int) -> None:
    """Raise UnknownName or IllegalPlan where the schedule has no order of passes for these numbers."""
    if schedule not in get_args(Schedule):
        raise UnknownName("schedule", schedule, get_args(Schedule))
    for name, value in (("pp", stages), ("interleave", chunks), ("microbatches", microbatches)):
        if value < 1:
            raise IllegalPlan(f"{name} is {value}; give at least 1")
    if chunks > 1 and schedule not in ("1f1b", "interleaved"):
        raise IllegalPlan(f"interleave {chunks} does not go with the schedule {schedule}; choose interleaved, or interleave 1")
    if chunks > 1 and microbatches % stages:
        nearest = max(1, round(microbatches / stages)) * stages
        raise IllegalPlan(f"interleaving needs microbatches ({microbatches}) that are a multiple of pp {stages}; make it {nearest}")
    if schedule == "dualpipe" and stages > 1:
        if stages % 2:
            raise IllegalPlan(f"dualpipe needs an even number of stages, and pp is {stages}; make it {stages + 1}")
        if microbatches % 2 or microbatches < 2 * stages:
            nearest = max(2 * stages, microbatches + microbatches % 2)
            raise IllegalPlan(
                f"dualpipe needs an even number of microbatches, at least twice pp {stages}, and got {microbatches}; make it {nearest}"
            )


@dataclass(frozen=True, eq=False)
class Program:
    """All slots of a step, each after those it waits for. A slot is what a stage runs at once: one pass, or a forward and a backward that
    overlap. Arrays of one length; ``inputs`` and ``before`` count slots from 1, and 0 is the start of the step."""

    stage: Array
    first: Array
    """Rows (kind, position, microbatch). A position numbers the chunks along the model: chunk c of stage i is c * p + i."""
    second: Array
    """The backward that overlaps the forward of ``first``, as row; -1 where there is none."""
    before: Array
    """The slot that the same stage runs before."""
    inputs: Array
    """The slots that make what ``first`` and ``second`` work on, shape (slots, 2); the first again where there is no second."""
    turn: Array
    """Where in the steady state a slot runs: it waits only for slots of its own turn and of ``Steady.width`` turns before."""
    steady: Steady


class Steady(NamedTuple):
    """In which turns every stage runs a forward and a backward, as it does for most of a step with many microbatches."""

    first_turn: int
    last_turn: int
    width: int
    per_round: int
    """Turns after which the same chunks are run again."""
    round_microbatches: int
    """Microbatches that such a round takes through the pipeline."""


@lru_cache(maxsize=16)
def program(schedule: str, stages: int, chunks: int, microbatches: int) -> Program:
    """The passes of all stages in one order that respects what each waits for. Raises as ``check_schedule``."""
    check_schedule(schedule, stages, chunks, microbatches)
    if schedule == "dualpipe" and stages > 1:
        stage, first, second = in_waiting_order([list(dualpipe_slots(stages, microbatches, stage)) for stage in range(stages)])
        turn, steady = dualpipe_turn(stages, microbatches, stage, first), Steady(1, microbatches // 2 - stages, 1, 1, 2)
    else:
        stage, turn, first = _by_turns(schedule, stages, chunks, microbatches)
        second = np.full_like(first, -1)
        if chunks > 1:
            steady = Steady(0, microbatches * chunks - 1 - 2 * (stages - 1) - (chunks - 1) * stages, 1, stages * chunks, stages)
        else:
            steady = Steady(stages, 2 * (microbatches - stages), 2, 2, 1)
    return Program(stage, first, second, _before(stage), _inputs(first, second, stages * chunks, microbatches), turn, steady)


def _by_turns(schedule: str, stages: int, chunks: int, microbatches: int) -> tuple[Array, Array, Array]:
    """(stage, turn, row) of all passes, sorted."""
    stage = np.arange(stages)[:, None]
    if schedule == "gpipe":
        parts = _gpipe(stages, microbatches, stage)
    elif chunks > 1:
        parts = _interleaved(stages, chunks, microbatches, stage)
    else:
        parts = _one_forward_one_backward(stages, microbatches, stage, schedule == "zero-bubble")
    columns = [[np.ravel(column) for column in np.broadcast_arrays(stage, *part)] for part in parts]
    stage_of, turn, kind, position, microbatch = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((kind, turn))
    return stage_of[order], turn[order], np.stack([kind, position, microbatch], axis=1)[order]


def _gpipe(stages: int, microbatches: int, stage: Array) -> list[tuple[Any, ...]]:
    """All forwards, then all backwards (Huang et al. 2019, arXiv 1811.06965). Rows: (turn, kind, position, microbatch), as below."""
    each = np.arange(microbatches)
    forwards_end = stages + microbatches
    return [(stage + each, Kind.FORWARD, stage, each), (forwards_end + stages - stage + each, Kind.BACKWARD, stage, each)]


def _one_forward_one_backward(stages: int, microbatches: int, stage: Array, split: bool) -> list[tuple[Any, ...]]:
    """A forward ahead for every stage behind, then in turn (PipeDream-Flush; Narayanan et al. 2021, arXiv 2104.04473, section 2.2.1).

    Stage i runs B(j) in its round j and F(j) in round j - (p - 1 - i); twice the round minus i rises along all that a pass waits for.
    ``split``: ZB-H1. W(j) is put off to round j + i: input gradients hurry on at the start, weight passes fill the waits at the end, and
    no stage holds more than p microbatches (Qi et al. 2024, arXiv 2401.10241, section 2.1).
    """
    each = np.arange(microbatches)
    ahead = stages - 1 - stage
    parts: list[tuple[Any, ...]] = [
        (2 * (each - ahead) - stage, Kind.FORWARD, stage, each),
        (2 * each - stage, Kind.BACKWARD_INPUT if split else Kind.BACKWARD, stage, each),
    ]
    if split:
        parts.append((2 * (each + stage) - stage, Kind.BACKWARD_WEIGHT, stage, each))
    return parts


def _interleaved(stages: int, chunks: int, microbatches: int, stage: Array) -> list[tuple[Any, ...]]:
    """Groups of p microbatches pass chunk after chunk, twice as many forwards ahead as in 1F1B (the same, section 2.2.2).

    The n-th forward of stage i runs in round n - 2 (p - 1 - i) - (v - 1) p, the n-th backward in round n; the round minus i rises along
    all that a pass waits for.
    """
    each = np.arange(microbatches * chunks)
    group, within = np.divmod(each, stages * chunks)
    chunk, member = np.divmod(within, stages)
    microbatch = group * stages + member
    ahead = 2 * (stages - 1 - stage) + (chunks - 1) * stages
    return [
        (each - ahead - stage, Kind.FORWARD, chunk * stages + stage, microbatch),
        (each - stage, Kind.BACKWARD, (chunks - 1 - chunk) * stages + stage, microbatch),
    ]


def _before(stage: Array) -> Array:
    """For each slot the slot that its stage ran before, counted from 1; 0 for a stage's first."""
    by_stage = np.argsort(stage, kind="stable")
    before = np.zeros(len(stage), np.int64)
    before[by_stage[1:]] = np.where(stage[by_stage[1:]] == stage[by_stage[:-1]], by_stage[:-1] + 1, 0)
    return before


def _inputs(first: Array, second: Array, positions: int, microbatches: int) -> Array:
    """For each slot the slots that made its passes' inputs, counted from 1."""
    made = np.zeros((2, positions + 1, microbatches), np.int64)
    """Slot of the forward at [0, position + 1, microbatch], of the backward (for the inputs) at [1, position, microbatch]."""
    for rows in (first, second):
        kind, position, microbatch = rows.T
        number = np.arange(1, len(rows) + 1)
        for which, found in ((0, kind == Kind.FORWARD), (1, (kind == Kind.BACKWARD) | (kind == Kind.BACKWARD_INPUT))):
            made[which, position[found] + (which == 0), microbatch[found]] = number[found]
    made[1, positions] = made[0, positions]  # the last chunk's backward waits for its own forward

    def of(rows: Array) -> Array:
        kind, position, microbatch = rows.T
        forward, weight = kind == Kind.FORWARD, kind == Kind.BACKWARD_WEIGHT
        return np.where(forward, made[0, position, microbatch], made[1, position + ~(forward | weight), microbatch])

    first_input = of(first)
    return np.stack([first_input, np.where(second[:, 0] < 0, first_input, of(second))], axis=1)
