"""The pipeline played through, pass by pass: exact start and end times for any stage times, messages and schedule.

A pass starts when its stage is free and its input has arrived. The order of passes on a stage is the schedule's, so there is nothing to
choose on the way: every end is the latest of two or three earlier ends plus a time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .passes import Kind
from .schedules import Program, program
from .stages import Stages
from .timeline import Timeline

Array = npt.NDArray[Any]


class _Times(NamedTuple):
    """Seconds of the slots of a program, arrays of one length."""

    duration: Array
    hold: Array
    """The stage stays taken for that long after the slot (messages that do not overlap)."""
    wait: Array
    """From the end of the input's slot to its arrival, shape (slots, 2)."""
    sent: Array
    """How long the messages of the slot's passes travel, shape (slots, 2); negative where there is none."""


def simulate(stages: Stages) -> Timeline:
    """Play one step of the pipeline.

    >>> simulate(Stages.of(1.0, 2.0, stages=4, microbatches=8)).makespan_s  # (m + p - 1)(F + B)
    33.0
    """
    order = _program(stages)
    times = _times(stages, order)
    end = np.array(_ends(order, times))[1:]
    paired = order.second[:, 0] >= 0
    slot = np.concatenate([np.arange(len(end)), np.flatnonzero(paired)])
    which = np.concatenate([np.zeros(len(end), int), np.ones(paired.sum(), int)])
    by_slot = np.lexsort((which, slot))
    slot, which = slot[by_slot], which[by_slot]
    rows = np.where((which == 0)[:, None], order.first[slot], order.second[slot])
    kind, position, microbatch = rows.T
    sent = times.sent[slot, which]
    towards = position + np.where(kind == Kind.FORWARD, 1, -1)
    return Timeline(
        stages=stages,
        stage=order.stage[slot],
        kind=kind,
        position=position,
        microbatch=microbatch,
        start_s=(end - times.duration)[slot],
        end_s=end[slot],
        paired=paired[slot],
        sent_to=np.where(sent >= 0, _stage_of(stages, towards, microbatch), -1),
        sent_s=np.maximum(sent, 0.0),
    )


def makespan_s(stages: Stages) -> float:
    """The same as ``simulate(stages).makespan_s``, from fewer microbatches where the pipeline repeats itself.

    In the steady state a pass waits only for passes of its own and the last turns. So once all ends of a turn are those of an earlier one
    plus one constant, so is all that follows, and every further round adds that constant (a max-plus linear system: Baccelli et al. 1992,
    Synchronization and Linearity, chapter 3). It repeats after one round where a stage sets the pace, after p where messages around do.
    """
    p, m = stages.count, stages.microbatches
    if stages.schedule == "gpipe" and stages.overlap:
        return _gpipe_makespan_s(stages)
    few = 2 * p + 2 if stages.schedule != "dualpipe" else 3 * p + 2
    while stages.schedule != "gpipe" and 4 * few < 3 * m:
        few += (m - few) % p
        shorter = replace(stages, microbatches=few)
        order = _program(shorter)
        ends = _ends(order, _times(shorter, order))
        for rounds in (1, p):
            gain = _gain(order, ends, rounds)
            more, left = divmod(m - shorter.microbatches, rounds * order.steady.round_microbatches)
            if gain is not None and left == 0:
                return max(ends) + more * gain
        few *= 2
    order = _program(stages)
    return max(_ends(order, _times(stages, order)))


def _gain(order: Program, ends: list[float], rounds: int) -> float | None:
    """Seconds that so many more rounds add; None where the ends do not repeat (yet)."""
    last, width = order.steady.last_turn, order.steady.width
    back = rounds * order.steady.per_round
    if last - width - back < order.steady.first_turn:
        return None
    later, earlier = (_in_turns(order, newest - width, newest) for newest in (last, last - back))
    end = np.array(ends)
    steps = end[later + 1] - end[earlier + 1]
    return float(steps[0]) if np.ptp(steps) <= 1e-12 * end[-1] else None


def _in_turns(order: Program, after: int, newest: int) -> Array:
    """Slots of the turns behind ``after`` up to ``newest``, by turn, stage and kind."""
    found = np.flatnonzero((order.turn > after) & (order.turn <= newest))
    return found[np.lexsort((order.first[found, 0], order.stage[found], order.turn[found]))]


