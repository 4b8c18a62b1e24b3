"""How long a pipeline takes, and how much of that is bubble: closed forms over arrays of plans, checked against the simulation.

Everywhere p is the number of stages, m the microbatches, v the chunks one stage holds (interleave); F, B and W are the forward pass, the
backward pass for the inputs and that for the weights of one microbatch through one stage (all v chunks), in seconds.
"""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from chipassay.results.errors import UnknownName

from ..plan import Schedule

Array = npt.NDArray[Any]


def pipeline_s(
    schedule: str,
    forward_s: Array,
    backward_input_s: Array,
    backward_weight_s: Array,
    all_forward_s: Array,
    all_backward_s: Array,
    send_s: Array,
    pp: Array,
    microbatches: Array,
    interleave: Array,
    overlap: bool = True,
    pair_saving_s: Array | float = 0.0,
    behind: Array | int = 0,
) -> Array:
    """Seconds from the first forward to the last backward pass of one step; all arguments broadcast.

    ``forward_s``, ``backward_input_s``, ``backward_weight_s``: one microbatch through the slowest stage, all its chunks; ``all_forward_s``,
    ``all_backward_s``: the sums over all stages (backward: inputs and weights); ``send_s``: one message between neighbouring chunks.
    With ``overlap`` a sender goes on while its message travels and only the receiver waits; without, the sender waits too.
    ``pair_saving_s``: what a forward beside a backward takes less than one after the other (``dualpipe``).
    ``behind``: stages behind the slowest (0: it is the last); of several equally slow ones, the last counts.
    Raises UnknownName for a schedule that is none.

    Equal to the simulation for equal stages, and for GPipe whatever the stages, both without messages (``_messages_s`` has those). With one
    slower stage and m >= p: 1F1B equal, interleaved within 1 %, ZB-H1 2 %, DualPipe 5 % (give the mean of a stage's two chunks, and twice
    the slowest in the sums). Stages that differ at random by a tenth: on average within 0.6 %, at worst 3 % (interleaved and DualPipe 6 %).

    >>> float(pipeline_s("1f1b", *np.array([1.0, 1.0, 1.0, 4.0, 8.0, 0.0]), 4, 8, 1))  # (m + p - 1)(F + B + W)
    33.0
    """
    f, b, w, p, m, v = (np.asarray(values) for values in (forward_s, backward_input_s, backward_weight_s, pp, microbatches, interleave))
    if schedule == "1f1b" and (v > 1).any():
        schedule = "interleaved"
    stages = np.maximum(p - 1, 1)
    input_share = b / np.maximum(b + w, np.finfo(float).tiny)
    slow = _Passes(f, b, w)
    other_backward = (all_backward_s - b - w) / stages
    other = _Passes((all_forward_s - f) / stages, other_backward * input_share, other_backward * (1 - input_share))
    k = np.asarray(behind)
    if schedule == "gpipe":
        bubble = (p - 1) * other.all_s
    elif schedule == "1f1b":
        bubble = _in_turn_s(slow, other, p, m, k)
    elif schedule == "interleaved":
        bubble = np.where(v > 1, _interleaved_s(slow, other, p, m, v, k), _in_turn_s(slow, other, p, m, k))
    elif schedule == "zero-bubble":
        bubble = _zero_bubble_s(slow, other, p, m, k)
    elif schedule == "dualpipe":
        bubble = _dualpipe_s(slow, other, p, k) - (m - p / 2 - 2) * pair_saving_s
    else:
        raise UnknownName("schedule", schedule, get_args(Schedule))
    messages = _messages_s(schedule, slow, other, send_s, p, m, v, k) if overlap else _held_s(schedule, slow, other, send_s, p, m, v, k)
    return m * slow.all_s + np.where(p > 1, bubble + messages, 0.0)


class _Passes(NamedTuple):
    """Seconds of one microbatch through one stage."""

    forward_s: Array
    input_s: Array
    weight_s: Array

    @property
    def backward_s(self) -> Array:
        return self.input_s + self.weight_s

    @property
    def all_s(self) -> Array:
        return self.forward_s + self.input_s + self.weight_s


def _waits_s(ahead: int, stages: Array, way_s: Array, forward_s: Array, backward_s: Array) -> Array:
    """What a stage with ``stages`` behind it waits for its first backward and for its last: ``way_s`` there and back through each, less the
    passes that it has to do meanwhile, ``ahead`` for each stage behind."""
    return stages * (np.maximum(way_s - ahead * forward_s, 0.0) + np.maximum(way_s - ahead * backward_s, 0.0))