def _gpipe_makespan_s(stages: Stages) -> float:
    """All passes of a stage come in one stretch, so that stage after stage is one running maximum."""
    arrived = np.zeros(stages.microbatches)
    for rows, sends in ((stages.forward_s, stages.send_forward_s), (stages.backward_s[::-1], stages.send_backward_s[::-1])):
        for stage, (duration, send) in enumerate(zip(rows[:, 0], sends[:, 0], strict=True)):
            done = duration * np.arange(1, stages.microbatches + 1)
            ended = done + np.maximum.accumulate(arrived - (done - duration))
            arrived = ended + (send if stage < stages.count - 1 else 0.0)
        arrived = np.maximum(arrived, arrived[-1])  # the first backward follows the last forward
    return float(arrived[-1])


def _program(stages: Stages) -> Program:
    return program(stages.schedule, stages.count, stages.chunks, stages.microbatches)


def _stage_of(stages: Stages, position: Array, microbatch: Array) -> Array:
    if stages.schedule == "dualpipe" and stages.count > 1:
        return np.where(microbatch < stages.microbatches // 2, position, stages.count - 1 - position)
    return position % stages.count


def _times(stages: Stages, order: Program) -> _Times:
    last = stages.count * stages.chunks - 1
    along_model = [values.T.ravel() for values in (stages.forward_s, stages.backward_input_s, stages.backward_weight_s)]
    forward, backward_input, backward_weight = along_model
    duration = np.stack([forward, backward_input + backward_weight, backward_input, backward_weight])
    message = np.zeros((4, last + 1))  # of the pass at [kind, position]
    if stages.count > 1:
        message[Kind.FORWARD, :last] = stages.send_forward_s.T.ravel()[:last]
        message[Kind.BACKWARD, 1:] = message[Kind.BACKWARD_INPUT, 1:] = stages.send_backward_s.T.ravel()[1:]
    arrival = np.zeros((4, last + 1))  # of the input of the pass at [kind, position]
    arrival[Kind.FORWARD, 1:] = message[Kind.FORWARD, :-1]
    arrival[Kind.BACKWARD, :-1] = arrival[Kind.BACKWARD_INPUT, :-1] = message[Kind.BACKWARD, 1:]
    is_sent = np.zeros((4, last + 1), bool)
    if stages.count > 1:
        is_sent[Kind.FORWARD, :last] = is_sent[Kind.BACKWARD, 1:] = is_sent[Kind.BACKWARD_INPUT, 1:] = True
    sent = np.where(is_sent, message, -1.0)

    kind, position, _ = order.first.T
    took, wait, sends = duration[kind, position], arrival[kind, position], sent[kind, position]
    kind, position, _ = order.second.T
    paired = kind >= 0
    took = took + np.where(paired, duration[kind, position] - stages.pair_saving_s, 0.0)
    wait_second, sends_second = np.where(paired, arrival[kind, position], wait), np.where(paired, sent[kind, position], -1.0)
    hold = np.zeros_like(took) if stages.overlap else np.maximum(np.maximum(sends, sends_second), 0.0)
    return _Times(took, hold, np.stack([wait, wait_second], axis=1), np.stack([sends, sends_second], axis=1))


def _ends(order: Program, times: _Times) -> list[float]:
    """End of every slot; the start of the step comes first."""
    held = np.concatenate([[0.0], times.hold])[order.before]
    ends = [0.0]
    add = ends.append
    if (order.second[:, 0] >= 0).any():
        columns = (order.before, held, order.inputs[:, 0], times.wait[:, 0], order.inputs[:, 1], times.wait[:, 1], times.duration)
        for before, hold, one, wait_one, other, wait_other, duration in zip(*(column.tolist() for column in columns), strict=True):
            add(max(ends[before] + hold, ends[one] + wait_one, ends[other] + wait_other) + duration)
        return ends
    single = (order.before, held, order.inputs[:, 0], times.wait[:, 0], times.duration)
    for before, hold, one, wait_one, duration in zip(*(column.tolist() for column in single), strict=True):
        free, arrived = ends[before] + hold, ends[one] + wait_one
        add((free if free > arrived else arrived) + duration)
    return ends