def _in_turn_s(slow: _Passes, other: _Passes, p: Array, m: Array, k: Array) -> Array:
    """Bubble of 1F1B beside m passes of the slowest stage.

    Equal stages: ``(p - 1)(F + B + W)`` (Narayanan et al. 2021, arXiv 2104.04473, section 2.2.1). A slow stage with k behind it waits for
    the fill and drain of those before it and for the round trips behind it; and the step is never shorter than the last stage's own work
    and its wait.
    """
    own = (p - 1 - k) * other.all_s + _waits_s(1, k, other.all_s, slow.forward_s, slow.backward_s)
    last = (p - 1) * other.all_s - (m - 1) * (slow.all_s - other.all_s)
    return np.maximum(own, last)


def _interleaved_s(slow: _Passes, other: _Passes, p: Array, m: Array, v: Array, k: Array) -> Array:
    """The same with v chunks a stage: equal stages ``(p - 1)(F + B + W) / v`` (the same paper, section 2.2.2), and twice as many passes to
    do while a round trip is under way. The last line is read off the simulation: the others' wait until the slow stage has fallen behind,
    and what is left of it where the slow stage is the first."""
    own = (p - 1 - k) * other.all_s + _waits_s(2, k, other.all_s, slow.forward_s, slow.backward_s)
    more_s = slow.all_s - other.all_s
    at_first = np.where(k == p - 1, (p - 2) * other.all_s - (2 * p + 1) * more_s, 0.0)
    return np.maximum(np.maximum(own, at_first), (p - 1) * other.all_s - (v * (m - p) + p - 1) * more_s) / v


def _zero_bubble_s(slow: _Passes, other: _Passes, p: Array, m: Array, k: Array) -> Array:
    """Bubble of ZB-H1: equal stages ``(p - 1)(F + B - W)`` (Qi et al. 2024, arXiv 2401.10241, table 1), but at least what the last stage
    waits for its first forward and the first stage for its first backward; fewer than p microbatches have fewer W to fill with."""
    (f, b, w), few, more_s = other, np.maximum(p - m, 0), (m - 1) * (slow.all_s - other.all_s)
    filled = (np.minimum(m, p) - 1) * np.where(k > 0, w, slow.weight_s)
    forwards, inputs = (p - 1) * f + few * b, (p - 1) * b + few * f
    others = np.maximum(np.maximum(forwards, inputs), (p - 1) * (f + b) - filled) - more_s
    ahead = np.minimum(k, m - 1)
    before = p - 1 - k
    first_backward = np.maximum(k * (f + b) - ahead * slow.forward_s, 0.0)
    last_backward = np.where(m > k + 1, np.maximum(k * (f + b) - ahead * slow.backward_s, 0.0), 0.0)
    drain = np.maximum(before * b - np.minimum(before, m - 1 - ahead) * slow.weight_s, 0.0)
    return np.maximum(before * f + first_backward + last_backward + drain, others)


def _dualpipe_s(slow: _Passes, other: _Passes, p: Array, k: Array) -> Array:
    """Bubble of DualPipe: ``(p / 2 - 1)(F&B + B - 3W)`` (DeepSeek-V3, arXiv 2412.19437, table 2, whose B is B + W here), which with F&B as
    long as F, B and W one after the other is ``(p / 2 - 1)(F + 2 B - W)``. That is for F = B = W; where they differ, the order of passes in
    its published code takes ``(p / 2 - 1) max(F + B + max(F, B) - W, F + B, 2 F)``, the first two less ``min(F, (p / 2 - 1)(B - F))`` where
    B > F: found by the simulation, and equal to it. A slower stage (and its mirror) works while the others wait: 2 p - 2 times what it is
    slower at the edge, p / 2 - 2 / 3 times in the middle, both read off the simulation, and linear between them."""
    half = p / 2 - 1
    mirrored = np.maximum(p - 2, 1)
    f, b, w = (np.maximum(stage + (stage - slowest) / mirrored, 0.0) for stage, slowest in zip(other, slow, strict=True))  # of p - 2 others
    hurried = np.minimum(f, half * np.maximum(b - f, 0.0))
    equal = np.maximum(half * (f + b + np.maximum(np.maximum(f, b) - w, 0.0)) - hurried, half * 2 * f)
    inwards = np.minimum(k, p - 1 - k) / np.maximum(half, 1)
    worked = (2 * p - 2) * (1 - inwards) + (p / 2 - 2 / 3) * inwards
    return np.maximum(equal - worked * (slow.all_s - f - b - w), 0.0)


def _messages_s(schedule: str, slow: _Passes, other: _Passes, c: Array, p: Array, m: Array, v: Array, k: Array) -> Array:
    """What messages of ``c`` seconds that only the receiver waits for add.

    Each travels along the fill and the drain, 2 (p - 1) c. In 1F1B a stage has just as many microbatches on the way as there are stages
    behind it, so that p microbatches take at least the round trip of one, sum (F + B + W) + 2 (p - 1) c: a step of 2 c at all but every
    p-th microbatch, less what faster stages have to spare; and a slow stage waits for the way behind it twice. In ZB-H1 the weight passes
    have that to spare once p microbatches are in. Interleaved, there is twice the number on the way, and a chunk's message hides behind
    the F or B of another; the way is v times longer. DualPipe's constant is read off its simulation. All exact for equal stages and short
    messages (DualPipe: for F = B = W and m a multiple of p), as tests hold it.
    """
    ends = 2 * (p - 1) * c
    if schedule == "gpipe":
        return ends
    if schedule == "dualpipe":
        return ((p - 1) * m / p + np.maximum(1.5 * p - 3, 1)) * c
    steps = (m - 1) - -(-(m - 1) // p)
    spare = slow.all_s - other.all_s
    each = np.maximum(2 * c - spare, 0.0)
    if schedule == "zero-bubble":
        first = np.minimum(steps, p - 1)
        return ends + np.minimum(first * 2 * c, 2 * k * c + first * each) + (steps - first) * np.maximum(2 * c - slow.weight_s - spare, 0.0)
    in_turn = ends + np.minimum(steps * 2 * c, 2 * k * c + steps * each)
    hidden = np.minimum(slow.forward_s, slow.backward_s) / v
    crossings = sum(
        np.maximum(c - (one - rest) / v, 0.0) for one, rest in ((slow.forward_s, other.forward_s), (slow.backward_s, other.backward_s))
    )
    twice_ahead = ends + p * (v - 1) * crossings + (m - p) * (v - 1) * np.maximum(c - hidden, 0.0)
    return np.where(v > 1, twice_ahead, in_turn)


def _held_s(schedule: str, slow: _Passes, other: _Passes, c: Array, p: Array, m: Array, v: Array, k: Array) -> Array:
    """What messages of ``c`` seconds add that the sender waits for too: they lengthen every pass but the last stage's forward and the first
    stage's backward, so that a slow one at an end has one less to wait for. Read off the simulation: exact for equal stages and short
    messages (DualPipe: F = B = W), interleaved within 1 %."""
    at_end = (k == 0) | (k == p - 1)
    each = np.where(at_end, np.maximum(2 * c - (slow.all_s - other.all_s), c), 2 * c)
    if schedule == "gpipe":
        return 2 * (p - 1) * c + (m - 1) * each
    if schedule == "dualpipe":
        return np.where(p > 2, m + 2 * p - 3, m / 2 + 2) * c
    in_turn = 2 * (p - 1) * c + np.where(p > 2, np.maximum((m - 1) * each - c, 0.0), (m - 1) * c)
    at_ends = ((2 * v - 1) * m + 2 * p - 3) * c
    between = (2 * v * m + 2 * p - 6) * c - np.maximum(slow.forward_s, slow.backward_s) / v
    return np.where(v > 1, np.where(p > 2, np.maximum(at_ends, between), at_ends), in_turn)


def in_flight(schedule: str, pp: Array, interleave: Array, microbatches: Array, stage: Array) -> Array:
    """The most microbatches whose activations one stage (0: the first) holds at once, in units of a whole stage; arguments broadcast.

    - ``gpipe``: all of them.
    - ``1f1b``: one for every stage from here to the last (Narayanan et al. 2021, arXiv 2104.04473, section 2.2.1).
    - ``interleaved``: two for every stage behind and p (v - 1) + 1 chunks, each 1 / v of a stage: the first stage holds
      p (1 + (p - 1) / (p v)) (Korthikanti et al. 2022, arXiv 2205.05198, section 4.2.3).
    - ``zero-bubble``: p on every stage, as a microbatch is held until its weight pass (Qi et al. 2024, arXiv 2401.10241, section 2.1).
    - ``dualpipe``: p + 1, both directions together (DeepSeek-V3, arXiv 2412.19437, table 2).
    Raises UnknownName for a schedule that is none.

    >>> in_flight("1f1b", 4, 1, 8, np.arange(4)).tolist()
    [4, 3, 2, 1]
    """
    p, v, m, i = (np.asarray(values) for values in (pp, interleave, microbatches, stage))
    if schedule not in get_args(Schedule):
        raise UnknownName("schedule", schedule, get_args(Schedule))
    if schedule == "gpipe":
        return m + 0 * (p + v + i)
    if schedule == "zero-bubble":
        return np.minimum(p + 0 * (v + i), m)
    if schedule == "dualpipe":
        return np.where(p > 1, np.minimum(p + 1 + 0 * (v + i), m), 1)
    in_turn = np.minimum(p - i, m)
    if (v > 1).any():
        return np.where(v > 1, np.minimum(2 * (p - i - 1) + (v - 1) * p + 1, m * v) / v, in_turn)
    return in_turn + 0 * v
